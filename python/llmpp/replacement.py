"""Files that are replaced only as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields where to write what takes a file's place once it is whole; what was begun is removed if not.

    Raises:
        OSError: If it cannot take that place.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
