"""What a search found."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.errors import InputError, unknown
from llmpp.space import SearchSpace

if TYPE_CHECKING:
    import polars as pl

    from llmpp.measuring.verification import Verification

#: How a search ended: with the proven optimum, with all its iterations done, with nothing feasible, or
#: stopped by the user.
Status: TypeAlias = Literal["optimal", "budget", "infeasible", "interrupted"]
#: How a search goes about it.
Strategy: TypeAlias = Literal["exact", "evolution"]

MEASURES = ("latency_ms", "gflops", "params_m")


@dataclass(frozen=True)
class Candidate:
    """An architecture with its predicted figures.

    Attributes:
        architecture: The architecture.
        score: Predicted quality, higher is better; in the unit of the predictor that gave it.
        latency_ms: Predicted latency in ms, or None where no hardware was given.
        gflops: FLOPs / 1e9 of one forward pass, output projection included.
        params_m: Parameters / 1e6 without embeddings.
    """

    architecture: Architecture
    score: float
    latency_ms: float | None
    gflops: float
    params_m: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}


@dataclass(frozen=True)
class Iteration:
    """What one iteration of a search did.

    Attributes:
        iteration: Its number, from 0.
        predictor: The predictor that scored.
        best_score: The best score so far under this predictor.
        n_evaluations: Candidates scored; in an exact search, feature vectors.
        n_cache_hits: Places that went to a candidate already drawn: a parent whose score is remembered, one
            scored before, or a member of this population.
        seconds: Wall-clock time.
    """

    iteration: int
    predictor: str
    best_score: float
    n_evaluations: int
    n_cache_hits: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Scored:
    """Every score given during a search, as arrays of equal length `n`.

    Attributes:
        genomes: `(n, n_genes)`, uint8.
        measures: For each of `MEASURES` that is known, `(n,)`, float64.
        scores: `(n,)`, float32.
        iterations: `(n,)`.
        phases: `(n,)`: 0 under the first predictor, 1 under the second.
    """

    genomes: NDArray[np.uint8]
    measures: Mapping[str, NDArray[np.float64]]
    scores: NDArray[np.float32]
    iterations: NDArray[np.uint32]
    phases: NDArray[np.uint32]

    @property
    def main_measure(self) -> str:
        """What scores are weighed against unless asked otherwise: latency where it is known, else FLOPs."""
        return "latency_ms" if "latency_ms" in self.measures else "gflops"

    def last_phase(self) -> NDArray[np.intp]:
        """Positions of the scores of the last predictor; scores of two predictors are never compared."""
        return np.flatnonzero(self.phases == self.phases.max(initial=0))


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found, and how.

    Attributes:
        status: 'optimal', 'budget', 'infeasible' or 'interrupted'.
        strategy: 'exact' or 'evolution'.
        best: The best feasible candidate under the last predictor, or None; with `verification`, the best
            that keeps the bound in truth.
        n_ties: If optimal, how many feature vectors have the best score, that of `best` included; else None.
        n_architectures: If optimal, how many architectures have one of those feature vectors; else None.
        reachable: If infeasible, the smallest value of each measure: of the whole space in an exact search,
            of what was seen in an evolution, the smallest measured latency if that is what breaks the bound.
            Else None.
        history: One record per iteration.
        notes: What a user should know about how the figures came about.
        run_dir: Where the run was written, or None.
        verification: What measuring the best on this machine showed, if that was asked for.
    """

    status: Status
    strategy: Strategy
    best: Candidate | None
    reachable: dict[str, float] | None
    history: list[Iteration]
    notes: tuple[str, ...]
    run_dir: str | None
    _space: SearchSpace
    _predictors: tuple[str, ...]
    _scored: Scored
    n_ties: int | None = None
    n_architectures: int | None = None
    #: What is on the exact front of score against latency and FLOPs, found when it is asked for.
    _wide_front: Callable[[], Scored] | None = field(default=None, repr=False)
    verification: "Verification[Candidate] | None" = None

    @property
    def n_evaluations(self) -> int:
        """How many architectures, or in an exact search feature vectors, were scored."""
        return sum(iteration.n_evaluations for iteration in self.history)

    @property
    def seconds(self) -> float:
        """Wall-clock time of all iterations."""
        return sum(iteration.seconds for iteration in self.history)

    def ranking(self, n: int) -> list[Candidate]:
        """Lists the best candidates of the last predictor, best first, the earliest of equals first.

        Args:
            n: How many at most. An exact search keeps its best 1,000 feature vectors.
        """
        return best_candidates(self._space, self._scored, n)

    def pareto_front(self, *measures: str) -> list[Candidate]:
        """Lists the candidates of the last predictor that no other beats in score and in every measure.

        If the search is optimal, no architecture within the constraints beats them, candidate or not.

        Args:
            *measures: What score is weighed against; by default `latency_ms`, without hardware `gflops`. An
                optimal search answers that and ('latency_ms', 'gflops'), others any of the measures.

        Returns:
            The front, sorted by the first measure. Of equals the first found.

        Raises:
            InputError: If a measure is unknown, or an exact front is not kept for it.
        """
        main = self._scored.main_measure
        names = measures or (main,)
        for name in names:
            if name not in self._scored.measures:
                raise unknown("measure", name, list(self._scored.measures))
        if self._wide_front is not None and names != (main,):
            if set(names) != {"latency_ms", "gflops"}:
                both = " or (latency_ms, gflops)" if main == "latency_ms" else ""
                raise InputError(
                    f"an exact front is of score against {main}{both}, not {names}; "
                    f"`strategy='evolution'` answers any"
                )
            front = self._wide_front()
            return candidates(self._space, front, np.argsort(front.measures[names[0]], kind="stable"))
        return candidates(self._space, self._scored, front_positions(self._scored, *names))

    def to_frame(self) -> "pl.DataFrame":
        """Returns every candidate scored, in order, with its figures, as a polars frame.

        Columns: iteration, predictor, score, latency_ms (null without hardware), gflops, params_m,
        is_feasible, is_on_front, and the fields of `Architecture`. Candidates beyond the bounds are not
        scored, so they are not in the frame, and is_feasible holds throughout. Of an exact search the frame
        holds the front and the best 1,000, not every feature vector.
        """
        return frame(self._space, self._predictors, self._scored)

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome (not every candidate) as plain values, ready for JSON."""
        return {
            "status": self.status,
            "strategy": self.strategy,
            "best": self.best.to_dict() if self.best else None,
            "n_ties": self.n_ties,
            "n_architectures": self.n_architectures,
            "reachable": self.reachable,
            "notes": list(self.notes),
            "run_dir": self.run_dir,
            "n_evaluations": self.n_evaluations,
            "seconds": self.seconds,
            "verification": self.verification and self.verification.to_dict(),
        }


def candidates(space: SearchSpace, scored: Scored, positions: NDArray[np.intp]) -> list[Candidate]:
    """Reads candidates off the arrays."""
    architectures = space.architectures(scored.genomes[positions])
    unknown = [None] * len(positions)
    latencies = (
        scored.measures["latency_ms"][positions].tolist() if "latency_ms" in scored.measures else unknown
    )
    gflops, params_m = (scored.measures[name][positions].tolist() for name in ("gflops", "params_m"))
    columns = (architectures, scored.scores[positions].tolist(), latencies, gflops, params_m)
    return [Candidate(*row) for row in zip(*columns, strict=True)]


def front_positions(scored: Scored, *measures: str) -> NDArray[np.intp]:
    """Positions of the last predictor's candidates that no other beats in score and in every measure."""
    positions = scored.last_phase()
    # As columns in which smaller is better; of equals the first found comes first.
    costs = [scored.measures[name][positions] for name in measures]
    columns = np.stack([*costs, -scored.scores[positions].astype(np.float64)], axis=1)
    order = np.lexsort(columns.T[::-1])
    columns, positions = columns[order], positions[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = np.any(columns[1:] != columns[:-1], axis=1)
    columns, positions = columns[is_new], positions[is_new]
    if len(measures) == 1:
        best_before = np.minimum.accumulate(np.concatenate(([np.inf], columns[:-1, 1])))[: len(columns)]
        return positions[columns[:, 1] < best_before]
    return positions[
        [not np.any(np.all(columns <= row, axis=1) & np.any(columns < row, axis=1)) for row in columns]
    ]


def best_candidates(space: SearchSpace, scored: Scored, n: int) -> list[Candidate]:
    """The best candidates of the last predictor, best first, the earliest of equals first."""
    positions = scored.last_phase()
    order = np.argsort(-scored.scores[positions], kind="stable")
    return candidates(space, scored, positions[order[:n]])


def architecture_schema() -> dict[str, Any]:
    """The columns of a frame that hold an architecture: integers, or lists of them."""
    import polars as pl

    return {
        name: pl.Int64() if name.endswith("_dim") else pl.List(pl.Int64)
        for name in Architecture.__dataclass_fields__
    }


def frame(space: SearchSpace, predictors: tuple[str, ...], scored: Scored) -> "pl.DataFrame":
    """Builds the frame of `SearchResult.to_frame`."""
    import polars as pl

    n = len(scored.scores)
    on_front = np.zeros(n, dtype=bool)
    on_front[front_positions(scored, scored.main_measure)] = True
    names = pl.Series("predictor", [predictors[phase] for phase in scored.phases], dtype=pl.String)
    measures = [pl.Series(name, scored.measures.get(name, [None] * n), dtype=pl.Float64) for name in MEASURES]
    architectures = [architecture.to_dict() for architecture in space.architectures(scored.genomes)]
    return pl.DataFrame(
        [
            pl.Series("iteration", scored.iterations.astype(np.int64)),
            names,
            pl.Series("score", scored.scores.astype(np.float64)),
            *measures,
            pl.Series("is_feasible", [True] * n, dtype=pl.Boolean),
            pl.Series("is_on_front", on_front),
        ]
    ).hstack(pl.DataFrame(architectures, schema=architecture_schema()))
