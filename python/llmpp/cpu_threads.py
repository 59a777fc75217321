"""How many CPU threads torch uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from llmpp.errors import require
from llmpp.ranges import integer


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Lets torch use so many threads meanwhile; None leaves their number as it is.

    Raises:
        InputError: If the number is not in 1..1024.
        MissingExtraError: If torch is not installed.
    """
    torch = require("torch", "train")
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(integer("n_threads", n, 1, 1024))
    try:
        yield
    finally:
        torch.set_num_threads(before)
