"""Progress bars of a search, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from llmpp.result import Iteration


@contextmanager
def search_bar(n_iterations: int, *, enabled: bool) -> Iterator[Callable[[Iteration], object]]:
    """Yields a callback that moves a bar by an iteration, or does nothing."""
    with _bar("searching", n_iterations, enabled=enabled) as update:
        yield lambda it: update(advance=1, description=f"{it.predictor}: best {it.best_score:.3f}")


@contextmanager
def measuring_bar(*, enabled: bool) -> Iterator[Callable[[int, int], object]]:
    """Yields what shows how many measurements are done, and of how many, or does nothing."""
    with _bar("measuring what was found", None, enabled=enabled) as update:
        yield lambda done, total: update(completed=done, total=total)


@contextmanager
def _bar(what: str, total: int | None, *, enabled: bool) -> Iterator[Callable[..., object]]:
    if not enabled:
        yield lambda **_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr)) as bar:
        yield partial(bar.update, bar.add_task(what, total=total))
