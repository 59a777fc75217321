"""What a search was asked, checked and decided; it can be run with more than one latency model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmpp.evolution import EvolutionSettings, Run
from llmpp.exact import ExactRun, ExactSettings
from llmpp.phase import Phase, begin_search, identity_of, name_of
from llmpp.predictor import Predictor
from llmpp.progress import search_bar
from llmpp.record import Record
from llmpp.result import Iteration, SearchResult, Strategy
from llmpp.run import RunDirectory
from llmpp.task import Task


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search that is ready to run; for the fields that are not explained here see `hsnas.search`.

    Attributes:
        latency: The predictor of latency, or None.
        bounds: The constraints, checked.
        phases: The predictors of quality, in order, with their iterations.
        strategy: The way that was chosen.
        strategy_asked_for: The way that was asked for.
        notes: What a user should know.
        directory: The run directory, or None.
        callbacks: Called after each iteration.
        progress: Whether a bar is shown.
    """

    task: Task
    latency: Predictor | None
    bounds: Mapping[str, float]
    phases: Sequence[Phase]
    strategy: Strategy
    strategy_asked_for: str
    evolution: EvolutionSettings
    exact: ExactSettings
    max_vectors: int
    switch: float
    verify: int
    seed: int
    notes: Sequence[str]
    directory: RunDirectory | None
    callbacks: Sequence[Callable[[Iteration], object]]
    progress: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, as the run directory keeps them."""
        return {
            "task": self.task.name,
            "hardware": None if self.latency is None else name_of(self.latency),
            "constraints": dict(self.bounds),
            "strategy": self.strategy,
            "strategy_asked_for": self.strategy_asked_for,
            "max_vectors": self.max_vectors,
            "keep": self.exact.keep,
            "verify": self.verify,
            "seed": self.seed,
            "switch": self.switch,
            "n_proposals": self.exact.n_proposals,
            "n_threads": self.exact.n_threads,
            "predictors": [phase.name for phase in self.phases],
            "identities": [identity_of(one) for one in (self.latency, *(p.predictor for p in self.phases))],
            "evolution": asdict(self.evolution),
            "notes": list(self.notes),
        }

    def run(self, latency: Predictor | None) -> SearchResult:
        """Searches with a predictor of latency: that of the plan, or a corrected one.

        Raises:
            PredictorError: If a predictor fails.
        """
        n_best = None if self.strategy == "exact" else self.evolution.n_parents
        for phase in self.phases:
            begin_search(phase.predictor, n_best)
        way = self._way(Record(self.task, self.phases, self.directory), latency)
        with search_bar(way.n_iterations, enabled=self.progress) as advance:
            return way.search([*self.callbacks, advance], list(self.notes))

    def _way(self, record: Record, latency: Predictor | None) -> ExactRun | Run:
        if self.strategy == "exact":
            return ExactRun(record, latency=latency, bounds=self.bounds, settings=self.exact)
        return Run(
            record,
            latency=latency,
            bounds=self.bounds,
            settings=self.evolution,
            seed=self.seed,
            n_threads=self.exact.n_threads,
        )
