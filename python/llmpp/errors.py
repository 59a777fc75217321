"""What can go wrong, as exceptions whose messages say what was given and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from llmpp._core import ShapeError, SpaceError

__all__ = [
    "InputError",
    "LlmError",
    "MissingAnswersError",
    "MissingExtraError",
    "PredictorError",
    "ShapeError",
    "SpaceError",
    "TrainingError",
]


class InputError(ValueError):
    """A name, number, file or combination of arguments that cannot be used."""


class MissingExtraError(ImportError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package `{package}`: pip install 'llmpp[{extra}]'")


def require(module: str, extra: str) -> Any:
    """Imports a module of an optional extra.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], extra) from error


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Reports what the operating system refuses while something is written.

    Args:
        what: What is written, for the message: a path, or words and a path.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {what}: {error}") from error


class PredictorError(RuntimeError):
    """A predictor failed, or its answer is not one finite score per architecture."""


class TrainingError(RuntimeError):
    """A training cannot go on; what it wrote before is whole."""


class LlmError(PredictorError):
    """A language model cannot be asked, or its endpoint refuses to answer."""


class MissingAnswersError(LlmError):
    """A language model gave no usable answer about some architectures; the others' answers are kept.

    Attributes:
        missing: The places of the architectures without an answer, from 0.
    """

    def __init__(self, message: str, missing: tuple[int, ...]) -> None:
        super().__init__(message)
        self.missing = missing


def unknown(what: str, got: object, known: list[str]) -> InputError:
    """Builds the error for a name that is not among the known ones."""
    return InputError(f"unknown {what} {got!r}; known: {', '.join(known)}")
