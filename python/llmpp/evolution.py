"""Drives the core's evolution with predictors: inside the core if they are MLPs, by ask and tell if not."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import PredictorError
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.ranges import integer, share
from llmpp.result import MEASURES, Iteration, Scored, SearchResult, Status, best_candidate
from llmpp.run import RunDirectory
from llmpp.space import Encoding
from llmpp.task import Task, costs


@dataclass(frozen=True, kw_only=True)
class EvolutionSettings:
    """How populations are made; the defaults are HAT's (arXiv 2005.14187).

    Attributes:
        n_iterations: Populations scored, at least 1.
        n_population: Members of the first population, at least 1.
        n_parents: Best members kept from one population to the next, at least 1.
        n_mutants: Mutants added to each further population.
        n_children: Children of two parents added to each further population.
        mutation_prob: Probability that a mutant's gene is redrawn, in [0, 1].
        max_draws: Draws per place of a population, after which the place stays empty, at least 1. The first
            population has five times as many.

    Raises:
        InputError: If a setting is out of its range.
    """

    n_iterations: int = 30
    n_population: int = 125
    n_parents: int = 25
    n_mutants: int = 50
    n_children: int = 50
    mutation_prob: float = 0.3
    max_draws: int = 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name in ("n_mutants", "n_children") else 1
            checked = share(name, value) if name == "mutation_prob" else integer(name, value, least, 10**6)
            object.__setattr__(self, name, checked)


@dataclass(frozen=True)
class Phase:
    """A stretch of iterations under one predictor."""

    name: str
    predictor: Predictor
    encoding: Encoding
    n_iterations: int


class Run:
    """One search: drives the evolution of the core with predictors, and keeps the history."""

    def __init__(
        self,
        *,
        task: Task,
        latency: Predictor | None,
        bounds: Mapping[str, float],
        phases: list[Phase],
        settings: EvolutionSettings,
        seed: int,
        n_threads: int,
        directory: RunDirectory | None,
    ) -> None:
        self.task = task
        self.latency = latency
        self.phases = phases
        self.n_threads = n_threads
        self.directory = directory
        self.measures = [name for name in MEASURES if name != "latency_ms" or latency is not None]
        self.history: list[Iteration] = []
        options = {name: value for name, value in asdict(settings).items() if name != "n_iterations"}
        self.evolution = _core.Evolution(
            task.space.core,
            self.encoding(phases[0]),
            [bounds.get(name, math.inf) for name in self.measures],
            seed,
            **options,
        )

    def encoding(self, phase: Phase) -> Encoding:
        """What tells candidates apart: averaged features if neither score nor latency needs more."""
        latency = "averaged" if self.latency is None else encoding_of(self.latency)
        return "averaged" if phase.encoding == latency == "averaged" else "per-layer"

    def status(self, callbacks: list[Callable[[Iteration], object]]) -> Status:
        """Runs all phases. What was scored is saved also when a predictor or callback fails."""
        try:
            for number, phase in enumerate(self.phases):
                if number:
                    self.evolution.begin_phase(self.encoding(phase))
                for _ in range(phase.n_iterations):
                    self.iterate(phase)
                    if self.evolution.is_infeasible:
                        return "infeasible"
                    for callback in callbacks:
                        callback(self.history[-1])
        except KeyboardInterrupt:
            return "interrupted"
        except BaseException:
            self.save()
            raise
        return "budget"

    def iterate(self, phase: Phase) -> None:
        """Runs one iteration and records it; nothing is recorded if nothing is feasible."""
        start = time.perf_counter()
        number = len(self.history)
        scorer, latency = _in_core(phase.predictor), _in_core(self.latency)
        if scorer and (latency or self.latency is None):
            self.run_in_core(phase, scorer, latency)
        else:
            self.ask_and_tell(phase)
        if self.evolution.is_infeasible:
            return
        n_evaluations, n_cache_hits, best_score = self.evolution.history(number)[-1]
        seconds = time.perf_counter() - start
        self.history.append(Iteration(number, phase.name, best_score, n_evaluations, n_cache_hits, seconds))
        if not scorer:
            self.save()

    def run_in_core(
        self, phase: Phase, scorer: tuple[_core.Mlp, Encoding], latency: tuple[_core.Mlp, Encoding] | None
    ) -> None:
        """Runs one iteration in which MLPs give scores and latencies."""
        try:
            self.evolution.run(scorer, latency, self.task.sizes, n_threads=self.n_threads)
        except RuntimeError as error:
            names = f"`{phase.name}`" + (f" or `{name_of(self.latency)}`" if self.latency else "")
            raise PredictorError(self.place(f"the predictor {names}", str(error))) from error

    def place(self, who: str, what: str) -> str:
        """Says who failed, when, and what is kept."""
        kept = f"; what was scored before is in {self.directory.path}" if self.directory else ""
        return f"{who}, in iteration {len(self.history)}, {what}{kept}"

    def ask_and_tell(self, phase: Phase) -> None:
        """Runs one iteration in which a predictor outside the core scores or gives latencies."""
        while len(genomes := self.evolution.propose()):
            self.evolution.admit(self.measure(genomes))
        if not self.evolution.is_infeasible:
            self.evolution.tell(self.predict(phase.predictor, self.evolution.ask()))

    def measure(self, genomes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Measures genomes: `(n, n_measures)`."""
        cost = costs(genomes, self.task).astype(np.float64)
        columns = [cost[:, 0] / 1e9, cost[:, 2] / 1e6]
        if self.latency is not None:
            columns.insert(0, self.predict(self.latency, genomes).astype(np.float64))
        return np.ascontiguousarray(np.stack(columns, axis=1))

    def predict(self, predictor: Predictor, genomes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Asks a predictor for one finite number per genome.

        Raises:
            PredictorError: If it fails to give them.
        """
        try:
            return ask(predictor, self.task.space.architectures(genomes))
        except PredictorError as error:
            who = f"the predictor `{name_of(predictor)}`"
            raise PredictorError(self.place(who, str(error))) from error.__cause__

    def scored(self) -> Scored:
        """Everything scored so far."""
        genomes, measures, scores, iterations, phases = self.evolution.scored()
        by_name = {name: measures[:, column] for column, name in enumerate(self.measures)}
        return Scored(genomes, by_name, scores, iterations, phases)

    def save(self) -> None:
        """Writes candidates and history, where there is a run directory."""
        if self.directory:
            self.directory.write_progress(
                self.task.space, self.predictor_names(), self.scored(), self.history
            )
            predictors = {phase.name: phase.predictor for phase in self.phases}
            usages = {name: getattr(predictor, "usage", None) for name, predictor in predictors.items()}
            if spent := {name: usage.to_dict() for name, usage in usages.items() if usage is not None}:
                self.directory.write_usage(spent)

    def predictor_names(self) -> tuple[str, ...]:
        """The predictor of each phase."""
        return tuple(phase.name for phase in self.phases)

    def finish(self, status: Status, notes: list[str]) -> SearchResult:
        """Builds the result, and writes it where there is a run directory."""
        scored = self.scored()
        smallest = self.evolution.smallest()
        last = self.phases[int(scored.phases.max(initial=0))]
        if len(scored.scores) and last is not self.phases[-1]:
            notes = [
                *notes,
                f"`{self.phases[-1].name}` never scored: `best` and the front are by `{last.name}`",
            ]
        result = SearchResult(
            status=status,
            best=best_candidate(self.task.space, scored),
            reachable=dict(zip(self.measures, smallest.tolist(), strict=True))
            if status == "infeasible"
            else None,
            history=self.history,
            notes=tuple(notes),
            run_dir=str(self.directory.path) if self.directory else None,
            _space=self.task.space,
            _predictors=self.predictor_names(),
            _scored=scored,
        )
        self.save()
        if self.directory:
            self.directory.write_result(result)
        return result


def ask(predictor: Predictor, architectures: list[Architecture]) -> NDArray[np.float32]:
    """Asks a predictor for scores `(n,)`, and checks them.

    Raises:
        PredictorError: If it raises, or does not return one finite score per architecture.
    """
    if not architectures:
        return np.empty(0, np.float32)
    try:
        scores = np.ascontiguousarray(predictor.predict(architectures), dtype=np.float32)
    except Exception as error:
        raise PredictorError(f"raised {type(error).__name__}: {error}") from error
    if scores.shape != (len(architectures),):
        raise PredictorError(
            f"returned scores of shape {scores.shape} for {len(architectures)} architectures"
        )
    for index in np.flatnonzero(~np.isfinite(scores)):
        raise PredictorError(f"returned {scores[index]} for {architectures[index]}")
    return scores


def _in_core(predictor: Predictor | None) -> tuple[_core.Mlp, Encoding] | None:
    """What the core needs to run a predictor by itself, or None if it cannot."""
    return (predictor.mlp, predictor.encoding) if isinstance(predictor, MlpPredictor) else None


def name_of(predictor: Predictor) -> str:
    """What a predictor is called in results: its `name`, or its class."""
    return str(getattr(predictor, "name", type(predictor).__name__))


def encoding_of(predictor: Predictor) -> Encoding:
    """What a predictor can tell apart; 'per-layer' unless it says otherwise."""
    return "averaged" if getattr(predictor, "encoding", None) == "averaged" else "per-layer"
