"""The best score for every latency: what each constraint would bring."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpp.errors import InputError, require
from llmpp.figure import save_figure
from llmpp.ranges import positive
from llmpp.result import MEASURES, Candidate, architecture_schema

if TYPE_CHECKING:
    import polars as pl

_LABELS = {"latency_ms": "latency (ms)", "gflops": "GFLOPs"}


@dataclass(frozen=True)
class Frontier:
    """The exact front of score against latency, or against FLOPs where no hardware was given.

    Attributes:
        task: The task's name.
        measure: 'latency_ms' or 'gflops'.
        candidates: From the smallest measure to the largest; scores rise along with it.
        notes: What a user should know about how the figures came about.
        reachable: If nothing keeps the constraints, the smallest value of each measure; else None.
    """

    task: str
    measure: str
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]
    reachable: dict[str, float] | None = None

    def best(self, bound: float) -> Candidate | None:
        """Finds the best candidate whose measure does not exceed a bound; None if there is none.

        Raises:
            InputError: If the bound is not a positive number.
        """
        bound = positive(f"the bound of `{self.measure}`", bound)
        within = [candidate for candidate in self.candidates if getattr(candidate, self.measure) <= bound]
        return within[-1] if within else None

    def to_frame(self) -> "pl.DataFrame":
        """Returns the curve as a polars frame: score, measures, and the fields of `Architecture`."""
        import polars as pl

        rows = []
        for candidate in self.candidates:
            figures = {name: getattr(candidate, name) for name in ("score", *MEASURES)}
            rows.append(figures | candidate.architecture.to_dict())
        schema = dict.fromkeys(("score", *MEASURES), pl.Float64()) | architecture_schema()
        return pl.DataFrame(rows, schema=schema)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        front = [candidate.to_dict() for candidate in self.candidates]
        return {
            "task": self.task,
            "measure": self.measure,
            "front": front,
            "reachable": self.reachable,
            "notes": list(self.notes),
        }

    def plot(self, path_stem: str | Path) -> tuple[Path, Path]:
        """Draws the curve into `STEM.png` and `STEM.svg`.

        Returns:
            The two files.

        Raises:
            InputError: If there is no candidate, or the files cannot be written.
            MissingExtraError: If matplotlib is not installed.
        """
        if not self.candidates:
            raise InputError("the frontier is empty: no architecture keeps the constraints")
        figure = require("matplotlib.figure", "plot").Figure(figsize=(5, 3.4), layout="tight")
        axes = figure.subplots()
        measures = [getattr(candidate, self.measure) for candidate in self.candidates]
        scores = [candidate.score for candidate in self.candidates]
        # Between two points the lower score is what can be had.
        axes.step(measures, scores, where="post", linewidth=1)
        axes.plot(measures, scores, ".", markersize=3)
        axes.set_xlabel(_LABELS[self.measure])
        axes.set_ylabel("best predicted score")
        axes.set_title(f"{self.task}: what each constraint brings", fontsize=10)
        axes.grid(alpha=0.3)
        return save_figure(figure, path_stem)
