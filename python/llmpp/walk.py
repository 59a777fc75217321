"""Networks of one supernet on one batch, one after the other, each computed only where it differs.

Networks that are cut from one supernet begin alike where their first sublayers are the same slices. Sorted by
what they are made of, each is computed from where it parts from the one before it. Two things are kept beyond
that: the keys and values that decoder layers make of an encoder's outputs, which further decoders share, and
what the decoder computes before it looks at the source, which does not depend on the encoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from llmpp.network import DecoderLayer, Network, affine, split_heads

Kind: TypeAlias = Literal[
    "source", "encoder attention", "encoder", "target", "decoder attention", "cross", "decoder"
]
_Key: TypeAlias = tuple[Any, ...]


class Stage(NamedTuple):
    """A part of what a network computes.

    Attributes:
        kind: Which part: an embedding, or a sublayer.
        key: What tells its weights from others; comparable with those of the same kind.
        layer: Number of the layer, from 0.
    """

    kind: Kind
    key: _Key
    layer: int = 0


def stages(network: Network) -> list[Stage]:
    """Lists what a network computes, in order; equal beginnings of two lists mean equal values."""
    embedding = network.embedding.data_ptr()
    listed = [Stage("source", (embedding, network.encoder.dim))]
    for number, one in enumerate(network.encoder.layers):
        listed.append(Stage("encoder attention", _key((one.attention, one.attention_norm)), number))
        listed.append(Stage("encoder", _key((one.feed_forward, one.feed_forward_norm)), number))
    listed.append(Stage("target", (embedding, network.decoder.dim)))
    for number, other in enumerate(network.decoder.layers):
        listed.append(Stage("decoder attention", _key((other.attention, other.attention_norm)), number))
        listed.append(Stage("cross", _key((other.cross, other.cross_norm)), number))
        listed.append(Stage("decoder", _key((other.feed_forward, other.feed_forward_norm)), number))
    return listed


@dataclass(eq=False)
class Walk:
    """Computes networks on one batch.

    Attributes:
        source: Tokens `(b, s)`, int64.
        target_in: The target shifted by one `(b, t)`, int64.
    """

    source: Tensor
    target_in: Tensor
    #: The stages of the network that was computed last, what came of each, and what was made of that by the
    #: maps of decoder layers to keys and values.
    _stages: list[Stage] = field(default_factory=list)
    _values: list[Tensor] = field(default_factory=list)
    _mapped: list[dict[_Key, Tensor]] = field(default_factory=list)
    #: What decoders compute before they look at the source.
    _begun: dict[tuple[Stage, ...], Tensor] = field(default_factory=dict)
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def outputs(self, network: Network, path: list[Stage]) -> Tensor:
        """Computes the decoder's outputs `(b, t, decoder_dim)` of a network, given its stages."""
        n_shared = _n_shared(self._stages, path)
        del self._values[n_shared:], self._mapped[n_shared:]
        self._stages = path
        for number in range(n_shared, len(path)):
            self._values.append(self._value(network, number))
            self._mapped.append({})
        return self._values[-1]

    def _value(self, network: Network, number: int) -> Tensor:
        """Computes a stage from what came before it."""
        stage = self._stages[number]
        if stage.kind == "source":
            return network.embed_all(network.encoder, self.source)
        if stage.kind in ("encoder attention", "encoder"):
            return self._encode(network, stage)
        if stage.kind == "target" or (stage.kind == "decoder attention" and stage.layer == 0):
            return self._begin(network, number)
        return self._decode(network, stage)

    def _encode(self, network: Network, stage: Stage) -> Tensor:
        x, layer = self._values[-1], network.encoder.layers[stage.layer]
        if stage.kind == "encoder attention":
            return network.encoder_attention(x, layer, self._mask(network, 1))
        return network.feed_forward(x, layer, network.encoder)

    def _decode(self, network: Network, stage: Stage) -> Tensor:
        x, layer = self._values[-1], network.decoder.layers[stage.layer]
        if stage.kind == "decoder attention":
            return network.decoder_attention(x, layer)
        if stage.kind == "cross":
            return self._look(network, x, layer)
        return network.feed_forward(x, layer, network.decoder)

    def _begin(self, network: Network, number: int) -> Tensor:
        """Embeds targets, or has the first layer attend to them, unless that was done for another encoder."""
        first = 2 * len(network.encoder.layers) + 1
        done = tuple(self._stages[first : number + 1])
        if done not in self._begun:
            self._begun[done] = (
                network.embed_all(network.decoder, self.target_in)
                if number == first
                else network.decoder_attention(self._values[-1], network.decoder.layers[0])
            )
        return self._begun[done]

    def _look(self, network: Network, x: Tensor, layer: DecoderLayer) -> Tensor:
        """Has a decoder layer attend to the last outputs of the encoder."""
        span, n_layers = layer.cross.span, len(network.encoder.layers)
        slots = [*range(n_layers), *[n_layers - 1] * (network.n_encoder_slots - n_layers)]
        parts = [self._keys_values(layer, 2 * slot + 2) for slot in slots[-span:]]
        joined = parts[0] if span == 1 else torch.cat(parts, 1)
        heads = split_heads(joined, 2, layer.cross.n_heads)
        return network.cross_attention(x, layer, heads, self._mask(network, span))

    def _keys_values(self, layer: DecoderLayer, place: int) -> Tensor:
        """Maps an encoder output to keys and values `(b, s, 2 qkv_dim)`."""
        kept, key = self._mapped[place], _key(layer.cross.key_value)
        if key not in kept:
            kept[key] = affine(self._values[place], layer.cross.key_value)
        return kept[key]

    def _mask(self, network: Network, span: int) -> Tensor:
        if span not in self._masks:
            is_token = self.source != network.padding
            self._masks[span] = is_token.repeat(1, span)[:, None, None, :]
        return self._masks[span]


def _key(weights: object) -> _Key:
    return tuple(_parts(weights))


def _parts(weights: object) -> Iterator[Any]:
    """Yields numbers that tell weights from others: where tensors lie, and what else there is."""
    if isinstance(weights, Tensor):
        yield from (weights.data_ptr(), *weights.shape, *weights.stride())
    elif isinstance(weights, tuple):
        for part in weights:
            yield from _parts(part)
    else:
        yield weights


def _n_shared(one: list[Stage], other: list[Stage]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
