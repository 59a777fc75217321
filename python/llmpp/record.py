"""What a search has done so far, in memory and in its run directory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import PredictorError
from llmpp.phase import Phase, ask, in_core, keeps_scores, name_of
from llmpp.predictor import Predictor
from llmpp.result import Iteration, Scored, SearchResult, best_candidates
from llmpp.run import RunDirectory
from llmpp.task import Task


class Record:
    """The history of one search, and what becomes of it.

    Attributes:
        history: One entry per iteration.
        known: Scores that an earlier start of the search was given by predictors outside the core.
    """

    def __init__(self, task: Task, phases: Sequence[Phase], directory: RunDirectory | None) -> None:
        self.task = task
        self.phases = phases
        self.directory = directory
        self.history: list[Iteration] = []
        is_asked = any(in_core(phase.predictor) is None for phase in phases)
        self.known = directory.known_scores() if directory and is_asked else {}

    def add(self, iteration: Iteration) -> None:
        """Adds an iteration to the history; what earlier starts took for it counts, too."""
        earlier = self.directory.earlier[iteration.iteration :] if self.directory else ()
        seconds = iteration.seconds + (earlier[0].seconds if earlier else 0)
        self.history.append(replace(iteration, seconds=seconds))

    def predict(self, predictor: Predictor, genomes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Asks a predictor for one finite number per genome, unless an earlier start did.

        One that keeps its scores itself is asked again: it may need to hear of all candidates.

        Raises:
            PredictorError: If it fails to give them.
        """
        architectures = self.task.space.architectures(genomes)
        names = [phase.name for phase in self.phases if phase.predictor is predictor]
        known = self.known.get(names[0], {}) if names else {}
        try:
            if not known or keeps_scores(predictor):
                return ask(predictor, architectures)
            unknown = [architecture for architecture in architectures if architecture not in known]
            known.update(zip(unknown, ask(predictor, unknown).tolist(), strict=True))
        except PredictorError as error:
            raise self.failure(f"`{name_of(predictor)}`", error) from error.__cause__
        return np.array([known[architecture] for architecture in architectures], np.float32)

    def failure(self, names: str, error: Exception) -> PredictorError:
        """Builds the error that says which predictor failed, when, how, and what is kept."""
        kept = f"; what was scored before is in {self.directory.path}" if self.directory else ""
        return PredictorError(f"the predictor {names}, in iteration {len(self.history)}, {error}{kept}")

    def save(self, scored: Scored) -> None:
        """Writes candidates and history, where there is a run directory."""
        if self.directory:
            self.directory.write_progress(self.task.space, self._names(), scored, self.history)
            predictors = {phase.name: phase.predictor for phase in self.phases}
            usages = {name: getattr(predictor, "usage", None) for name, predictor in predictors.items()}
            if spent := {name: usage.to_dict() for name, usage in usages.items() if usage is not None}:
                self.directory.write_usage(spent)

    def finish(self, scored: Scored, *, notes: Sequence[str], **outcome: Any) -> SearchResult:
        """Builds the result, and writes it where there is a run directory.

        Args:
            scored: Every score that the result holds.
            notes: What a user should know.
            **outcome: Further fields of `SearchResult`: status, strategy, and what they bring along.
        """
        last = self.phases[int(scored.phases.max(initial=0))]
        if len(scored.scores) and last is not self.phases[-1]:
            never = f"`{self.phases[-1].name}` never scored: `best` and the front are by `{last.name}`"
            notes = [*notes, never]
        result = SearchResult(
            best=next(iter(best_candidates(self.task.space, scored, 1)), None),
            history=self.history,
            notes=tuple(notes),
            run_dir=str(self.directory.path) if self.directory else None,
            _space=self.task.space,
            _predictors=self._names(),
            _scored=scored,
            **outcome,
        )
        self.save(scored)
        if self.directory:
            self.directory.write_result(result)
        return result

    def _names(self) -> tuple[str, ...]:
        return tuple(phase.name for phase in self.phases)
