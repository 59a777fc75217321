"""The verbs `search` and `cost`."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from llmpp import hsnas
from llmpp.architecture import read_architectures
from llmpp.cli.console import DONE, INFEASIBLE, INTERRUPTED, out, plain, print_json
from llmpp.cli.options import Json, NoSeed, Seed, TaskName
from llmpp.errors import InputError
from llmpp.predictor import load_latency
from llmpp.result import MEASURES, Candidate, SearchResult
from llmpp.task import cost as cost_of
from llmpp.task import is_file


def search(
    task: TaskName,
    hardware: Annotated[
        str | None, typer.Option(help="A hardware of `llmpp tasks`, or a file of `llmpp fit-latency`.")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Upper bound of the latency, in ms.")] = None,
    gflops: Annotated[
        float | None, typer.Option(help="Upper bound of FLOPs / 1e9, output projection included.")
    ] = None,
    params_m: Annotated[
        float | None, typer.Option(help="Upper bound of parameters / 1e6, without embeddings.")
    ] = None,
    initial: Annotated[
        str, typer.Option(help="'distilled', or the weights file that the search starts on.")
    ] = "distilled",
    baseline: Annotated[
        str | None, typer.Option(help="Weights file of the predictor that the search ends on.")
    ] = None,
    switch: Annotated[float, typer.Option(help="Share of iterations before the baseline takes over.")] = 0.5,
    seed: Seed = 0,
    n_iterations: Annotated[int, typer.Option(help="Populations scored.")] = 30,
    n_population: Annotated[int, typer.Option(help="Members of the first population.")] = 125,
    n_parents: Annotated[int, typer.Option(help="Best members kept.")] = 25,
    n_mutants: Annotated[int, typer.Option(help="Mutants in each further population.")] = 50,
    n_children: Annotated[int, typer.Option(help="Children of two parents in each further population.")] = 50,
    mutation_prob: Annotated[float, typer.Option(help="Probability that a mutant's gene is redrawn.")] = 0.3,
    max_draws: Annotated[int, typer.Option(help="Draws per place of a population.")] = 20,
    n_threads: Annotated[
        int, typer.Option(help="Threads for inference; the result does not depend on them.")
    ] = 1,
    run_dir: Annotated[
        Path | None, typer.Option(help="New directory for all that was done; runs/TASK-TIME by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the architecture with the best predicted quality within bounds."""
    bounds = {"latency_ms": latency_ms, "gflops": gflops, "params_m": params_m}
    result = hsnas.search(
        task,
        hardware,
        {name: bound for name, bound in bounds.items() if bound is not None},
        seed=seed,
        initial=initial,
        baseline=baseline,
        switch=switch,
        n_threads=n_threads,
        progress=sys.stderr.isatty(),
        run_dir=run_dir or _fresh_run_dir(task),
        n_iterations=n_iterations,
        n_population=n_population,
        n_parents=n_parents,
        n_mutants=n_mutants,
        n_children=n_children,
        mutation_prob=mutation_prob,
        max_draws=max_draws,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    raise typer.Exit({"infeasible": INFEASIBLE, "interrupted": INTERRUPTED}.get(result.status, DONE))


def _fresh_run_dir(task: str) -> Path:
    stem = f"{Path(task).stem if is_file(task) else task}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def _print_result(result: SearchResult) -> None:
    for note in result.notes:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    if result.best:
        out.print(_candidate_table(result.best))
    elif result.reachable:
        out.print("infeasible: no architecture within the bounds was found. The smallest values seen:")
        for name, value in result.reachable.items():
            out.print(f"  {name} {value:.4g}")
    n_evaluations = sum(iteration.n_evaluations for iteration in result.history)
    seconds = sum(iteration.seconds for iteration in result.history)
    out.print(f"status {result.status}: {n_evaluations} architectures scored in {seconds:.3f} s")
    out.print(f"run directory: {plain(str(result.run_dir))}", soft_wrap=True)


def _candidate_table(candidate: Candidate) -> Table:
    table = Table(title="best architecture", show_header=False)
    table.add_row("predicted score", f"{candidate.score:.3f}")
    for name in MEASURES:
        value = getattr(candidate, name)
        table.add_row(name, "unknown" if value is None else f"{value:.3f}")
    for name, value in candidate.architecture.to_dict().items():
        table.add_row(name, str(value))
    return table


def cost(
    architecture: Annotated[Path, typer.Argument(help="JSON of an architecture, or HAT's YAML.")],
    task: TaskName,
    hardware: Annotated[str | None, typer.Option(help="Also predict the latency on this hardware.")] = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Count FLOPs and parameters of an architecture, exactly."""
    found = read_architectures(architecture)
    if len(found) != 1:
        raise InputError(f"{architecture} holds {len(found)} architectures; `llmpp cost` takes one")
    figures: dict[str, Any] = asdict(cost_of(found[0], task=task))
    if hardware:
        figures["latency_ms"] = float(load_latency(hardware, task=task).predict(found)[0])
    if as_json:
        print_json(figures)
    else:
        for name, value in figures.items():
            out.print(f"{name:>20} {value:,}")
