"""Searches for tests: what they are asked, and how their results are read and compared."""

from typing import Any

import numpy as np
import polars as pl

from llmpp import Architecture, SearchResult, Task, load_task

TASK = load_task("wmt14.en-de")
BOUNDS = {"latency_ms": 150, "gflops": 3.5, "params_m": 45}
FIELDS = list(Architecture.__dataclass_fields__)
#: Settings of an evolution of a moment, for the tests of everything around it.
SHORT: dict[str, Any] = {
    "n_iterations": 4,
    "n_population": 12,
    "n_parents": 5,
    "n_mutants": 6,
    "n_children": 6,
}
#: Both ways to search, each in a moment.
WAYS: dict[str, dict[str, Any]] = {
    "exact": {"strategy": "exact"},
    "evolution": {"strategy": "evolution", **SHORT},
}


def architectures_of(frame: pl.DataFrame) -> list[Architecture]:
    return [Architecture.from_dict({name: row[name] for name in FIELDS}) for row in frame.to_dicts()]


def same_found(one: SearchResult, other: SearchResult) -> bool:
    """Whether two searches found the same, whatever their predictors are called."""

    def outcome(result: SearchResult) -> tuple[Any, ...]:
        return result.status, result.best, result.reachable, result.n_ties, result.n_architectures

    frames = [result.to_frame().drop("predictor") for result in (one, other)]
    return outcome(one) == outcome(other) and frames[0].equals(frames[1])


def same(one: SearchResult, other: SearchResult) -> bool:
    """Whether two searches also did the same."""

    def history(result: SearchResult) -> list[tuple[Any, ...]]:
        return [(i.iteration, i.best_score, i.n_evaluations, i.n_cache_hits) for i in result.history]

    return same_found(one, other) and history(one) == history(other)


def n_distinct_features(frame: pl.DataFrame, task: Task = TASK) -> int:
    return len(np.unique(task.space.features(architectures_of(frame)), axis=0))
