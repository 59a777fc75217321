"""Directories that appear under their name only when they are whole."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmpp.errors import InputError, writing


@contextmanager
def new_directory(output: Path, what: str) -> Iterator[Path]:
    """Yields a directory that takes the output's name at the end; after an error, nothing is left.

    Args:
        output: A new directory, or an empty one.
        what: What it is to hold, for the message: 'the corpus'.

    Raises:
        InputError: If the output is not empty, or cannot be written.
    """
    output = output.absolute()
    temporary = output.parent / f".{output.name}.{secrets.token_hex(4)}.part"
    try:
        with writing(f"{what} {output}"):
            _check_is_free(output)
            temporary.mkdir(parents=True)
            yield temporary
            _check_is_free(output)
            if output.exists():
                output.rmdir()
            temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_is_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        what = "is not empty" if output.is_dir() else "is a file"
        raise InputError(f"the directory {output} {what}: name another, or remove it")
