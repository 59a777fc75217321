"""The verbs `search`, `frontier` and `cost`."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from llmpp import hsnas
from llmpp.architecture import read_architectures
from llmpp.cli.console import DONE, INFEASIBLE, INTERRUPTED, out, plain, print_json, print_table
from llmpp.cli.options import Json, NoSeed, Seed, TaskName
from llmpp.cli.supernets import open_supernets
from llmpp.errors import InputError, require, writing
from llmpp.frontier import Frontier
from llmpp.predictor import load_latency
from llmpp.result import MEASURES, Candidate, SearchResult
from llmpp.task import cost as cost_of
from llmpp.task import is_file
from llmpp.text import replace_text

if TYPE_CHECKING:
    from llmpp.measuring.verification import Verification

Threads = Annotated[
    int, typer.Option("--n-threads", help="Threads for inference; the result does not depend on them.")
]
MaxVectors = Annotated[
    int, typer.Option("--max-vectors", help="Feature vectors that an exact search lists at most.")
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep all scores of an exact search for further ones.")]


Hardware = Annotated[
    str | None, typer.Option(help="A hardware of `llmpp hardware`, or a file of `llmpp fit-latency`.")
]
Gflops = Annotated[
    float | None, typer.Option("--gflops", help="Upper bound of FLOPs / 1e9, output projection included.")
]
ParamsM = Annotated[
    float | None, typer.Option("--params-m", help="Upper bound of parameters / 1e6, without embeddings.")
]


def search(
    task: TaskName,
    hardware: Hardware = None,
    latency_ms: Annotated[float | None, typer.Option(help="Upper bound of the latency, in ms.")] = None,
    gflops: Gflops = None,
    params_m: ParamsM = None,
    initial: Annotated[
        str,
        typer.Option(
            help="What the search starts on: 'distilled', a weights file, or a directory of "
            "`llmpp train-supernet`."
        ),
    ] = "distilled",
    baseline: Annotated[
        str | None, typer.Option(help="What the search ends on: a weights file, or a supernet's directory.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A directory of `llmpp prepare`: what supernets score on.")
    ] = None,
    race: Annotated[
        bool, typer.Option("--race", help="Supernets score those that cannot become parents on less of it.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="Of supernets: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one."),
    ] = "auto",
    switch: Annotated[float, typer.Option(help="Share of iterations before the baseline takes over.")] = 0.5,
    strategy: Annotated[
        str, typer.Option(help="'exact', 'evolution', or 'auto' for exact search where it takes seconds.")
    ] = "auto",
    n_proposals: Annotated[
        int, typer.Option(help="Architectures that an exact search proposes to a baseline.")
    ] = 200,
    max_vectors: MaxVectors = 20_000_000,
    keep: Keep = False,
    verify: Annotated[int, typer.Option(help="How many of the best found are measured on this machine.")] = 0,
    seed: Seed = 0,
    n_iterations: Annotated[int | None, typer.Option(help="Populations scored. (default 30)")] = None,
    n_population: Annotated[
        int | None, typer.Option(help="Members of the first population. (default 125)")
    ] = None,
    n_parents: Annotated[int | None, typer.Option(help="Best members kept. (default 25)")] = None,
    n_mutants: Annotated[
        int | None, typer.Option(help="Mutants in each further population. (default 50)")
    ] = None,
    n_children: Annotated[
        int | None, typer.Option(help="Children of two parents in each further population. (default 50)")
    ] = None,
    mutation_prob: Annotated[
        float | None, typer.Option(help="Probability that a mutant's gene is redrawn. (default 0.3)")
    ] = None,
    max_draws: Annotated[
        int | None, typer.Option(help="Draws per place of a population. (default 20)")
    ] = None,
    n_threads: Threads = 1,
    run_dir: Annotated[
        Path | None, typer.Option(help="New directory for all that was done; runs/TASK-TIME by default.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on in the run directory; what was scored is not scored again."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the architecture with the best predicted quality within bounds."""
    evolution = {
        "n_iterations": n_iterations,
        "n_population": n_population,
        "n_parents": n_parents,
        "n_mutants": n_mutants,
        "n_children": n_children,
        "mutation_prob": mutation_prob,
        "max_draws": max_draws,
    }
    if resume and run_dir is None:
        raise InputError("--resume goes on in a run directory: name it by --run-dir")
    if race and corpus is None:
        raise InputError(
            "--race is for supernets: it needs --corpus, and a supernet as --initial or --baseline"
        )
    starts_on, ends_on = open_supernets(
        initial, baseline, corpus=corpus, is_raced=race, device=device, n_threads=n_threads
    )
    result = hsnas.search(
        task,
        hardware,
        _given(latency_ms=latency_ms, gflops=gflops, params_m=params_m),
        strategy=strategy,
        seed=seed,
        initial=starts_on or "distilled",
        baseline=ends_on,
        switch=switch,
        n_proposals=n_proposals,
        max_vectors=max_vectors,
        keep=keep,
        verify=verify,
        n_threads=n_threads,
        progress=sys.stderr.isatty(),
        run_dir=run_dir or _fresh_run_dir(task),
        resume=resume,
        **_given(**evolution),
    )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_result(result)
    raise typer.Exit({"infeasible": INFEASIBLE, "interrupted": INTERRUPTED}.get(result.status, DONE))


def _given(**values: float | None) -> dict[str, Any]:
    """Those of some options that were set."""
    return {name: value for name, value in values.items() if value is not None}


def _fresh_run_dir(task: str) -> Path:
    stem = f"{Path(task).stem if is_file(task) else task}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def _print_result(result: SearchResult) -> None:
    for note in result.notes:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    if result.verification:
        print_table(_verification_table(result.verification))
    if result.best:
        out.print(_candidate_table(result.best))
    elif result.reachable:
        what = {"exact": "no architecture is", "evolution": "none was found"}[result.strategy]
        if result.verification:
            what = "none of those measured is"
        _print_reachable(what, result.reachable)
    what = "feature vectors" if result.strategy == "exact" else "architectures"
    out.print(f"status {result.status}: {result.n_evaluations:,} {what} scored in {result.seconds:.3f} s")
    if result.n_ties:
        out.print(f"{result.n_architectures:,} architectures have the best score, and none a better one")
    out.print(f"run directory: {plain(str(result.run_dir))}", soft_wrap=True)


def _verification_table(found: "Verification[Candidate]") -> Table:
    table = Table(
        "predicted score", "predicted ms", "measured ms", "within", "keeps the bound", title="measured here"
    )
    for one in found.measured:
        figures = (f"{one.candidate.score:.3f}", f"{one.predicted_ms:.1f}", f"{one.measured_ms:.1f}")
        table.add_row(*figures, f"{100 * one.half_width:.1f}%", "yes" if one.is_within else "no")
    return table


def _print_reachable(what: str, reachable: dict[str, float]) -> None:
    out.print(f"infeasible: {what} within the bounds. The smallest values that were seen:", soft_wrap=True)
    for name, value in reachable.items():
        out.print(f"  {name} {value:.4g}")


def _candidate_table(candidate: Candidate) -> Table:
    table = Table(title="best architecture", show_header=False)
    table.add_row("predicted score", f"{candidate.score:.3f}")
    for name in MEASURES:
        value = getattr(candidate, name)
        table.add_row(name, "unknown" if value is None else f"{value:.3f}")
    for name, value in candidate.architecture.to_dict().items():
        table.add_row(name, str(value))
    return table


def frontier(
    task: TaskName,
    hardware: Hardware = None,
    initial: Annotated[
        str, typer.Option(help="'distilled', or a weights file of a predictor of quality.")
    ] = "distilled",
    gflops: Gflops = None,
    params_m: ParamsM = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the curve as .parquet or .json.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve into PLOT.png and PLOT.svg.")] = None,
    max_vectors: MaxVectors = 20_000_000,
    keep: Keep = False,
    n_threads: Threads = 1,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Find the best predicted score for every latency at once, exactly."""
    if output and output.suffix not in (".parquet", ".json"):
        raise InputError(f"the curve is written as .parquet or .json, got {output}")
    if plot:
        require("matplotlib", "plot")
    curve = hsnas.frontier(
        task,
        hardware,
        _given(gflops=gflops, params_m=params_m),
        initial=initial,
        max_vectors=max_vectors,
        keep=keep,
        n_threads=n_threads,
        progress=sys.stderr.isatty(),
    )
    if output:
        _write_frontier(curve, output)
    files = curve.plot(plot) if plot and curve.candidates else ()
    if as_json:
        print_json(curve.to_dict())
    else:
        _print_frontier(curve, [*([output] if output else []), *files])
    raise typer.Exit(DONE if curve.candidates else INFEASIBLE)


def _write_frontier(curve: Frontier, path: Path) -> None:
    with writing(path):
        if path.suffix == ".parquet":
            curve.to_frame().write_parquet(path)
        else:
            replace_text(path, json.dumps(curve.to_dict(), indent=2) + "\n")


def _print_frontier(curve: Frontier, files: list[Path]) -> None:
    for note in curve.notes:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    if curve.reachable:
        _print_reachable("no architecture is", curve.reachable)
        return
    table = Table(curve.measure, "best score", "gflops", "params_m", "decoder layers")
    # About as many rows as fit a screen; files and --json have all of them.
    step = max(1, len(curve.candidates) // 20)
    for candidate in [*curve.candidates[:-1:step], *curve.candidates[-1:]]:
        figures = (getattr(candidate, curve.measure), candidate.score, candidate.gflops, candidate.params_m)
        table.add_row(*(f"{figure:.3f}" for figure in figures), str(candidate.architecture.decoder_layers))
    out.print(table)
    out.print(f"{len(curve.candidates):,} points: nothing else scores more for as little {curve.measure}")
    for path in files:
        out.print(f"written: {plain(str(path))}", soft_wrap=True)


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
