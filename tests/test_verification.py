"""Measuring what a search found."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from llmpp import Architecture, Candidate, InputError, load_latency, load_task
from llmpp.measuring.measurement import Measurement, Sample
from llmpp.measuring.timing import Workload
from llmpp.measuring.verification import Verification, measurer, verify

TASK = load_task("wmt14.en-de")
ARCHITECTURES = TASK.space.sample(8)


def candidates(predicted: Sequence[float]) -> list[Candidate]:
    return [Candidate(a, 20.0, ms, 3.0, 40.0) for a, ms in zip(ARCHITECTURES, predicted, strict=False)]


def bench(measured: Sequence[float]) -> Callable[[Architecture], Measurement]:
    """Measures the architectures above, each as it says."""

    def measure_one(architecture: Architecture) -> Measurement:
        latency = measured[ARCHITECTURES.index(architecture)]
        return Measurement((Sample(latency / 5, 4 * latency / 5),), 0.01, True, 2)

    return measure_one


def verified(
    predicted: Sequence[float], measured: Sequence[float], bound: float | None = 100
) -> Verification[Candidate]:
    return verify(candidates(predicted), bench(measured), bound, n=len(predicted))


def test_what_breaks_the_bound_in_truth_is_dropped_and_said() -> None:
    found = verified([99, 98, 97, 95], [98, 103, 96, 100])
    assert [one.measured_ms for one in found.measured] == pytest.approx([98, 103, 96, 100])
    assert [one.candidate.architecture for one in found.kept] == [ARCHITECTURES[k] for k in (0, 2, 3)]
    assert [one.candidate.architecture for one in found.dropped] == [ARCHITECTURES[1]]
    (note,) = found.notes
    assert note == (
        "1 of 4 candidates measured break the bound of 100 ms and were dropped: 103.0 ms, not 98.0"
    )
    assert (found.factor, found.is_systematic, found.corrected_bound_ms) == (1.0, False, 100)


def test_an_error_that_all_share_is_systematic_and_corrects_the_bound() -> None:
    found = verified([99, 98, 97, 95, 99], [107, 104.5, 105, 103, 106])
    assert found.kept == ()
    assert found.is_systematic
    assert found.factor == pytest.approx(1.081, abs=0.005)
    assert found.corrected_bound_ms == pytest.approx(100 / found.factor)
    assert "measured latencies are 8.1% above the predicted ones, and not by chance" in found.notes[-1]
    assert "below" in verified([99, 98, 97], [90, 90, 88]).notes[-1]


@pytest.mark.parametrize(
    "measured",
    [[100, 96, 99, 94], [101, 97.5, 96.5, 96], [120, 97, 96, 95], [99.5, 98.7, 97.6, 95.4]],
    ids=["noise", "one percent", "one far off", "half a percent, always"],
)
def test_what_may_be_chance_or_matters_little_is_not_systematic(measured: Sequence[float]) -> None:
    assert not verified([99, 98, 97, 95], measured).is_systematic


@pytest.mark.parametrize("n", [1, 2])
def test_nothing_is_concluded_from_one_or_two(n: int) -> None:
    found = verified([99, 98][:n], [120, 119][:n])
    assert (found.factor, len(found.dropped)) == (1.0, n)


def test_without_a_bound_nothing_is_dropped() -> None:
    found = verified([50, 60, 70], [51, 59, 70], None)
    assert (len(found.kept), found.corrected_bound_ms, found.notes) == (3, None, ())


def test_only_the_best_are_measured_and_progress_tells_of_them() -> None:
    told: list[tuple[int, int]] = []
    found = verify(
        iter(candidates([99.0] * 8)), bench([99.0] * 8), 100, n=3, progress=lambda *what: told.append(what)
    )
    assert len(found.measured) == 3
    assert told == [(done, 6) for done in range(1, 7)]
    assert verify(candidates([99.0]), bench([99.0]), 100, n=5).measured[0].ratio == pytest.approx(1)


def test_a_moment_that_slows_the_machine_counts_half() -> None:
    found = verify(candidates([99.0] * 3), slow_once(99.0), 105, n=3)
    assert [one.measured_ms for one in found.measured] == pytest.approx([99 * 1.1, 99, 99])
    assert len(found.kept) == 2


def test_what_is_known_is_not_measured_again() -> None:
    known: dict[Architecture, list[Measurement]] = {}
    first = verify(candidates([99.0] * 3), bench([99.0] * 3), 100, n=3, known=known)
    assert {len(rounds) for rounds in known.values()} == {2}
    again = verify(candidates([90.0] * 3), bench([]), 100, n=3, known=known)
    assert [one.measured_ms for one in again.measured] == [one.measured_ms for one in first.measured]


def slow_once(latency: float) -> Callable[[Architecture], Measurement]:
    """Measures a latency; the first time, it takes a fifth longer."""
    factors = iter([1.2])

    def measure_one(architecture: Architecture) -> Measurement:
        ms = latency * next(factors, 1.0)
        return Measurement((Sample(0.0, ms),), 0.01, True, 2)

    return measure_one


def test_the_result_is_ready_for_json() -> None:
    content = verified([99, 98, 97], [98, 103, 96]).to_dict()
    assert content["measured"][1]["is_within"] is False
    assert content["measured"][1]["architecture"] == ARCHITECTURES[1].to_dict()
    assert (content["bound_ms"], content["factor"]) == (100, 1.0)


def test_candidates_without_a_prediction_and_bounds_that_are_none_are_refused() -> None:
    unknown = [Candidate(ARCHITECTURES[0], 20.0, None, 3.0, 40.0)]
    with pytest.raises(InputError, match="a candidate's predicted latency must be a positive number, got No"):
        verify(unknown, bench([1.0]), 100)
    with pytest.raises(InputError, match="the bound of `latency_ms` must be a positive number, got -1"):
        verified([1.0], [1.0], -1)
    with pytest.raises(InputError, match="`n` must be an integer in 1..1000000, got 0"):
        verify(candidates([1.0]), bench([1.0]), 100, n=0)


def test_hardware_that_was_not_measured_here_cannot_be_verified() -> None:
    with pytest.raises(
        InputError, match="titan-xp was not measured by `llmpp measure`.*llmpp fit-latency FI"
    ):
        measurer(load_latency("titan-xp", task=TASK), TASK)


def test_an_architecture_is_measured_as_those_were_that_the_model_was_fitted_to() -> None:
    pytest.importorskip("torch")
    from llmpp.machine import processor
    from small_networks import SPACE
    from small_networks import TASK as SMALL

    known = load_latency("titan-xp", task=TASK)
    workload = Workload(source_length=4, target_length=4).to_dict()
    record = {**known.record, "workload": workload, "machine": {"device_name": processor()}}
    measure_one = measurer(replace(known, record=record), SMALL)
    assert 0 < measure_one(SPACE.sample(1)[0]).latency_ms < 5000
    record["machine"] = {"device_name": "cray"}
    with pytest.raises(InputError, match="titan-xp was measured on cray, but this is"):
        measurer(replace(known, record=record), SMALL)
