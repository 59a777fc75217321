"""Checks numbers against their ranges; the messages say what was given and what would be right."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from llmpp.errors import InputError

LARGEST_SEED = 2**64 - 1


def integer(name: str, value: Any, least: int, most: int) -> int:
    """Returns an integer in `least`..`most`, of numpy too, as Python's.

    Raises:
        InputError: If it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        end = "2^64-1" if most == LARGEST_SEED else str(most)
        raise InputError(f"`{name}` must be an integer in {least}..{end}, got {_short(value)}")
    return number


def positive_integer(what: str, value: Any) -> int:
    """Returns an integer in 1..2^32-1, of numpy too, as Python's.

    Raises:
        InputError: If it is none.
    """
    try:
        return integer(what, value, 1, 2**32 - 1)
    except InputError:
        raise InputError(f"{what} must be a positive integer, got {_short(value)}") from None


def positive_integers(what: str, values: Any) -> tuple[int, ...]:
    """Returns a list of integers in 1..2^32-1 as a tuple.

    Raises:
        InputError: If it is no list, or one of them is none.
    """
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"{what} must be a list of positive integers, got {values!r}")
    return tuple(positive_integer(f"{what}[{index}]", value) for index, value in enumerate(values))


def between(name: str, value: Any, least: float, most: float) -> float:
    """Returns a number in [`least`, `most`] as a float.

    Raises:
        InputError: If it is none.
    """
    number = _float(value)
    if not least <= number <= most:
        raise InputError(f"`{name}` must be in [{least:g}, {most:g}], got {_short(value)}")
    return number


def share(name: str, value: Any) -> float:
    """Returns a number in [0, 1] as a float.

    Raises:
        InputError: If it is none.
    """
    return between(name, value, 0, 1)


def positive(what: str, value: Any) -> float:
    """Returns a finite number above 0 as a float.

    Raises:
        InputError: If it is none.
    """
    number = _float(value)
    if not 0 < number < math.inf:
        raise InputError(f"{what} must be a positive number, got {_short(value)}")
    return number


def _float(value: Any) -> float:
    """The value as a float; NaN for what is no number, or too large for one."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.nan


def _short(value: Any) -> str:
    """A value for a message; integers may be too long to print."""
    if isinstance(value, int) and value.bit_length() > 100:
        return "an integer of more than 30 digits"
    return repr(value)


def different(name: str, values: Sequence[object], least: int = 1) -> None:
    """Checks that values are different, and that there are so many.

    Raises:
        InputError: If not.
    """
    if len(values) < least or len(set(values)) < len(values):
        raise InputError(f"`{name}` must be {least} or more different values, got {list(values)}")
