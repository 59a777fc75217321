"""How a Transformer or a supernet is trained: HAT's recipe (arXiv 2005.14187), sized for a small corpus."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

from llmpp.errors import InputError, unknown
from llmpp.ranges import LARGEST_SEED, between, integer, positive

Decay: TypeAlias = Literal["cosine", "inverse-sqrt"]
Precision: TypeAlias = Literal["fp32", "bf16"]
Rule: TypeAlias = Literal["uniform", "sandwich"]

#: The learning rate that warming up begins at, and the cosine ends at.
LEAST_RATE = 1e-7
#: Names of each setting that has some.
NAMES: dict[str, tuple[str, ...]] = {
    "decay": ("cosine", "inverse-sqrt"),
    "precision": ("fp32", "bf16"),
    "rule": ("uniform", "sandwich"),
}
_INTEGERS = {
    "n_updates": (1, 2**31),
    "n_warm_up": (0, 2**31),
    "max_tokens": (1, 2**31 - 1),
    "n_accumulated": (1, 2**16),
    "valid_every": (1, 2**31),
    "n_averaged": (1, 1000),
    "n_judged": (0, 1000),
    "n_beams": (1, 2**10),
    "seed": (0, LARGEST_SEED),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a training depends on beside the network and the corpus.

    The defaults train a Transformer of width 128 on 30,000 sentence pairs for 7 epochs. HAT's own, for WMT:
    40,000 updates, 10,000 of them (4,000 from scratch) to warm up, to a rate of 1e-3, dropout 0.3.

    Attributes:
        n_updates: Steps of the optimiser.
        n_warm_up: Steps in which the learning rate rises linearly to its peak.
        peak_rate: The largest learning rate.
        decay: How it falls afterwards: 'cosine' to nearly 0 at the last update, or 'inverse-sqrt'.
        max_tokens: Budget of a batch: its rows times the longest source or target in it.
        n_accumulated: Batches in each update.
        smoothing: The share of a target's probability that goes evenly to the whole vocabulary, in [0, 1).
        dropout: The share of values dropped, scaled by width / largest width of the space, in [0, 1).
        attention_dropout: The share of attention weights dropped, never scaled, in [0, 1).
        clip_norm: The largest norm of the gradient; 0 for no limit.
        valid_every: Updates between validations; each writes all that is needed to go on from there.
        n_averaged: Validations whose weights are averaged at the end, the last ones.
        precision: 'fp32', or 'bf16' for products of matrices in bfloat16; weights are float32 with both. On
            a CPU without bfloat16 arithmetic, that takes ten times as long.
        rule: What an update of a supernet trains: 'uniform', one architecture drawn uniformly; or 'sandwich',
            one drawn, the largest and the smallest, by the mean of their gradients (arXiv 1903.05134).
        n_judged: Architectures drawn once, on which a supernet is validated beside its largest and smallest.
        n_beams: Beams of the translations at the end.
        length_penalty: Their length penalty.
        seed: Seed of all random choices, in 0..2^64-1.

    Raises:
        InputError: If a setting is out of its range.
    """

    n_updates: int = 2000
    n_warm_up: int = 200
    peak_rate: float = 2e-3
    decay: Decay = "cosine"
    max_tokens: int = 2048
    n_accumulated: int = 1
    smoothing: float = 0.1
    dropout: float = 0.1
    attention_dropout: float = 0.1
    clip_norm: float = 1.0
    valid_every: int = 250
    n_averaged: int = 3
    precision: Precision = "fp32"
    rule: Rule = "uniform"
    n_judged: int = 4
    n_beams: int = 4
    length_penalty: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: integer(name, getattr(self, name), *limits) for name, limits in _INTEGERS.items()
        }
        for name in ("smoothing", "dropout", "attention_dropout"):
            checked[name] = between(name, getattr(self, name), 0, 0.99)
        checked["peak_rate"] = positive("`peak_rate`", self.peak_rate)
        checked["clip_norm"] = between("clip_norm", self.clip_norm, 0, 1e9)
        checked["length_penalty"] = between("length_penalty", self.length_penalty, 0, 10)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for name, known in NAMES.items():
            if getattr(self, name) not in known:
                raise unknown(f"`{name}`", getattr(self, name), list(known))
        if self.n_warm_up > self.n_updates:
            raise InputError(
                f"`n_warm_up` must be at most `n_updates`, which is {self.n_updates}, got {self.n_warm_up}"
            )

    def rate(self, update: int) -> float:
        """Returns the learning rate of an update, counted from 1."""
        if update <= self.n_warm_up:
            return LEAST_RATE + (self.peak_rate - LEAST_RATE) * update / self.n_warm_up
        if self.decay == "inverse-sqrt":
            return self.peak_rate * math.sqrt(max(self.n_warm_up, 1) / update)
        passed = (update - self.n_warm_up) / max(self.n_updates - self.n_warm_up, 1)
        return LEAST_RATE + (self.peak_rate - LEAST_RATE) * (1 + math.cos(math.pi * passed)) / 2

    def is_judged(self, update: int) -> bool:
        """Whether there is a validation after an update."""
        return update % self.valid_every == 0 or update == self.n_updates

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Builds a recipe from some of the settings; the others are the defaults.

        Raises:
            InputError: If one is unknown or out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise unknown("setting of a recipe", name, known)
        return cls(**data)
