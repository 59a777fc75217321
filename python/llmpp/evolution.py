"""Drives the core's evolution with predictors: inside the core if they are MLPs, by ask and tell if not."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.phase import Phase, encoding_of, in_core, name_of
from llmpp.predictor import Predictor
from llmpp.ranges import integer, share
from llmpp.record import Record
from llmpp.result import MEASURES, Iteration, Scored, SearchResult, Status
from llmpp.space import Encoding
from llmpp.task import cost_measures


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


class Run:
    """One search: drives the evolution of the core with predictors, and keeps the history."""

    def __init__(
        self,
        record: Record,
        *,
        latency: Predictor | None,
        bounds: Mapping[str, float],
        settings: EvolutionSettings,
        seed: int,
        n_threads: int,
    ) -> None:
        self.record = record
        self.task = record.task
        self.phases = record.phases
        self.latency = latency
        self.n_threads = n_threads
        self.n_iterations = settings.n_iterations
        self.started = time.perf_counter()
        self.measures = [name for name in MEASURES if name != "latency_ms" or latency is not None]
        options = {name: value for name, value in asdict(settings).items() if name != "n_iterations"}
        self.evolution = _core.Evolution(
            self.task.space.core,
            self.encoding(self.phases[0]),
            [bounds.get(name, math.inf) for name in self.measures],
            seed,
            **options,
        )

    def encoding(self, phase: Phase) -> Encoding:
        """What tells candidates apart: averaged features if neither score nor latency needs more."""
        latency = "averaged" if self.latency is None else encoding_of(self.latency)
        return "averaged" if phase.encoding == latency == "averaged" else "per-layer"

    def search(self, callbacks: list[Callable[[Iteration], object]], notes: list[str]) -> SearchResult:
        """Runs all phases, and says what they found."""
        status = self.status(callbacks)
        smallest = dict(zip(self.measures, self.evolution.smallest().tolist(), strict=True))
        reachable = smallest if status == "infeasible" else None
        return self.record.finish(
            self.scored(), status=status, strategy="evolution", reachable=reachable, notes=notes
        )

    def status(self, callbacks: list[Callable[[Iteration], object]]) -> Status:
        """Runs all phases. What was scored is saved also when a predictor or callback fails."""
        phase = self.phases[0]
        try:
            for number, phase in enumerate(self.phases):
                if number:
                    self.evolution.begin_phase(self.encoding(phase))
                for _ in range(phase.n_iterations):
                    self.iterate(phase)
                    if self.evolution.is_infeasible:
                        return "infeasible"
                    for callback in callbacks:
                        callback(self.record.history[-1])
        except KeyboardInterrupt:
            self.remember(phase)
            return "interrupted"
        except BaseException:
            self.record.save(self.scored())
            raise
        return "budget"

    def iterate(self, phase: Phase) -> None:
        """Runs one iteration and records it; nothing is recorded if nothing is feasible."""
        self.started = time.perf_counter()
        scorer, latency = in_core(phase.predictor), in_core(self.latency)
        if scorer and (latency or self.latency is None):
            self.run_in_core(phase, scorer, latency)
        else:
            self.ask_and_tell(phase)
        self.remember(phase)
        if not scorer and not self.evolution.is_infeasible:
            self.record.save(self.scored())

    def remember(self, phase: Phase) -> None:
        """Records the iteration that the core has finished, unless it was: Ctrl-C may come in between."""
        number = len(self.record.history)
        for n_evaluations, n_cache_hits, best_score in self.evolution.history(number):
            seconds = time.perf_counter() - self.started
            counts = (n_evaluations, n_cache_hits)
            self.record.add(Iteration(number, phase.name, best_score, *counts, seconds))

    def run_in_core(
        self, phase: Phase, scorer: tuple[_core.Mlp, Encoding], latency: tuple[_core.Mlp, Encoding] | None
    ) -> None:
        """Runs one iteration in which MLPs give scores and latencies."""
        try:
            self.evolution.run(scorer, latency, self.task.sizes, n_threads=self.n_threads)
        except RuntimeError as error:
            names = f"`{phase.name}`" + (f" or `{name_of(self.latency)}`" if self.latency else "")
            raise self.record.failure(names, error) from error

    def ask_and_tell(self, phase: Phase) -> None:
        """Runs one iteration in which a predictor outside the core scores or gives latencies."""
        while len(genomes := self.evolution.propose()):
            self.evolution.admit(self.measure(genomes))
        if not self.evolution.is_infeasible:
            self.evolution.tell(self.record.predict(phase.predictor, self.evolution.ask()))

    def measure(self, genomes: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Measures genomes: `(n, n_measures)`."""
        by_name = cost_measures(genomes, self.task)
        if self.latency is not None:
            by_name["latency_ms"] = self.record.predict(self.latency, genomes).astype(np.float64)
        return np.ascontiguousarray(np.stack([by_name[name] for name in self.measures], axis=1))

    def scored(self) -> Scored:
        """Everything scored so far."""
        genomes, measures, scores, iterations, phases = self.evolution.scored()
        by_name = {name: measures[:, column] for column, name in enumerate(self.measures)}
        return Scored(genomes, by_name, scores, iterations, phases)
