"""HAT's notations of an architecture: YAML text, a list of the same lines, and a nested dict.

HAT (arXiv 2005.14187) counts a decoder layer's view of the encoder as -1, 1, 2 where `cross_span` is 1, 2, 3.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmpp.errors import InputError, unknown

# Our field, HAT's side of the nested dict, HAT's key there, and HAT's key in YAML.
_SCALARS = [
    ("encoder_dim", "encoder", "encoder_embed_dim", "encoder-embed-dim-subtransformer"),
    ("decoder_dim", "decoder", "decoder_embed_dim", "decoder-embed-dim-subtransformer"),
]
_LISTS = [
    ("encoder_ffn", "encoder", "encoder_ffn_embed_dim", "encoder-ffn-embed-dim-all-subtransformer"),
    ("decoder_ffn", "decoder", "decoder_ffn_embed_dim", "decoder-ffn-embed-dim-all-subtransformer"),
    (
        "encoder_heads",
        "encoder",
        "encoder_self_attention_heads",
        "encoder-self-attention-heads-all-subtransformer",
    ),
    (
        "decoder_heads",
        "decoder",
        "decoder_self_attention_heads",
        "decoder-self-attention-heads-all-subtransformer",
    ),
    (
        "cross_heads",
        "decoder",
        "decoder_ende_attention_heads",
        "decoder-ende-attention-heads-all-subtransformer",
    ),
    (
        "cross_span",
        "decoder",
        "decoder_arbitrary_ende_attn",
        "decoder-arbitrary-ende-attn-all-subtransformer",
    ),
]
_DEPTHS = {
    "encoder": ("encoder_layer_num", "encoder-layer-num-subtransformer"),
    "decoder": ("decoder_layer_num", "decoder-layer-num-subtransformer"),
}


def parse(source: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Reads any of HAT's notations into the fields of an `Architecture`.

    Raises:
        InputError: If a key is missing or a value is not what HAT writes.
    """
    if not isinstance(source, (str, Sequence, Mapping)):
        raise InputError(f"HAT's notation is YAML text, a list of lines or a nested dict, got {source!r}")
    values = _nested_values(source) if isinstance(source, Mapping) else _line_values(source)
    depths = {side: _integer(yaml, _get(values, yaml)) for side, (_, yaml) in _DEPTHS.items()}
    for side, (_, yaml) in _DEPTHS.items():
        if depths[side] < 1:
            raise InputError(f"`{yaml}` must give at least one layer, got {depths[side]}")
    architecture: dict[str, Any] = {name: _integer(yaml, _get(values, yaml)) for name, _, _, yaml in _SCALARS}
    for name, side, _, yaml in _LISTS:
        architecture[name] = _layers(yaml, _get(values, yaml), depths[side])
    architecture["cross_span"] = [_span_from_hat(span) for span in architecture["cross_span"]]
    return architecture


def render(architecture: Mapping[str, Any], form: str) -> str | list[str] | dict[str, Any]:
    """Writes the fields of an `Architecture` in one of HAT's notations: 'yaml', 'lines' or 'dict'.

    Raises:
        InputError: If the form is none of these.
    """
    values = dict(architecture)
    values["cross_span"] = [-1 if span == 1 else span - 1 for span in architecture["cross_span"]]
    depths = {side: len(architecture[f"{side}_ffn"]) for side in _DEPTHS}
    if form == "dict":
        nested: dict[str, Any] = {side: {_DEPTHS[side][0]: depth} for side, depth in depths.items()}
        for name, side, key, _ in _SCALARS + _LISTS:
            nested[side][key] = values[name]
        return nested
    if form not in ("yaml", "lines"):
        raise unknown("HAT notation", form, ["yaml", "lines", "dict"])
    scalars = [f"{yaml}: {values[name]}" for name, _, _, yaml in _SCALARS]
    lists = [f"{yaml}: {json.dumps(values[name])}" for name, _, _, yaml in _LISTS]
    counts = [f"{yaml}: {depths[side]}" for side, (_, yaml) in _DEPTHS.items()]
    lines = scalars + lists[:2] + counts + lists[2:]
    return lines if form == "lines" else "\n".join(lines) + "\n"


def _line_values(source: str | Sequence[str]) -> dict[str, Any]:
    """Reads `key: value` lines, in any order, blank lines and comments between."""
    values = {}
    for line in source.splitlines() if isinstance(source, str) else source:
        text = str(line).split("#")[0].strip()
        if not text:
            continue
        key, _, value = text.partition(":")
        try:
            values[key.strip()] = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(
                f"not a line of HAT's notation: {line!r} (want `key: integer or list`)"
            ) from error
    return values


def _nested_values(source: Mapping[str, Any]) -> dict[str, Any]:
    """Brings HAT's nested dict, or its YAML already parsed, to the YAML's keys."""
    if not set(_DEPTHS) <= set(source):
        return dict(source)
    values = {yaml: _get(source[side], key) for side, (key, yaml) in _DEPTHS.items()}
    return values | {yaml: _get(source[side], key) for _, side, key, yaml in _SCALARS + _LISTS}


def _get(values: Mapping[str, Any], key: str) -> Any:
    if not isinstance(values, Mapping) or key not in values:
        raise InputError(f"HAT's notation needs the key `{key}`, which is missing")
    return values[key]


def _integer(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"`{key}` must be an integer, got {value!r}")
    return value


def _layers(key: str, values: Any, depth: int) -> list[int]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) < depth:
        raise InputError(f"`{key}` must list {depth} integers, one per layer, got {values!r}")
    return [_integer(key, value) for value in values[:depth]]


def _span_from_hat(span: int) -> int:
    if span == 0 or span < -1:
        raise InputError(f"HAT writes a cross-attention span as -1, 1, 2, ...; got {span}")
    return 1 if span == -1 else span + 1
