"""Whole columns of numbers, one per feature vector, kept in the user's cache directory.

A column is a file of float32 numbers that later searches map into memory. Its name is the hash of all that it
depends on: the space, the network's weights, byte order, and the instruction set, on which the last bits of a
score depend.
"""

import hashlib
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from random import randrange

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.predictor import MlpPredictor
from llmpp.space import SearchSpace

#: Changes whenever feature vectors are numbered or scored in another way.
COLUMN_SCHEMA = "llmpp.column/1"

#: Feature vectors, drawn at random, that are scored again before a kept column is believed.
_N_CHECKED = 128


def folder() -> Path:
    """Where columns are kept; it may be removed at any time."""
    from platformdirs import user_cache_path

    return user_cache_path("llmpp") / "columns"


def read_column(space: SearchSpace, predictor: MlpPredictor) -> NDArray[np.float32] | None:
    """Maps a kept column `(n_rows, n_columns)` into memory; None if there is none that is whole and right."""
    path, shape = _path(space, predictor), space.grid.shape
    try:
        if path.stat().st_size != np.dtype(np.float32).itemsize * shape[0] * shape[1]:
            return None
        column = np.memmap(path, np.float32, "r", shape=shape)
    except (OSError, ValueError):
        return None
    return column if _is_right(space, predictor, column) else None


def keep_column(space: SearchSpace, predictor: MlpPredictor, column: NDArray[np.float32]) -> str | None:
    """Keeps a column. Returns what to tell the user if it cannot be kept."""
    path = _path(space, predictor)
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(column.data)
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if not isinstance(error, OSError):
            raise
        return f"the scores of `{predictor.name}` could not be kept in {path.parent}: {error}"
    return None


def _path(space: SearchSpace, predictor: MlpPredictor) -> Path:
    options = {name: list(values) for name, values in space.options.items()}
    depends_on = json.dumps([COLUMN_SCHEMA, options, _core.kernel(), sys.byteorder])
    return folder() / f"{hashlib.sha256(depends_on.encode() + predictor.mlp.safetensors).hexdigest()}.f32"


def _is_right(space: SearchSpace, predictor: MlpPredictor, column: NDArray[np.float32]) -> bool:
    # Not numpy's generators, whose import takes as long as a query.
    numbers = np.array([randrange(column.size) for _ in range(_N_CHECKED)], np.uint64)  # noqa: S311
    features = space.core.encode(space.grid.genomes(numbers), "averaged")
    return np.array_equal(column.reshape(-1)[numbers], predictor.mlp.forward(features))
