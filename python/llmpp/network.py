"""The functions of HAT's Transformer on given weights (arXiv 2005.14187): post-norm, ReLU, tied embeddings.

A `Network` only refers to tensors. A stand-alone Transformer lends it its parameters, a supernet slices of
its own, so both compute with the same code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's users know
from torch import Tensor

from llmpp.attention import attend
from llmpp.dropout import drop
from llmpp.errors import InputError


class Affine(NamedTuple):
    """Weight and bias, of a linear map `(out, in)`, `(out,)` or of a layer norm `(dim,)`, `(dim,)`."""

    weight: Tensor
    bias: Tensor


class SelfAttention(NamedTuple):
    """Queries, keys and values in one map `(3 qkv_dim, dim)`, then the output map `(dim, qkv_dim)`."""

    qkv: Affine
    out: Affine
    n_heads: int


class CrossAttention(NamedTuple):
    """Queries `(qkv_dim, decoder_dim)` for keys and values `(2 qkv_dim, encoder_dim)` of `span` layers."""

    query: Affine
    key_value: Affine
    out: Affine
    n_heads: int
    span: int


class FeedForward(NamedTuple):
    """The maps `(ffn, dim)` and `(dim, ffn)` with a ReLU between."""

    inner: Affine
    outer: Affine


class EncoderLayer(NamedTuple):
    """The weights of an encoder layer."""

    attention: SelfAttention
    attention_norm: Affine
    feed_forward: FeedForward
    feed_forward_norm: Affine


class DecoderLayer(NamedTuple):
    """The weights of a decoder layer."""

    attention: SelfAttention
    attention_norm: Affine
    cross: CrossAttention
    cross_norm: Affine
    feed_forward: FeedForward
    feed_forward_norm: Affine


Layer = TypeVar("Layer", EncoderLayer, DecoderLayer)


@dataclass(frozen=True, eq=False)
class Stack(Generic[Layer]):
    """One side of a network.

    Attributes:
        dim: Its embedding width.
        layers: Its layers, first layer first.
        positions: The table of positions `(max_length + 1, dim or wider)`, row n for the n-th token.
        dropout: The share of values dropped after embedding and after each sublayer; 0 outside training.
    """

    dim: int
    layers: tuple[Layer, ...]
    positions: Tensor
    dropout: float


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoder made of source sentences.

    Attributes:
        outputs: Of each encoder slot `(batch, source length, encoder_dim)`; a slot without a layer repeats
            the output before it.
        is_token: Where the source is no padding `(batch, source length)`.
    """

    outputs: tuple[Tensor, ...]
    is_token: Tensor

    def last(self, span: int) -> tuple[Tensor, Tensor]:
        """Joins the last `span` outputs in time.

        Returns:
            The outputs `(batch, span * source length, encoder_dim)`, and what may be attended to
            `(batch, 1, 1, span * source length)`.
        """
        joined = self.outputs[-1] if span == 1 else torch.cat(self.outputs[-span:], 1)
        return joined, self.is_token.repeat(1, span)[:, None, None, :]


@dataclass(frozen=True, eq=False)
class Network:
    """An encoder-decoder Transformer as a pure function of tensors that others own.

    Attributes:
        embedding: One matrix `(vocabulary, width)` for source, target and output; each side uses the leading
            columns.
        encoder: The encoder.
        decoder: The decoder.
        n_encoder_slots: Encoder layers of the supernet, of which the last ones here may be missing.
        padding: The number of the padding token.
        attention_dropout: The share of attention weights dropped; 0 outside training.
    """

    embedding: Tensor
    encoder: Stack[EncoderLayer]
    decoder: Stack[DecoderLayer]
    n_encoder_slots: int
    padding: int
    attention_dropout: float

    def __call__(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Computes logits `(batch, target length, vocabulary)`; see `encode` and `decode`."""
        return self.decode(self.encode(source), target_in)

    def encode(self, source: Tensor) -> Encoded:
        """Encodes sentences.

        Args:
            source: Tokens `(batch, source length)`, int64, padded on either side, each sentence with at least
                one token.

        Raises:
            InputError: If they are longer than the table of positions.
        """
        is_token = source != self.padding
        x, mask = self.embed_all(self.encoder, source), is_token[:, None, None, :]
        outputs = []
        for layer in self.encoder.layers:
            x = self.encoder_layer(x, layer, mask)
            outputs.append(x)
        return self.encoded(outputs, is_token)

    def encoded(self, outputs: list[Tensor], is_token: Tensor) -> Encoded:
        """Gathers the outputs of the encoder's layers; the last one stands for layers that are missing."""
        missing = self.n_encoder_slots - len(outputs)
        return Encoded((*outputs, *[outputs[-1]] * missing), is_token)

    def decode(self, encoded: Encoded, target_in: Tensor) -> Tensor:
        """Computes the logits of every next token at once (teacher forcing).

        Args:
            encoded: The source sentences.
            target_in: Tokens `(batch, target length)`, int64, with padding at the end.

        Returns:
            Logits `(batch, target length, vocabulary)`.

        Raises:
            InputError: If they are longer than the table of positions.
        """
        return self.logits(self.decoder_outputs(encoded, target_in))

    def decoder_outputs(self, encoded: Encoded, target_in: Tensor) -> Tensor:
        """Computes what `logits` maps to logits: `(batch, target length, decoder_dim)`; see `decode`."""
        x = self.embed_all(self.decoder, target_in)
        spans = {layer.cross.span for layer in self.decoder.layers}
        joined = {span: encoded.last(span) for span in spans}
        for layer in self.decoder.layers:
            x = self.decoder_layer(x, layer, *joined[layer.cross.span])
        return x

    def embed(self, stack: Stack[Layer], tokens: Tensor, positions: Tensor) -> Tensor:
        """Embeds tokens `(batch, n)` at positions `(..., dim)`: `(batch, n, dim)`.

        Whole rows are looked up and cut afterwards: a slice of the matrix would cost another gradient of its
        size.
        """
        rows = F.embedding(tokens, self.embedding)[..., : stack.dim]
        return drop(torch.add(positions, rows, alpha=math.sqrt(stack.dim)), stack.dropout)

    def heads(self, x: Tensor, weights: Affine, n_parts: int, n_heads: int) -> tuple[Tensor, ...]:
        """Maps `(batch, n, dim)` to queries, keys and values, or some: `(batch, heads, n, width)`."""
        return split_heads(affine(x, weights), n_parts, n_heads)

    def cross_heads(self, memory: Tensor, weights: CrossAttention) -> tuple[Tensor, ...]:
        """Computes keys and values of joined encoder outputs: `(batch, heads, length, width)` each."""
        return self.heads(memory, weights.key_value, 2, weights.n_heads)

    def after_self_attention(
        self,
        x: Tensor,
        attended: Tensor,
        layer: DecoderLayer,
        cross_heads: tuple[Tensor, ...],
        mask: Tensor,
    ) -> Tensor:
        """Computes the rest of a decoder layer, the same for all targets at once and step by step.

        Args:
            x: The layer's input `(batch, n, decoder_dim)`.
            attended: The values that self-attention gathered `(batch, n, qkv_dim)`.
            layer: The weights.
            cross_heads: Keys and values of the source `(batch, heads, length, width)`.
            mask: Which of them may be attended to `(batch, 1, 1, length)`.
        """
        x = self._attended(x, attended, layer, self.decoder.dropout)
        x = self.cross_attention(x, layer, cross_heads, mask)
        return self.feed_forward(x, layer, self.decoder)

    def logits(self, x: Tensor) -> Tensor:
        """Maps the decoder's output `(batch, n, decoder_dim)` to logits `(batch, n, vocabulary)`."""
        return F.linear(x, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """What maps the decoder's output to logits `(vocabulary, decoder_dim)`: columns of the embedding."""
        return _columns(self.embedding, self.decoder.dim)

    def without_dropout(self) -> "Network":
        """Returns the network as it is outside training."""
        encoder, decoder = replace(self.encoder, dropout=0.0), replace(self.decoder, dropout=0.0)
        return replace(self, encoder=encoder, decoder=decoder, attention_dropout=0.0)

    def layer_tensors(self) -> Iterator[Tensor]:
        """Yields the tensors of all layers, in the same order for every network of an architecture."""
        yield from _tensors((self.encoder.layers, self.decoder.layers))

    @property
    def n_params(self) -> int:
        """The number of parameters without embeddings, as `llmpp.cost` counts them."""
        return sum(tensor.numel() for tensor in self.layer_tensors())

    def embed_all(self, stack: Stack[Layer], tokens: Tensor) -> Tensor:
        """Embeds whole sentences `(batch, n)`: `(batch, n, dim)`; padding takes no position.

        Raises:
            InputError: If they are longer than the table of positions.
        """
        longest = len(stack.positions) - 1
        if tokens.shape[1] > longest:
            raise InputError(
                f"sentences of {tokens.shape[1]} tokens, but this network's positions end at {longest}: "
                "cut the sentences, or build it with a larger `max_length`"
            )
        is_token = tokens != self.padding
        places = is_token.cumsum(1, dtype=torch.int64) * is_token
        return self.embed(stack, tokens, F.embedding(places, stack.positions)[..., : stack.dim])

    def encoder_layer(self, x: Tensor, layer: EncoderLayer, mask: Tensor) -> Tensor:
        """Computes an encoder layer of `(batch, n, encoder_dim)`; the mask is `(batch, 1, 1, n)`."""
        return self.feed_forward(self.encoder_attention(x, layer, mask), layer, self.encoder)

    def encoder_attention(self, x: Tensor, layer: EncoderLayer, mask: Tensor) -> Tensor:
        """Computes the first half of an encoder layer."""
        queries, keys, values = self.heads(x, layer.attention.qkv, 3, layer.attention.n_heads)
        return self._attended(x, self.attend(queries, keys, values, mask), layer, self.encoder.dropout)

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
    ) -> Tensor:
        """Attends by scaled dot products: `(batch, n, qkv_dim)`."""
        share = self.attention_dropout
        attended = attend(queries, keys, values, mask, dropout=share, is_causal=is_causal)
        return attended.transpose(1, 2).flatten(2)

    def decoder_layer(self, x: Tensor, layer: DecoderLayer, memory: Tensor, mask: Tensor) -> Tensor:
        """Computes a decoder layer of all targets at once.

        Args:
            x: Its input `(batch, n, decoder_dim)`.
            layer: The weights.
            memory: Joined encoder outputs `(batch, length, encoder_dim)`, as `Encoded.last` gives them.
            mask: What of them may be attended to `(batch, 1, 1, length)`.
        """
        x = self.decoder_attention(x, layer)
        x = self.cross_attention(x, layer, self.cross_heads(memory, layer.cross), mask)
        return self.feed_forward(x, layer, self.decoder)

    def decoder_attention(self, x: Tensor, layer: DecoderLayer) -> Tensor:
        """Computes the first part of a decoder layer of all targets at once; no source matters to it yet."""
        queries, keys, values = self.heads(x, layer.attention.qkv, 3, layer.attention.n_heads)
        attended = self.attend(queries, keys, values, is_causal=True)
        return self._attended(x, attended, layer, self.decoder.dropout)

    def cross_attention(
        self, x: Tensor, layer: DecoderLayer, cross_heads: tuple[Tensor, ...], mask: Tensor
    ) -> Tensor:
        """Computes the second part of a decoder layer; see `after_self_attention`."""
        (queries,) = self.heads(x, layer.cross.query, 1, layer.cross.n_heads)
        keys, values = cross_heads
        seen = affine(self.attend(queries, keys, values, mask), layer.cross.out)
        return self._add(x, seen, layer.cross_norm, self.decoder.dropout)

    def feed_forward(
        self, x: Tensor, layer: EncoderLayer | DecoderLayer, stack: Stack[EncoderLayer] | Stack[DecoderLayer]
    ) -> Tensor:
        """Computes the last part of a layer of a stack."""
        weights = layer.feed_forward
        update = affine(F.relu(affine(x, weights.inner)), weights.outer)
        return self._add(x, update, layer.feed_forward_norm, stack.dropout)

    def _attended(
        self, x: Tensor, attended: Tensor, layer: EncoderLayer | DecoderLayer, dropout: float
    ) -> Tensor:
        """Adds what self-attention gathered `(batch, n, qkv_dim)`."""
        return self._add(x, affine(attended, layer.attention.out), layer.attention_norm, dropout)

    @staticmethod
    def _add(x: Tensor, update: Tensor, norm: Affine, dropout: float) -> Tensor:
        """Adds what a sublayer computed, then normalises."""
        return F.layer_norm(x + drop(update, dropout), norm.bias.shape, norm.weight, norm.bias)


def position_table(max_length: int, dim: int, padding: int) -> Tensor:
    """Computes HAT's sinusoids: sines, then cosines, of frequencies from 1 down to 1/10000.

    HAT counts positions from `padding + 1`, and gives padding itself zeros.

    Args:
        max_length: Tokens of the longest sentence.
        dim: Columns; a narrower network cuts the table rather than making its own.
        padding: The number of the padding token.

    Returns:
        The table `(max_length + 1, dim)`, float32: row 0 for padding, row n for the n-th token.
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(padding + 1, padding + 1 + max_length)[:, None] * frequencies
    table = torch.zeros(max_length + 1, dim)
    table[1:, :half] = angles.sin()
    table[1:, half : 2 * half] = angles.cos()
    return table


def split_heads(mapped: Tensor, n_parts: int, n_heads: int) -> tuple[Tensor, ...]:
    """Parts `(batch, n, parts * heads * width)` into parts `(batch, heads, n, width)`."""
    width = mapped.shape[2] // (n_parts * n_heads)
    return mapped.view(*mapped.shape[:2], n_parts, n_heads, width).permute(2, 0, 3, 1, 4).unbind(0)


def affine(x: Tensor, weights: Affine) -> Tensor:
    """Applies a linear map to `(..., in)`: `(..., out)`."""
    return F.linear(x, weights.weight, weights.bias)


def _columns(weight: Tensor, n: int) -> Tensor:
    return weight if weight.shape[1] == n else weight[:, :n]


def _tensors(weights: object) -> Iterator[Tensor]:
    if isinstance(weights, Tensor):
        yield weights
    elif isinstance(weights, tuple):
        for part in weights:
            yield from _tensors(part)
