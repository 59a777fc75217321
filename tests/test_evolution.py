"""How evolution behaves: populations, predictors that hand over, bounds that few or none keep, failures."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import llmpp
from enumeration import every_architecture, tiny_task
from llmpp import (
    Architecture,
    Iteration,
    MlpPredictor,
    PredictorError,
    SearchResult,
    hsnas,
    load_latency,
    load_predictor,
)
from predictors import FAULTS, Faulty, Ordered, Plain, Shallow, raise_
from trial import BOUNDS, SHORT, TASK, architectures_of, n_distinct_features, same


@pytest.fixture(scope="module")
def example() -> SearchResult:
    return hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, strategy="evolution")


def test_nothing_is_scored_twice(example: SearchResult) -> None:
    frame = example.to_frame()
    assert n_distinct_features(frame) == len(frame)
    assert len(frame) == sum(iteration.n_evaluations for iteration in example.history)


def test_history_counts_parents_as_remembered_and_never_falls(example: SearchResult) -> None:
    history = example.history
    assert [iteration.iteration for iteration in history] == list(range(30))
    assert history[0].n_evaluations == 125
    assert history[0].n_cache_hits == 0
    assert all(iteration.n_cache_hits >= 25 for iteration in history[1:])
    assert all(iteration.n_evaluations + iteration.n_cache_hits <= 125 for iteration in history)
    scores = [iteration.best_score for iteration in history]
    assert scores == sorted(scores)
    assert {iteration.predictor for iteration in history} == {"distilled"}
    assert all(iteration.seconds >= 0 for iteration in history)
    by_iteration = example.to_frame().group_by("iteration").len().sort("iteration")["len"].to_list()
    assert by_iteration == [iteration.n_evaluations for iteration in history]


@pytest.mark.parametrize("hardware", ["titan-xp", None])
def test_the_front_is_that_of_brute_force(hardware: str | None) -> None:
    result = hsnas.search("wmt14.en-de", hardware, {"params_m": 60}, seed=2, n_iterations=8)
    measure = "latency_ms" if hardware else "gflops"
    points = {(row[measure], row["score"]) for row in result.to_frame().to_dicts()}

    def is_beaten(cost: float, score: float) -> bool:
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)

    expected = sorted(point for point in points if not is_beaten(*point))
    front = result.pareto_front()
    assert [(getattr(candidate, measure), candidate.score) for candidate in front] == expected
    assert len(front) > 1
    assert result.best is not None
    assert front[-1].score == result.best.score


def test_another_seed_gives_another_search(example: SearchResult) -> None:
    other = hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, strategy="evolution", seed=1)
    assert not example.to_frame().equals(other.to_frame())


@pytest.mark.parametrize("which", ["initial", "hardware", "both"])
def test_ask_and_tell_gives_the_result_of_the_core(which: str, example: SearchResult) -> None:
    initial = load_predictor("distilled", task=TASK)
    latency = load_latency("titan-xp", task=TASK)
    other = hsnas.search(
        "wmt14.en-de",
        Plain(latency) if which != "initial" else latency,
        BOUNDS,
        strategy="evolution",
        initial=Plain(initial) if which != "hardware" else initial,
    )
    assert same(example, other)


def test_a_predictor_that_sees_single_layers_gets_all_their_orders() -> None:
    result = hsnas.search("wmt14.en-de", initial=Ordered(), n_iterations=12)
    assert result.best is not None
    assert result.best.score == 3072 - 1024 + 3
    frame = result.to_frame()
    assert len(set(architectures_of(frame))) == len(frame) > n_distinct_features(frame)


def test_the_baseline_takes_over_and_scores_the_survivors_again() -> None:
    baseline = Shallow()
    result = hsnas.search(
        "wmt14.en-de", "titan-xp", {"latency_ms": 200}, baseline=baseline, strategy="evolution", seed=3
    )
    frame = result.to_frame()
    first, second = (frame.filter(pl.col("predictor") == name) for name in ("distilled", "Shallow"))
    assert len(first) + len(second) == len(frame)
    assert sorted(first["iteration"].unique()) == list(range(15))
    assert sorted(second["iteration"].unique()) == list(range(15, 30))
    survivors = set(architectures_of(first.sort("score", descending=True, maintain_order=True).head(25)))
    assert survivors <= set(architectures_of(second.filter(pl.col("iteration") == 15)))
    assert architectures_of(second) == baseline.asked
    assert n_distinct_features(first) == len(first)
    assert n_distinct_features(second) == len(second)
    assert result.best is not None
    assert result.best.score == second["score"].max()
    assert result.best.architecture.decoder_layers == 1
    assert {candidate.score for candidate in result.pareto_front()} <= set(second["score"])
    assert [iteration.predictor for iteration in result.history] == ["distilled"] * 15 + ["Shallow"] * 15
    assert result.history[15].best_score < 0 < result.history[14].best_score
    assert result.history[15].n_evaluations == len(second.filter(pl.col("iteration") == 15)) >= 25
    assert result.notes == ()


@pytest.mark.parametrize(
    ("switch", "n_initial"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8), (0, 0), (1, 8)]
)
def test_switch_is_the_share_of_iterations_of_the_initial_predictor(switch: float, n_initial: int) -> None:
    settings = {**SHORT, "n_iterations": 8}
    result = hsnas.search("wmt14.en-de", baseline=Shallow(), switch=switch, **settings)
    names = [iteration.predictor for iteration in result.history]
    assert names == ["distilled"] * n_initial + ["Shallow"] * (8 - n_initial)
    idle = {0: "initial", 8: "baseline"}.get(n_initial)
    assert [note for note in result.notes if "leaves no iteration" in note] == (
        [f"`switch={switch}` leaves no iteration to the {idle} predictor"] if idle else []
    )


def test_a_baseline_on_averages_scores_nothing_twice_after_an_initial_per_layer() -> None:
    class PerLayer(Plain):
        encoding = "per-layer"

        def __init__(self, inner: MlpPredictor) -> None:
            self.inner, self.name = inner, "per-layer"

    student = load_predictor("distilled", task=TASK)
    result = hsnas.search("wmt14.en-de", initial=PerLayer(student), baseline=student, strategy="evolution")
    second = result.to_frame().filter(pl.col("predictor") == "distilled")
    assert n_distinct_features(second) == len(second)


def test_an_infeasible_search_ends_and_tells_what_is_reachable(tmp_path: Path) -> None:
    start = time.perf_counter()
    calls: list[Iteration] = []
    result = hsnas.search(
        "wmt14.en-de",
        "titan-xp",
        {"latency_ms": 5},
        strategy="evolution",
        callbacks=[calls.append],
        run_dir=tmp_path / "run",
    )
    assert time.perf_counter() - start < 20
    assert (result.status, result.best, result.history, calls) == ("infeasible", None, [], [])
    assert result.pareto_front() == []
    assert len(result.to_frame()) == 0
    assert result.reachable is not None
    assert set(result.reachable) == {"latency_ms", "gflops", "params_m"}
    smallest = Architecture(512, (1024,) * 6, (4,) * 6, 512, (1024,), (4,), (4,), (1,))
    cost = llmpp.cost(smallest, task=TASK)
    assert 1 <= result.reachable["gflops"] / (cost.flops / 1e9) < 1.3
    assert 1 <= result.reachable["params_m"] / (cost.params / 1e6) < 1.3
    latency = float(load_latency("titan-xp", task=TASK).predict([smallest])[0])
    assert 0.8 < result.reachable["latency_ms"] / latency < 1.1
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["status"], written["best"], written["reachable"]) == (
        "infeasible",
        None,
        result.reachable,
    )
    assert len(pl.read_parquet(tmp_path / "run" / "candidates.parquet")) == 0
    assert not (tmp_path / "run" / "best.json").exists()


def test_bounds_that_exclude_each_other_are_infeasible() -> None:
    class Reverse:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [1e9 / llmpp.cost(a, task=TASK).flops for a in architectures]

    bounds = {"latency_ms": 0.3, "gflops": 2.0}
    result = hsnas.search("wmt14.en-de", Reverse(), bounds, **SHORT)
    assert result.status == "infeasible"


def test_a_bound_that_very_few_architectures_meet_is_met() -> None:
    smallest = Architecture(512, (1024,) * 6, (4,) * 6, 512, (1024,), (4,), (4,), (1,))
    bound = llmpp.cost(smallest, task=TASK).flops / 1e9 * 1.001
    result = hsnas.search("wmt14.en-de", constraints={"gflops": bound}, n_iterations=3)
    assert result.best is not None
    assert result.best.gflops <= bound


def test_a_tiny_space_is_exhausted_and_the_search_ends_with_the_optimum() -> None:
    task = tiny_task()
    everything = set(every_architecture(task.space))
    assert len(everything) == task.space.n_architectures == 2 * (2 + 4)

    class Taste:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [sum(f * (i + 1) for i, f in enumerate(a.decoder_ffn)) / 1e3 for a in architectures]

    result = hsnas.search(task, initial=Taste())
    assert result.status == "budget"
    assert set(architectures_of(result.to_frame())) == everything
    assert len(result.to_frame()) == 12
    assert result.best is not None
    assert result.best.architecture.decoder_ffn == (128, 128)
    assert len(result.history) == 30


def test_one_candidate_per_iteration_is_enough() -> None:
    result = hsnas.search("wmt14.en-de", n_population=1, n_parents=1, n_mutants=1, n_children=0)
    assert len(result.to_frame()) == 30
    result = hsnas.search("wmt14.en-de", n_population=3, n_parents=1, n_mutants=0, n_children=0)
    assert len(result.to_frame()) == 3


@pytest.mark.parametrize(("fault", "words"), FAULTS)
@pytest.mark.parametrize("n_good", [0, 2])
def test_a_predictor_that_fails_is_named_with_its_iteration_and_what_was_scored_is_kept(
    fault: Any, words: str, n_good: int, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(PredictorError, match=words) as caught:
        hsnas.search("wmt14.en-de", initial=Faulty(n_good, fault), run_dir=run_dir, **SHORT)
    message = str(caught.value)
    assert "`Faulty`" in message
    assert f"iteration {n_good}" in message
    assert str(run_dir) in message
    candidates = pl.read_parquet(run_dir / "candidates.parquet")
    history = json.loads((run_dir / "history.json").read_text())["iterations"]
    assert sorted(candidates["iteration"].unique()) == list(range(n_good))
    assert len(history) == n_good
    assert len(candidates) == sum(iteration["n_evaluations"] for iteration in history)


def test_a_failing_baseline_leaves_what_the_initial_predictor_scored(tmp_path: Path) -> None:
    baseline = Faulty(1, raise_(RuntimeError("gone")))
    with pytest.raises(PredictorError, match="`Faulty`, in iteration 3, raised RuntimeError: gone"):
        hsnas.search("wmt14.en-de", baseline=baseline, run_dir=tmp_path / "run", **SHORT)
    candidates = pl.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert candidates.group_by("predictor", maintain_order=True).len()["predictor"].to_list() == [
        "distilled",
        "Faulty",
    ]


def test_ctrl_c_in_a_predictor_keeps_what_was_found(tmp_path: Path) -> None:
    predictor = Faulty(3, raise_(KeyboardInterrupt()))
    result = hsnas.search("wmt14.en-de", initial=predictor, run_dir=tmp_path / "run", **SHORT)
    assert result.status == "interrupted"
    assert len(result.history) == 3
    assert result.best is not None
    assert result.best.score == result.to_frame()["score"].max()
    assert result.pareto_front()
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["status"] == "interrupted"
    assert written["best"] == result.best.to_dict()


def test_a_baseline_that_was_interrupted_before_it_scored_is_noted() -> None:
    class Interrupted:
        def predict(self, architectures: list[Architecture]) -> list[float]:
            raise KeyboardInterrupt

    result = hsnas.search("wmt14.en-de", baseline=Interrupted(), **SHORT)
    assert result.status == "interrupted"
    assert "`Interrupted` never scored: `best` and the front are by `distilled`" in result.notes


@pytest.mark.parametrize("n_calls", range(2, 9))
def test_ctrl_c_at_any_moment_leaves_a_history_of_all_that_was_scored(
    n_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1, 1000))

    def interrupted() -> float:
        if (now := next(clock)) == n_calls:
            raise KeyboardInterrupt
        return float(now)

    monkeypatch.setattr("llmpp.evolution.time.perf_counter", interrupted)
    result = hsnas.search(TASK, "titan-xp", strategy="evolution", **SHORT)
    assert result.status == "interrupted"
    assert result.n_evaluations == len(result.to_frame())
