"""Training an architecture from scratch, and training a supernet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from llmpp.architecture import Architecture
from llmpp.corpus import Corpus
from llmpp.cpu_threads import threads
from llmpp.device import find_device, precision_notes
from llmpp.errors import require
from llmpp.machine import describe_machine
from llmpp.mixture import Mixture
from llmpp.provenance import origin
from llmpp.recipe import Recipe
from llmpp.space import SearchSpace
from llmpp.supernet import SuperTransformer
from llmpp.trainee import Shared, Single
from llmpp.training_files import TrainingFiles
from llmpp.training_log import Report
from llmpp.training_loop import Training
from llmpp.transformer import Transformer

#: Tokens of the longest sentence that a network can read or write, at least.
MAX_LENGTH = 1024
_PACKAGES = ("llmpp", "torch", "numpy", "safetensors", "tokenizers", "sacrebleu")


def train_architecture(
    architecture: Architecture,
    corpus: Corpus,
    directory: str | Path,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    space: SearchSpace | None = None,
    qkv_dim: int = 512,
    device: str = "auto",
    n_threads: int | None = None,
    report: Report | None = None,
    command: str = "llmpp.train.train_architecture",
    date: str | None = None,
) -> dict[str, Any]:
    """Trains an architecture from scratch, or goes on with a training that was stopped.

    Args:
        architecture: The architecture.
        corpus: The corpus.
        directory: A new or empty directory, or that of the same training (see `training_files.py`).
        recipe: How to train.
        space: The space that the architecture is from: its qkv dim, encoder depth and widths (which dropout
            is scaled by) are then those of its supernet.
        qkv_dim: Width of queries, keys and values, where there is no space.
        device: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.
        n_threads: Threads of the CPU; None for torch's own number.
        report: Is told now and then how the training is doing.
        command: The command to record.
        date: The date to record, `YYYY-MM-DD`; None for today.

    Returns:
        What `result.json` holds: the validation loss of the best and of the averaged weights, which of them
        are `chosen`, BLEU and chrF on validation and test set, parameters, seconds, and tokens per second.

    Raises:
        InputError: If a setting cannot be used, the directory holds something else, or a file cannot be
            written; what was written before is whole.
        SpaceError: If the architecture lies outside the space.
        MissingExtraError: If sacrebleu is not installed.
        TrainingError: If the loss is no longer finite.
    """
    # Otherwise it would be missed when all is trained.
    require("sacrebleu.metrics", "train")
    own: dict[str, Any] = {"qkv_dim": qkv_dim}
    if space is not None:
        space.genomes([architecture])
        most = space.largest
        own = {
            "n_encoder_slots": most["encoder_layers"],
            "super_dims": (most["encoder_dim"], most["decoder_dim"]),
            "qkv_dim": space.qkv_dim,
        }
    made, place = origin(command, _PACKAGES, date), find_device(device)
    with _seeded(recipe, place, n_threads):
        model = Transformer(architecture, **own, **_settings(corpus, recipe))
        trainee = Single(model.to(place))
        training = Training(trainee, corpus, recipe, TrainingFiles(Path(directory)), report)
        return training.run({**made, **_here(recipe, place)})


def train_supernet(
    space: SearchSpace,
    corpus: Corpus,
    directory: str | Path,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    mixture: Mixture = Mixture(),  # noqa: B008 - frozen
    device: str = "auto",
    n_threads: int | None = None,
    report: Report | None = None,
    command: str = "llmpp.train.train_supernet",
    date: str | None = None,
) -> dict[str, Any]:
    """Trains a supernet, or goes on with a training that was stopped.

    Args:
        space: The architectures that share the weights.
        corpus: The corpus.
        directory: A new or empty directory, or that of the same training (see `training_files.py`).
        recipe: How to train.
        mixture: Plain weights as HAT's, or Mixture-of-Supernets.
        device: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.
        n_threads: Threads of the CPU; None for torch's own number.
        report: Is told now and then how the training is doing.
        command: The command to record.
        date: The date to record, `YYYY-MM-DD`; None for today.

    Returns:
        What `result.json` holds: the mean validation loss over the judged architectures, of the best and of
        the averaged weights, which of them are `chosen`, the loss of each, seconds, and tokens per second.

    Raises:
        InputError: If a setting cannot be used, the directory holds something else, or a file cannot be
            written; what was written before is whole.
        TrainingError: If the loss is no longer finite.
    """
    made, place = origin(command, _PACKAGES, date), find_device(device)
    with _seeded(recipe, place, n_threads):
        model = SuperTransformer(space, mixture=mixture, **_settings(corpus, recipe))
        trainee = Shared(model.to(place), recipe)
        training = Training(trainee, corpus, recipe, TrainingFiles(Path(directory)), report)
        return training.run({**made, **_here(recipe, place)})


@contextmanager
def _seeded(recipe: Recipe, device: torch.device, n_threads: int | None) -> Iterator[None]:
    """Sets torch's threads and random numbers meanwhile; those of the caller go on as if nothing had been."""
    gpus = [device] if device.type == "cuda" else []
    with threads(n_threads), torch.random.fork_rng(gpus):
        torch.manual_seed(recipe.seed)
        yield


def _settings(corpus: Corpus, recipe: Recipe) -> dict[str, Any]:
    """What a network takes from the corpus and the recipe."""
    return {
        "vocabulary": corpus.vocabulary,
        "padding": corpus.pad,
        "max_length": max(MAX_LENGTH, int(corpus.record["max_tokens"])),
        "dropout": recipe.dropout,
        "attention_dropout": recipe.attention_dropout,
    }


def _here(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """Describes where a training runs."""
    return {
        "machine": {
            **describe_machine(str(device), "torch"),
            "device": str(device),
            "n_threads": torch.get_num_threads(),
        },
        "notes": list(precision_notes(device, recipe.precision)),
    }
