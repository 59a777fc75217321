"""Exact search: a predictor of averaged features scores every feature vector, so the best found is the best.

Of 4e14 architectures of HAT's WMT space, 5,717,348 differ in what such a predictor sees. Scores and latencies
are those of the networks' own forward pass in float32, to the bit, and all constraints hold exactly.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.columns import UNSCORED, fill
from llmpp.kept import keep_column, read_column
from llmpp.phase import name_of
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.record import Record
from llmpp.result import MEASURES, Iteration, Scored, SearchResult, Status
from llmpp.task import costs

#: Best feature vectors that a result holds beside the front.
N_BEST = 1000
#: Points of a front that a result holds; where there are more, as many are taken evenly.
N_FRONT = 10_000

#: Parts of the front's range from each of which a baseline gets its share of proposals.
_N_SLICES = 10
#: Proposals that a baseline scores between two saves.
_BATCH = 25


@dataclass(frozen=True, kw_only=True)
class ExactSettings:
    """How an exact search goes about it.

    Attributes:
        n_proposals: Architectures that are proposed to a baseline.
        keep: Whether whole columns of scores are read from, and kept in, the user's cache directory.
        n_threads: Threads for the inference of MLPs.
    """

    n_proposals: int
    keep: bool
    n_threads: int


class ExactRun:
    """One search: scores feature vectors, asks the core for the best, and a baseline about some of them."""

    def __init__(
        self,
        record: Record,
        *,
        latency: Predictor | None,
        bounds: Mapping[str, float],
        settings: ExactSettings,
    ) -> None:
        self.record = record
        self.grid = record.task.space.grid
        self.latency = latency
        self.bounds = bounds
        self.settings = settings
        self.notes: list[str] = []
        self.n_scored = self.n_kept = 0
        self.is_interrupted = False
        self.scores: NDArray[np.float32] | None = None
        self.latencies: NDArray[np.float32] | None = None

    @property
    def measures(self) -> tuple[NDArray[np.float32] | None, tuple[int, int, int]]:
        """What the core measures feature vectors by."""
        return self.latencies, self.record.task.sizes

    @property
    def limits(self) -> tuple[float, float, float]:
        """The bounds in the core's order."""
        latency_ms, gflops, params_m = (self.bounds.get(name, math.inf) for name in MEASURES)
        return latency_ms, gflops, params_m

    def search(
        self, callbacks: Sequence[Callable[[Iteration], object]], notes: Sequence[str]
    ) -> SearchResult:
        """Scores everything, and says what is best."""
        self.notes.extend(notes)
        start = time.perf_counter()
        self.score_all()
        if self.scores is None:
            return self.finish(self.scored(np.empty(0, np.uint64)), "interrupted")
        best, front, n_ties, n_architectures = self.grid.optimum(
            self.scores, self.measures, self.limits, N_BEST
        )
        front = self.thinned(front)
        # In plain Python: numpy's set operations import its masked arrays, which takes longer than a query.
        others = np.array(sorted(set(front.tolist()) - set(best.tolist())), np.uint64)
        found = self.scored(np.concatenate([best, others]))
        if not len(best):
            return self.finish(found, "interrupted" if self.is_interrupted else "infeasible")
        best_score = float(found.scores[0])
        self.report(best_score, self.n_scored, self.n_kept, time.perf_counter() - start, callbacks)
        if self.is_interrupted:
            return self.finish(found, "interrupted")
        if len(self.record.phases) > 1:
            return self.consult(found, callbacks)
        ties = {"n_ties": n_ties, "n_architectures": n_architectures}
        return self.finish(found, "optimal", **ties, _wide_front=self.wide_front)

    def score_all(self) -> None:
        """Fills the columns of latencies and of scores; scores only where constraints can be kept."""
        every = np.ones(self.grid.shape[0], np.bool_)
        if self.latency is not None:
            self.latencies = self.column(self.latency, every)
        if self.is_interrupted:
            return
        is_whole = self.settings.keep or not self.bounds
        wanted = every if is_whole else self.grid.rows_within(self.measures, self.limits)
        n_kept = self.n_kept
        self.scores = self.column(self.record.phases[0].predictor, wanted)
        width = self.grid.shape[1]
        self.n_scored = 0 if self.n_kept > n_kept else int(wanted.sum()) * width

    def column(self, predictor: Predictor, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """A predictor's numbers for every feature vector: kept ones, or new ones as far as Ctrl-C lets."""
        space = self.record.task.space
        mlp = predictor if self.settings.keep and isinstance(predictor, MlpPredictor) else None
        if mlp and (kept := read_column(space, mlp)) is not None:
            self.n_kept += kept.size
            return kept
        column = np.empty(self.grid.shape, np.float32)
        n_done = 0
        try:
            for n_done in fill(column, predictor, wanted, self.record, self.settings.n_threads):  # noqa: B007
                pass
        except KeyboardInterrupt:
            self.is_interrupted = True
            column[n_done:] = UNSCORED
            self.notes.append(
                f"interrupted when {n_done / len(column):.0%} of `{name_of(predictor)}` was done"
            )
        if mlp and not self.is_interrupted and (note := keep_column(space, mlp, column)):
            self.notes.append(note)
        return column

    def thinned(self, front: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """At most `N_FRONT` points of a front, its ends among them."""
        if len(front) <= N_FRONT:
            return front
        self.notes.append(f"the front has {len(front):,} points, of which {N_FRONT:,} are kept, evenly")
        return front[np.linspace(0, len(front) - 1, N_FRONT).astype(np.intp)]

    def wide_front(self) -> Scored:
        """The front of score against latency and FLOPs."""
        scores = np.empty(0, np.float32) if self.scores is None else self.scores
        return self.scored(self.thinned(self.grid.wide_front(scores, self.measures, self.limits)))

    def scored(self, numbers: NDArray[np.uint64]) -> Scored:
        """Some feature vectors, with one architecture of each."""
        genomes = self.grid.genomes(numbers)
        cost = costs(genomes, self.record.task).astype(np.float64)
        measures = {"gflops": cost[:, 0] / 1e9, "params_m": cost[:, 2] / 1e6}
        if self.latencies is not None:
            measures["latency_ms"] = self.latencies.reshape(-1)[numbers].astype(np.float64)
        scores = np.empty(0, np.float32) if self.scores is None else self.scores.reshape(-1)[numbers]
        origin = np.zeros(len(numbers), np.uint32)
        return Scored(genomes, measures, scores, origin, origin)

    def consult(self, found: Scored, callbacks: Sequence[Callable[[Iteration], object]]) -> SearchResult:
        """Has the baseline score proposals along the front; what was scored survives its failure."""
        assert self.scores is not None  # noqa: S101 - there is something to propose
        n_proposals = self.settings.n_proposals
        numbers = self.grid.spread(self.scores, self.measures, self.limits, n_proposals, _N_SLICES)
        proposed = self.scored(numbers)
        baseline = self.record.phases[-1]
        scores: list[float] = []
        status: Status = "budget"
        try:
            while len(scores) < len(numbers):
                start = time.perf_counter()
                batch = proposed.genomes[len(scores) : len(scores) + _BATCH]
                scores += self.record.predict(baseline.predictor, batch).tolist()
                self.report(max(scores), len(batch), 0, time.perf_counter() - start, callbacks)
                self.record.save(joined(found, proposed, scores))
        except KeyboardInterrupt:
            status = "interrupted"
        except BaseException:
            self.record.save(joined(found, proposed, scores))
            raise
        return self.finish(joined(found, proposed, scores), status)

    def report(
        self,
        best_score: float,
        n_evaluations: int,
        n_cache_hits: int,
        seconds: float,
        callbacks: Sequence[Callable[[Iteration], object]],
    ) -> None:
        """Adds to the history, and tells whoever listens."""
        number = len(self.record.history)
        phase = self.record.phases[min(number, 1)] if len(self.record.phases) > 1 else self.record.phases[0]
        iteration = Iteration(number, phase.name, best_score, n_evaluations, n_cache_hits, seconds)
        self.record.history.append(iteration)
        for callback in callbacks:
            callback(iteration)

    def finish(self, scored: Scored, status: Status, **found: Any) -> SearchResult:
        """Builds the result; if nothing is feasible, with what is reachable."""
        reachable = None
        if status == "infeasible":
            names = [name for name in MEASURES if name != "latency_ms" or self.latencies is not None]
            reachable = dict(zip(names, self.grid.smallest(self.measures), strict=True))
            if all(reachable[name] <= bound for name, bound in self.bounds.items()):
                self.notes.append("each constraint can be kept alone, but not all of them together")
        return self.record.finish(
            scored, status=status, strategy="exact", reachable=reachable, notes=self.notes, **found
        )


def joined(found: Scored, proposed: Scored, scores: Sequence[float]) -> Scored:
    """What the initial predictor scored, and after it what the baseline did."""
    n = len(scores)
    after = np.arange(n, dtype=np.uint32) // _BATCH + 1
    return Scored(
        np.concatenate([found.genomes, proposed.genomes[:n]]),
        {
            name: np.concatenate([found.measures[name], proposed.measures[name][:n]])
            for name in found.measures
        },
        np.concatenate([found.scores, np.asarray(scores, np.float32)]),
        np.concatenate([found.iterations, after]),
        np.concatenate([found.phases, np.ones(n, np.uint32)]),
    )
