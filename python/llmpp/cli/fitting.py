"""The verbs `distill` and `fit-latency`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmpp.cli.console import ProgressLine, command_line, log, print_report
from llmpp.cli.options import Date, Json, NoSeed, Output, Seed, TaskName
from llmpp.task import load_task

_DEFAULT_MEASURED = "wmt14.en-de"


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

    with ProgressLine("training students") as line:
        report = distill_file(
            answers,
            output,
            load_task(task),
            split=split,
            seed=seed,
            command=command_line(),
            date=date,
            progress=line.step,
        )
    print_report(report, output, as_json=as_json)


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
    errors = fit_file(csv, output, measured, hardware=hardware or csv.stem, command=command_line(), date=date)
    report: dict[str, Any] = {**errors, "task": measured.name}
    if task is None:
        report["note"] = f"recorded as measured on {measured.name}: name another task by --task"
        log.print(f"note: {report['note']}", soft_wrap=True)
    print_report(report, output, as_json=as_json)
