"""Export: a trained network as a directory that works alone, without the supernet that it may come from.

| file | what |
|---|---|
| `model.safetensors` | the weights, as `Transformer.load` reads them |
| `config.json` | architecture, sizes, and the number of parameters without embeddings |
| `tokenizer.json` | the vocabulary, in the format of the library `tokenizers`, where there was one |
| `encoder.onnx`, `step.onnx` | ONNX graphs, if asked for: see `onnx_graphs.py` |
"""

import json
import shutil
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.corpus import TOKENIZER
from llmpp.errors import InputError, require
from llmpp.model_file import read_schema
from llmpp.new_directory import new_directory
from llmpp.supernet import SUPERNET_SCHEMA, SuperTransformer
from llmpp.transformer import Transformer
from llmpp.translation import MODEL, find_model

CONFIG_SCHEMA = "llmpp.config/1"


def export(
    checkpoint: str | Path,
    output: str | Path,
    architecture: Architecture | None = None,
    *,
    onnx: bool = False,
) -> dict[str, Any]:
    """Writes a network that works alone; after an error, nothing is left of it.

    Args:
        checkpoint: The directory of a training, or a model's file.
        output: A new or empty directory.
        architecture: Which network of a supernet; None for a network that is no supernet.
        onnx: Whether to write ONNX graphs, too.

    Returns:
        What `config.json` holds.

    Raises:
        InputError: If the checkpoint is of another kind, or the output is not empty or cannot be written.
        SpaceError: If the architecture lies outside the supernet's space.
        MissingExtraError: If graphs are wanted and onnx is not installed.
    """
    if onnx:
        require("onnx", "onnx")
    path = find_model(checkpoint)
    model = _model(path, architecture)
    config = {
        "schema": CONFIG_SCHEMA,
        "architecture": model.architecture.to_dict(),
        "sizes": model.sizes.to_dict(),
        "n_params": model.n_params,
    }
    with new_directory(Path(output), "the network") as directory:
        model.save(directory / MODEL)
        if path.with_name(TOKENIZER).is_file():
            shutil.copyfile(path.with_name(TOKENIZER), directory / TOKENIZER)
        if onnx:
            _write_graphs(model, directory)
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return config


def _model(path: Path, architecture: Architecture | None) -> Transformer:
    """Reads a Transformer, or cuts it out of a supernet."""
    if architecture is not None:
        return SuperTransformer.load(path).extract(architecture)
    if read_schema(path) == SUPERNET_SCHEMA:
        raise InputError(
            f"{path} is a supernet: name by `--architecture` (in Python, `architecture`) the network to cut "
            "out of it"
        )
    return Transformer.load(path)


def _write_graphs(model: Transformer, directory: Path) -> None:
    from llmpp.onnx_graphs import write_onnx

    write_onnx(model, directory)
