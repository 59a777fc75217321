"""How well predictions fit what was trained: error, agreement of ranks, regret; over resamples at once.

Every measure takes predictions `(n,)`, trained scores `(n,)` and copies `(b, n)`: how often each of `b`
resamples holds each architecture, 0 for not at all. It returns `(b,)`; NaN where it is not defined. Copies of
one architecture are never a pair to be ranked, nor two candidates to be chosen from.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.space import Floats

Measure: TypeAlias = Callable[[Floats, Floats, Floats], Floats]


def mean_absolute_error(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    """Mean absolute error, in the unit of the scores."""
    return _ratio(copies @ np.abs(predicted - trained), copies.sum(axis=1))


def kendall_tau(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    """Kendall's tau-b; NaN where all predictions are equal (Kendall, Biometrika 33, 1945)."""
    by_predicted, by_trained = _order(predicted), _order(trained)
    untied = _pairs(np.abs(by_predicted), copies) * _pairs(np.abs(by_trained), copies)
    return _ratio(_pairs(by_predicted * by_trained, copies), np.sqrt(untied))


def kendall_tau_random_ties(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    """Kendall's tau-b, expected when ties of the predictions are broken at random.

    A tied pair falls either way with equal probability and so adds nothing to the sum, but counts as a pair.
    """
    by_trained = _order(trained)
    all_pairs = _pairs(1.0 - np.eye(len(trained)), copies)
    concordant = _pairs(_order(predicted) * by_trained, copies)
    return _ratio(concordant, np.sqrt(all_pairs * _pairs(np.abs(by_trained), copies)))


def spearman(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    """Spearman's rank correlation: Pearson's of the mean ranks."""
    x, y = _centred_ranks(predicted, copies), _centred_ranks(trained, copies)
    covariance = (copies * x * y).sum(axis=1)
    variances = (copies * x * x).sum(axis=1) * (copies * y * y).sum(axis=1)
    return _ratio(covariance, np.sqrt(variances))


def regret(predicted: Floats, trained: Floats, copies: Floats, *, n_chosen: int) -> Floats:
    """Score lost by training only the `n_chosen` with the best predictions, against the best of all.

    Ties of the predictions are broken at random; this is the expected loss.
    """
    order = np.argsort(-trained, kind="stable")
    predicted, trained = predicted[order], trained[order]
    is_there = copies[:, order] > 0
    n_better = is_there @ (predicted[:, None] > predicted).astype(float)
    n_equal = is_there @ (predicted[:, None] == predicted).astype(float)
    is_sure = is_there & (n_better + n_equal <= n_chosen)
    is_drawn = is_there & (n_better < n_chosen) & ~is_sure
    n_tied = np.where(is_drawn, n_equal, 0.0).max(axis=1, keepdims=True)
    n_places = np.where(is_drawn, n_chosen - n_better, 0.0).max(axis=1, keepdims=True)
    n_wanted = is_drawn.cumsum(axis=1)
    none_is_sure = is_sure.cumsum(axis=1) == 0
    # Best first: the probability that none of the first i is chosen.
    missed = none_is_sure * _all_missed(n_tied, n_wanted, n_places, n_chosen)
    found_here = -np.diff(missed, axis=1, prepend=1.0)
    lost = np.where(is_there, trained, -np.inf).max(axis=1) - found_here @ trained
    return np.asarray(np.where(is_there.any(axis=1), lost, np.nan))


def _all_missed(n_tied: Floats, n_wanted: NDArray[np.int64], n_places: Floats, most: int) -> Floats:
    """Probability that a draw of `n_places` out of `n_tied` contains none of `n_wanted` of them."""
    missed = np.ones(n_wanted.shape)
    for place in range(most):
        share = np.clip(n_tied - n_wanted - place, 0, None) / np.maximum(n_tied - place, 1)
        missed = np.where(place < n_places, missed * share, missed)
    return missed


def _order(values: Floats) -> Floats:
    """The sign of every difference, `(n, n)`."""
    return np.sign(values[:, None] - values)


def _pairs(matrix: Floats, copies: Floats) -> Floats:
    """Sums a symmetric matrix with an empty diagonal over the pairs of each resample."""
    sums: Floats = ((copies @ matrix) * copies).sum(axis=1) / 2
    return sums


def _centred_ranks(values: Floats, copies: Floats) -> Floats:
    """Mean ranks within each resample, copies included, less their mean: `(b, n)`."""
    below = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    ranks: Floats = copies @ below
    return ranks - _ratio((copies * ranks).sum(axis=1), copies.sum(axis=1))[:, None]


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divides; NaN where there is nothing to divide by."""
    ratios: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratios


def _regret_1(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    return regret(predicted, trained, copies, n_chosen=1)


def _regret_3(predicted: Floats, trained: Floats, copies: Floats) -> Floats:
    return regret(predicted, trained, copies, n_chosen=3)


#: What the report card measures.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "mae": mean_absolute_error,
        "kendall_tau": kendall_tau,
        "kendall_tau_random_ties": kendall_tau_random_ties,
        "spearman": spearman,
        "regret_1": _regret_1,
        "regret_3": _regret_3,
    }
)
