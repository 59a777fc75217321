"""The verb `measure`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmpp.cli.console import DONE, INTERRUPTED, ProgressLine, command_line, log, plain, print_report
from llmpp.cli.options import Json, Seed, TaskName
from llmpp.task import load_task


def measure(
    task: TaskName,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write (Parquet), whole after each measurement."),
    ],
    n: Annotated[
        int, typer.Option("--n", help="Architectures to measure, those in the file included.")
    ] = 120,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    runtime: Annotated[str, typer.Option(help="torch (eager) or onnxruntime (extra `onnx`).")] = "torch",
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    batch: Annotated[int, typer.Option(help="Sentences at a time.")] = 1,
    source_length: Annotated[
        int | None, typer.Option(help="Tokens of a source sentence; the task's if not given.")
    ] = None,
    target_length: Annotated[
        int | None, typer.Option(help="Tokens of a translation; the task's if not given.")
    ] = None,
    beam: Annotated[int, typer.Option(help="Beams.")] = 5,
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's default if not given.")] = None,
    precision: Annotated[
        float, typer.Option(help="Half the 95% interval of a median that is good enough, as a share of it.")
    ] = 0.02,
    min_repeats: Annotated[int, typer.Option(help="Repeats at least.")] = 6,
    max_repeats: Annotated[int, typer.Option(help="Repeats at most.")] = 50,
    max_seconds: Annotated[
        float, typer.Option(help="Seconds of repeats of one architecture at most, in each round.")
    ] = 3,
    rounds: Annotated[
        int, typer.Option(help="How often each architecture is measured: all once, then all again.")
    ] = 2,
    reference_every: Annotated[
        int, typer.Option(help="Architectures between two measurements of the reference.")
    ] = 5,
    design: Annotated[
        str, typer.Option(help="'informative' to fit a model to, or 'random' to test one on.")
    ] = "informative",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the file if it is there; with a larger --n, extend it.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure latencies of a task's architectures on this machine, to fit a latency model to."""
    from llmpp.measuring.campaign import Campaign, run_campaign
    from llmpp.measuring.measurement import MeasurementSettings
    from llmpp.measuring.timing import Workload, default_threads

    measured = load_task(task)
    campaign = Campaign(
        task=measured,
        workload=Workload(
            source_length=measured.sentence_length if source_length is None else source_length,
            target_length=measured.sentence_length if target_length is None else target_length,
            device=device,
            runtime=runtime,
            dtype=dtype,
            batch=batch,
            n_beams=beam,
            threads=default_threads() if threads is None else threads,
        ),
        output=output,
        settings=MeasurementSettings(
            precision=precision,
            min_repeats=min_repeats,
            max_repeats=max_repeats,
            max_seconds=max_seconds,
        ),
        n=n,
        n_rounds=rounds,
        seed=seed,
        design=design,  # type: ignore[arg-type]
        reference_every=reference_every,
        command=command_line(),
    )
    with ProgressLine("measuring") as line:
        found = run_campaign(campaign, resume=resume, progress=line.step_with_time)
    for note in found.notes:
        log.print(f"note: {plain(note)}", soft_wrap=True)
    report: dict[str, Any] = {
        "status": found.status,
        "task": measured.name,
        "n": len(found.measured.architectures),
        "seconds": found.seconds,
        "drift_pct": 100 * found.measured.drift.size,
        "notes": list(found.notes) or None,
    }
    print_report(report, output, as_json=as_json)
    if found.status == "interrupted":
        log.print("interrupted: go on by the same command and --resume", soft_wrap=True)
    raise typer.Exit(DONE if found.status == "done" else INTERRUPTED)
