"""HS-NAS: evolutionary search that starts on one predictor and ends on another (arXiv 2310.16712)."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.constraints import check_constraints
from llmpp.errors import InputError, PredictorError
from llmpp.predictor import MlpPredictor, Predictor, load_latency, load_predictor
from llmpp.result import MEASURES, Iteration, Scored, SearchResult, Status, best_candidate
from llmpp.run import RunDirectory
from llmpp.task import Task, costs, load_task

__all__ = ["EvolutionSettings", "search"]


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
        max_draws: Draws per place of a population, after which the place stays empty, at least 1.

    Raises:
        InputError: If a setting is out of its range.
    """

    n_iterations: int = 30
    n_population: int = 125
    n_parents: int = 25
    n_mutants: int = 50
    n_children: int = 50
    mutation_prob: float = 0.3
    max_draws: int = 100

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "mutation_prob":
                if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                    raise InputError(f"`{name}` must be in [0, 1], got {value!r}")
                continue
            least = 0 if name in ("n_mutants", "n_children") else 1
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 10**6:
                raise InputError(f"`{name}` must be an integer in {least}..1000000, got {value!r}")


@dataclass(frozen=True)
class _Phase:
    """A stretch of iterations under one predictor."""

    name: str
    predictor: Predictor
    encoding: _core.Encoding
    n_iterations: int


def search(
    task: str | Path | Task,
    hardware: str | Path | Predictor | None = None,
    constraints: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    initial: str | Path | Predictor = "distilled",
    baseline: str | Path | Predictor | None = None,
    switch: float = 0.5,
    n_threads: int = 1,
    callbacks: Iterable[Callable[[Iteration], object]] = (),
    progress: bool = False,
    run_dir: str | Path | None = None,
    **evolution: Any,
) -> SearchResult:
    """Searches for the architecture with the best predicted quality within constraints.

    Args:
        task: A task, its name (see `llmpp.task_names`), or its JSON file.
        hardware: What latency is predicted for: a name (see `llmpp.hardware_names`), a file that
            `llmpp fit-latency` wrote, or any object whose `predict` returns ms. None: latency is unknown.
        constraints: Upper bounds, any of `latency_ms`, `gflops` (FLOPs / 1e9 of one forward pass, output
            projection included) and `params_m` (parameters / 1e6 without embeddings).
        seed: Seed of all random choices, in 0..2^64-1. One seed gives one result, for any `n_threads`.
        initial: The predictor that the search starts on: 'distilled' for the student that ships with the
            task, a weights file, or any object with `predict(architectures) -> scores`.
        baseline: The predictor that the search ends on; None to stay with `initial`.
        switch: The share of iterations before the baseline takes over, in [0, 1].
        n_threads: Threads for the inference of MLPs.
        callbacks: Called after each iteration with its `Iteration`.
        progress: Show a progress bar on stderr.
        run_dir: A new or empty directory for settings, candidates, history and result. None: nothing is
            written.
        **evolution: Fields of `EvolutionSettings`: n_iterations, n_population, n_parents, n_mutants,
            n_children, mutation_prob, max_draws.

    Returns:
        The result. Its status is 'infeasible' if no candidate within the constraints was found, and
        'interrupted' if Ctrl-C ended the search early; then it holds what was found until then.

    Raises:
        InputError: If a name, bound, setting or file cannot be used.
        PredictorError: If a predictor fails, or does not return one finite score per architecture. What was
            scored until then is in `run_dir`.

    Example:
        >>> result = search("wmt14.en-de", "titan-xp", {"latency_ms": 150})
        >>> result.status, result.best.latency_ms <= 150
        ('budget', True)
    """
    task = load_task(task)
    settings = _settings(evolution)
    _check_numbers(seed, switch, n_threads)
    latency = _resolve(hardware, task, load_latency, "hardware")
    bounds = check_constraints(constraints, has_hardware=latency is not None)
    phases, notes = _plan(task, initial, baseline, switch, settings.n_iterations)
    notes += [note for part in (latency, *(p.predictor for p in phases)) for note in getattr(part, "notes", ())]
    directory = None if run_dir is None else RunDirectory.create(Path(run_dir))
    if directory:
        directory.write_settings(
            {
                "task": task.name,
                "hardware": None if latency is None else _name(latency),
                "constraints": bounds,
                "seed": seed,
                "switch": switch,
                "n_threads": n_threads,
                "predictors": [phase.name for phase in phases],
                "evolution": asdict(settings),
                "notes": notes,
            }
        )
    run = _Run(task, latency, bounds, phases, settings, seed, n_threads, directory)
    with _progress_bar(settings.n_iterations, enabled=progress) as advance:
        return run.finish(run.status([*callbacks, advance]), notes)


class _Run:
    """One search: drives the evolution of the core with predictors, and keeps the history."""

    def __init__(
        self,
        task: Task,
        latency: Predictor | None,
        bounds: Mapping[str, float],
        phases: list[_Phase],
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

    def encoding(self, phase: _Phase) -> _core.Encoding:
        """What tells candidates apart: averaged features if neither score nor latency needs more."""
        latency = "averaged" if self.latency is None else _encoding(self.latency)
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

    def iterate(self, phase: _Phase) -> None:
        """Runs one iteration and records it."""
        start = time.perf_counter()
        number = len(self.history)
        if isinstance(phase.predictor, MlpPredictor) and isinstance(self.latency, MlpPredictor | None):
            latency = self.latency and (self.latency.mlp, self.latency.encoding)
            scorer = (phase.predictor.mlp, phase.predictor.encoding)
            self.evolution.run(scorer, latency, self.task.sizes, n_threads=self.n_threads)
        else:
            self.ask_and_tell(phase, number)
        if len(self.evolution.history()) > number:
            n_evaluations, n_cache_hits, best_score = self.evolution.history()[-1]
            seconds = time.perf_counter() - start
            self.history.append(
                Iteration(number, phase.name, best_score, n_evaluations, n_cache_hits, seconds)
            )
            if self.directory and not isinstance(phase.predictor, MlpPredictor):
                self.save()

    def ask_and_tell(self, phase: _Phase, number: int) -> None:
        """Runs one iteration in which a predictor outside the core scores or gives latencies."""
        while len(genomes := self.evolution.propose()):
            self.evolution.admit(self.measure(genomes, number))
        if not self.evolution.is_infeasible:
            genomes = self.evolution.ask()
            self.evolution.tell(self.predict(phase.predictor, phase.name, genomes, number))

    def measure(self, genomes: NDArray[np.uint8], number: int) -> NDArray[np.float64]:
        """Measures genomes: `(n, n_measures)`."""
        cost = costs(genomes, self.task).astype(np.float64)
        columns = [cost[:, 0] / 1e9, cost[:, 2] / 1e6]
        if self.latency is not None:
            columns.insert(0, self.predict(self.latency, _name(self.latency), genomes, number).astype(np.float64))
        return np.ascontiguousarray(np.stack(columns, axis=1))

    def predict(
        self, predictor: Predictor, name: str, genomes: NDArray[np.uint8], number: int
    ) -> NDArray[np.float32]:
        """Asks a predictor for one finite number per genome."""
        architectures = self.task.space.architectures(genomes)
        place = f"the predictor `{name}`, in iteration {number}"
        kept = f"; what was scored before is in {self.directory.path}" if self.directory else ""
        try:
            scores = np.asarray(predictor.predict(architectures), dtype=np.float32) if architectures else np.empty(0, np.float32)
        except Exception as error:
            raise PredictorError(f"{place}, raised {type(error).__name__}: {error}{kept}") from error
        if scores.shape != (len(architectures),):
            raise PredictorError(f"{place}, returned scores of shape {scores.shape} for {len(architectures)} architectures{kept}")
        if not np.isfinite(scores).all():
            worst = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise PredictorError(f"{place}, returned {scores[worst]} for {architectures[worst]}{kept}")
        return np.ascontiguousarray(scores)

    def scored(self) -> Scored:
        """Everything scored so far."""
        genomes, measures, scores, iterations, phases = self.evolution.scored()
        by_name = {name: measures[:, column] for column, name in enumerate(self.measures)}
        return Scored(genomes, by_name, scores, iterations, phases)

    def save(self) -> None:
        """Writes candidates and history, where there is a run directory."""
        if self.directory:
            self.directory.write_progress(self.task.space, self.predictor_names(), self.scored(), self.history)

    def predictor_names(self) -> tuple[str, ...]:
        """The predictor of each phase."""
        return tuple(phase.name for phase in self.phases)

    def finish(self, status: Status, notes: list[str]) -> SearchResult:
        """Builds the result, and writes it where there is a run directory."""
        scored = self.scored()
        smallest = self.evolution.smallest()
        result = SearchResult(
            status=status,
            best=best_candidate(self.task.space, scored),
            reachable=dict(zip(self.measures, smallest.tolist(), strict=True)) if status == "infeasible" else None,
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


def _settings(evolution: Mapping[str, Any]) -> EvolutionSettings:
    names = list(EvolutionSettings.__dataclass_fields__)
    for name in evolution:
        if name not in names:
            raise TypeError(f"search() got an unexpected argument {name!r}; the evolution's are {', '.join(names)}")
    return EvolutionSettings(**evolution)


def _check_numbers(seed: int, switch: float, n_threads: int) -> None:
    if not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise InputError(f"`seed` must be an integer in 0..2^64-1, got {seed!r}")
    if not isinstance(switch, (int, float)) or not 0 <= switch <= 1:
        raise InputError(f"`switch` must be in [0, 1], got {switch!r}")
    if not isinstance(n_threads, int) or not 1 <= n_threads <= 1024:
        raise InputError(f"`n_threads` must be an integer in 1..1024, got {n_threads!r}")


def _resolve(
    given: str | Path | Predictor | None,
    task: Task,
    load: Callable[..., MlpPredictor],
    argument: str,
) -> Predictor | None:
    """Loads a predictor by name or path, and passes objects through."""
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        return load(given, task=task)
    if not isinstance(given, Predictor):
        raise InputError(f"`{argument}` must be a name, a path or an object with `predict`, got {given!r}")
    return given


def _plan(
    task: Task, initial: Any, baseline: Any, switch: float, n_iterations: int
) -> tuple[list[_Phase], list[str]]:
    """Splits the iterations between the predictors, and says so where one has none."""
    n_initial = n_iterations if baseline is None else round(switch * n_iterations)
    given = [("initial", initial, n_initial), ("baseline", baseline, n_iterations - n_initial)]
    phases, notes = [], []
    for argument, predictor, n in given:
        resolved = _resolve(predictor, task, load_predictor, argument) if n else None
        if resolved is not None:
            phases.append(_Phase(_name(resolved), resolved, _encoding(resolved), n))
        elif predictor is not None:
            notes.append(f"`switch={switch}` leaves no iteration to the {argument} predictor")
    if baseline is None:
        notes.append(f"no baseline: `{phases[0].name}` scored all iterations")
    if not phases:
        raise InputError(f"`initial` must be a name, a path or an object with `predict`, got {initial!r}")
    return phases, notes


def _name(predictor: Predictor) -> str:
    return str(getattr(predictor, "name", type(predictor).__name__))


def _encoding(predictor: Predictor) -> _core.Encoding:
    return "averaged" if getattr(predictor, "encoding", None) == "averaged" else "per-layer"


@contextmanager
def _progress_bar(n_iterations: int, *, enabled: bool) -> Iterator[Callable[[Iteration], object]]:
    """Yields a callback that moves a progress bar on stderr, or does nothing."""
    if not enabled:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr)) as bar:
        search_bar = bar.add_task("searching", total=n_iterations)
        yield lambda it: bar.update(
            search_bar, advance=1, description=f"{it.predictor}: best {it.best_score:.3f}"
        )
