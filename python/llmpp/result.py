"""What a search found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.space import SearchSpace

if TYPE_CHECKING:
    import polars as pl

#: How a search ended: all its iterations done, nothing feasible found, or stopped by the user.
Status: TypeAlias = Literal["budget", "infeasible", "interrupted"]

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
        n_evaluations: Candidates scored.
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

    def last_phase(self) -> NDArray[np.intp]:
        """Positions of the scores of the last predictor; scores of two predictors are never compared."""
        return np.flatnonzero(self.phases == self.phases.max(initial=0))


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found, and how.

    Attributes:
        status: 'budget', 'infeasible' or 'interrupted'.
        best: The best feasible candidate under the last predictor, or None.
        reachable: If infeasible, the smallest value of each measure that was seen; else None.
        history: One record per iteration.
        notes: What a user should know about how the figures came about.
        run_dir: Where the run was written, or None.
    """

    status: Status
    best: Candidate | None
    reachable: dict[str, float] | None
    history: list[Iteration]
    notes: tuple[str, ...]
    run_dir: str | None
    _space: SearchSpace
    _predictors: tuple[str, ...]
    _scored: Scored

    def pareto_front(self) -> list[Candidate]:
        """Lists the candidates of the last predictor that no other beats in both score and latency.

        Without hardware, GFLOPs take the place of latency. Sorted from the smallest to the largest.
        """
        positions = self._scored.last_phase()
        measure = "latency_ms" if "latency_ms" in self._scored.measures else "gflops"
        costs, scores = self._scored.measures[measure][positions], self._scored.scores[positions]
        order = np.lexsort((positions, -scores, costs))
        best_before = np.concatenate(([-np.inf], np.maximum.accumulate(scores[order])[:-1]))[: len(order)]
        return candidates(self._space, self._scored, positions[order[scores[order] > best_before]])

    def to_frame(self) -> "pl.DataFrame":
        """Returns every candidate scored, in order, with its figures, as a polars frame.

        Columns: iteration, predictor, score, latency_ms (null without hardware), gflops, params_m,
        is_feasible, and the fields of `Architecture`. Candidates beyond the bounds are not scored, so
        they are not in the frame, and is_feasible holds throughout.
        """
        return frame(self._space, self._predictors, self._scored)

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome (not every candidate) as plain values, ready for JSON."""
        return {
            "status": self.status,
            "best": self.best.to_dict() if self.best else None,
            "reachable": self.reachable,
            "notes": list(self.notes),
            "run_dir": self.run_dir,
            "n_evaluations": len(self._scored.scores),
            "seconds": sum(iteration.seconds for iteration in self.history),
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


def best_candidate(space: SearchSpace, scored: Scored) -> Candidate | None:
    """The best candidate of the last predictor, the earliest of equals; None if nothing was scored."""
    positions = scored.last_phase()
    if not len(positions):
        return None
    return candidates(space, scored, positions[[np.argmax(scored.scores[positions])]])[0]


def frame(space: SearchSpace, predictors: tuple[str, ...], scored: Scored) -> "pl.DataFrame":
    """Builds the frame of `SearchResult.to_frame`."""
    import polars as pl

    n = len(scored.scores)
    names = pl.Series("predictor", [predictors[phase] for phase in scored.phases], dtype=pl.String)
    measures = [pl.Series(name, scored.measures.get(name, [None] * n), dtype=pl.Float64) for name in MEASURES]
    architectures = [architecture.to_dict() for architecture in space.architectures(scored.genomes)]
    schema = {
        name: pl.Int64 if name.endswith("_dim") else pl.List(pl.Int64)
        for name in Architecture.__dataclass_fields__
    }
    return pl.DataFrame(
        [
            pl.Series("iteration", scored.iterations.astype(np.int64)),
            names,
            pl.Series("score", scored.scores.astype(np.float64)),
            *measures,
            pl.Series("is_feasible", [True] * n, dtype=pl.Boolean),
        ]
    ).hstack(pl.DataFrame(architectures, schema=schema))
