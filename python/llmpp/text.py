"""Text files: read with an error that names them, taken apart line by line, and replaced only as a whole."""

import codecs
import json
from pathlib import Path
from typing import Any

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


def read_record(path: Path, schema: str, what: str = "the record") -> dict[str, Any]:
    """Reads a JSON object of a schema.

    Args:
        path: The file.
        schema: What its `schema` must be.
        what: What it is, for the message.

    Raises:
        InputError: If it cannot be read, or is none.
    """
    try:
        content = json.loads(read_text(path, what))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise InputError(f"{path} does not follow the schema {schema!r}: was it written by llmpp?")
    return content


def decode_lines(content: bytes, name: str) -> list[str]:
    """Takes a text in UTF-8 apart, without the ends of its lines and a byte order mark.

    Only line feeds end a line, with a carriage return before them or not: other separators, a lone carriage
    return among them, may stand within a sentence. `ParallelText` reads by the same rule.

    Args:
        content: The text; without a last line feed, too.
        name: The file, for the message.

    Raises:
        InputError: If a line is not UTF-8.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [_decode(line.removesuffix(b"\r"), number, name) for number, line in enumerate(lines, 1)]


def _decode(line: bytes, number: int, name: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"line {number} of {name} is not UTF-8 ({error.reason} at byte {error.start + 1}): "
            "give plain text in UTF-8, converted such as by `iconv -f LATIN1 -t UTF-8`"
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8; a file that is there is replaced once its successor is whole.

    Raises:
        OSError: If it cannot be written.
    """
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
