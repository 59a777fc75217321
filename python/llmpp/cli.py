"""The command `llmpp`. Logs go to stderr; under --json, the last line of stdout is one JSON object."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from llmpp import hsnas
from llmpp.architecture import Architecture
from llmpp.errors import InputError, MissingExtraError, PredictorError, ShapeError, SpaceError
from llmpp.predictor import hardware_names, load_latency, load_predictor
from llmpp.result import MEASURES, Candidate, SearchResult
from llmpp.task import cost as cost_of
from llmpp.task import is_file, load_task, task_names

_DEFAULT_MEASURED = "wmt14.en-de"
DONE, FAILED, WRONG_USE, INFEASIBLE, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    help="Neural architecture search in which a language model predicts how good an architecture is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_log = Console(stderr=True)
_out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
TaskName = Annotated[str, typer.Option("--task", help="A task of `llmpp tasks`, or a task's JSON file.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random choices.")]
NoSeed = Annotated[int, typer.Option("--seed", help="Accepted by every verb; here nothing is random.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The weights file to write.")]
Date = Annotated[str | None, typer.Option("--date", help="Date to record, YYYY-MM-DD; today by default.")]


def main() -> NoReturn:
    """Runs the command and exits with 0 done, 1 failed, 2 wrong use, 3 infeasible, 130 interrupted."""
    try:
        sys.exit(app(prog_name="llmpp", standalone_mode=True))
    except (InputError, SpaceError, ShapeError) as error:
        _fail(error, WRONG_USE)
    except (PredictorError, MissingExtraError) as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _fail(error: object, code: int) -> NoReturn:
    _log.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
    sys.exit(code)


def _plain(text: str) -> str:
    """Keeps rich from reading brackets as markup."""
    return text.replace("[", "\\[")


def _print_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")


def _version(value: bool) -> None:  # noqa: FBT001 - the form of a typer callback
    if value:
        _out.print(package_version("llmpp"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Takes the options before the verb."""


@app.command()
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
        _print_json(result.to_dict())
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
        _out.print(f"note: {_plain(note)}", soft_wrap=True)
    if result.best:
        _out.print(_candidate_table(result.best))
    elif result.reachable:
        _out.print("infeasible: no architecture within the bounds was found. The smallest values seen:")
        for name, value in result.reachable.items():
            _out.print(f"  {name} {value:.4g}")
    n_evaluations = sum(iteration.n_evaluations for iteration in result.history)
    seconds = sum(iteration.seconds for iteration in result.history)
    _out.print(f"status {result.status}: {n_evaluations} architectures scored in {seconds:.3f} s")
    _out.print(f"run directory: {_plain(str(result.run_dir))}", soft_wrap=True)


def _candidate_table(candidate: Candidate) -> Table:
    table = Table(title="best architecture", show_header=False)
    table.add_row("predicted score", f"{candidate.score:.3f}")
    for name in MEASURES:
        value = getattr(candidate, name)
        table.add_row(name, "unknown" if value is None else f"{value:.3f}")
    for name, value in candidate.architecture.to_dict().items():
        table.add_row(name, str(value))
    return table


@app.command()
def cost(
    architecture: Annotated[Path, typer.Argument(help="JSON of an architecture, or HAT's YAML.")],
    task: TaskName,
    hardware: Annotated[str | None, typer.Option(help="Also predict the latency on this hardware.")] = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Count FLOPs and parameters of an architecture, exactly."""
    found = read_architecture(architecture)
    figures: dict[str, Any] = asdict(cost_of(found, task=task))
    if hardware:
        figures["latency_ms"] = float(load_latency(hardware, task=task).predict([found])[0])
    if as_json:
        _print_json(figures)
    else:
        for name, value in figures.items():
            _out.print(f"{name:>20} {value:,}")


def read_architecture(path: Path) -> Architecture:
    """Reads an architecture from JSON (ours or HAT's nested dict) or from HAT's YAML.

    Raises:
        InputError: If the file is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the architecture {path}: {error}") from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return Architecture.from_hat(text)
    is_hat = not isinstance(data, dict) or "encoder" in data or any("-" in key for key in data)
    return Architecture.from_hat(data) if is_hat else Architecture.from_dict(data)


@app.command()
def distill(
    answers: Annotated[Path, typer.Argument(help="JSON lines of architectures and answers.")],
    task: TaskName,
    output: Output,
    split: Annotated[
        str, typer.Option(help="Answers to use: those of prompts that showed this split.")
    ] = "all",
    seed: Seed = 0,
    date: Date = None,
    as_json: Json = False,
) -> None:
    """Distil a language model's answers into a student that costs nothing to ask."""
    from llmpp.distill import distill_file

    with _progress_line("training students") as progress:
        report = distill_file(
            answers,
            output,
            load_task(task),
            split=split,
            seed=seed,
            command=_command(),
            date=date,
            progress=progress,
        )
    _report(report, output, as_json=as_json)


@app.command("fit-latency")
def fit_latency(
    csv: Annotated[Path, typer.Argument(help="CSV with HAT's columns, one measured architecture per row.")],
    output: Output,
    task: Annotated[
        str | None, typer.Option(help=f"The task that was measured; {_DEFAULT_MEASURED} if not given.")
    ] = None,
    hardware: Annotated[str, typer.Option(help="Name of the hardware, for the record.")] = "",
    _seed: NoSeed = 0,
    date: Date = None,
    as_json: Json = False,
) -> None:
    """Fit a latency model to measurements; errors are those of held-out rows."""
    from llmpp.latency import fit_file

    measured = load_task(task or _DEFAULT_MEASURED)
    errors = fit_file(csv, output, measured, hardware=hardware or csv.stem, command=_command(), date=date)
    report: dict[str, Any] = {**errors, "task": measured.name}
    if task is None:
        report["note"] = f"recorded as measured on {measured.name}: name another task by --task"
        _log.print(f"note: {report['note']}", soft_wrap=True)
    _report(report, output, as_json=as_json)


def _command() -> str:
    return shlex.join(["llmpp", *sys.argv[1:]])


def _report(report: dict[str, Any], output: Path, *, as_json: bool) -> None:
    if as_json:
        _print_json({**report, "output": str(output)})
        return
    for name, value in report.items():
        text = f"{value:.4f}" if isinstance(value, float) else _plain(str(value))
        _out.print(f"{name:>20} {text}", soft_wrap=True)
    _out.print(f"written: {_plain(str(output))}", soft_wrap=True)


@contextmanager
def _progress_line(what: str) -> Iterator[Callable[[int, int], object]]:
    """Yields a callback (done, total) that shows a progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import Progress

    with Progress(console=_log, transient=True) as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


@app.command()
def evaluate(
    task: TaskName,
    n_seeds: Annotated[int, typer.Option(help="Students trained per split, on seeds from --seed on.")] = 5,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure what recorded answers and their students are worth on architectures trained from scratch."""
    from llmpp import report_card

    with _progress_line("training students") as progress:
        rows = report_card.evaluate(task, n_seeds=n_seeds, seed=seed, progress=progress)
    if as_json:
        _print_json({"task": task, "rows": [asdict(row) for row in rows]})
        return
    table = Table("predictor", "MAE", "Kendall tau-b", "seeds")
    for row in rows:
        mae, tau = f"{row.mae:.3f} ± {row.mae_std:.3f}", f"{row.kendall_tau:.3f} ± {row.kendall_tau_std:.3f}"
        table.add_row(row.predictor, mae, tau, str(row.n_seeds))
    _out.print(table)


@app.command()
def tasks(_seed: NoSeed = 0, as_json: Json = False) -> None:
    """List the built-in tasks and hardware, with where each came from."""
    rows = [_task_row(name) for name in task_names()]
    if as_json:
        _print_json({"tasks": rows, "hardware": hardware_names()})
        return
    table = Table("task", "space", "architectures", "vocabulary", "figures", "student")
    for row in rows:
        counts = (f"{row['n_architectures']:.3g}", str(row["vocabulary"]), str(row["n_figures"]))
        table.add_row(row["name"], row["space"], *counts, "yes" if row["student"] else "no")
    table.columns[0].no_wrap = True
    _out.print(table)
    for row in rows:
        _out.print(f"{row['name']}: {_plain(row['source'])}", soft_wrap=True)
        _out.print(f"  student: {_plain(row['student'] or 'none')}", soft_wrap=True)
        _out.print(f"  hardware (task measured): {', '.join(row['hardware'])}", soft_wrap=True)


def _task_row(name: str) -> dict[str, Any]:
    task = load_task(name)
    student = _or_none(lambda: load_predictor("distilled", task=task))
    fitting = {hw: _or_none(lambda hw=hw: load_latency(hw, task=task)) for hw in hardware_names()}  # type: ignore[misc]
    return {
        "name": name,
        "space": task.space.name,
        "n_architectures": task.space.n_architectures,
        "vocabulary": task.vocabulary,
        "sentence_length": task.sentence_length,
        "metric": task.metric,
        "n_figures": len(task.figures),
        "source": task.source,
        "student": student and f"answers of {student.record.get('model')}",
        "hardware": [f"{hw} ({model.record['task']})" for hw, model in fitting.items() if model],
    }


def _or_none(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except InputError:
        return None
