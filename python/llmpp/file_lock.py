"""Locks between processes: the system lets go of them when their holder ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmpp.errors import InputError


@contextmanager
def locked(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Holds the lock of a file meanwhile. On Windows, nobody is kept out.

    Args:
        path: The file. It stays, empty: who removed it could lock out nobody who has it open.
        busy: What to say where another process holds the lock; None to wait for it.

    Raises:
        InputError: If another process holds the lock and `busy` is given, or there can be no lock here.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot open the lock {path}: {error}") from error
    with file:
        _lock(file, path, busy)
        yield


def _lock(file: IO[str], path: Path, busy: str | None) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError as error:
        raise InputError(f"{busy}") from error
    except OSError as error:
        raise InputError(f"cannot lock {path}: {error}. Work in a directory on a local disk") from error
