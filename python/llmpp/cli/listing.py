"""The verb `tasks`."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

from llmpp.cli.console import out, plain, print_json
from llmpp.cli.options import Json, NoSeed
from llmpp.errors import InputError
from llmpp.predictor import hardware_names, load_latency, load_predictor
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
        out.print(f"  hardware (task measured): {', '.join(row['hardware'])}", soft_wrap=True)


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
