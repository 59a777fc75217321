"""Calibration: from a predictor's own unit to that of trained architectures, by a line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmpp.architecture import Architecture
from llmpp.baselines import line
from llmpp.errors import InputError
from llmpp.phase import begin_search, encoding_of, identity_of, keeps_scores, name_of
from llmpp.predictor import Predictor
from llmpp.space import Encoding, Floats


@dataclass(frozen=True)
class Line:
    """A straight line from scores to BLEU.

    Attributes:
        slope: BLEU per unit of the score.
        intercept: BLEU where the score is 0.
    """

    slope: float
    intercept: float

    def __call__(self, scores: ArrayLike) -> Floats:
        """Reads the line at scores `(n,)`: BLEU `(n,)`."""
        values: Floats = self.intercept + self.slope * np.asarray(scores, np.float64)
        return values


def calibrate(scores: ArrayLike, bleus: ArrayLike) -> Line:
    """Fits a line by least squares; flat where all scores are equal.

    Args:
        scores: Scores of demonstrations `(n,)`.
        bleus: Their trained quality `(n,)`.

    Raises:
        InputError: If there are none, not as many of both, or one is not finite.

    Example:
        >>> calibrate([-3.0, -2.0], [28.0, 31.0])
        Line(slope=3.0, intercept=37.0)
    """
    shown, wanted = np.asarray(scores, np.float64), np.asarray(bleus, np.float64)
    if shown.ndim != 1 or shown.shape != wanted.shape or not len(shown):
        raise InputError(f"each score needs a BLEU, but their shapes are {shown.shape} and {wanted.shape}")
    if not (np.isfinite(shown).all() and np.isfinite(wanted).all()):
        raise InputError("scores and BLEUs must be finite: leave out those that are not")
    intercept, above = line(shown, wanted, np.array([0.0, 1.0]))
    return Line(float(above - intercept), float(intercept))


@dataclass(frozen=True)
class Calibrated:
    """A predictor whose scores are read off a line.

    Attributes:
        predictor: The predictor.
        line: The line.
    """

    predictor: Predictor
    line: Line

    @property
    def name(self) -> str:
        """What it is called in results."""
        return f"{name_of(self.predictor)} (calibrated)"

    @property
    def encoding(self) -> Encoding:
        """What the predictor can tell apart."""
        return encoding_of(self.predictor)

    @property
    def space(self) -> object:
        """The architectures that the predictor can score, if it tells."""
        return getattr(self.predictor, "space", None)

    @property
    def usage(self) -> object:
        """What the predictor has spent."""
        return getattr(self.predictor, "usage", None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before trusting the predictor here."""
        return tuple(getattr(self.predictor, "notes", ()))

    @property
    def identity(self) -> str | None:
        """What scores depend on beside the architecture, if the predictor tells."""
        inner = identity_of(self.predictor)
        return None if inner is None else f"{inner} {self.line}"

    @property
    def keeps_scores(self) -> bool:
        """Whether the predictor keeps its scores itself."""
        return keeps_scores(self.predictor)

    def begin_search(self, n_best: int | None) -> None:
        """Tells the predictor that a search begins, if it wants to know."""
        begin_search(self.predictor, n_best)

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Scores architectures `(n,)` in the unit of the demonstrations."""
        return self.line(self.predictor.predict(list(architectures)))
