"""Simple predictors that learn from demonstrations alone, or from a supernet: what others must beat."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from llmpp.errors import require
from llmpp.exam import Exam
from llmpp.space import Floats

#: Predicts scores, `(n,)`, or `(n_seeds, n)` for one that depends on a seed.
Predict: TypeAlias = Callable[[Exam], Floats]

_RIDGE_PENALTY = 1.0
_N_NEIGHBOURS = 3


def line(shown: Floats, scores: Floats, asked: Floats) -> Floats:
    """Fits a line through `(shown, scores)` by least squares and reads it at `asked`; flat if `shown` is."""
    centred = shown - shown.mean()
    variation = centred @ centred
    slope = centred @ scores / variation if variation > 0 else 0.0
    values: Floats = scores.mean() + slope * (asked - shown.mean())
    return values


def ridge(shown: Floats, scores: Floats, asked: Floats, penalty: float = _RIDGE_PENALTY) -> Floats:
    """Ridge regression on features standardised by those shown (Hoerl, Kennard, Technometrics 12, 1970)."""
    shown, asked = _standardised(shown, asked)
    gram = shown.T @ shown + penalty * np.eye(shown.shape[1])
    weights = np.linalg.solve(gram, shown.T @ (scores - scores.mean()))
    values: Floats = scores.mean() + asked @ weights
    return values


def gaussian_process(shown: Floats, scores: Floats, asked: Floats) -> Floats:
    """Gaussian process, RBF with one length scale per feature and noise, by maximal likelihood.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    process = require("sklearn.gaussian_process", "train")
    kernels = process.kernels
    scale = kernels.RBF(np.ones(shown.shape[1]), (1e-2, 1e2))
    kernel = kernels.ConstantKernel() * scale + kernels.WhiteKernel(0.1, (1e-4, 1.0))
    # The likelihood of so few points has several optima: one start finds a poor one now and then.
    model = process.GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=4, random_state=0)
    # So few points only lose time to more threads.
    one_thread = require("threadpoolctl", "train").threadpool_limits(1)
    with one_thread, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scales of features that do not matter run to their bounds
        values: Floats = model.fit(shown, scores).predict(asked)
    return values


def nearest(shown: Floats, scores: Floats, asked: Floats, n: int = _N_NEIGHBOURS) -> Floats:
    """Mean of the `n` nearest by standardised features; the first shown is nearer where distances tie."""
    shown, asked = _standardised(shown, asked)
    distances = np.square(asked[:, None] - shown).sum(axis=2)
    values: Floats = scores[np.argsort(distances, axis=1, kind="stable")[:, :n]].mean(axis=1)
    return values


def _standardised(shown: Floats, asked: Floats) -> tuple[Floats, Floats]:
    mean, std = shown.mean(axis=0), shown.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    return (shown - mean) / std, (asked - mean) / std


def _mean(exam: Exam) -> Floats:
    return np.full(len(exam.architectures), exam.shown_scores.mean())


def _line_in_flops(exam: Exam) -> Floats:
    shown, asked = exam.gflops()
    return line(shown, exam.shown_scores, asked)


def _line_in_depth(exam: Exam) -> Floats:
    shown, asked = exam.depths()
    return line(1 / shown, exam.shown_scores, 1 / asked)


def _on_features(learn: Callable[[Floats, Floats, Floats], Floats], exam: Exam) -> Floats:
    shown, asked = exam.features()
    return learn(shown, exam.shown_scores, asked)


def physics(exam: Exam) -> Floats:
    """Ridge on log decoder layers and log FLOPs: quality grows with both, ever more slowly."""
    shown, asked = (np.log(np.column_stack(both)) for both in zip(exam.depths(), exam.gflops(), strict=True))
    return ridge(shown, exam.shown_scores, asked)


#: Predictors that need nothing but demonstrations.
FROM_DEMONSTRATIONS: Mapping[str, Predict] = MappingProxyType(
    {
        "mean of the demonstrations": _mean,
        "line in FLOPs": _line_in_flops,
        "line in 1/decoder layers": _line_in_depth,
        "ridge": partial(_on_features, ridge),
        "GP (RBF, ARD)": partial(_on_features, gaussian_process),
        "k nearest (3)": partial(_on_features, nearest),
    }
)


def raw_supernet(supernet: str, exam: Exam) -> Floats:
    """A supernet's scores as they are."""
    return exam.supernet_scores[supernet]


def calibrated_supernet(supernet: str, exam: Exam) -> Floats:
    """A supernet's scores after a line fitted to the demonstrations."""
    return line(exam.shown_supernet_scores(supernet), exam.shown_scores, exam.supernet_scores[supernet])


def distinct_supernets(exam: Exam) -> tuple[str, ...]:
    """Names the supernets, each set of equal scores once: of the first name."""
    first: dict[bytes, str] = {}
    for name, asked in exam.supernet_scores.items():
        first.setdefault(np.concatenate([exam.shown_supernet_scores(name), asked]).tobytes(), name)
    return tuple(first.values())


def ridge_on_supernets(exam: Exam) -> Floats:
    """Ridge on the scores of all distinct supernets."""
    names = distinct_supernets(exam)
    shown = np.column_stack([exam.shown_supernet_scores(name) for name in names])
    asked = np.column_stack([exam.supernet_scores[name] for name in names])
    return ridge(shown, exam.shown_scores, asked)


def weighted_supernets(exam: Exam) -> Floats:
    """Mean of the distinct calibrated supernets, each by the inverse of its squared leave-one-out error."""
    errors = _left_out_errors(exam)
    predictions = np.stack([calibrated_supernet(name, exam) for name in errors])
    weights = [1 / max(error, 1e-12) for error in errors.values()]
    values: Floats = np.average(predictions, axis=0, weights=weights)
    return values


def chosen_supernet(exam: Exam) -> Floats:
    """The calibrated supernet of the least leave-one-out error on the demonstrations."""
    errors = _left_out_errors(exam)
    return calibrated_supernet(min(errors, key=errors.__getitem__), exam)


def _left_out_errors(exam: Exam) -> dict[str, float]:
    """Mean squared error of each distinct supernet's lines, at the demonstrations that they left out."""
    rest = ~np.eye(len(exam.demonstrations), dtype=bool)
    scores, errors = exam.shown_scores, {}
    for name in distinct_supernets(exam):
        shown = exam.shown_supernet_scores(name)
        missed = [line(shown[of], scores[of], shown[~of]) - scores[~of] for of in rest]
        errors[name] = float(np.square(missed).mean())
    return errors
