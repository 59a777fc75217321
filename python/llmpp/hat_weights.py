"""HAT's supernets: the names of its tensors in ours, and its description of a search space."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llmpp.errors import InputError
from llmpp.space import SearchSpace

# HAT's name of a layer's part, and ours.
_PARTS = {
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "out.",
    "self_attn_layer_norm.": "attention_norm.",
    "encoder_attn.out_proj.": "cross_out.",
    "encoder_attn_layer_norm.": "cross_norm.",
    "fc1.": "feed_forward.inner.",
    "fc2.": "feed_forward.outer.",
    "final_layer_norm.": "feed_forward_norm.",
}
_CROSS = "encoder_attn.in_proj_"
# fairseq's version numbers and placeholders, which hold no weights.
_IDLE = ("version", "embed_positions._float_tensor")
# The choices of a hyperparameter, and the size of the supernet that the largest must equal.
_CHOICES = {
    "encoder_dim": ("encoder", "encoder_embed_dim", "encoder_embed_dim"),
    "encoder_layers": ("encoder", "encoder_layer_num", "encoder_layers"),
    "encoder_ffn": ("encoder", "encoder_ffn_embed_dim", "encoder_ffn_embed_dim"),
    "encoder_heads": ("encoder", "encoder_self_attention_heads", None),
    "decoder_dim": ("decoder", "decoder_embed_dim", "decoder_embed_dim"),
    "decoder_layers": ("decoder", "decoder_layer_num", "decoder_layers"),
    "decoder_ffn": ("decoder", "decoder_ffn_embed_dim", "decoder_ffn_embed_dim"),
    "decoder_heads": ("decoder", "decoder_self_attention_heads", None),
    "cross_heads": ("decoder", "decoder_ende_attention_heads", None),
    "cross_span": ("decoder", "decoder_arbitrary_ende_attn", None),
}


def space_of(meta: Mapping[str, Any]) -> SearchSpace:
    """Reads the search space of a HAT supernet.

    Args:
        meta: Its description, of which this reads `choices` and `super`.

    Raises:
        InputError: If a key is missing, or the supernet is larger than its largest choice.
    """
    try:
        options = {name: tuple(meta["choices"][side][key]) for name, (side, key, _) in _CHOICES.items()}
        options["cross_span"] = tuple(1 if span == -1 else span + 1 for span in options["cross_span"])
        largest = {name: meta["super"][key] for name, (_, _, key) in _CHOICES.items() if key}
        options = {name: tuple(sorted(values)) for name, values in options.items()}
        qkv_dim = meta["super"]["qkv_dim"]
    except (KeyError, TypeError) as error:
        raise InputError(f"the description of a HAT supernet lacks or misstates {error}") from error
    space = SearchSpace("hat-supernet", options, qkv_dim)
    for name, value in largest.items():
        if space.largest[name] != value:
            raise InputError(
                f"the supernet's {name} is {value}, but its largest choice is {space.largest[name]}: "
                f"add {value} to the choices"
            )
    return space


def renamed(tensors: Mapping[str, Tensor], qkv_dim: int) -> dict[str, Tensor]:
    """Renames HAT's tensors to those of a plain `SuperTransformer`.

    Raises:
        InputError: If one is unknown or a single number, or the embeddings differ.
    """
    found = {"embedding": _embedding(tensors)}
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        if rest in {"embed_tokens.weight", *_IDLE}:
            continue
        if not tensor.ndim:
            raise InputError(f"the tensor {name!r} is a single number: is this another model, or damaged?")
        index, _, inner = rest.removeprefix("layers.").partition(".")
        if inner.startswith(_CROSS):
            # HAT keeps the rows of queries, keys and values in one matrix.
            kind = inner.removeprefix(_CROSS)
            found[f"{side}.{index}.query.{kind}"] = tensor[:qkv_dim]
            found[f"{side}.{index}.key_value.{kind}"] = tensor[qkv_dim:]
        else:
            found[f"{side}.{index}.{_part(name, inner)}"] = tensor
    return found


def _part(name: str, inner: str) -> str:
    for theirs, ours in _PARTS.items():
        if inner.startswith(theirs):
            return ours + inner.removeprefix(theirs)
    raise InputError(f"the tensor {name!r} has no place in HAT's Transformer: is this another model?")


def _embedding(tensors: Mapping[str, Tensor]) -> Tensor:
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    for name in names:
        if name not in tensors:
            raise InputError(f"the tensor {name!r} is missing: is this a HAT supernet?")
    source, target = (tensors[name] for name in names)
    if source.shape != target.shape or not torch.equal(source, target):
        raise InputError(
            "encoder and decoder have different embeddings, but here one is shared: "
            "train with `--share-all-embeddings`"
        )
    return target
