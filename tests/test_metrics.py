"""Measures over resamples: equal to slow, readable twins on copied-out data."""

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpp import metrics
from llmpp.metrics import MEASURES, regret
from llmpp.resampling import Estimate, estimate, estimate_difference, measure, resample
from llmpp.space import Floats

stats = pytest.importorskip("scipy.stats")

Sample = tuple[Floats, Floats, Floats]


@st.composite
def samples(draw: st.DrawFn, most: int = 9) -> Sample:
    """Predictions and scores with many ties, and copies with many zeros, one resample."""
    n = draw(st.integers(2, most))
    values = st.lists(st.integers(0, 4).map(lambda k: k / 4 + 24), min_size=n, max_size=n)
    copies = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(any)
    return np.array(draw(values)), np.array(draw(values)), np.array([draw(copies)], dtype=float)


def copied_out(sample: Sample) -> tuple[Floats, Floats]:
    predicted, trained, copies = sample
    times = copies[0].astype(int)
    return np.repeat(predicted, times), np.repeat(trained, times)


def scipy_or_nan(what: Callable[..., object], x: Floats, y: Floats) -> float:
    if len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return math.nan
    return float(what(x, y).statistic)  # type: ignore[attr-defined]


@given(samples())
def test_the_error_is_that_of_the_copied_out_data(sample: Sample) -> None:
    x, y = copied_out(sample)
    np.testing.assert_allclose(metrics.mean_absolute_error(*sample), [np.abs(x - y).mean()], atol=1e-12)


@given(samples())
def test_kendalls_tau_is_scipys_of_the_copied_out_data(sample: Sample) -> None:
    expected = scipy_or_nan(stats.kendalltau, *copied_out(sample))
    np.testing.assert_allclose(metrics.kendall_tau(*sample), [expected], atol=1e-12)


@given(samples())
def test_spearmans_correlation_is_scipys_of_the_copied_out_data(sample: Sample) -> None:
    expected = scipy_or_nan(stats.spearmanr, *copied_out(sample))
    np.testing.assert_allclose(metrics.spearman(*sample), [expected], atol=1e-12)


def tau_of_pairs(predicted: Floats, trained: Floats, times: Floats) -> float:
    """Tau-b of predictions without ties, pair by pair, no architecture paired with its copy."""
    concordant = n_pairs = n_untied = 0.0
    for i, j in itertools.combinations(range(len(predicted)), 2):
        weight = times[i] * times[j]
        concordant += weight * np.sign(predicted[i] - predicted[j]) * np.sign(trained[i] - trained[j])
        n_pairs += weight
        n_untied += weight * (trained[i] != trained[j])
    return float(concordant / math.sqrt(n_pairs * n_untied)) if n_untied else math.nan


@given(samples(most=5))
def test_tau_with_random_ties_is_the_mean_over_all_ways_to_break_them(sample: Sample) -> None:
    predicted, trained, copies = sample
    n = len(predicted)
    ways = [predicted + 1e-3 * np.array(order) for order in itertools.permutations(range(n))]
    expected = np.mean([tau_of_pairs(way, trained, copies[0]) for way in ways])
    np.testing.assert_allclose(metrics.kendall_tau_random_ties(*sample), [expected], atol=1e-12)


@given(samples(most=5), st.integers(1, 4))
def test_regret_is_the_mean_loss_over_all_ways_to_break_ties(sample: Sample, n_chosen: int) -> None:
    predicted, trained, copies = sample
    there = np.flatnonzero(copies[0])
    lost = []
    for order in itertools.permutations(there):
        best_first = sorted(order, key=lambda one: -predicted[one])  # stable: ties as `order` has them
        lost.append(trained[there].max() - trained[best_first[:n_chosen]].max())
    np.testing.assert_allclose(regret(*sample, n_chosen=n_chosen), [np.mean(lost)], atol=1e-12)


@given(samples())
def test_without_ties_both_taus_are_equal(sample: Sample) -> None:
    _, trained, copies = sample
    predicted = np.arange(float(len(trained)))
    tau = metrics.kendall_tau(predicted, trained, copies)
    np.testing.assert_allclose(metrics.kendall_tau_random_ties(predicted, trained, copies), tau, atol=1e-12)


@given(samples(), st.floats(0.1, 10), st.floats(-100, 100))
def test_what_ranks_is_blind_to_a_rising_line(sample: Sample, slope: float, shift: float) -> None:
    predicted, trained, copies = sample
    for name in set(MEASURES) - {"mae"}:
        before = MEASURES[name](predicted, trained, copies)
        after = MEASURES[name]((predicted - 24) * 4 * slope + shift, trained, copies)
        np.testing.assert_allclose(after, before, atol=1e-9, err_msg=name)


@given(samples())
def test_several_resamples_are_measured_as_each_alone(sample: Sample) -> None:
    predicted, trained, copies = sample
    both = np.vstack([np.ones(len(trained)), copies])
    for name, what in MEASURES.items():
        alone = [what(predicted, trained, both[:1])[0], what(predicted, trained, copies)[0]]
        np.testing.assert_allclose(what(predicted, trained, both), alone, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", list(MEASURES))
def test_an_empty_resample_has_no_figure(name: str) -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert math.isnan(MEASURES[name](x, x, np.zeros((1, 3)))[0])


def test_perfect_predictions_get_perfect_figures() -> None:
    x, once = np.array([3.0, 1.0, 2.0, 5.0]), np.ones((1, 4))
    assert {name: what(x, x, once)[0] for name, what in MEASURES.items()} == pytest.approx(
        {
            "mae": 0,
            "kendall_tau": 1,
            "kendall_tau_random_ties": 1,
            "spearman": 1,
            "regret_1": 0,
            "regret_3": 0,
        }
    )


def test_constant_predictions_have_no_tau_but_chance_is_none() -> None:
    trained, once = np.array([1.0, 2.0, 4.0]), np.ones((1, 3))
    flat = np.full(3, 7.0)
    assert math.isnan(metrics.kendall_tau(flat, trained, once)[0])
    assert metrics.kendall_tau_random_ties(flat, trained, once)[0] == 0
    assert regret(flat, trained, once, n_chosen=1)[0] == pytest.approx(4 - 7 / 3)


def test_resamples_have_the_size_of_the_original_which_comes_first() -> None:
    copies = resample(30, 500, seed=1)
    assert copies.shape == (501, 30)
    assert (copies[0] == 1).all()
    assert (copies.sum(axis=1) == 30).all()
    assert (copies == resample(30, 500, seed=1)).all()
    assert (copies != resample(30, 500, seed=2)).any()
    assert copies[1:].mean() == 1
    assert copies[1:].var() == pytest.approx(29 / 30, abs=0.05)


def test_an_interval_of_a_mean_is_that_of_the_textbook() -> None:
    errors = np.random.Generator(np.random.PCG64(0)).normal(1, 0.2, 200)
    copies = resample(200, 4000, seed=0)
    measured = measure(metrics.mean_absolute_error, [errors[None]], [np.zeros(200)], [copies])
    got = estimate(measured)
    half = 1.96 * errors.std() / math.sqrt(200)
    assert got.mean == pytest.approx(errors.mean())
    assert (got.low, got.high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.003)
    assert got.std is None


def test_splits_and_seeds_are_averaged_and_seeds_spread() -> None:
    zeros, copies = np.zeros(2), np.ones((3, 2))
    first, second = np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[3.0, 3.0], [6.0, 6.0]])
    measured = measure(metrics.mean_absolute_error, [first, second], [zeros, zeros], [copies, copies])
    np.testing.assert_allclose(measured, [[2, 2, 2], [4, 4, 4]])
    assert estimate(measured) == Estimate(3, 3, 3, math.sqrt(2))


def test_a_difference_is_paired() -> None:
    draw = np.random.Generator(np.random.PCG64(0))
    noise = draw.normal(size=(1, 1000))
    difference = estimate_difference(noise + 0.1, noise)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert difference.std is None


def test_what_is_nowhere_defined_has_no_figures_and_what_is_somewhere_has() -> None:
    nothing = estimate(np.full((1, 5), np.nan))
    assert nothing.to_dict() == {"mean": None, "low": None, "high": None, "std": None}
    some = estimate(np.array([[1.0, 2.0, np.nan, 2.0]]))
    assert some == Estimate(1, 2, 2)


def test_the_bootstrap_of_a_row_takes_no_time() -> None:
    draw = np.random.Generator(np.random.PCG64(0))
    copies, trained = resample(30, 2000, seed=0)[:, :20], draw.normal(size=20)
    predictions = [draw.normal(size=(1, 20)) for _ in range(3)]
    start = time.perf_counter()
    for what in MEASURES.values():
        measure(what, predictions, [trained] * 3, [copies] * 3)
    assert time.perf_counter() - start < 2
