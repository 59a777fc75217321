"""Exact search with a baseline: what is proposed to it, and what is kept when it fails."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from enumeration import Everything, small_task, task_of
from llmpp import Architecture, InputError, Iteration, PredictorError, SearchResult, hsnas
from predictors import Faulty, Shallow, network, raise_
from trial import architectures_of, n_distinct_features, same_found

TASK = small_task()
SCORE = network(TASK.space, seed=1)
LATENCY = network(TASK.space, (), seed=2, mean=100)


def everything() -> Everything:
    return Everything(TASK, SCORE, LATENCY, is_ordered=False)


def propose(baseline: Any, bounds: dict[str, float] | None = None, **arguments: Any) -> SearchResult:
    return hsnas.search(
        TASK, LATENCY, bounds, initial=SCORE, baseline=baseline, strategy="exact", **arguments
    )


def test_proposals_are_distinct_and_feasible_and_scored_once() -> None:
    bounds, baseline = everything().quantiles({"latency_ms": 0.6, "gflops": 0.8}), Shallow()
    result = propose(baseline, bounds)
    frame = result.to_frame()
    first, second = (frame.filter(pl.col("predictor") == name) for name in (SCORE.name, "Shallow"))
    assert len(first) + len(second) == len(frame)
    assert len(second) == 200
    assert architectures_of(second) == baseline.asked
    assert n_distinct_features(second, TASK) == 200
    assert all((frame[name] <= bound).all() for name, bound in bounds.items())
    assert (second["latency_ms"].to_numpy() == LATENCY.predict(baseline.asked)).all()
    assert second["score"].to_numpy() == pytest.approx(Shallow().predict(baseline.asked))
    assert (first["score"].to_numpy() == SCORE.predict(architectures_of(first))).all()


def test_the_best_is_that_of_the_baseline() -> None:
    result = propose(Shallow())
    second = result.to_frame().filter(pl.col("predictor") == "Shallow")
    assert (result.status, result.strategy, result.n_ties) == ("budget", "exact", None)
    assert result.best is not None
    assert result.best.score == second["score"].max()
    assert result.best.architecture.decoder_layers == 1
    assert {candidate.score for candidate in result.pareto_front()} <= set(second["score"])
    assert result.pareto_front("latency_ms", "params_m")


def test_the_best_under_the_initial_predictor_is_proposed() -> None:
    baseline = Shallow()
    propose(baseline, n_proposals=10)
    assert SCORE.predict(baseline.asked).max() == everything().best({}, 1)[0]


@pytest.mark.parametrize("n_proposals", [1, 7, 60, 500])
def test_at_most_as_many_are_proposed_as_asked_for(n_proposals: int) -> None:
    baseline = Shallow()
    propose(baseline, n_proposals=n_proposals)
    assert len(baseline.asked) == n_proposals


def test_a_small_space_is_proposed_whole() -> None:
    task, baseline = task_of(), Shallow()
    hsnas.search(task, initial=network(task.space), baseline=baseline, strategy="exact", n_proposals=10**6)
    assert len(baseline.asked) == task.space.n_feature_vectors
    assert len(np.unique(task.space.features(baseline.asked), axis=0)) == len(baseline.asked)


def test_proposals_are_the_best_of_each_tenth_of_the_range_of_the_front() -> None:
    baseline = Shallow()
    propose(baseline, n_proposals=100)
    all_of, front = everything(), everything().front({}, "latency_ms")
    edges = np.linspace(front[0][0], front[-1][0], 11)
    edges[0], edges[-1] = -np.inf, np.inf
    asked = LATENCY.predict(baseline.asked)
    asked_scores = SCORE.predict(baseline.asked)
    latencies = all_of.measures["latency_ms"]
    for low, high in pairwise(edges):
        is_inside = (asked > low) & (asked <= high)
        is_candidate = (latencies > low) & (latencies <= high)
        assert is_inside.sum() >= min(10, all_of.n_vectors(is_candidate))
        assert not is_inside.any() or asked_scores[is_inside].max() == all_of.scores[is_candidate].max()


def test_history_tells_both_predictors_apart_and_callbacks_hear_of_it() -> None:
    heard: list[Iteration] = []
    result = propose(Shallow(), n_proposals=60, callbacks=[heard.append])
    history, frame = result.history, result.to_frame()
    assert heard == history
    assert [iteration.predictor for iteration in history] == [SCORE.name] + ["Shallow"] * (len(history) - 1)
    assert [iteration.iteration for iteration in history] == list(range(len(history)))
    assert history[0].best_score == everything().best({}, 1)[0]
    assert sum(iteration.n_evaluations for iteration in history[1:]) == 60
    scores = [iteration.best_score for iteration in history[1:]]
    assert scores == sorted(scores)
    by_iteration = frame.group_by("iteration").len().sort("iteration")["len"].to_list()
    assert by_iteration[1:] == [iteration.n_evaluations for iteration in history[1:]]


def test_the_run_directory_holds_what_the_baseline_scored(tmp_path: Path) -> None:
    result = propose(Shallow(), n_proposals=60, run_dir=tmp_path / "run")
    read = {path.name: json.loads(path.read_text()) for path in (tmp_path / "run").glob("*.json")}
    assert read["settings.json"]["strategy"] == "exact"
    assert read["settings.json"]["n_proposals"] == 60
    assert read["settings.json"]["predictors"] == [SCORE.name, "Shallow"]
    assert pl.read_parquet(tmp_path / "run" / "candidates.parquet").equals(result.to_frame())
    assert [Iteration(**row) for row in read["history.json"]["iterations"]] == result.history
    assert result.best is not None
    assert read["result.json"]["best"] == result.best.to_dict()
    assert Architecture.from_dict(read["best.json"]) == result.best.architecture


def test_a_baseline_that_fails_midway_leaves_what_it_scored(tmp_path: Path) -> None:
    baseline = Faulty(2, raise_(RuntimeError("gone")))
    with pytest.raises(PredictorError, match="`Faulty`, in iteration 3, raised RuntimeError: gone") as caught:
        propose(baseline, run_dir=tmp_path / "run")
    frame = pl.read_parquet(tmp_path / "run" / "candidates.parquet")
    second = frame.filter(pl.col("predictor") == "Faulty")
    history = json.loads((tmp_path / "run" / "history.json").read_text())["iterations"]
    assert str(tmp_path / "run") in str(caught.value)
    assert len(frame.filter(pl.col("predictor") == SCORE.name)) >= 1000
    assert len(second) == sum(iteration["n_evaluations"] for iteration in history[1:]) > 0
    assert [float(a.decoder_layers) for a in architectures_of(second)] == second["score"].to_list()


def test_a_baseline_that_fails_at_once_leaves_what_the_initial_predictor_scored(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="`Faulty`, in iteration 1, returned scores of shape"):
        propose(Faulty(0, lambda _: [1.0]), run_dir=tmp_path / "run")
    frame = pl.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert frame["predictor"].unique().to_list() == [SCORE.name]


def test_ctrl_c_in_the_baseline_keeps_what_was_found(tmp_path: Path) -> None:
    result = propose(Faulty(1, raise_(KeyboardInterrupt())), run_dir=tmp_path / "run")
    second = result.to_frame().filter(pl.col("predictor") == "Faulty")
    assert result.status == "interrupted"
    assert 0 < len(second) < 200
    assert result.best is not None
    assert result.best.score == second["score"].max()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


def test_ctrl_c_before_the_baseline_scored_leaves_the_initial_predictors_best() -> None:
    result = propose(Faulty(0, raise_(KeyboardInterrupt())))
    assert result.status == "interrupted"
    assert result.best is not None
    assert result.best.score == everything().best({}, 1)[0]
    assert f"`Faulty` never scored: `best` and the front are by `{SCORE.name}`" in result.notes


def test_ctrl_c_in_a_callback_keeps_what_the_baseline_scored() -> None:
    def callback(iteration: Iteration) -> None:
        if iteration.iteration == 2:
            raise KeyboardInterrupt

    result = propose(Shallow(), callbacks=[callback])
    assert result.status == "interrupted"
    assert len(result.history) == 3
    second = result.to_frame().filter(pl.col("predictor") == "Shallow")
    assert len(second) == sum(iteration.n_evaluations for iteration in result.history[1:])


def test_nothing_is_proposed_where_nothing_is_feasible() -> None:
    baseline = Shallow()
    result = propose(baseline, {"gflops": 1e-6})
    assert (result.status, result.best, baseline.asked) == ("infeasible", None, [])
    assert result.reachable is not None


@pytest.mark.parametrize("switch", [0, 1])
def test_a_switch_has_no_effect_on_an_exact_search(switch: int) -> None:
    results = [propose(Shallow()), propose(Shallow(), switch=switch)]
    assert set(results[0].to_frame()["predictor"]) == {"Shallow", SCORE.name}
    assert same_found(*results)


def test_the_number_of_proposals_is_a_positive_integer() -> None:
    for wrong in (0, -1, 2.5, True, 10**7):
        with pytest.raises(InputError, match="`n_proposals` must be an integer in 1..1000000"):
            propose(Shallow(), n_proposals=wrong)
