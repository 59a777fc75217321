"""The parameters of a Transformer, and the networks that are cut from them.

HAT's weight sharing (arXiv 2005.14187): a smaller network is the leading slice of every matrix and the first
layers of every stack. A stand-alone Transformer is the case in which nothing is left over.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.network import (
    Affine,
    CrossAttention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Network,
    SelfAttention,
    Stack,
    position_table,
)
from llmpp.ranges import between, integer, positive_integer, positive_integers

Side = TypeVar("Side", EncoderLayer, DecoderLayer)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a Transformer's parameters depend on beside its architecture.

    Attributes:
        vocabulary: Rows of the embedding, from 2.
        qkv_dim: Width of queries, keys and values in every layer.
        n_encoder_slots: Encoder layers of the supernet; `cross_span` counts those that are missing here as
            identities.
        super_dims: Encoder and decoder width of the supernet: positions are made at these widths and cut, and
            dropout is scaled by width / super width.
        max_length: Tokens of the longest sentence.
        padding: The number of the padding token.
        dropout: The share of values dropped in training, in [0, 1).
        attention_dropout: The share of attention weights dropped in training, in [0, 1); never scaled.

    Raises:
        InputError: If a number is out of its range.
    """

    vocabulary: int
    qkv_dim: int
    n_encoder_slots: int
    super_dims: tuple[int, int]
    max_length: int
    padding: int
    dropout: float
    attention_dropout: float

    def __post_init__(self) -> None:
        checked = {
            "vocabulary": integer("vocabulary", self.vocabulary, 2, 2**24),
            "qkv_dim": positive_integer("qkv_dim", self.qkv_dim),
            "n_encoder_slots": integer("n_encoder_slots", self.n_encoder_slots, 1, 1024),
            "super_dims": positive_integers("super_dims", self.super_dims),
            "max_length": integer("max_length", self.max_length, 1, 2**20),
            "dropout": between("dropout", self.dropout, 0, 0.99),
            "attention_dropout": between("attention_dropout", self.attention_dropout, 0, 0.99),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        integer("padding", self.padding, 0, self.vocabulary - 1)
        if len(self.super_dims) != 2:
            raise InputError(
                f"`super_dims` must be two widths, encoder's and decoder's, got {self.super_dims}"
            )

    def check(self, architecture: Architecture) -> None:
        """Checks that an architecture can be built with these sizes.

        Raises:
            InputError: If it is wider or deeper than the supernet it is said to be of, looks at more encoder
                layers than there are, or its heads do not divide `qkv_dim`.
        """
        limits = {
            "encoder_dim": (architecture.encoder_dim, self.super_dims[0], "super_dims[0]"),
            "decoder_dim": (architecture.decoder_dim, self.super_dims[1], "super_dims[1]"),
            "encoder_layers": (architecture.encoder_layers, self.n_encoder_slots, "n_encoder_slots"),
            "cross_span": (max(architecture.cross_span), self.n_encoder_slots, "n_encoder_slots"),
        }
        for what, (value, most, name) in limits.items():
            if value > most:
                raise InputError(f"{what} is {value}, but `{name}` is {most}: make it at least {value}")
        for name in ("encoder_heads", "decoder_heads", "cross_heads"):
            for heads in getattr(architecture, name):
                if self.qkv_dim % heads:
                    raise InputError(f"{name} has {heads}, which does not divide qkv_dim {self.qkv_dim}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Sizes":
        """Builds sizes from the mapping that `to_dict` writes.

        Raises:
            InputError: If a field is missing, unknown, or not what it should be.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != names:
            raise InputError(f"sizes need exactly the fields {sorted(names)}, got {data!r:.200}")
        return cls(**data)


class LinearBlock(nn.Module):
    """The parameters of a linear map, Xavier-uniform without a bias at first; cheaper to make than torch's.

    Args:
        n_in: Columns.
        n_out: Rows.
        n_drawn: Rows of the matrix that is drawn as a whole and of which this is a part, if it has more: HAT
            draws queries, keys and values as one.
    """

    def __init__(self, n_in: int, n_out: int, n_drawn: int | None = None) -> None:
        super().__init__()
        bound = math.sqrt(6.0 / (n_in + (n_drawn or n_out)))
        self.weight = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_out))


class FeedForwardBlock(nn.Module, ABC):
    """The parameters from which a feed-forward sublayer is cut."""

    @abstractmethod
    def cut(self, dim: int, width: int, features: Tensor | None) -> FeedForward:
        """Cuts the weights for an embedding width, a feed-forward width, and an architecture's features."""


class PlainFeedForward(FeedForwardBlock):
    """One matrix for each of the two maps."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.inner = LinearBlock(dim, width)
        self.outer = LinearBlock(width, dim)

    def cut(self, dim: int, width: int, features: Tensor | None) -> FeedForward:  # noqa: ARG002
        """Cuts the leading rows and columns, whatever the features."""
        return FeedForward(cut(self.inner, width, dim), cut(self.outer, dim, width))


#: Makes the feed-forward parameters of a layer from its embedding and feed-forward width.
FeedForwardMaker = Callable[[int, int], FeedForwardBlock]


class EncoderBlock(nn.Module):
    """The parameters of an encoder layer."""

    def __init__(self, dim: int, qkv_dim: int, feed_forward: FeedForwardBlock) -> None:
        super().__init__()
        self.qkv = LinearBlock(dim, 3 * qkv_dim)
        self.out = LinearBlock(qkv_dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(dim)

    def attention(self, dim: int, n_heads: int) -> SelfAttention:
        """Cuts self-attention. The number of heads only says how queries, keys and values are read."""
        return SelfAttention(cut(self.qkv, None, dim), cut(self.out, dim), n_heads)


class DecoderBlock(EncoderBlock):
    """The parameters of a decoder layer; the width of what it attends to is `memory_dim`."""

    def __init__(self, dim: int, memory_dim: int, qkv_dim: int, feed_forward: FeedForwardBlock) -> None:
        super().__init__(dim, qkv_dim, feed_forward)
        self.query = LinearBlock(dim, qkv_dim, 3 * qkv_dim)
        self.key_value = LinearBlock(memory_dim, 2 * qkv_dim, 3 * qkv_dim)
        self.cross_out = LinearBlock(qkv_dim, dim)
        self.cross_norm = nn.LayerNorm(dim)

    def cross(self, dim: int, memory_dim: int, n_heads: int, span: int) -> CrossAttention:
        """Cuts cross-attention: queries by the decoder's width, keys and values by the encoder's."""
        key_value = cut(self.key_value, None, memory_dim)
        return CrossAttention(cut(self.query, None, dim), key_value, cut(self.cross_out, dim), n_heads, span)


class Blocks(nn.Module):
    """The parameters of an architecture, from which smaller ones can be cut.

    Args:
        architecture: Its widths and depths are the largest that can be cut.
        sizes: The sizes beside it.
        feed_forward: Makes the feed-forward parameters of each layer.

    Raises:
        InputError: If the architecture cannot be built with these sizes.
    """

    encoder_positions: Tensor
    decoder_positions: Tensor

    def __init__(
        self,
        architecture: Architecture,
        sizes: Sizes,
        feed_forward: FeedForwardMaker = PlainFeedForward,
    ) -> None:
        super().__init__()
        sizes.check(architecture)
        self.sizes = sizes
        e, d, q = architecture.encoder_dim, architecture.decoder_dim, sizes.qkv_dim
        self.embedding = nn.Parameter(torch.empty(sizes.vocabulary, max(e, d)))
        nn.init.normal_(self.embedding, std=max(e, d) ** -0.5)
        with torch.no_grad():
            self.embedding[sizes.padding] = 0
        self.encoder = nn.ModuleList(EncoderBlock(e, q, feed_forward(e, f)) for f in architecture.encoder_ffn)
        self.decoder = nn.ModuleList(
            DecoderBlock(d, e, q, feed_forward(d, f)) for f in architecture.decoder_ffn
        )
        for side, dim, super_dim in zip(("encoder", "decoder"), (e, d), sizes.super_dims, strict=True):
            table = position_table(sizes.max_length, super_dim, sizes.padding)[:, :dim].contiguous()
            self.register_buffer(f"{side}_positions", table, persistent=False)

    def cut(self, architecture: Architecture, features: Tensor | None = None) -> Network:
        """Cuts the network of an architecture: views of the parameters, through which gradients flow back.

        Args:
            architecture: An architecture no larger than these parameters.
            features: Its averaged features `(10,)`, float32, for mixed feed-forward weights.
        """
        e, d = architecture.encoder_dim, architecture.decoder_dim
        return Network(
            self.embedding,
            self._stack(e, self._encoder_layers(architecture, features), self.encoder_positions, 0),
            self._stack(d, self._decoder_layers(architecture, features), self.decoder_positions, 1),
            self.sizes.n_encoder_slots,
            self.sizes.padding,
            self.sizes.attention_dropout if self.training else 0.0,
        )

    def _stack(self, dim: int, layers: Iterable[Side], positions: Tensor, side: int) -> Stack[Side]:
        dropout = self.sizes.dropout * dim / self.sizes.super_dims[side] if self.training else 0.0
        return Stack(dim, tuple(layers), positions, dropout)

    def _encoder_layers(self, a: Architecture, features: Tensor | None) -> Iterable[EncoderLayer]:
        dim, blocks = a.encoder_dim, cast("Iterable[EncoderBlock]", self.encoder)
        for block, width, heads in zip(blocks, a.encoder_ffn, a.encoder_heads, strict=False):
            yield EncoderLayer(
                block.attention(dim, heads),
                cut(block.attention_norm, dim),
                block.feed_forward.cut(dim, width, features),
                cut(block.feed_forward_norm, dim),
            )

    def _decoder_layers(self, a: Architecture, features: Tensor | None) -> Iterable[DecoderLayer]:
        dim, blocks = a.decoder_dim, cast("Iterable[DecoderBlock]", self.decoder)
        choices = zip(blocks, a.decoder_ffn, a.decoder_heads, a.cross_heads, a.cross_span, strict=False)
        for block, width, heads, cross_heads, span in choices:
            yield DecoderLayer(
                block.attention(dim, heads),
                cut(block.attention_norm, dim),
                block.cross(dim, a.encoder_dim, cross_heads, span),
                cut(block.cross_norm, dim),
                block.feed_forward.cut(dim, width, features),
                cut(block.feed_forward_norm, dim),
            )


def cut(layer: LinearBlock | nn.LayerNorm, rows: int | None, columns: int | None = None) -> Affine:
    """Takes the first rows and columns; None for all of them."""
    weight, bias = leading(layer.weight, rows), leading(layer.bias, rows)
    return Affine(weight if columns is None else leading(weight, columns, 1), bias)


def leading(tensor: Tensor, n: int | None, axis: int = 0) -> Tensor:
    """Takes the first `n` entries along an axis; the tensor itself where that is all of them."""
    return tensor if n is None or n == tensor.shape[axis] else tensor.narrow(axis, 0, n)
