"""The verbs `tasks` and `hardware`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from llmpp.cli.console import out, plain, print_json, print_table
from llmpp.cli.options import Json, NoSeed
from llmpp.errors import InputError
from llmpp.predictor import hardware_names, latency_records, load_latency, load_predictor
from llmpp.task import load_task, task_names


def tasks(_seed: NoSeed = 0, as_json: Json = False) -> None:
    """List the built-in tasks and hardware, with where each came from."""
    rows = [_task_row(name) for name in task_names()]
    if as_json:
        print_json({"tasks": rows, "hardware": hardware_names()})
        return
    table = Table("task", "space", "architectures", "vocabulary", "figures", "student")
    for row in rows:
        counts = (f"{row['n_architectures']:.3g}", str(row["vocabulary"]), str(row["n_figures"]))
        table.add_row(row["name"], row["space"], *counts, "yes" if row["student"] else "no")
    table.columns[0].no_wrap = True
    out.print(table)
    for row in rows:
        out.print(f"{row['name']}: {plain(row['source'])}", soft_wrap=True)
        out.print(f"  student: {plain(row['student'] or 'none')}", soft_wrap=True)
        out.print(f"  hardware (task measured): {', '.join(row['hardware']) or 'none'}", soft_wrap=True)


def hardware(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Your own files of `llmpp fit-latency`, to list them, too.")
    ] = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """List the hardware that latencies can be predicted for, with where each came from and how good it is."""
    rows = [_hardware_row(name, record) for name, record in latency_records(files or [])]
    if as_json:
        print_json({"hardware": rows})
        return
    table = Table(
        "hardware", "task measured", "architectures", "MAPE %", "median error %", "std %", "tested on"
    )
    for row in rows:
        errors = [f"{row[name]:.2f}" for name in ("mape_pct", "median_ape_pct")]
        std = "unknown" if row["std_pct"] is None else f"{row['std_pct']:.2f}"
        table.add_row(row["name"], row["task"], str(row["n_rows"]), *errors, std, row["tested_on"])
    print_table(table)
    for row in rows:
        out.print(f"{plain(row['name'])} ({row['task']}): {plain(row['source'])}", soft_wrap=True)


def _hardware_row(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    errors, workload = record["test_errors"], record.get("workload")
    source = [record["source"], record.get("note"), f"fitted {record['date']}"]
    if workload:
        source.insert(1, record["machine"]["device_name"])
        source.insert(2, ", ".join(f"{key} {value}" for key, value in workload.items()))
    return {
        "name": name,
        "task": record["task"],
        "n_rows": record["n_rows"],
        "mape_pct": errors["mape_pct"],
        "median_ape_pct": errors["median_ape_pct"],
        "std_pct": record.get("std_pct"),
        "tested_on": record.get("tested_on", "held-out rows"),
        "source": "; ".join(part for part in source if part),
        "workload": workload,
    }


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
