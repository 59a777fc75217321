"""HAT's own checkpoints: weights out of a pickle of fairseq, without running what else a pickle may hold."""

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmpp.errors import InputError
from llmpp.model_file import replace_tensors
from llmpp.text import replace_text

#: Where fairseq keeps the choices of a supernet, and how their description calls them.
_CHOICES = {
    "encoder": {
        "encoder_embed_dim": "encoder_embed_choice",
        "encoder_layer_num": "encoder_layer_num_choice",
        "encoder_ffn_embed_dim": "encoder_ffn_embed_dim_choice",
        "encoder_self_attention_heads": "encoder_self_attention_heads_choice",
    },
    "decoder": {
        "decoder_embed_dim": "decoder_embed_choice",
        "decoder_layer_num": "decoder_layer_num_choice",
        "decoder_ffn_embed_dim": "decoder_ffn_embed_dim_choice",
        "decoder_self_attention_heads": "decoder_self_attention_heads_choice",
        "decoder_ende_attention_heads": "decoder_ende_attention_heads_choice",
        "decoder_arbitrary_ende_attn": "decoder_arbitrary_ende_attn_choice",
    },
}
_SIZES = (
    "encoder_embed_dim",
    "decoder_embed_dim",
    "encoder_ffn_embed_dim",
    "decoder_ffn_embed_dim",
    "encoder_layers",
    "decoder_layers",
    "qkv_dim",
)
#: The number of padding in fairseq's dictionaries.
_PAD = 1


class _Meter:
    """Stands for what fairseq counted in training; it is read over."""

    def __setstate__(self, state: object) -> None:
        """Forgets it."""


def convert_hat(path: str | Path, output: str | Path) -> dict[str, Any]:
    """Turns a checkpoint that HAT trained into safetensors under HAT's names, and its description as JSON.

    Only tensors, plain values and fairseq's settings are read; a pickle that holds anything else is refused.

    Args:
        path: The checkpoint, `.pt`.
        output: The file to write; the description lies beside it, with `.json` for the ending.

    Returns:
        The description: `vocab`, `pad`, `super`, and `choices` where the checkpoint tells them, as
        `SuperTransformer.from_hat` reads it.

    Raises:
        InputError: If it is no such checkpoint, holds what could run, or the output cannot be written.
    """
    output = Path(output)
    weights, settings = _parts(_load(Path(path)), Path(path))
    meta = _describe(weights, settings)
    if output.suffix != ".safetensors":
        raise InputError(f"`output` must end in .safetensors, got {str(output)!r}")
    replace_tensors(output, _unshared(weights), {})
    try:
        replace_text(output.with_suffix(".json"), json.dumps(meta, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {output.with_suffix('.json')}: {error}") from error
    return meta


def _load(path: Path) -> Any:
    allowed: list[Any] = [argparse.Namespace]
    allowed += [
        (_Meter, f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            # On the protocol of a pickle: if it cannot be read, an error says so.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} holds more than weights and is not read, since that could run code: {reason}"
        ) from error
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no checkpoint of torch: {error}") from error


def _parts(content: Any, path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Takes the weights and the settings out of a checkpoint."""
    weights = content.get("model") if isinstance(content, dict) else None
    is_weights = isinstance(weights, dict) and all(isinstance(t, Tensor) for t in weights.values())
    if not weights or not is_weights or "encoder.embed_tokens.weight" not in weights:
        found = sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path} is no checkpoint of HAT: there is no `model` with `encoder.embed_tokens.weight` in it "
            f"(found: {found})"
        )
    settings = content.get("args")
    return weights, vars(settings) if isinstance(settings, argparse.Namespace) else {}


def _describe(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {"vocab": len(weights["encoder.embed_tokens.weight"]), "pad": _PAD}
    meta["super"] = {name: int(settings[name]) for name in _SIZES if name in settings}
    choices = {
        side: {ours: _plain(settings[theirs]) for ours, theirs in names.items() if theirs in settings}
        for side, names in _CHOICES.items()
    }
    return meta | ({"choices": choices} if any(choices.values()) else {})


def _plain(values: Any) -> list[int]:
    return [int(value) for value in values]


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives each tensor memory of its own, which the format asks for; half floats of a GPU become floats."""
    return {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in weights.items()
    }
