"""Sections of a study's file as frozen settings."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from llmpp.errors import InputError, unknown

T = TypeVar("T")


def build_section(kind: type[T], data: Mapping[str, Any], what: str) -> T:
    """Builds a dataclass from a table; lists become tuples.

    Args:
        kind: The dataclass.
        data: Its fields.
        what: What the table is called in messages.

    Raises:
        InputError: If a key is unknown or missing, or a value is not what it should be.
    """
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            raise unknown(f"key of {what}", name, known)
    try:
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})
    except TypeError as error:
        raise InputError(f"{what} is not complete: {error}") from error
