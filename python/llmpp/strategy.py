"""Which way a search goes: exactly through every feature vector, or by evolution."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmpp.errors import InputError, SpaceError, unknown
from llmpp.phase import Phase, encoding_of, name_of
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.result import Strategy
from llmpp.space import SearchSpace
from llmpp.table import flop_of

STRATEGIES = ("auto", "exact", "evolution")

#: FLOPs of all networks over all feature vectors that 'auto' spends: about two seconds of one core.
AUTO_FLOP = 2e11
#: The longer side of the grid of feature vectors that 'auto' lists; each takes some 200 bytes.
AUTO_LONGER = 500_000
#: Architectures that 'auto' asks a predictor outside the core about.
AUTO_ASKED = 10_000


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the choice depends on.

    Attributes:
        space: The search space.
        phases: The predictors of quality, in order.
        latency: The predictor of latency, or None.
        max_vectors: The largest number of feature vectors that are listed.
        has_evolution_settings: Whether the user set how populations are made.
    """

    space: SearchSpace
    phases: Sequence[Phase]
    latency: Predictor | None
    max_vectors: int
    has_evolution_settings: bool

    @property
    def predictors(self) -> list[Predictor]:
        """Those that score every feature vector in an exact search."""
        return [self.phases[0].predictor, *([] if self.latency is None else [self.latency])]


def choose(strategy: str, situation: Situation) -> tuple[Strategy, str | None]:
    """Decides between exact search and evolution.

    Args:
        strategy: 'exact', 'evolution', or 'auto' for exact search where it can be afforded.
        situation: What the choice depends on.

    Returns:
        The strategy, and for 'auto' why.

    Raises:
        InputError: If the strategy is unknown, or 'exact' is not possible.
    """
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, list(STRATEGIES))
    if strategy == "evolution":
        return "evolution", None
    hindrance = why_not(situation)
    if strategy == "exact":
        if hindrance:
            raise InputError(f"strategy='exact' is not possible: {hindrance}")
        return "exact", None
    if reason := hindrance or why_rather_not(situation):
        return "evolution", f"evolution, not exact search: {reason}"
    n_vectors = situation.space.n_feature_vectors
    return "exact", f"exact search: there are {n_vectors:,} feature vectors"


def why_not(situation: Situation) -> str | None:
    """Says what makes exact search impossible, if anything does."""
    for predictor in situation.predictors:
        if encoding_of(predictor) != "averaged":
            return f"`{name_of(predictor)}` can tell apart architectures with equal averaged features"
    try:
        n_vectors = situation.space.n_feature_vectors
    except SpaceError as error:
        return str(error)
    if n_vectors > situation.max_vectors:
        limit = situation.max_vectors
        return f"the space has {n_vectors:,} feature vectors, more than `max_vectors={limit:,}`"
    return None


def why_rather_not(situation: Situation) -> str | None:
    """Says what speaks for evolution where exact search is possible, if anything does."""
    if situation.has_evolution_settings:
        return "settings of the evolution were given"
    if len(situation.phases) > 1:
        return "there is a baseline, under which evolution goes on searching"
    n_vectors = situation.space.n_feature_vectors
    longer = max(situation.space.grid_sizes)
    if longer > AUTO_LONGER:
        return f"the feature vectors come in a grid whose longer side is {longer:,}, which takes much memory"
    networks = [p for p in situation.predictors if isinstance(p, MlpPredictor)]
    for predictor in situation.predictors:
        if predictor not in networks and n_vectors > AUTO_ASKED:
            return f"`{name_of(predictor)}` would be asked about {n_vectors:,} architectures"
    flop = sum(flop_of(network) for network in networks) * n_vectors
    if flop > AUTO_FLOP:
        return f"scoring all {n_vectors:,} feature vectors would take {flop:.1e} FLOPs"
    return None
