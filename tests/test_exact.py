"""Exact search against brute force over every architecture."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmpp
from enumeration import PAIR, Everything, figures, small_task, task_of, tasks
from llmpp import Architecture, InputError, MlpPredictor, SearchResult, Task, hsnas
from llmpp.table import Table
from predictors import Board, Faulty, Plain, Shallow, network, raise_
from trial import BOUNDS, TASK, architectures_of, n_distinct_features, same, same_found

N_VECTORS = 5_717_348
SMALL = small_task()
SEEDS = st.integers(0, 2**32)
#: No hidden layer, one, and two; those of 1 and 7 units go another way through the core than those of 70.
HIDDEN = st.sampled_from([(), (1,), (7,), (70,), (5, 3)])
SHARES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([-1.0, 0.0, 0.02, 0.1, 0.3, 0.7, 1.0]) for name in BOUNDS}
)
BOTH = ("latency_ms", "gflops")


class Level:
    """Knows few scores."""

    encoding = "averaged"

    def __init__(self, n_levels: int) -> None:
        self.n_levels = n_levels

    def predict(self, architectures: list[Architecture]) -> list[float]:
        return [float((sum(a.decoder_ffn) // 4 + a.encoder_dim) % self.n_levels) for a in architectures]


class Zero:
    """Gives zeros of either sign."""

    encoding = "averaged"

    def predict(self, architectures: list[Architecture]) -> list[float]:
        return [-0.0 if a.decoder_layers == 1 else 0.0 for a in architectures]


class Reverse:
    """A device on which the architectures of more FLOPs are faster."""

    encoding = "averaged"

    def predict(self, architectures: list[Architecture]) -> list[float]:
        return [1e9 / llmpp.cost(a, task=task_of()).flops for a in architectures]


def pair(
    task: Task, seed: int, hidden: tuple[int, ...] = (5,), *, is_rough: bool = False
) -> tuple[MlpPredictor, MlpPredictor]:
    """A network of quality, and one of latency."""
    score = network(task.space, hidden, seed=seed, is_rough=is_rough)
    return score, network(task.space, (), seed=seed + 1, is_rough=is_rough, mean=100)


def check_infeasible(result: SearchResult, everything: Everything, bounds: dict[str, float]) -> None:
    smallest = {name: values.min() for name, values in everything.measures.items()}
    note = "each constraint can be kept alone, but not all of them together"
    assert (result.status, result.best, result.n_ties) == ("infeasible", None, None)
    assert result.reachable == smallest
    assert (note in result.notes) == all(smallest[name] <= bound for name, bound in bounds.items())
    assert len(result.to_frame()) == len(result.pareto_front()) == 0


def check_optimal(result: SearchResult, everything: Everything, bounds: dict[str, float]) -> None:
    is_feasible = everything.feasible(bounds)
    is_best = is_feasible & (everything.scores == everything.scores[is_feasible].max())
    measure = next(iter(everything.measures))
    assert (result.status, result.strategy, result.reachable) == ("optimal", "exact", None)
    assert result.n_ties == everything.n_vectors(is_best)
    assert not everything.is_ordered or result.n_architectures == is_best.sum()
    assert result.best is not None
    index = everything.index(result.best.architecture)
    assert is_best[index]
    assert result.best.score == everything.scores[index]
    assert all(getattr(result.best, name) == values[index] for name, values in everything.measures.items())
    assert getattr(result.best, measure) == everything.measures[measure][is_best].min()
    front = everything.front(bounds, measure)
    frame = result.to_frame()
    assert figures(result.pareto_front(), measure) == front
    assert sorted(frame.filter(pl.col("is_on_front")).select(measure, "score").rows()) == front
    assert frame["score"].to_list()[:1000] == everything.best(bounds, 1000)


def check(
    task: Task, score: Any, latency: Any, shares: dict[str, float], *, is_ordered: bool = True
) -> SearchResult:
    """Searches exactly, and compares the result with brute force."""
    everything = Everything(task, score, latency, is_ordered=is_ordered)
    bounds = everything.quantiles(shares)
    result = hsnas.search(task, latency, bounds, initial=score, strategy="exact")
    if everything.feasible(bounds).any():
        check_optimal(result, everything, bounds)
    else:
        check_infeasible(result, everything, bounds)
    return result


@settings(max_examples=30)
@given(tasks(), SEEDS, HIDDEN, st.booleans(), SHARES)
def test_answers_about_networks_are_those_of_brute_force(
    task: Task, seed: int, hidden: tuple[int, ...], is_rough: bool, shares: dict[str, float]
) -> None:
    check(task, *pair(task, seed, hidden, is_rough=is_rough), shares)


@settings(max_examples=15)
@given(tasks(), SEEDS, HIDDEN, SHARES)
def test_without_hardware_scores_are_weighed_against_flops(
    task: Task, seed: int, hidden: tuple[int, ...], shares: dict[str, float]
) -> None:
    check(task, network(task.space, hidden, seed=seed), None, shares)


@settings(max_examples=15)
@given(tasks(), st.integers(1, 5), st.booleans(), SHARES)
def test_answers_about_predictors_in_python_are_those_of_brute_force_also_among_ties(
    task: Task, n_levels: int, has_hardware: bool, shares: dict[str, float]
) -> None:
    check(task, Level(n_levels), Board() if has_hardware else None, shares)


@settings(max_examples=6)
@given(SEEDS, HIDDEN, st.booleans(), st.booleans(), SHARES)
def test_where_there_is_much_to_skip_answers_are_those_of_brute_force(
    seed: int, hidden: tuple[int, ...], is_rough: bool, has_hardware: bool, shares: dict[str, float]
) -> None:
    score, latency = pair(SMALL, seed, hidden, is_rough=is_rough)
    check(SMALL, score, latency if has_hardware else None, shares, is_ordered=False)


@settings(max_examples=30)
@given(tasks(1000), SEEDS, st.booleans(), SHARES, st.permutations(BOTH))
def test_the_front_of_two_measures_is_that_of_brute_force(
    task: Task, seed: int, is_rough: bool, shares: dict[str, float], measures: list[str]
) -> None:
    score, latency = pair(task, seed, is_rough=is_rough)
    everything = Everything(task, score, latency)
    bounds = everything.quantiles(shares)
    front = hsnas.search(task, latency, bounds, initial=score, strategy="exact").pareto_front(*measures)
    assert figures(front, *measures) == everything.front(bounds, *measures)
    firsts = [getattr(candidate, measures[0]) for candidate in front]
    assert firsts == sorted(firsts)


def test_the_front_of_two_measures_is_whole_where_much_was_skipped() -> None:
    score, latency = pair(SMALL, seed=4)
    everything = Everything(SMALL, score, latency, is_ordered=False)
    result = hsnas.search(SMALL, latency, initial=score, strategy="exact")
    assert figures(result.pareto_front(*BOTH), *BOTH) == everything.front({}, *BOTH)


@settings(max_examples=15)
@given(tasks(1000), SEEDS, HIDDEN, SHARES)
def test_one_thread_two_threads_and_python_give_one_result(
    task: Task, seed: int, hidden: tuple[int, ...], shares: dict[str, float]
) -> None:
    score, latency = pair(task, seed, hidden)
    bounds = Everything(task, score, latency).quantiles(shares)
    arguments: dict[str, Any] = {"constraints": bounds, "strategy": "exact"}
    one = hsnas.search(task, latency, initial=score, **arguments)
    assert same(one, hsnas.search(task, latency, initial=score, n_threads=2, seed=5, **arguments))
    assert same_found(one, hsnas.search(task, Plain(latency), initial=Plain(score), **arguments))
    assert same_found(one, hsnas.search(task, Plain(latency), initial=score, **arguments))


@settings(max_examples=15)
@given(tasks(), SEEDS, HIDDEN)
def test_figures_in_the_frame_are_to_the_bit_those_of_the_predictors(
    task: Task, seed: int, hidden: tuple[int, ...]
) -> None:
    score, latency = pair(task, seed, hidden)
    frame = hsnas.search(task, latency, initial=score, strategy="exact").to_frame()
    found = architectures_of(frame)
    costs = [llmpp.cost(architecture, task=task) for architecture in found]
    assert (frame["score"].to_numpy() == score.predict(found)).all()
    assert (frame["latency_ms"].to_numpy() == latency.predict(found)).all()
    assert frame["gflops"].to_list() == [cost.flops / 1e9 for cost in costs]
    assert frame["params_m"].to_list() == [cost.params / 1e6 for cost in costs]
    assert n_distinct_features(frame, task) == len(frame)


@settings(max_examples=15)
@given(tasks())
def test_flops_and_parameters_are_functions_of_the_features(task: Task) -> None:
    everything = Everything(task, Level(1))
    vectors, which = np.unique(everything.features, axis=0, return_inverse=True)
    assert len(vectors) == task.space.n_feature_vectors
    assert len(everything.features) == task.space.n_architectures
    for values in everything.measures.values():
        least, most = np.full(len(vectors), np.inf), np.zeros(len(vectors))
        np.minimum.at(least, which.ravel(), values)
        np.maximum.at(most, which.ravel(), values)
        assert (least == most).all()


@settings(max_examples=15)
@given(tasks(), SEEDS, SHARES)
def test_evolution_is_never_better_and_agrees_where_it_finds_the_optimum(
    task: Task, seed: int, shares: dict[str, float]
) -> None:
    score, latency = pair(task, seed)
    bounds = Everything(task, score, latency).quantiles(shares)
    exact = hsnas.search(task, latency, bounds, initial=score, strategy="exact").best
    evolution = hsnas.search(task, latency, bounds, initial=score, strategy="evolution", n_iterations=5).best
    if exact is None or evolution is None:
        assert evolution is None
        return
    assert evolution.score <= exact.score
    if evolution.score == exact.score:
        one, other = task.space.features([exact.architecture, evolution.architecture])
        assert (one == other).all()
        assert evolution.latency_ms == exact.latency_ms


def test_a_space_of_one_architecture_has_one_answer() -> None:
    task = task_of({name: values[:1] for name, values in PAIR.items()})
    result = hsnas.search(task, Board(), initial=Shallow(), strategy="exact")
    assert (result.status, result.n_ties, result.n_architectures) == ("optimal", 1, 1)
    assert [candidate.architecture for candidate in result.pareto_front()] == task.space.sample(1)


def test_zeros_of_either_sign_are_equal_scores() -> None:
    check(task_of(), Zero(), None, {})
    result = check(task_of(), Zero(), Board(), {})
    everything = Everything(task_of(), Zero(), Board())
    assert figures(result.pareto_front(*BOTH), *BOTH) == everything.front({}, *BOTH)


@pytest.mark.parametrize("gflops", [0.0, -1.0])
def test_bounds_that_exclude_each_other_are_told_from_one_that_nothing_keeps(gflops: float) -> None:
    result = check(task_of(), Shallow(), Reverse(), {"latency_ms": 0.0, "gflops": gflops})
    assert result.status == "infeasible"


def test_the_frame_holds_the_best_thousand_and_the_whole_front() -> None:
    score, latency = pair(SMALL, seed=2)
    result = hsnas.search(SMALL, latency, initial=score, strategy="exact")
    frame, front = result.to_frame(), result.pareto_front()
    n_beyond = len([candidate for candidate in front if candidate.score < frame["score"][999]])
    assert n_beyond > 0
    assert len(frame) == 1000 + n_beyond
    assert frame["is_feasible"].all()
    on_front = frame.filter(pl.col("is_on_front"))
    assert len(on_front) == len(front)
    assert set(architectures_of(on_front)) == {candidate.architecture for candidate in front}
    assert len(frame) < result.history[0].n_evaluations <= SMALL.space.n_feature_vectors == 9712


def test_only_what_may_keep_the_bounds_is_scored() -> None:
    shallow, everything = Shallow(), Everything(SMALL, Shallow(), is_ordered=False)
    bounds = everything.quantiles({"gflops": 0.05})
    result = hsnas.search(SMALL, None, bounds, initial=shallow, strategy="exact")
    assert everything.n_vectors(everything.feasible(bounds)) <= len(shallow.asked) < 9712
    assert result.history[0].n_evaluations == len(shallow.asked)


def test_ctrl_c_midway_leaves_the_best_of_what_was_scored() -> None:
    result = hsnas.search(SMALL, initial=Faulty(2, raise_(KeyboardInterrupt())), strategy="exact")
    assert result.status == "interrupted"
    assert (result.n_ties, result.n_architectures) == (None, None)
    assert result.best is not None
    assert result.best.score == result.to_frame()["score"].max()
    assert any("interrupted" in note and "`Faulty`" in note for note in result.notes)
    assert len(result.to_frame()) <= result.history[0].n_evaluations < SMALL.space.n_feature_vectors


def test_ctrl_c_in_a_latency_leaves_nothing() -> None:
    latency = Faulty(1, raise_(KeyboardInterrupt()))
    result = hsnas.search(SMALL, latency, {"latency_ms": 2}, initial=Shallow(), strategy="exact")
    assert (result.status, result.best, result.reachable) == ("interrupted", None, None)
    assert (len(result.to_frame()), result.pareto_front()) == (0, [])


@pytest.mark.parametrize(
    "measures", [("gflops",), ("params_m",), ("gflops", "params_m"), ("latency_ms",) * 2]
)
def test_a_front_that_is_not_kept_is_refused(measures: tuple[str, ...]) -> None:
    result = hsnas.search(task_of(), Board(), initial=Shallow(), strategy="exact")
    with pytest.raises(
        InputError, match=r"exact front is of score against latency_ms or \(latency_ms, gflop"
    ):
        result.pareto_front(*measures)


def test_a_measure_that_is_not_known_is_refused() -> None:
    result = hsnas.search(task_of(), initial=Shallow(), strategy="exact")
    with pytest.raises(InputError, match="unknown measure 'latency_ms'; known: gflops, params_m"):
        result.pareto_front("latency_ms", "gflops")
    with pytest.raises(InputError, match="unknown measure 'speed'"):
        result.pareto_front("speed")


def test_the_wmt_space_is_searched_whole_and_evolution_finds_nothing_better() -> None:
    bounds = {"latency_ms": 150}
    exact = hsnas.search(TASK, "titan-xp", bounds)
    whole = hsnas.search(TASK, "titan-xp")
    assert TASK.space.n_feature_vectors == N_VECTORS
    assert (exact.status, exact.strategy) == (whole.status, whole.strategy) == ("optimal", "exact")
    assert exact.best is not None
    within = [candidate for candidate in whole.pareto_front() if (candidate.latency_ms or 0) <= 150]
    assert within[-1] == exact.best
    for seed in range(3):
        evolution = hsnas.search(TASK, "titan-xp", bounds, strategy="evolution", seed=seed)
        assert evolution.best is not None
        assert evolution.best.score <= exact.best.score


def test_a_predictor_in_python_is_not_asked_about_what_breaks_the_constraints() -> None:
    task = task_of()
    asked = Shallow()
    bounds = {"gflops": 0.005}
    result = hsnas.search(task, None, bounds, initial=asked, strategy="exact")
    assert result.status == "optimal"
    assert all(llmpp.cost(architecture, task=task).flops <= 5e6 for architecture in asked.asked)
    assert result.history[0].n_evaluations == len(asked.asked)


def test_results_do_not_hold_whole_tables() -> None:
    results = [hsnas.search("wmt14.en-de", "titan-xp", strategy="exact") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "score", lambda *_, **__: pytest.fail("scored again"))
        assert all(result.pareto_front() for result in results)
    fronts = [result.pareto_front("latency_ms", "gflops") for result in results]
    assert fronts[0] == fronts[1]
    assert len(fronts[0]) > len(results[0].pareto_front())
