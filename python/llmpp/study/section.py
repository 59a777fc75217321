"""Sections of a study's file as frozen settings."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from llmpp.errors import InputError, unknown

T = TypeVar("T")

#: How values of each type are called, and what they may be in TOML; numbers stay as they are written.
_TYPES: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("an integer", (int,)),
    float: ("a number", (int, float)),
}


def build_section(kind: type[T], data: Mapping[str, Any], what: str) -> T:
    """Builds a dataclass from a table; lists become tuples, as does one text where a list of them is wanted.

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
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _checked(name, value, hints[name], what) for name, value in data.items()})
    except TypeError as error:
        raise InputError(f"{what} is not complete: {error}") from error


def said(settings: Any, always: Collection[str]) -> dict[str, Any]:
    """Returns settings as plain values, so that a field that is added later makes no other job of the same.

    Args:
        settings: A dataclass.
        always: The fields that are named in any case; others only where they are not at their defaults.
    """
    defaults = {item.name: item.default for item in fields(settings)}
    return {
        name: value for name, value in asdict(settings).items() if name in always or value != defaults[name]
    }


def _checked(name: str, value: Any, wanted: Any, what: str) -> Any:
    """Returns a value of the type that a field wants; what is neither plain nor a list is not checked here.

    Raises:
        InputError: If it is of another type.
    """
    if get_origin(wanted) is tuple:
        one = get_args(wanted)[0]
        if one is str and isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise InputError(f"`{name}` of {what} must be a list, got {value!r}")
        return tuple(_checked(name, each, one, what) for each in value)
    if wanted in _TYPES:
        words, types = _TYPES[wanted]
        if not isinstance(value, types) or (isinstance(value, bool) and wanted is not bool):
            raise InputError(f"`{name}` of {what} must be {words}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value
