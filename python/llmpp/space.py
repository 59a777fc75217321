"""Search spaces as data: which values each hyperparameter of a Transformer may take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.ranges import positive_integer, positive_integers

#: What a predictor sees of an architecture: 10 averaged features, or one feature per layer's choice.
Encoding: TypeAlias = Literal["averaged", "per-layer"]
Floats: TypeAlias = NDArray[np.float64]

#: The ten hyperparameters of HAT's Transformer in the order of features, and what counts their layers.
HYPERPARAMETERS: dict[str, str | None] = {
    "encoder_dim": None,
    "encoder_layers": None,
    "encoder_ffn": "encoder_layers",
    "encoder_heads": "encoder_layers",
    "decoder_dim": None,
    "decoder_layers": None,
    "decoder_ffn": "decoder_layers",
    "decoder_heads": "decoder_layers",
    "cross_heads": "decoder_layers",
    "cross_span": "decoder_layers",
}


@dataclass(frozen=True)
class SearchSpace:
    """A set of encoder-decoder Transformers, each hyperparameter with its options.

    Attributes:
        name: Its name in messages and files.
        options: For each of the ten hyperparameters, in the order of `HYPERPARAMETERS`, the values to choose
            from; those per layer are chosen layer by layer.
        qkv_dim: Width of queries, keys and values, the same in every layer.

    Raises:
        InputError: If a hyperparameter is missing or unknown, or an option is no positive integer.
        SpaceError: If options are empty, repeated or more than 256.
    """

    name: str
    options: Mapping[str, tuple[int, ...]]
    qkv_dim: int = 512

    def __post_init__(self) -> None:
        if set(self.options) != set(HYPERPARAMETERS):
            raise InputError(
                f"space {self.name!r} must give options for exactly {list(HYPERPARAMETERS)}, "
                f"got {list(self.options)}"
            )
        ordered = {name: positive_integers(name, self.options[name]) for name in HYPERPARAMETERS}
        object.__setattr__(self, "options", ordered)
        object.__setattr__(self, "qkv_dim", positive_integer("qkv_dim", self.qkv_dim))
        _ = self.core

    @cached_property
    def core(self) -> _core.Space:
        """The space as the Rust core sees it."""
        return _core.Space(
            [(name, list(self.options[name]), depth) for name, depth in HYPERPARAMETERS.items()]
        )

    @property
    def n_architectures(self) -> int:
        """The number of distinct architectures, exactly."""
        return self.core.n_architectures()

    @property
    def n_feature_vectors(self) -> int:
        """The number of distinct vectors of averaged features, exactly; counted without listing them.

        Raises:
            SpaceError: If not even the sums over the layers of one hyperparameter can be listed.
        """
        n_rows, n_columns = self.grid_sizes
        return n_rows * n_columns

    @cached_property
    def grid_sizes(self) -> tuple[int, int]:
        """The rows and columns that `grid` has, counted without listing them.

        Raises:
            SpaceError: If not even the sums over the layers of one hyperparameter can be listed.
        """
        n_rows, n_columns = _core.Grid.sizes(self.core)
        return n_rows, n_columns

    @cached_property
    def grid(self) -> _core.Grid:
        """Every vector of averaged features, for exact search.

        Raises:
            SpaceError: If there are 2^32 of them or more.
        """
        return _core.Grid(self.core, 2**32 - 1)

    @property
    def largest(self) -> dict[str, int]:
        """The largest option of each hyperparameter, which features are divided by."""
        return {name: max(options) for name, options in self.options.items()}

    @property
    def largest_architecture(self) -> Architecture:
        """The deepest architecture, with the largest option everywhere; it holds all others' weights."""
        return self._alike(max)

    @property
    def smallest_architecture(self) -> Architecture:
        """The shallowest architecture, with the smallest option everywhere."""
        return self._alike(min)

    def _alike(self, choose: Callable[[Sequence[int]], int]) -> Architecture:
        """Chooses each hyperparameter by one rule, in all layers alike."""
        chosen = {name: choose(options) for name, options in self.options.items()}
        depths = [1 if depth is None else chosen[depth] for depth in HYPERPARAMETERS.values()]
        return Architecture.from_values(
            [[chosen[name]] * depth for name, depth in zip(HYPERPARAMETERS, depths, strict=True)]
        )

    def holds(self, other: "SearchSpace") -> bool:
        """Whether each architecture of another space is one of this, with queries and keys as wide."""
        options = self.options.items()
        return self.qkv_dim == other.qkv_dim and all(
            set(other.options[n]) <= set(all_) for n, all_ in options
        )

    def sample(self, n: int, *, seed: int = 0) -> list[Architecture]:
        """Draws `n` architectures, every choice uniform, so that each depth is equally likely."""
        return self.architectures(self.core.sample(n, seed))

    def genomes(self, architectures: Sequence[Architecture]) -> NDArray[np.uint8]:
        """Writes architectures as genomes `(n, n_genes)`.

        Raises:
            InputError: If they are no list of architectures.
            SpaceError: If one lies outside the space; the message names the value and the options.
        """
        if isinstance(architectures, Architecture):
            raise InputError("expected a list of architectures, got one: put it into a list")
        for architecture in architectures:
            if not isinstance(architecture, Architecture):
                raise InputError(f"expected an `Architecture` (see `from_dict`), got {architecture!r:.100}")
        return self.core.genomes_of([architecture.values() for architecture in architectures])

    def architectures(self, genomes: NDArray[np.uint8]) -> list[Architecture]:
        """Reads genomes `(n, n_genes)` back into architectures."""
        return [Architecture.from_values(values) for values in self.core.values_of(genomes)]

    def features(
        self, architectures: Sequence[Architecture], encoding: Encoding = "averaged"
    ) -> NDArray[np.float32]:
        """Encodes architectures for predictors.

        Args:
            architectures: The architectures to encode.
            encoding: 'averaged' for the 10 features of LLM-Distill-PP (arXiv 2310.16712), 'per-layer' for
                one feature per gene, 0 where a layer is not there. Both are divided by the largest option.

        Returns:
            Features `(n, n_features)`.

        Raises:
            SpaceError: If an architecture lies outside the space.
        """
        return self.core.encode(self.genomes(architectures), encoding)

    def to_dict(self) -> dict[str, Any]:
        """Returns the description that `from_dict` reads, ready for JSON."""
        options = {name: list(values) for name, values in self.options.items()}
        return {"name": self.name, "qkv_dim": self.qkv_dim, "options": options}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SearchSpace":
        """Builds a space from the description that `to_dict` writes.

        Raises:
            InputError: If a key is missing or unknown.
        """
        if set(data) != {"name", "qkv_dim", "options"}:
            raise InputError(f"a space needs exactly the keys name, qkv_dim, options; got {sorted(data)}")
        return cls(data["name"], data["options"], data["qkv_dim"])


def _hat_space(name: str, ffn: tuple[int, ...], heads: tuple[int, ...]) -> SearchSpace:
    """HAT's spaces differ in feed-forward widths and heads only (arXiv 2005.14187)."""
    return SearchSpace(
        name,
        {
            "encoder_dim": (512, 640),
            "encoder_layers": (6,),
            "encoder_ffn": ffn,
            "encoder_heads": heads,
            "decoder_dim": (512, 640),
            "decoder_layers": (1, 2, 3, 4, 5, 6),
            "decoder_ffn": ffn,
            "decoder_heads": heads,
            "cross_heads": heads,
            "cross_span": (1, 2, 3),
        },
    )


#: HAT's form at about a quarter of its widths, for 30,000 sentence pairs and a machine without a GPU.
_MULTI30K = SearchSpace(
    "multi30k",
    {
        "encoder_dim": (96, 128, 160),
        "encoder_layers": (3,),
        "encoder_ffn": (128, 256, 512),
        "encoder_heads": (2, 4),
        "decoder_dim": (96, 128, 160),
        "decoder_layers": (1, 2, 3, 4),
        "decoder_ffn": (128, 256, 512),
        "decoder_heads": (2, 4),
        "cross_heads": (2, 4),
        "cross_span": (1, 2, 3),
    },
    qkv_dim=128,
)
#: HAT's spaces, and a small one, by name.
SPACES: dict[str, SearchSpace] = {
    "hat-wmt": _hat_space("hat-wmt", (1024, 2048, 3072), (4, 8)),
    "hat-iwslt": _hat_space("hat-iwslt", (512, 1024, 2048), (2, 4)),
    "multi30k": _MULTI30K,
}
