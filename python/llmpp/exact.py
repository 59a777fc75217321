"""Exact search: a predictor of averaged features scores every feature vector, so the best found is the best.

Of 4e14 architectures of HAT's WMT space, 5,717,348 differ in what such a predictor sees. Scores and latencies
are those of the networks' own forward pass in float32, to the bit, and all constraints hold exactly.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from llmpp.predictor import Predictor
from llmpp.record import Record
from llmpp.result import Iteration, Scored, SearchResult, Status
from llmpp.table import Table

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
        self.latency = latency
        self.bounds = bounds
        self.settings = settings
        n_proposals = min(settings.n_proposals, record.task.space.n_feature_vectors)
        self.n_iterations = 1 + (len(record.phases) - 1) * math.ceil(n_proposals / _BATCH)
        self.table = Table(record, bounds, n_threads=settings.n_threads, keep=settings.keep)

    def search(
        self, callbacks: Sequence[Callable[[Iteration], object]], notes: Sequence[str]
    ) -> SearchResult:
        """Scores everything that may matter, and says what is best."""
        table = self.table
        table.notes.extend(notes)
        start = time.perf_counter()
        try:
            self.score_all()
        except BaseException:
            self.record.save(self.found()[0])
            raise
        found, ties = self.found()
        if not len(found.scores):
            return self.finish(found, "interrupted" if table.is_interrupted else "infeasible")
        status: Status = "interrupted" if table.is_interrupted else "optimal"
        seconds = time.perf_counter() - start
        try:
            self.report(callbacks, float(found.scores[0]), table.n_evaluated, table.n_kept, seconds)
        except KeyboardInterrupt:
            status = "interrupted"
        except BaseException:
            self.record.save(found)
            raise
        if status == "interrupted":
            return self.finish(found, status)
        if len(self.record.phases) > 1:
            return self.consult(found, callbacks)
        again = partial(wide_front, self.record, self.latency, self.bounds, self.settings)
        return self.finish(found, status, **ties, _wide_front=again)

    def score_all(self) -> None:
        """Measures and scores feature vectors, until Ctrl-C."""
        if self.record.directory:
            self.table.on_progress = lambda: self.record.save(self.found()[0])
        if self.latency is not None:
            self.table.measure(self.latency)
        self.table.score(self.record.phases[0].predictor, whole=len(self.record.phases) > 1)

    def found(self) -> tuple[Scored, dict[str, int]]:
        """The best and the front of what was scored, the optimum first, and what ties with it."""
        best, front, n_ties, n_architectures = self.table.optimum()
        # In plain Python: numpy's set operations import masked arrays, which takes longer than a query.
        others = np.array(sorted(set(front.tolist()) - set(best.tolist())), np.uint64)
        ties = {"n_ties": n_ties, "n_architectures": n_architectures}
        return self.table.scored(np.concatenate([best, others])), ties

    def consult(self, found: Scored, callbacks: Sequence[Callable[[Iteration], object]]) -> SearchResult:
        """Has the baseline score proposals along the front; what was scored survives its failure."""
        proposed = self.table.scored(self.table.spread(self.settings.n_proposals, _N_SLICES))
        baseline = self.record.phases[-1]
        scores: list[float] = []
        status: Status = "budget"
        try:
            while len(scores) < len(proposed.scores):
                start = time.perf_counter()
                batch = proposed.genomes[len(scores) : len(scores) + _BATCH]
                scores += self.record.predict(baseline.predictor, batch).tolist()
                self.report(callbacks, max(scores), len(batch), 0, time.perf_counter() - start)
                self.record.save(joined(found, proposed, scores))
        except KeyboardInterrupt:
            status = "interrupted"
        except BaseException:
            self.record.save(joined(found, proposed, scores))
            raise
        return self.finish(joined(found, proposed, scores), status)

    def report(
        self, callbacks: Sequence[Callable[[Iteration], object]], best_score: float, *counts: Any
    ) -> None:
        """Adds an iteration to the history, and tells whoever listens."""
        number = len(self.record.history)
        phase = self.record.phases[min(number, len(self.record.phases) - 1)]
        self.record.add(Iteration(number, phase.name, best_score, *counts))
        for callback in callbacks:
            callback(self.record.history[-1])

    def finish(self, scored: Scored, status: Status, **found: Any) -> SearchResult:
        """Builds the result; if nothing is feasible, with what is reachable."""
        reachable = self.table.smallest() if status == "infeasible" else None
        notes = self.table.notes
        if reachable and all(reachable[name] <= bound for name, bound in self.bounds.items()):
            notes.append("each constraint can be kept alone, but not all of them together")
        return self.record.finish(
            scored, status=status, strategy="exact", reachable=reachable, notes=notes, **found
        )


def wide_front(
    record: Record, latency: Predictor | None, bounds: Mapping[str, float], settings: ExactSettings
) -> Scored:
    """The front of score against latency and FLOPs, scored again so that no result holds a whole table.

    Raises:
        KeyboardInterrupt: If Ctrl-C came before all was scored.
    """
    table = Table(record, bounds, n_threads=settings.n_threads, keep=settings.keep)
    if latency is not None:
        table.measure(latency)
    table.score(record.phases[0].predictor, whole=True)
    if table.is_interrupted:
        raise KeyboardInterrupt
    front = table.scored(table.wide_front())
    for note in table.notes:
        warnings.warn(note, stacklevel=2)
    return front


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
