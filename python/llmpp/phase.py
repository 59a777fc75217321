"""Predictors as a search asks them: by name, phase by phase, with every answer checked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import PredictorError
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.space import Encoding


@dataclass(frozen=True)
class Phase:
    """A stretch of iterations under one predictor."""

    name: str
    predictor: Predictor
    encoding: Encoding
    n_iterations: int


def ask(predictor: Predictor, architectures: list[Architecture]) -> NDArray[np.float32]:
    """Asks a predictor for scores `(n,)`, and checks them.

    Raises:
        PredictorError: If it raises, or does not return one finite score per architecture.
    """
    if not architectures:
        return np.empty(0, np.float32)
    try:
        scores = np.ascontiguousarray(predictor.predict(architectures), dtype=np.float32)
    except Exception as error:
        raise PredictorError(f"raised {type(error).__name__}: {error}") from error
    if scores.shape != (len(architectures),):
        raise PredictorError(
            f"returned scores of shape {scores.shape} for {len(architectures)} architectures"
        )
    for index in np.flatnonzero(~np.isfinite(scores)):
        raise PredictorError(f"returned {scores[index]} for {architectures[index]}")
    return scores


def in_core(predictor: Predictor | None) -> tuple[_core.Mlp, Encoding] | None:
    """What the core needs to run a predictor by itself, or None if it cannot."""
    return (predictor.mlp, predictor.encoding) if isinstance(predictor, MlpPredictor) else None


def begin_search(predictor: Predictor, n_best: int | None) -> None:
    """Tells a predictor that a search begins, if it wants to know: by its method `begin_search`.

    Args:
        predictor: The predictor.
        n_best: How many of the best scores must be right; None for all.
    """
    begin = getattr(predictor, "begin_search", None)
    if callable(begin):
        begin(n_best)


def keeps_scores(predictor: Predictor) -> bool:
    """Whether a predictor keeps its scores itself, so that asking again is cheap: by its `keeps_scores`."""
    return bool(getattr(predictor, "keeps_scores", False))


def identity_of(predictor: Predictor | None) -> str | None:
    """What scores depend on beside the architecture, if the predictor tells: by its `identity`."""
    identity = getattr(predictor, "identity", None)
    return None if identity is None else str(identity)


def name_of(predictor: Predictor) -> str:
    """What a predictor is called in results: its `name`, or its class."""
    return str(getattr(predictor, "name", type(predictor).__name__))


def encoding_of(predictor: Predictor) -> Encoding:
    """What a predictor can tell apart; 'per-layer' unless it says otherwise."""
    return "averaged" if getattr(predictor, "encoding", None) == "averaged" else "per-layer"
