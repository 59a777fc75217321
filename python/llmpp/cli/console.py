"""What the verbs print: logs to stderr; under --json, the last line of stdout is one JSON object."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from llmpp.endpoint import hide_password

if TYPE_CHECKING:
    from llmpp.budget import Usage

DONE, FAILED, WRONG_USE, INFEASIBLE, INTERRUPTED = 0, 1, 2, 3, 130

log = Console(stderr=True)
out = Console()


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


def command_line() -> str:
    """The command as typed, for records; a password in an address is left out."""
    return hide_password(shlex.join(["llmpp", *sys.argv[1:]]))


def print_report(report: Mapping[str, Any], output: Path | None = None, *, as_json: bool) -> None:
    """Prints named values, and the file that was written."""
    if as_json:
        print_json({**report, "output": str(output)} if output else report)
        return
    width = max(20, *(len(name) for name in report))
    for name, value in report.items():
        text = f"{value:.4f}" if isinstance(value, float) else plain(str(value))
        out.print(f"{name:>{width}} {text}", soft_wrap=True)
    if output:
        out.print(f"written: {plain(str(output))}", soft_wrap=True)


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[int, int], object]]:
    """Yields a callback (done, total) that shows a progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import Progress

    with Progress(console=log, transient=True) as bar:
        line = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


@contextmanager
def spending_line(what: str) -> "Iterator[Callable[[Usage], object]]":
    """Yields a callback that shows calls, cost and cache hits on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _usage: None
        return
    with log.status(what) as line:
        yield lambda usage: line.update(f"{what}: {describe_usage(usage)}")


def describe_usage(usage: "Usage") -> str:
    """Writes what was spent in one line."""
    cost = "unknown cost" if usage.usd is None else f"{usage.usd:.4f} USD"
    failed = f", {usage.n_failed} failed" if usage.n_failed else ""
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    return f"{usage.n_calls} calls ({tokens}, {cost}), {usage.n_cached} replies from the cache{failed}"
