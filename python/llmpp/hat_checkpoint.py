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

from llmpp.errors import InputError, writing
from llmpp.model_file import replace_tensors
from llmpp.ranges import integer, positive_integer
from llmpp.replacement import replaced

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
_EMBEDDING = "encoder.embed_tokens.weight"
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
    path, output = Path(path), Path(output)
    if output.suffix != ".safetensors":
        raise InputError(f"`output` must end in .safetensors, got {str(output)!r}")
    weights, settings = _parts(_load(path), path)
    try:
        meta = _describe(weights, settings)
    except InputError as error:
        raise InputError(f"{path} has settings that cannot be used: {error}") from error
    _write(output, weights, meta)
    return meta


def _write(output: Path, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes weights and description; after an error, there is neither."""
    description = output.with_suffix(".json")
    with writing(description):
        if description.is_dir():
            raise InputError(f"cannot write {description}: it is a directory: name another output")
        output.parent.mkdir(parents=True, exist_ok=True)
        with replaced(description) as begun:
            begun.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            replace_tensors(output, _unshared(weights), {})


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
        raise InputError(
            f"{path} holds more than weights and is not read, since that could run code, or it is damaged: "
            f"{_reason(error)}"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}") from error
    except Exception as error:  # whatever torch stumbles over in a file that is damaged
        raise InputError(
            f"{path} is no checkpoint of torch, or was cut off ({type(error).__name__}: {_first_line(error)})"
        ) from error


def _reason(error: pickle.UnpicklingError) -> str:
    """What torch found in a pickle, without its advice on how to run it nevertheless."""
    named = (line for line in str(error).splitlines() if "nsupported" in line)
    return next(named, _first_line(error)).rpartition("error: ")[2].partition(" Please ")[0].strip()


def _first_line(error: object) -> str:
    return str(error).partition("\n")[0].strip()


def _parts(content: Any, path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Takes the weights and the settings out of a checkpoint."""
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or _EMBEDDING not in weights:
        found = sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path} is no checkpoint of HAT: there is no `model` with `{_EMBEDDING}` in it (found: {found})"
        )
    for name, weight in weights.items():
        if problem := _problem(name, weight):
            raise InputError(f"{path} is no checkpoint of HAT: {name!r:.60} in its `model` {problem}")
    settings = content.get("args")
    return weights, vars(settings) if isinstance(settings, argparse.Namespace) else {}


def _problem(name: object, weight: object) -> str | None:
    """Says why an entry cannot be a weight."""
    if not isinstance(name, str):
        return "is no name"
    if not isinstance(weight, Tensor):
        return f"is no tensor, but of type {type(weight).__name__}"
    if weight.layout is not torch.strided or weight.is_meta or weight.is_quantized or weight.is_complex():
        kind = f"{weight.dtype}, {weight.layout}, on {weight.device}"
        return f"must be a dense tensor of real numbers, got {kind}"
    if name == _EMBEDDING and weight.ndim != 2:
        return f"must be a matrix, got the shape {tuple(weight.shape)}"
    return None


def _describe(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = {"vocab": len(weights[_EMBEDDING]), "pad": _PAD}
    meta["super"] = {name: positive_integer(name, settings[name]) for name in _SIZES if name in settings}
    choices = {
        side: {
            ours: _integers(theirs, settings[theirs]) for ours, theirs in names.items() if theirs in settings
        }
        for side, names in _CHOICES.items()
    }
    return meta | ({"choices": choices} if any(choices.values()) else {})


def _integers(name: str, values: Any) -> list[int]:
    """Checks choices: positive integers, or -1, by which HAT calls the last encoder layer alone."""
    if not isinstance(values, (list, tuple)):
        raise InputError(f"`{name}` must be a list of integers, got {values!r:.60}")
    return [integer(name, value, -1, 2**32 - 1) for value in values]


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives each tensor memory of its own, which the format asks for; half floats of a GPU become floats."""
    return {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in weights.items()
    }
