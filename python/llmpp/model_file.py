"""Files of torch models: safetensors whose one metadata entry, `llmpp`, is a JSON record with a schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from llmpp.errors import InputError
from llmpp.replacement import replaced


def write_model(path: Path, model: nn.Module, schema: str, record: Mapping[str, Any]) -> None:
    """Writes a model's tensors and its record; a file that is there is replaced once its successor is whole.

    Raises:
        InputError: If the file cannot be written.
    """
    write_tensors(path, model.state_dict(), schema, record)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], schema: str, record: Mapping[str, Any]) -> None:
    """Writes tensors and their record as `write_model` does.

    Raises:
        InputError: If the file cannot be written.
    """
    text = json.dumps({"schema": schema, **record}, sort_keys=True)
    replace_tensors(path, tensors, {"llmpp": text})


def replace_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file; one that is there is replaced once its successor is whole.

    The library's own `save_file` would let nobody else read the file, and leave another under a name of its
    own if it is killed.

    Raises:
        InputError: If the file cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            temporary.write_bytes(save(whole, metadata=dict(metadata)))
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads all tensors of a safetensors file, and its metadata.

    Raises:
        InputError: If the file is not there, or is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the model {path}: {error}") from error


def read_schema(path: Path) -> str | None:
    """Reads which schema a model follows, and none of its tensors; None where it does not say.

    Raises:
        InputError: If the file is not there, or is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("llmpp", "null"))
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the model {path}: {error}") from error
    except ValueError:
        return None
    return record.get("schema") if isinstance(record, dict) else None


def read_model(path: Path, schema: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors and the record that `write_model` wrote.

    Raises:
        InputError: If the file cannot be read, has no record, or its record follows another schema.
    """
    tensors, metadata = read_tensors(path)
    try:
        record = json.loads(metadata["llmpp"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no `llmpp` record in its metadata: was it written by llmpp?") from error
    found = record.get("schema") if isinstance(record, dict) else None
    if found != schema:
        raise InputError(f"{path} is of schema {found!r}, not {schema!r}: give a file of the right kind")
    return tensors, record


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies tensors into a model, which takes over their dtype.

    Raises:
        InputError: If names or shapes differ from the model's, or a number is no float or not finite.
    """
    expected = model.state_dict()
    if differing := sorted(set(expected) ^ set(tensors)):
        one = differing[0]
        problem = "lacks the tensor" if one in expected else "has the unknown tensor"
        raise InputError(f"{path} {problem} {one!r} ({len(differing)} names differ): write it again")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)} as its record says"
            raise InputError(f"{path}: {name!r} has the shape {shapes}: write it again")
        if not tensor.is_floating_point():
            raise InputError(f"{path}: {name!r} holds {tensor.dtype}, and no floats: write it again")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name!r} holds numbers that are not finite: use an earlier checkpoint")
    if tensors:
        model.to(next(iter(tensors.values())).dtype)
    model.load_state_dict(dict(tensors))
