"""Text files: read with an error that names them, and replaced only as a whole."""

from pathlib import Path

from llmpp.errors import InputError
from llmpp.replacement import replaced


def read_text(path: Path, what: str) -> str:
    """Reads a text in UTF-8.

    Args:
        path: The file.
        what: What it should hold, for the message: 'the answers'.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {what} {path}: {error}") from error


def replace_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8; a file that is there is replaced once its successor is whole.

    Raises:
        OSError: If it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
