"""The search: exact where every feature vector can be scored, else HS-NAS's evolution (arXiv 2310.16712)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmpp.constraints import check_constraints
from llmpp.errors import InputError
from llmpp.evolution import EvolutionSettings
from llmpp.exact import ExactSettings
from llmpp.frontier import Frontier
from llmpp.phase import Phase, encoding_of, name_of
from llmpp.plan import SearchPlan
from llmpp.predictor import MlpPredictor, Predictor, load_latency, load_predictor
from llmpp.ranges import LARGEST_SEED, integer, share
from llmpp.result import Iteration, SearchResult
from llmpp.run import RunDirectory
from llmpp.space import SearchSpace
from llmpp.strategy import Situation, choose
from llmpp.task import Task, load_task
from llmpp.verified_search import measurer_of, verified_search

__all__ = ["EvolutionSettings", "frontier", "search"]


def search(
    task: str | Path | Task,
    hardware: str | Path | Predictor | None = None,
    constraints: Mapping[str, float] | None = None,
    *,
    strategy: str = "auto",
    seed: int = 0,
    initial: str | Path | Predictor = "distilled",
    baseline: str | Path | Predictor | None = None,
    switch: float = 0.5,
    n_proposals: int = 200,
    max_vectors: int = 20_000_000,
    keep: bool = False,
    verify: int = 0,
    n_threads: int = 1,
    callbacks: Iterable[Callable[[Iteration], object]] = (),
    progress: bool = False,
    run_dir: str | Path | None = None,
    resume: bool = False,
    **evolution: Any,
) -> SearchResult:
    """Searches for the architecture with the best predicted quality within constraints.

    Args:
        task: A task, its name (see `llmpp.task_names`), or its JSON file.
        hardware: What latency is predicted for: a name (see `llmpp.hardware_names`), a file that
            `llmpp fit-latency` wrote, or any object whose `predict` returns ms. None: latency is unknown.
        constraints: Upper bounds, any of `latency_ms`, `gflops` (FLOPs / 1e9 of one forward pass, output
            projection included) and `params_m` (parameters / 1e6 without embeddings).
        strategy: 'exact' scores every vector of averaged features, so that the best found is the best;
            'evolution' samples. 'auto' is exact where that takes seconds, says in `notes` what it chose and
            why, and is evolution with a baseline, or with a field of `EvolutionSettings`.
        seed: Seed of all random choices, in 0..2^64-1. One seed gives one result, for any `n_threads`.
        initial: The predictor that the search starts on: 'distilled' for the student that ships with the
            task, a weights file, or any object with `predict(architectures) -> scores`.
        baseline: The predictor that the search ends on; None to stay with `initial`.
        switch: The share of iterations before the baseline takes over, in [0, 1]. Evolution only.
        n_proposals: How many architectures an exact search proposes to a baseline: the best under `initial`
            in each of ten equal parts of the front's range of latencies.
        max_vectors: Feature vectors that an exact search lists at most. Each takes 8 bytes of memory; where
            one hyperparameter's layers make nearly all of them, some 200.
        keep: Whether an exact search reads and keeps all scores in the user's cache directory (4 bytes for
            each feature vector and network), so that further searches take milliseconds.
        verify: How many of the best found are measured on this machine, 0 for none. Those that break the
            bound in truth are dropped, and if predictions miss to one side, the search is done again with
            the latency model corrected; `result.verification` has what was measured. `hardware` must be a
            file that `llmpp fit-latency` made of what `llmpp measure` wrote here.
        n_threads: Threads for the inference of MLPs.
        callbacks: Called after each iteration with its `Iteration`.
        progress: Show a progress bar on stderr.
        run_dir: A new or empty directory for settings, candidates, history and result. None: nothing is
            written.
        resume: Go on with a search that was stopped in `run_dir`, if there is one: it takes the same course,
            and no score that is kept there is asked for again. Predictors must be the same, as far as their
            names and digests tell: an object of yours may have one as its `identity`.
        **evolution: Fields of `EvolutionSettings`: n_iterations, n_population, n_parents, n_mutants,
            n_children, mutation_prob, max_draws.

    Returns:
        The result. Its status is 'optimal' if no architecture within the constraints has a better score,
        'budget' if all iterations were done without that proof, 'infeasible' if none was found (in an exact
        search: if there is none), and 'interrupted' if Ctrl-C ended the search early; then it holds what was
        found until then.

    Raises:
        InputError: If a name, bound, setting or file cannot be used.
        PredictorError: If a predictor fails, or does not return one finite score per architecture. What was
            scored until then is in `run_dir`.

    Example:
        >>> result = search("wmt14.en-de", "titan-xp", {"latency_ms": 150})
        >>> result.status, result.best.latency_ms <= 150
        ('optimal', True)
    """
    task = load_task(task)
    settings = _settings(evolution)
    exact = ExactSettings(
        n_proposals=integer("n_proposals", n_proposals, 1, 10**6),
        keep=keep,
        n_threads=integer("n_threads", n_threads, 1, 1024),
    )
    share("switch", switch)
    seed = integer("seed", seed, 0, LARGEST_SEED)
    latency = _resolve(hardware, task, load_latency, "hardware")
    bounds = check_constraints(constraints, has_hardware=latency is not None)
    # An exact search does not split its iterations: both predictors have their turn.
    split = (0.5, 2) if strategy == "exact" else (switch, settings.n_iterations)
    phases, notes = _plan(task, initial, baseline, *split)
    situation = Situation(
        space=task.space,
        phases=phases,
        latency=latency,
        max_vectors=integer("max_vectors", max_vectors, 1, 2**32 - 1),
        has_evolution_settings=bool(evolution),
    )
    chosen, reason = choose(strategy, situation)
    if chosen == "exact":  # what the plan says of iterations does not concern it
        notes = []
    notes += [reason] if reason else []
    if keep and chosen == "evolution":
        notes.append("`keep` has no effect on evolution")
    notes += [
        note for part in (latency, *(p.predictor for p in phases)) for note in getattr(part, "notes", ())
    ]
    notes += _vocabulary_notes(task, phases)
    callbacks = _callables(callbacks)
    verify = integer("verify", verify, 0, 250)
    measure_one = measurer_of(latency, task, verify) if verify else None
    plan = SearchPlan(
        task=task,
        latency=latency,
        bounds=bounds,
        phases=phases,
        strategy=chosen,
        strategy_asked_for=strategy,
        evolution=settings,
        exact=exact,
        max_vectors=situation.max_vectors,
        switch=switch,
        verify=verify,
        seed=seed,
        notes=notes,
        directory=_directory(run_dir, resume=resume),
        callbacks=callbacks,
        progress=progress,
    )
    if plan.directory:
        plan.directory.write_settings(plan.to_dict())
    return verified_search(plan, measure_one) if measure_one else plan.run(latency)


def frontier(
    task: str | Path | Task,
    hardware: str | Path | Predictor | None = None,
    constraints: Mapping[str, float] | None = None,
    *,
    initial: str | Path | Predictor = "distilled",
    max_vectors: int = 20_000_000,
    keep: bool = False,
    n_threads: int = 1,
    progress: bool = False,
) -> Frontier:
    """Answers every latency constraint at once: the best score for each latency that there is.

    Args:
        task: As in `search`.
        hardware: As in `search`; None for the best score for each number of FLOPs.
        constraints: Upper bounds that hold along the whole curve.
        initial: The predictor of quality, as in `search`.
        max_vectors: As in `search`.
        keep: As in `search`.
        n_threads: As in `search`.
        progress: As in `search`.

    Returns:
        The curve from the smallest latency to that of the best score, as a frame and as a plot.

    Raises:
        InputError: If exact search is not possible, or an argument cannot be used.
        PredictorError: If a predictor fails.
        KeyboardInterrupt: If Ctrl-C came before the curve was whole.

    Example:
        >>> curve = frontier("wmt14.en-de", "titan-xp")
        >>> curve.best(150).latency_ms <= 150
        True
    """
    result = search(
        task,
        hardware,
        constraints,
        strategy="exact",
        initial=initial,
        max_vectors=max_vectors,
        keep=keep,
        n_threads=n_threads,
        progress=progress,
    )
    if result.status == "interrupted":
        raise KeyboardInterrupt
    measure = "gflops" if hardware is None else "latency_ms"
    front = tuple(result.pareto_front())
    return Frontier(load_task(task).name, measure, front, result.notes, result.reachable)


def _settings(evolution: Mapping[str, Any]) -> EvolutionSettings:
    names = list(EvolutionSettings.__dataclass_fields__)
    for name in evolution:
        if name not in names:
            raise TypeError(
                f"search() got an unexpected argument {name!r}; the evolution's are {', '.join(names)}"
            )
    return EvolutionSettings(**evolution)


def _directory(run_dir: str | Path | None, *, resume: bool) -> RunDirectory | None:
    if run_dir is not None:
        return RunDirectory.create(Path(run_dir), resume=resume)
    if resume:
        raise InputError("`resume` goes on in a run directory: name it as `run_dir`")
    return None


def _callables(callbacks: Any) -> list[Callable[[Iteration], object]]:
    listed = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    if not all(callable(callback) for callback in listed):
        raise InputError(f"`callbacks` must be functions of an `Iteration`, got {callbacks!r}")
    return listed


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
    if not isinstance(given, Predictor) or isinstance(given, type):
        raise InputError(f"`{argument}` must be a name, a path or an object with `predict`, got {given!r}")
    if isinstance(given, MlpPredictor) and given.space.options != task.space.options:
        raise InputError(f"`{argument}` is a model of the space {given.space.name}, not of {task.space.name}")
    space = getattr(given, "space", None)
    if isinstance(space, SearchSpace) and not space.holds(task.space):
        raise InputError(
            f"`{argument}` cannot score all of {task.space.name}: its space is {space.to_dict()}"
        )
    return given


def _vocabulary_notes(task: Task, phases: Sequence[Phase]) -> list[str]:
    """Says where costs count another output projection than the models that score have."""
    sizes = {phase.name: getattr(phase.predictor, "vocabulary", task.vocabulary) for phase in phases}
    return [
        f"{name} has a vocabulary of {size:,}, but costs count the {task.vocabulary:,} of {task.name}"
        for name, size in sizes.items()
        if size != task.vocabulary
    ]


def _plan(
    task: Task, initial: Any, baseline: Any, switch: float, n_iterations: int
) -> tuple[list[Phase], list[str]]:
    """Splits the iterations between the predictors, and says so where one has none."""
    if initial is None:
        raise InputError("`initial` must be a name, a path or an object with `predict`, got None")
    n_initial = n_iterations if baseline is None else round(switch * n_iterations)
    given = [("initial", initial, n_initial), ("baseline", baseline, n_iterations - n_initial)]
    phases: list[Phase] = []
    notes: list[str] = []
    for argument, predictor, n in given:
        resolved = _resolve(predictor, task, load_predictor, argument) if n else None
        if resolved is not None:
            name = name_of(resolved)
            is_taken = any(phase.name == name for phase in phases)
            name = f"{name} (baseline)" if is_taken else name
            phases.append(Phase(name, resolved, encoding_of(resolved), n))
        elif predictor is not None:
            notes.append(f"`switch={switch}` leaves no iteration to the {argument} predictor")
    if baseline is None:
        notes.append(f"no baseline: `{phases[0].name}` scored all iterations")
    return phases, notes
