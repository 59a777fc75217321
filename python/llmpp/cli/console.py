"""What the verbs print: logs to stderr; under --json, the last line of stdout is one JSON object."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from llmpp.endpoint import hide_secrets

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.table import Table

    from llmpp.budget import Usage

DONE, FAILED, WRONG_USE, INFEASIBLE, INTERRUPTED = 0, 1, 2, 3, 130

log = Console(stderr=True)
out = Console()
#: Tables are this wide also on a narrower terminal: lines that break are easier to read than cells that do.
TABLE_WIDTH = 160


def fail(error: object, code: int) -> NoReturn:
    """Prints an error and exits."""
    log.print(f"[bold red]error:[/] {plain(str(error))}", soft_wrap=True)
    sys.exit(code)


def plain(text: str) -> str:
    """Keeps rich from reading brackets as markup."""
    return text.replace("[", "\\[")


def print_json(content: Mapping[str, Any]) -> None:
    """Prints the one line that --json promises."""
    sys.stdout.write(json.dumps(content) + "\n")


def print_table(table: "Table") -> None:
    """Prints a table without breaking its cells."""
    Console(width=max(out.width, TABLE_WIDTH)).print(table)


def command_line() -> str:
    """The command as typed, for records; a password in an address is left out."""
    return hide_secrets(shlex.join(["llmpp", *sys.argv[1:]]))


def print_report(
    report: Mapping[str, Any], output: Path | None = None, *, as_json: bool, console: Console = out
) -> None:
    """Prints named values that there are, and the file that was written; JSON always to stdout."""
    if as_json:
        print_json({**report, "output": str(output)} if output else report)
        return
    width = max(20, *(len(name) for name in report))
    for name, value in report.items():
        if value is None:
            continue
        text = f"{value:.4f}" if isinstance(value, float) else plain(str(value))
        console.print(f"{name:>{width}} {text}", soft_wrap=True)
    if output:
        console.print(f"written: {plain(str(output))}", soft_wrap=True)


class ProgressLine:
    """One line on stderr: steps of a long task, and what a language model has cost; only on a terminal."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._bar: RichProgress | None = None

    def __enter__(self) -> "ProgressLine":
        if sys.stderr.isatty():
            from rich.progress import Progress

            self._bar = Progress(console=log, transient=True)
            self._bar.add_task(self.what, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int, total: int) -> None:
        """Shows how far the task is."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def step_with_time(self, done: int, total: int, seconds_left: float) -> None:
        """Shows how far the task is, and how long it may still take."""
        self.step(done, total)
        if self._bar:
            left = f"{self.what}: {done} of {total}, {describe_seconds(seconds_left)} left"
            self._bar.update(self._bar.task_ids[0], description=left)

    def spend(self, usage: "Usage") -> None:
        """Shows calls, cost and replies from the cache."""
        if self._bar:
            text = f"{self.what}: {plain(describe_usage(usage))}"
            self._bar.update(self._bar.task_ids[0], description=text)


def describe_seconds(seconds: float) -> str:
    """Writes a time as a person would say it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def describe_usage(usage: "Usage") -> str:
    """Writes what was spent in one line."""
    cost = "unknown cost" if usage.usd is None else f"{usage.usd:.4f} USD"
    counts = {
        "failed": usage.n_failed,
        "retries": usage.n_retries,
        "replies cut": usage.n_cut,
        "without counts": usage.n_uncounted,
    }
    rest = "".join(f", {what}: {n}" for what, n in counts.items() if n)
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    return f"calls: {usage.n_calls} ({tokens}, {cost}), from the cache: {usage.n_cached}{rest}"
