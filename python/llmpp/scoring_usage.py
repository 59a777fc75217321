"""What scoring by a supernet has cost."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from llmpp.score_store import Score


@dataclass
class ScoringUsage:
    """What scoring has cost so far.

    Attributes:
        n_evaluations: Architectures scored of which nothing was kept.
        n_cached: Architectures of which losses or scores were kept from before.
        seconds_cached: What those had taken, so that searches can be compared whatever was kept.
        n_dropped: Of the evaluations, those that ended early in a race.
        n_target_tokens: Target tokens whose loss was computed.
        seconds: Time spent now.
    """

    n_evaluations: int = 0
    n_cached: int = 0
    seconds_cached: float = 0.0
    n_dropped: int = 0
    n_target_tokens: int = 0
    seconds: float = 0.0

    def count_kept(self, kept: Iterable[Score]) -> None:
        """Counts what was kept from before."""
        for score in kept:
            self.n_cached += 1
            self.seconds_cached += score.seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)
