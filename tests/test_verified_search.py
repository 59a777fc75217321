"""A search whose best are measured: what is dropped, corrected and searched again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpp import Architecture, InputError, SearchResult, hsnas, load_latency, verified_search
from llmpp.measuring.measurement import Measurement, Sample
from llmpp.verified_search import Measure, rescaled
from predictors import Board
from trial import TASK, WAYS

pytest.importorskip("safetensors")

HARDWARE = load_latency("titan-xp", task=TASK)
BOUND = 150.0


class Bench:
    """Measures what the hardware predicts, times a factor that a test decides.

    Args:
        factor: The factor of the architecture of a number, from 0 in the order of first measurements.
        least: The least latencies of architectures by number, as shares of the bound.
    """

    def __init__(self, factor: Callable[[int], float], least: Callable[[int], float]) -> None:
        self.factor, self.least, self.measured = factor, least, list[Architecture]()

    def __call__(self, architecture: Architecture) -> Measurement:
        predicted = float(HARDWARE.predict([architecture])[0])
        self.measured.append(architecture)
        number = self.distinct.index(architecture)
        latency = max(predicted * self.factor(number), BOUND * self.least(number))
        return Measurement((Sample(latency / 4, 3 * latency / 4),), 0.01, True, 2)

    @property
    def distinct(self) -> list[Architecture]:
        """What was measured, each once, in order."""
        return list(dict.fromkeys(self.measured))


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[SearchResult, Bench]]:
    """Searches with a bench in place of this machine."""

    def run(
        factor: Callable[[int], float], least: Callable[[int], float] = lambda _: 0, **settings: Any
    ) -> tuple[SearchResult, Bench]:
        bench = Bench(factor, least)
        monkeypatch.setattr(hsnas, "measurer_of", lambda *_: bench)
        way = {"verify": 4, **settings}
        return hsnas.search(TASK, "titan-xp", {"latency_ms": BOUND}, **way), bench

    return run


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_the_best_that_were_found_are_measured_in_order(search: Any, way: dict[str, Any]) -> None:
    result, bench = search(lambda _: 0.99, **way)
    plain = hsnas.search(TASK, "titan-xp", {"latency_ms": BOUND}, **way)
    assert result.best == plain.best
    assert (result.status, result.n_ties) == (plain.status, plain.n_ties)
    assert [one.candidate for one in result.verification.measured] == plain.ranking(4)
    assert bench.measured == [candidate.architecture for candidate in plain.ranking(4)] * 2
    assert plain.ranking(1) == [plain.best]
    scores = plain.to_frame()["score"].sort(descending=True).to_list()
    assert [candidate.score for candidate in plain.ranking(20)] == scores[:20]
    assert plain.verification is None


def test_what_breaks_the_bound_in_truth_is_not_the_best(search: Any, tmp_path: Path) -> None:
    result, _ = search(lambda number: [1.2, 1.2, 0.98, 0.9][number], run_dir=tmp_path)
    third = result.verification.measured[2]
    assert result.best == third.candidate
    assert third.measured_ms <= BOUND
    assert (result.status, result.n_ties, result.n_architectures) == ("budget", None, None)
    assert any("2 of 4 candidates measured break the bound of 150 ms" in note for note in result.notes)
    written = json.loads((tmp_path / "result.json").read_text())
    assert [one["is_within"] for one in written["verification"]["measured"]] == [False, False, True, True]
    assert json.loads((tmp_path / "best.json").read_text()) == third.candidate.architecture.to_dict()
    assert not (tmp_path / "latency.safetensors").exists()


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_an_error_that_all_share_corrects_the_model_and_searches_again(
    search: Any, tmp_path: Path, factor: float
) -> None:
    result, bench = search(lambda number: factor * (1 + 0.001 * (number % 2)), run_dir=tmp_path)
    assert "searched again with the corrected latency model" in result.notes
    assert result.status in ("optimal", "budget")
    best = result.verification.kept[0]
    assert result.best == best.candidate
    assert best.measured_ms <= BOUND
    assert best.measured_ms == pytest.approx(best.predicted_ms, rel=0.01)
    true = hsnas.search(TASK, "titan-xp", {"latency_ms": BOUND / factor})
    assert true.best
    assert result.best.score == pytest.approx(true.best.score, abs=0.01)
    assert len(bench.measured) == 2 * len(bench.distinct)
    corrected = load_latency(tmp_path / "latency.safetensors", task=TASK)
    assert corrected.record["correction"]["n_measured"] == 4
    sample = TASK.space.sample(5)
    assert corrected.predict(sample) == pytest.approx(factor * HARDWARE.predict(sample), rel=2e-3)


def test_a_corrected_model_is_as_certain_as_before_and_an_mlp_of_the_core() -> None:
    corrected, _ = rescaled(HARDWARE, 2.0, 5)
    sample = TASK.space.sample(50)
    before, after = (model.predict(sample, return_std=True) for model in (HARDWARE, corrected))
    assert after[0] == pytest.approx(2 * before[0], rel=1e-6)
    assert after[1] == pytest.approx(2 * before[1], rel=1e-5)
    assert corrected.name == "titan-xp, corrected"


def test_if_none_keeps_the_bound_by_chance_further_ones_are_measured(search: Any) -> None:
    result, bench = search(lambda _: 0.97, lambda number: [1.3, 1.01, 1.5, 0][min(number, 3)], verify=2)
    assert result.verification.kept
    assert result.best == result.verification.kept[0].candidate
    assert 2 < len(bench.distinct) <= 8


def test_if_none_keeps_the_bound_nothing_is_feasible_and_the_smallest_latency_is_told(
    search: Any, tmp_path: Path
) -> None:
    result, bench = search(lambda _: 1, lambda number: 1.01 if number else 50, verify=2, run_dir=tmp_path)
    assert (result.status, result.best) == ("infeasible", None)
    assert result.reachable == {"latency_ms": min(one.measured_ms for one in result.verification.measured)}
    assert result.reachable["latency_ms"] > BOUND
    assert len(bench.distinct) == 8
    assert not (tmp_path / "best.json").exists()


def test_if_the_corrected_model_finds_nothing_what_was_measured_is_still_told(search: Any) -> None:
    result, _ = search(lambda _: 8)
    assert (result.status, result.best) == ("infeasible", None)
    assert result.verification.factor == pytest.approx(8)
    assert result.reachable["latency_ms"] > BOUND


def test_what_kept_the_bound_in_the_first_search_stays_when_the_second_finds_nothing() -> None:
    smallest = hsnas.search(TASK, "titan-xp", {"latency_ms": 1}).reachable
    assert smallest
    bound = 1.02 * smallest["latency_ms"]
    bench = Bench(lambda number: 1.04, lambda number: 0)
    bench.factor = lambda number: 0.98 if number == 2 else 1.04
    way = verified_search.VerifiedSearch(
        lambda latency: hsnas.search(TASK, latency, {"latency_ms": bound}), bench, 5, bound
    )
    result = way.run(HARDWARE)
    assert result.verification is not None
    assert result.verification.kept
    assert result.best in [one.candidate for one in result.verification.kept]
    assert result.status == "budget"


def test_a_remaining_error_does_not_end_the_last_round(search: Any) -> None:
    result, bench = search(lambda number: 1.2, lambda number: 1.01 if number < 12 else 0, verify=3)
    assert result.status != "infeasible"
    assert result.best == result.verification.kept[0].candidate
    assert len(bench.distinct) > 6


def test_ctrl_c_never_returns_what_was_measured_to_break_the_bound(search: Any) -> None:
    def factor(number: int) -> float:
        if number == 2:
            raise KeyboardInterrupt
        return 1.3

    result, bench = search(factor)
    assert (result.status, result.reachable) == ("interrupted", None)
    assert result.best is not None
    assert result.best.architecture not in bench.distinct[:2]
    assert "the best that is shown was not measured" in result.notes


def test_ctrl_c_keeps_what_was_measured(search: Any) -> None:
    def factor(number: int) -> float:
        if number == 2:
            raise KeyboardInterrupt
        return 0.99

    result, _ = search(factor)
    assert result.status == "interrupted"
    assert len(result.verification.measured) == 2
    assert result.best == result.verification.kept[0].candidate


def test_hardware_that_cannot_be_measured_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for hardware, what in ((None, "none"), (Board(), "`my-board`")):
        with pytest.raises(InputError, match=f"`verify=3` needs as `hardware` a latency model.*got {what}"):
            hsnas.search(TASK, hardware, verify=3, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="titan-xp was not measured by `llmpp measure`"):
        hsnas.search(TASK, "titan-xp", verify=3, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match=r"`verify` must be an integer in 0\.\.250, got -1"):
        hsnas.search(TASK, "titan-xp", verify=-1)
    assert not (tmp_path / "run").exists()


def test_nothing_is_measured_where_nothing_was_found() -> None:
    nothing = verified_search.VerifiedSearch(
        lambda latency: hsnas.search(TASK, latency, {"latency_ms": 1}), _never(), 3, 1.0
    ).run(HARDWARE)
    assert (nothing.status, nothing.verification) == ("infeasible", None)


def _never() -> Measure:
    def measure_one(architecture: Architecture) -> Measurement:
        raise AssertionError(architecture)

    return measure_one
