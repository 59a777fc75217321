"""The verbs `study run`, `status`, `compare`, `task` and `page`."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from llmpp.cli.console import (
    DONE,
    FAILED,
    INTERRUPTED,
    command_line,
    describe_seconds,
    log,
    out,
    plain,
    print_json,
    print_report,
    print_table,
)
from llmpp.cli.options import Json, NoSeed
from llmpp.errors import InputError, unknown, writing
from llmpp.ranges import integer

if TYPE_CHECKING:
    from llmpp.study.description import Study
    from llmpp.study.dispatcher import Workers
    from llmpp.study.job import Job
    from llmpp.study.job_queue import JobQueue
    from llmpp.study.place import Place
    from llmpp.study.results import Results
    from llmpp.study.status import Status

study = typer.Typer(
    help="Many trainings and measurements, which can be stopped and resumed.", no_args_is_help=True
)

_File = Annotated[Path, typer.Argument(help="The study's TOML.", show_default=False)]
_Directory = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The study's directory; runs/NAME by default."),
]
_Workers = Annotated[int, typer.Option("--workers", help="Jobs at a time.")]
_KINDS = "llmpp.study.kinds"


@study.command("run")
def run_study(
    file: _File,
    output: _Directory = None,
    workers: _Workers = 2,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Ray cluster rather than local processes, such as 'auto', or 'local' for one of its own.",
        ),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="The directory of the raw text, rather than the one in the TOML.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.")
    ] = "auto",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND|PATTERN",
            help="Do only jobs of this kind that wait for no search, or jobs whose names match this pattern, "
            "such as 'train-0*' or '*-hybrid-*', and what these need; may be repeated.",
        ),
    ] = None,
    n_attempts: Annotated[int, typer.Option(help="How often a job is begun that ends its worker.")] = 3,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try jobs again that failed.")] = False,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Do the jobs of a study that are not done yet; stop it by Ctrl-C, and go on by the same command."""
    from llmpp.study.description import Study
    from llmpp.study.dispatcher import dispatch
    from llmpp.study.place import Place
    from llmpp.study.status import status_of

    described = Study.load(file)
    jobs = _queue(described, output, n_attempts, only or ())
    if retry_failed:
        jobs.forgive()
    raw = _raw_text(described, corpus, jobs)
    _check_weights(described, jobs)
    settings = {"corpus": raw, "device": device, "folder": str(described.folder)}
    place = Place(jobs.directory, _KINDS, command_line(), settings)
    try:
        with _ended_by_sigterm():
            dispatch(jobs, _hire(place, ray, workers), _Report(jobs))
    except KeyboardInterrupt:
        log.print("stopped: go on by the same command")
        raise typer.Exit(INTERRUPTED) from None
    status = status_of(jobs, n_workers=workers)
    _print(status, jobs.directory, as_json=as_json)
    is_done = all(status.states[name] == "done" for name in jobs.wanted)
    raise typer.Exit(DONE if is_done else FAILED)


@study.command("status")
def show_status(
    file: _File,
    output: _Directory = None,
    workers: _Workers = 2,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Show which jobs are done, running, waiting or failed, and the time left."""
    from llmpp.study.description import Study
    from llmpp.study.status import status_of

    jobs = _queue(Study.load(file), output)
    _print(status_of(jobs, n_workers=workers), jobs.directory, as_json=as_json)


@study.command("compare")
def compare_searches(
    file: _File,
    output: _Directory = None,
    table: Annotated[Path | None, typer.Option("--table", help="Write the table as Markdown, too.")] = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Show what each method's search found within each latency bound, and what it cost, over seeds."""
    from llmpp.study.comparison_table import cells, compare, headings
    from llmpp.study.page import markdown_table
    from llmpp.text import replace_text

    results = _results(file, output)
    if not results.study.comparison.methods:
        raise InputError(f"{file} compares no searches: give it [comparison.methods.NAME]")
    rows = compare(results)
    if table:
        with writing(table):
            replace_text(table, markdown_table(headings(), map(cells, rows)) + "\n")
    if as_json:
        print_json({"study": results.study.name, "rows": [row.to_dict() for row in rows]})
        return
    printed = Table(*headings())
    for row in rows:
        printed.add_row(*map(plain, cells(row)))
    print_table(printed)


@study.command("task")
def make_task(
    file: _File,
    task: Annotated[Path, typer.Argument(help="The task to write (JSON).", show_default=False)],
    output: _Directory = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Make a task of a study's figures, to evaluate and ask on; no text of the corpus is in it."""
    from llmpp.study.task_file import task_dict
    from llmpp.task import Task, write_task

    content = task_dict(_results(file, output), command=_command_of(file, output))
    n_figures = len(Task.from_dict(content).figures)
    write_task(task, content)
    print_report({"task": content["name"], "n_figures": n_figures}, task, as_json=as_json)


@study.command("page")
def make_page(
    file: _File,
    page: Annotated[Path, typer.Argument(help="The page to write (Markdown).", show_default=False)],
    output: _Directory = None,
    notes: Annotated[
        Path | None, typer.Option(help="Markdown that goes to its end: what was tried, what was found.")
    ] = None,
    n_bootstrap: Annotated[int, typer.Option(help="Resamples of the architectures behind intervals.")] = 2000,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Write the page of a study: figures of all architectures, plots, report card, curves, hours."""
    from llmpp.study.page import write_page

    options = "".join(
        f" {flag} {_shown(path)}" for flag, path in (("-o", output), ("--notes", notes)) if path
    )
    how = f"llmpp study page {_shown(file)} {_shown(page)}{options}"
    files = write_page(
        _results(file, output),
        page,
        command=_command_of(file, output),
        how=how,
        notes=notes,
        n_bootstrap=n_bootstrap,
    )
    print_report({"files": ", ".join(map(str, files))}, page, as_json=as_json)


def _results(file: Path, output: Path | None) -> "Results":
    from llmpp.study.description import Study
    from llmpp.study.results import Results

    described = Study.load(file)
    return Results(described, _directory(described, output))


def _command_of(file: Path, output: Path | None) -> str:
    """The command that does a study."""
    return f"llmpp study run {_shown(file)}" + (f" -o {_shown(output)}" if output else "")


def _shown(path: Path) -> str:
    """A path as others may read it: where it counts from a folder of this machine, only its end."""
    return path.name if path.is_absolute() else path.as_posix()


def _directory(described: "Study", output: Path | None) -> Path:
    return (output or Path("runs") / described.name).absolute()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Takes a polite end for Ctrl-C meanwhile."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _queue(
    described: "Study", output: Path | None, n_attempts: int = 3, only: Sequence[str] = ()
) -> "JobQueue":
    from llmpp.study.expansion import expand
    from llmpp.study.job_queue import JobQueue

    integer("n_attempts", n_attempts, 1, 1000)
    jobs = expand(described)
    wanted = [job.id for chosen in only for job in _chosen(jobs, chosen)] if only else None
    return JobQueue(_directory(described, output), jobs, only=wanted, n_attempts=n_attempts)


def _chosen(jobs: "Sequence[Job]", chosen: str) -> "list[Job]":
    """Finds the jobs of a kind that wait for no search, or whose names match a pattern."""
    found = [
        job
        for job in jobs
        if fnmatchcase(job.id, chosen) or (job.kind == chosen and "search" not in job.parameters)
    ]
    if not found:
        kinds = list(dict.fromkeys(job.kind for job in jobs))
        raise unknown("kind of job or pattern of names", chosen, kinds)
    return found


def _raw_text(described: "Study", corpus: Path | None, jobs: "JobQueue") -> str:
    """Finds the directory of the raw text, which must be there only where it is still to be prepared."""
    if "prepare" not in jobs.wanted or jobs.states()["prepare"] == "done":
        return str((corpus or Path(described.corpus.path)).absolute())
    raw = (corpus or described.raw_text).absolute()
    if not raw.is_dir():
        raise InputError(f"there is no directory {raw} of raw text: give it by --corpus")
    return str(raw)


def _check_weights(described: "Study", jobs: "JobQueue") -> None:
    """Checks that the weights files of searches that are to be done are there."""
    searches = [job for name, job in jobs.jobs.items() if job.kind == "search" and name in jobs.wanted]
    open_ = [job.parameters["method"]["name"] for job in searches if not jobs.is_done(job.id)]
    described.check_weights(list(dict.fromkeys(open_)))


def _hire(place: "Place", ray: str | None, n: int) -> "Workers":
    if ray is None:
        from llmpp.study.local_workers import LocalWorkers

        return LocalWorkers(place, n)
    from llmpp.study.ray_workers import RayWorkers

    return RayWorkers(place, ray, n)


class _Report:
    """Says on stderr what happens."""

    def __init__(self, jobs: "JobQueue") -> None:
        self.jobs = jobs

    def __call__(self, event: str, job: "Job", message: str) -> None:
        n_done = sum(map(self.jobs.is_done, self.jobs.jobs))
        words = {"again": "failed, and is begun again"}.get(event, event)
        text = f"[{n_done}/{len(self.jobs.jobs)}] {job.id}: {words}" + (f": {message}" if message else "")
        log.print(plain(text), soft_wrap=True, highlight=False)


def _print(status: "Status", directory: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**status.to_dict(), "output": str(directory)})
        return
    from llmpp.study.status import STATES

    table = Table("kind", *STATES)
    for kind, counts in status.counts().items():
        table.add_row(kind, *(str(counts[state] or "") for state in STATES))
    print_table(table)
    for name, state in status.states.items():
        if state == "running":
            out.print(f"running: {name}, for {describe_seconds(status.seconds[name])}")
        if name in status.errors and state != "done":
            out.print(plain(f"{name}: {status.errors[name]}"), soft_wrap=True)
    left = describe_seconds(status.seconds_left)
    out.print(f"time left: {left} with {status.n_workers} workers; directory: {plain(str(directory))}")
