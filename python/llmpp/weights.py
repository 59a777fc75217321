"""Weight files: safetensors whose one metadata entry, `llmpp`, is a JSON record of where they came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.errors import InputError, require, writing

MLP_SCHEMA = "llmpp.mlp/1"
_DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4"}


def read_mlp(path: Path) -> tuple[_core.Mlp, dict[str, Any]]:
    """Reads an MLP and its record.

    Raises:
        InputError: If the file cannot be read, is truncated, misshapen, not finite, or has no record.
    """
    try:
        data = path.read_bytes()
        mlp = _core.Mlp(data)
        length = int.from_bytes(data[:8], "little")
        record = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["llmpp"])
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot use the weights file {path}: {error}") from error
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has no `llmpp` record in its metadata: was it written by llmpp?") from error
    if not isinstance(record, dict) or record.get("schema") != MLP_SCHEMA:
        raise InputError(
            f"{path} does not follow the schema {MLP_SCHEMA!r}: write it again with this version"
        )
    return mlp, record


def read_arrays(path: Path, prefix: str) -> dict[str, NDArray[Any]]:
    """Reads the tensors of a weights file whose names begin with `prefix`; safetensors is not needed.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        data = path.read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        return {
            name: _array(data[begin:], entry)
            for name, entry in header.items()
            if name.startswith(prefix) and name != "__metadata__"
        }
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"cannot use the weights file {path}: {error}") from error


def _array(data: bytes, entry: Mapping[str, Any]) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    array: NDArray[Any] = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return array


def mlp_bytes(tensors: Mapping[str, NDArray[np.generic]], record: Mapping[str, Any]) -> bytes:
    """Returns an MLP's tensors (see `rust/weights.rs`) and its record as safetensors.

    Equal input gives equal bytes.

    Raises:
        MissingExtraError: If safetensors is not installed.
    """
    text = json.dumps({"schema": MLP_SCHEMA, **record}, sort_keys=True)
    saved: bytes = require("safetensors.numpy", "train").save(dict(tensors), metadata={"llmpp": text})
    return saved


def write_mlp(path: Path, tensors: Mapping[str, NDArray[np.generic]], record: Mapping[str, Any]) -> None:
    """Writes what `mlp_bytes` returns.

    Raises:
        MissingExtraError: If safetensors is not installed.
        InputError: If the file cannot be written.
    """
    data = mlp_bytes(tensors, record)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
