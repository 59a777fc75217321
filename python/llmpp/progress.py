"""Progress bars of a search, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmpp.result import Iteration


@contextmanager
def search_bar(n_iterations: int, *, enabled: bool) -> Iterator[Callable[[Iteration], object]]:
    """Yields a callback that moves a bar by an iteration, or does nothing."""
    if not enabled:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("searching", total=n_iterations)
        yield lambda it: bar.update(task, advance=1, description=f"{it.predictor}: best {it.best_score:.3f}")


@contextmanager
def measuring_bar(*, enabled: bool) -> Iterator[Callable[[int, int], object]]:
    """Yields what shows how many architectures are measured, and of how many, or does nothing."""
    if not enabled:
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("measuring what was found", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
