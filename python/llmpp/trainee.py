"""What is trained: one architecture, or a supernet by the architectures that it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from llmpp.architecture import Architecture
from llmpp.blocks import Blocks
from llmpp.network import Network
from llmpp.recipe import Recipe
from llmpp.supernet import SuperTransformer
from llmpp.transformer import Transformer

#: Numbers of the streams that architectures are drawn from, for updates and for validation.
_DRAWN, _JUDGED = 1, 2


class Trainee(Protocol):
    """What the training loop needs to know of what it trains."""

    @property
    def model(self) -> Blocks:
        """The parameters."""

    @property
    def judged(self) -> Mapping[str, Architecture]:
        """The architectures that validation is on, by name."""

    def chosen(self, update: int) -> list[Architecture]:
        """Returns the architectures that an update trains, counted from 1: the same in every run."""

    def network(self, architecture: Architecture) -> Network:
        """Cuts a network out of the parameters."""

    def save(self, path: Path) -> None:
        """Writes the weights."""

    def describe(self) -> dict[str, Any]:
        """Says what it is, for the record; what differs here is another training."""


@dataclass(frozen=True, eq=False)
class Single:
    """A Transformer of its own.

    Attributes:
        model: The Transformer.
    """

    model: Transformer

    @property
    def judged(self) -> Mapping[str, Architecture]:
        """Only one."""
        return {"architecture": self.model.architecture}

    def chosen(self, update: int) -> list[Architecture]:  # noqa: ARG002
        """Always the same."""
        return [self.model.architecture]

    def network(self, architecture: Architecture) -> Network:  # noqa: ARG002
        """Cuts all of it."""
        return self.model.network()

    def save(self, path: Path) -> None:
        """Writes what `Transformer.load` reads."""
        self.model.save(path)

    def describe(self) -> dict[str, Any]:
        """Gives the architecture and the sizes beside it."""
        model = self.model
        return {
            "kind": "architecture",
            "architecture": model.architecture.to_dict(),
            "sizes": model.sizes.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Shared:
    """A supernet.

    Attributes:
        model: The supernet.
        recipe: How architectures are chosen for updates and for validation.
    """

    model: SuperTransformer
    recipe: Recipe

    @cached_property
    def judged(self) -> Mapping[str, Architecture]:
        """The largest, the smallest, and some that are drawn."""
        space, n = self.model.space, self.recipe.n_judged
        drawn = space.sample(n, seed=_seed(self.recipe.seed, _JUDGED, 0)) if n else []
        named = {f"drawn {number}": architecture for number, architecture in enumerate(drawn, 1)}
        return {
            "largest": space.largest_architecture,
            "smallest": space.smallest_architecture,
            **named,
        }

    def chosen(self, update: int) -> list[Architecture]:
        """Draws one architecture; under the sandwich rule, the largest and the smallest go with it."""
        space = self.model.space
        drawn = space.sample(1, seed=_seed(self.recipe.seed, _DRAWN, update))
        if self.recipe.rule == "uniform":
            return drawn
        return [*drawn, space.largest_architecture, space.smallest_architecture]

    def network(self, architecture: Architecture) -> Network:
        """Cuts the slices of an architecture."""
        return self.model.network(architecture)

    def save(self, path: Path) -> None:
        """Writes what `SuperTransformer.load` reads."""
        self.model.save(path)

    def describe(self) -> dict[str, Any]:
        """Gives the space, the sizes beside it, and how weights are mixed."""
        model = self.model
        return {
            "kind": "supernet",
            "space": model.space.to_dict(),
            "mixture": model.mixture.to_dict(),
            "sizes": model.sizes.to_dict(),
        }


def _seed(seed: int, stream: int, number: int) -> int:
    """Makes a seed of its own for a draw, so that a run that goes on draws as one that was never stopped."""
    sequence = np.random.SeedSequence(seed, spawn_key=(stream, number))
    return int(sequence.generate_state(1, np.uint64)[0])
