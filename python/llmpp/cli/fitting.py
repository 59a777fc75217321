"""The verbs `distill` and `fit-latency`."""

from pathlib import Path
from typing import Annotated

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
    measured: Annotated[
        Path,
        typer.Argument(
            help="A file of `llmpp measure`, or a CSV with HAT's columns, an architecture per row."
        ),
    ],
    output: Output,
    task: Annotated[
        str | None,
        typer.Option(help=f"The task that was measured; the file's, or {_DEFAULT_MEASURED} for a CSV."),
    ] = None,
    hardware: Annotated[str, typer.Option(help="Name of the hardware, for the record.")] = "",
    test: Annotated[
        Path | None, typer.Option(help="Another such file to test on, rather than held-out rows.")
    ] = None,
    quantile: Annotated[
        float,
        typer.Option(
            help="What is taken of an architecture's repeats: 0.5 for the median; 0.1 for the time that it "
            "takes while others leave the machine alone."
        ),
    ] = 0.5,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predicted against measured: PLOT.png and PLOT.svg.")
    ] = None,
    note: Annotated[str, typer.Option(help="Where the measurements came from, for the record.")] = "",
    _seed: NoSeed = 0,
    date: Date = None,
    as_json: Json = False,
) -> None:
    """Fit a latency model to measurements; errors are those of held-out rows."""
    from llmpp.latency import fit_file, measured_task

    known = load_task(task) if task else measured_task(measured)
    report = fit_file(
        measured,
        output,
        known or load_task(_DEFAULT_MEASURED),
        hardware=hardware or measured.stem,
        command=command_line(),
        date=date,
        note=note,
        test=test,
        quantile=quantile,
        plot=plot,
    )
    report["task"] = known.name if known else _DEFAULT_MEASURED
    if not known:
        report["note"] = f"recorded as measured on {_DEFAULT_MEASURED}: name another task by --task"
        log.print(f"note: {report['note']}", soft_wrap=True)
    print_report(report, output, as_json=as_json)
