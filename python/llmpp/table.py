"""What is known of every feature vector of a space: scores and measures."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import PredictorError
from llmpp.kept import keep_column, read_column
from llmpp.phase import name_of
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.record import Record
from llmpp.result import MEASURES, Scored
from llmpp.task import cost_measures

#: Best feature vectors that are looked for beside the front.
N_BEST = 1000
#: Points of a front that are kept; where there are more, as many are taken evenly.
N_FRONT = 100_000

#: About how many FLOPs, or architectures of a predictor outside the core, lie between two signs of life.
_CHUNK_FLOP = 4e9
_CHUNK_ASKED = 4096


def flop_of(predictor: MlpPredictor) -> int:
    """The multiplications and additions of one forward pass."""
    return 2 * sum(n_in * n_out for n_in, n_out in pairwise(predictor.mlp.widths))


class Table:
    """Scores and latencies of feature vectors, as far as they were needed.

    Attributes:
        scores: `(n_rows, n_columns)`; only rows that `is_scored` marks hold numbers.
        is_scored: `(n_rows,)`.
        latencies: `(n_rows, n_columns)` in ms, or None without a latency model.
        notes: What a user should know.
        n_evaluated: Feature vectors scored in this run.
        n_kept: Feature vectors whose scores were kept from an earlier run.
        is_interrupted: Whether Ctrl-C ended the work early.
    """

    def __init__(self, record: Record, bounds: Mapping[str, float], *, n_threads: int, keep: bool) -> None:
        self.record = record
        self.grid = record.task.space.grid
        self.limits = (
            bounds.get("latency_ms", math.inf),
            bounds.get("gflops", math.inf),
            bounds.get("params_m", math.inf),
        )
        self.n_threads = n_threads
        self.keep = keep
        self.scores: NDArray[np.float32] = np.empty(self.grid.shape, np.float32)
        self.is_scored = np.zeros(self.grid.shape[0], np.bool_)
        self.latencies: NDArray[np.float32] | None = None
        self.notes: list[str] = []
        self.n_evaluated = self.n_kept = 0
        self.is_interrupted = False
        #: Called after each batch of architectures that a predictor outside the core was asked about.
        self.on_progress: Callable[[], object] = lambda: None

    @property
    def measures(self) -> tuple[NDArray[np.float32] | None, tuple[int, int, int]]:
        """What the core measures feature vectors by."""
        return self.latencies, self.record.task.sizes

    @property
    def known(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What the core compares feature vectors by."""
        return self.scores, self.is_scored

    def measure(self, latency: Predictor) -> None:
        """Predicts the latency of every feature vector."""
        kept = self._read(latency)
        if kept is not None:
            self.latencies = kept
            return
        column = np.empty(self.grid.shape, np.float32)
        every = np.ones(len(column), np.bool_)
        with self._interruptible(latency):
            for _ in self._fill(column, latency, every, lambda numbers: np.ones(len(numbers), np.bool_)):
                pass
        if not self.is_interrupted:
            self.latencies = column
            self._keep(latency, column)

    def score(self, predictor: Predictor, *, whole: bool) -> None:
        """Scores feature vectors.

        Args:
            predictor: A predictor of averaged features.
            whole: Whether to score all that may keep the constraints, not only those that may be among the
                best or on the front of score against latency.
        """
        if self.is_interrupted:
            return
        if (kept := self._read(predictor)) is not None:
            self.scores, self.n_kept = kept, kept.size
            self.is_scored[:] = True
        elif self.keep and isinstance(predictor, MlpPredictor):
            self._score_rows(predictor, np.ones_like(self.is_scored))
            self._keep(predictor, self.scores)
        elif whole or not isinstance(predictor, MlpPredictor) or len(predictor.mlp.widths) > 3:
            self._score_rows(predictor, self.grid.rows_within(self.measures, self.limits))
        else:
            self._hunt(predictor)

    def optimum(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], int, int]:
        """The numbers of the best and of the front, and how many vectors and architectures tie."""
        best, front, n_ties, n_architectures = self.grid.optimum(
            self.known, self.measures, self.limits, N_BEST
        )
        return best, self._thinned(front), n_ties, n_architectures

    def wide_front(self) -> NDArray[np.uint64]:
        """The numbers of the feature vectors on the front of score against latency and FLOPs."""
        return self._thinned(self.grid.wide_front(self.known, self.measures, self.limits))

    def spread(self, n: int, n_slices: int) -> NDArray[np.uint64]:
        """The numbers of `n` feature vectors: the best of each of some equal parts of the front's range."""
        return self.grid.spread(self.known, self.measures, self.limits, n, n_slices)

    def smallest(self) -> dict[str, float]:
        """The smallest value of each measure that is known."""
        names = [name for name in MEASURES if name != "latency_ms" or self.latencies is not None]
        return dict(zip(names, self.grid.smallest(self.measures), strict=True))

    def scored(self, numbers: NDArray[np.uint64]) -> Scored:
        """Some feature vectors, with one architecture of each."""
        genomes = self.grid.genomes(numbers)
        measures = cost_measures(genomes, self.record.task)
        if self.latencies is not None:
            measures["latency_ms"] = self.latencies.reshape(-1)[numbers].astype(np.float64)
        origin = np.zeros(len(numbers), np.uint32)
        return Scored(genomes, measures, self.scores.reshape(-1)[numbers], origin, origin)

    def _score_rows(self, predictor: Predictor, wanted: NDArray[np.bool_]) -> None:
        """Scores the wanted rows that were not scored yet, and marks them as they come."""
        wanted = wanted & ~self.is_scored
        with self._interruptible(predictor):
            for rows, n_evaluated in self._fill(self.scores, predictor, wanted, self._keeps):
                self.is_scored[rows] |= wanted[rows]
                self.n_evaluated += n_evaluated
                if not isinstance(predictor, MlpPredictor):
                    self.on_progress()

    def _keeps(self, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which feature vectors keep the constraints."""
        measures = self.scored(numbers).measures
        limits = zip(MEASURES, self.limits, strict=True)
        within = np.ones(len(numbers), np.bool_)
        for name, limit in limits:
            if name in measures:
                within &= measures[name] <= limit
        return within

    def _fill(
        self,
        column: NDArray[np.float32],
        predictor: Predictor,
        wanted: NDArray[np.bool_],
        is_asked: Callable[[NDArray[np.uint64]], NDArray[np.bool_]],
    ) -> Iterator[tuple[slice, int]]:
        """Writes a predictor's numbers into a column `(n_rows, n_columns)`, some rows at a time.

        Args:
            column: Of the grid's shape. Rows that are not wanted are left as they are.
            predictor: A predictor of averaged features.
            wanted: Which rows to score, `(n_rows,)`.
            is_asked: Which feature vectors a predictor outside the core is asked about; others get -inf.

        Yields:
            The rows that were just done, and how many feature vectors were scored.

        Raises:
            PredictorError: If it does not give one finite number per feature vector.
        """
        n_rows, width = column.shape
        if isinstance(predictor, MlpPredictor):
            step = max(1, int(_CHUNK_FLOP / flop_of(predictor) / width))
        else:
            step = max(1, _CHUNK_ASKED // width)
        for start in range(0, n_rows, step):
            rows = slice(start, min(start + step, n_rows))
            if not wanted[rows].any():
                continue
            if isinstance(predictor, MlpPredictor):
                self.grid.sweep(predictor.mlp, start, wanted[rows], column[rows], n_threads=self.n_threads)
                yield rows, int(wanted[rows].sum()) * width
            else:
                yield rows, self._ask(column, predictor, start + np.flatnonzero(wanted[rows]), is_asked)

    def _ask(
        self,
        column: NDArray[np.float32],
        predictor: Predictor,
        rows: NDArray[np.intp],
        is_asked: Callable[[NDArray[np.uint64]], NDArray[np.bool_]],
    ) -> int:
        """Asks a predictor outside the core about some rows. Returns how many feature vectors it scored."""
        width = column.shape[1]
        numbers = (rows[:, None] * width + np.arange(width)).astype(np.uint64).reshape(-1)
        asked = is_asked(numbers)
        scores = np.full(len(numbers), -np.inf, np.float32)
        scores[asked] = self.record.predict(predictor, self.grid.genomes(numbers[asked]))
        column[rows] = scores.reshape(-1, width)
        return int(asked.sum())

    def _hunt(self, predictor: MlpPredictor) -> None:
        """Scores only rows that may hold one of the best or a point of the front."""
        with self._interruptible(predictor):
            self.grid.hunt(
                predictor.mlp,
                self.scores,
                self.is_scored,
                self.measures,
                self.limits,
                N_BEST,
                n_threads=self.n_threads,
            )
        self.n_evaluated += int(self.is_scored.sum()) * self.grid.shape[1]

    @contextmanager
    def _interruptible(self, predictor: Predictor) -> Iterator[None]:
        """Turns Ctrl-C into a note, and the core's failures into the predictor's."""
        try:
            yield
        except KeyboardInterrupt:
            self.is_interrupted = True
            self.notes.append(f"interrupted before `{name_of(predictor)}` was done")
        except RuntimeError as error:
            if isinstance(error, PredictorError):
                raise
            raise self.record.failure(f"`{name_of(predictor)}`", error) from error

    def _read(self, predictor: Predictor) -> NDArray[np.float32] | None:
        if not self.keep or not isinstance(predictor, MlpPredictor):
            return None
        return read_column(self.record.task.space, predictor)

    def _keep(self, predictor: Predictor, column: NDArray[np.float32]) -> None:
        if self.keep and isinstance(predictor, MlpPredictor) and not self.is_interrupted:
            note = keep_column(self.record.task.space, predictor, column)
            self.notes += [note] if note else []

    def _thinned(self, front: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """At most `N_FRONT` points of a front, its ends among them."""
        if len(front) <= N_FRONT:
            return front
        self.notes.append(f"the front has {len(front):,} points, of which {N_FRONT:,} are kept, evenly")
        return front[np.linspace(0, len(front) - 1, N_FRONT).astype(np.intp)]
