"""The lock of a training: two processes in one directory would write over each other's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmpp.errors import InputError


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds a lock meanwhile. The system lets go of it when the process ends, however it ends.

    Args:
        path: The file to lock. It stays, empty: who removed it could lock out nobody who has it open.

    Raises:
        InputError: If another training holds the lock, or there can be none here.
    """
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot open the lock {path}: {error}") from error
    with file:
        _lock(file, path)
        yield


def _lock(file: IO[str], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: there, nobody is kept out
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"another process trains in {path.parent}: wait until it ends, stop it, or name another directory"
        ) from error
    except OSError as error:
        raise InputError(f"cannot lock {path}: {error}. Train in a directory on a local disk") from error
