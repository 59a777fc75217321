"""Measuring one latency on a clock that tests wind, and taking drift out of many."""

import itertools
import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpp import InputError
from llmpp.measuring.drift import find_drift
from llmpp.measuring.measurement import (
    CONFIDENCE,
    MeasurementSettings,
    Sample,
    measure,
    median_interval,
    relative_half_width,
)


class Watch:
    """A clock that only moves when something is run."""

    def __init__(self, latencies_ms: Iterable[float]) -> None:
        self.seconds, self.n_runs, self.latencies_ms = 100.0, 0, iter(latencies_ms)

    def run(self) -> Sample:
        latency = next(self.latencies_ms)
        self.seconds += latency / 1e3
        self.n_runs += 1
        return Sample(latency / 4, latency * 3 / 4)

    def __call__(self) -> float:
        return self.seconds


def measured(latencies_ms: Iterable[float], **settings: Any) -> tuple[Any, Watch]:
    watch = Watch(latencies_ms)
    return measure(watch.run, MeasurementSettings(**settings), watch), watch


def test_a_steady_machine_is_warm_after_two_runs_and_known_after_six() -> None:
    found, watch = measured(itertools.repeat(200.0))
    assert (found.n_warmups, len(found.samples), watch.n_runs) == (2, 6, 8)
    assert (found.encoder_ms, found.decoder_ms, found.latency_ms) == (50.0, 150.0, 200.0)
    assert (found.half_width, found.is_precise) == (0.0, True)


def test_runs_are_dropped_as_long_as_they_get_faster() -> None:
    found, _ = measured([900, 500, 300, 220, 215, *[200] * 6])
    assert found.n_warmups == 5
    assert {sample.latency_ms for sample in found.samples} == {200.0}


def test_what_never_stops_getting_faster_is_measured_all_the_same() -> None:
    found, _ = measured(
        (1000 * 0.9**k for k in itertools.count()), max_warmups=7, max_repeats=9, max_seconds=8
    )
    assert (found.n_warmups, len(found.samples), found.is_precise) == (7, 9, False)


def test_repeats_end_when_the_median_is_known_well_enough() -> None:
    noise = np.random.RandomState(0).normal(1, 0.03, 2000)
    counts = []
    for precision in (0.1, 0.02, 0.01):
        found, _ = measured(200 * noise, precision=precision, max_repeats=500, max_seconds=1e6)
        assert found.half_width <= precision
        assert found.is_precise
        assert found.latency_ms == pytest.approx(200, rel=2 * precision)
        counts.append(len(found.samples))
    assert counts == sorted(counts)
    assert 6 <= counts[0] < counts[1] < counts[2] < 500


def test_outliers_ask_for_more_repeats_and_do_not_move_the_median() -> None:
    latencies = [200, 200, *(1000 if k % 4 == 0 else 200 + k % 3 for k in range(100))]
    found, _ = measured(latencies, max_seconds=8)
    assert found.latency_ms == pytest.approx(201, abs=1)
    assert len(found.samples) > 6
    assert found.is_precise
    assert max(sample.latency_ms for sample in found.samples) == 1000


def test_a_cap_of_repeats_ends_what_is_too_noisy() -> None:
    found, _ = measured(itertools.cycle([100, 300]), max_repeats=11, max_seconds=1e6)
    assert (len(found.samples), found.is_precise) == (11, False)
    assert found.half_width > 0.3


def test_no_repeat_begins_after_the_cap_of_seconds_but_three_are_made() -> None:
    found, watch = measured(itertools.cycle([900, 1100]), max_seconds=4.5)
    assert len(found.samples) == 5
    assert watch.seconds < 100 + 4.5 + 1.1 + 2
    found, _ = measured(itertools.repeat(20_000), max_seconds=5)
    assert len(found.samples) == 3
    assert not found.is_precise


def test_warming_up_ends_when_the_time_is_over() -> None:
    found, _ = measured((100_000 * 0.5**k for k in itertools.count()), max_seconds=5)
    assert found.n_warmups == 1


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60))
def test_the_interval_of_the_median_holds_it_and_lies_within_the_range(values: list[float]) -> None:
    low, high = median_interval(values)
    assert min(values) <= low <= median(values) <= high <= max(values)
    assert relative_half_width(values) == pytest.approx((high - low) / 2 / median(values))


@pytest.mark.parametrize("n", [6, 9, 15, 40])
def test_the_interval_covers_the_median_as_often_as_it_says(n: int) -> None:
    drawn = np.random.RandomState(n).lognormal(size=(4000, n))
    hits = [low <= 1 <= high for low, high in map(median_interval, drawn.tolist())]
    assert CONFIDENCE - 0.01 < np.mean(hits) < 0.995


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (20, 6)])
def test_the_interval_is_made_of_the_order_statistics_of_the_tables(n: int, rank: int) -> None:
    # Ranks as in tables of the sign test for 95%; below 6 values it is the whole range.
    assert median_interval(list(map(float, range(1, n + 1)))) == (rank, n + 1 - rank)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": 0.0}, "`precision` must be in .0.0001, 1., got 0.0"),
        ({"precision": math.nan}, "`precision` must be in"),
        ({"min_repeats": 0}, "`min_repeats` must be an integer in 1..1000000, got 0"),
        ({"max_repeats": 5}, "`max_repeats` must be at least `min_repeats`, got 5 and 6"),
        ({"max_seconds": -1}, "`max_seconds` must be a positive number, got -1"),
        ({"max_warmups": 1.5}, "`max_warmups` must be an integer"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MeasurementSettings(**settings)


TIMES = np.arange(40) * 30.0


def removed(change: Callable[[Any], Any], noise: float = 0.005, seed: int = 0) -> tuple[Any, Any]:
    """Latencies of something of 100 ms under a change of speed: as measured, and with the drift taken out."""
    random = np.random.RandomState(seed)
    drift = find_drift(TIMES.tolist(), 250 * change(TIMES) * random.normal(1, noise, len(TIMES)))
    between = TIMES[:-1] + 15.0
    raw = 100 * change(between) * random.normal(1, noise, len(between))
    return raw, raw / [drift.factor(time) for time in between]


def spread(values: Any) -> float:
    return float(values.std() / values.mean())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: 1 + t / t.max() / 4,
        lambda t: np.where(t < 500, 1.0, 1.3),
        lambda t: 1 + 0.1 * np.sin(t / 150),
    ],
    ids=["slow rise", "block", "waves"],
)
def test_drift_is_found_and_taken_out(change: Callable[[Any], Any]) -> None:
    raw, corrected = removed(change)
    assert spread(raw) > 0.05
    assert spread(corrected[np.abs(np.diff(change(TIMES))) < 0.1]) < 0.012
    assert np.median(corrected) == pytest.approx(np.median(raw), rel=0.02)


def test_noise_of_the_reference_is_not_taken_for_drift() -> None:
    raw, corrected = zip(*(removed(np.ones_like, 0.02, seed) for seed in range(20)), strict=True)
    assert spread(np.concatenate(corrected)) < 1.05 * spread(np.concatenate(raw))


def test_a_single_slow_reference_shifts_nothing() -> None:
    latencies = np.where(TIMES[17] == TIMES, 400.0, 250.0) * np.random.RandomState(0).normal(1, 0.003, 40)
    drift = find_drift(TIMES.tolist(), latencies.tolist())
    assert all(abs(drift.factor(time) - 1) < 0.01 for time in np.linspace(0, TIMES[-1], 200))


@pytest.mark.parametrize("n", range(4))
def test_a_few_references_say_nothing(n: int) -> None:
    drift = find_drift(TIMES[:n].tolist(), [100.0, 300.0, 200.0][:n])
    assert (drift.factor(40.0), drift.share, drift.size) == (1.0, 0.0, 0.0)


def test_equal_references_are_no_drift() -> None:
    drift = find_drift(TIMES.tolist(), [250.0] * 40)
    assert (drift.factor(77.0), drift.share, drift.size) == (1.0, 0.0, 0.0)
