"""A space of tiny Transformers, a corpus of short toy sentences, and trainings that take seconds."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llmpp import Architecture, SearchSpace, Task
from llmpp.corpus import Corpus
from llmpp.mixture import Mixture
from llmpp.recipe import Recipe
from llmpp.supernet import SuperTransformer
from llmpp.task import TASK_SCHEMA
from llmpp.train import train_architecture
from toy_text import Pairs, prepare_toy, toy_pairs, write_files

SPACE = SearchSpace(
    "toy",
    {
        "encoder_dim": (16, 32),
        "encoder_layers": (1, 2),
        "encoder_ffn": (16, 48),
        "encoder_heads": (1, 2),
        "decoder_dim": (16, 32),
        "decoder_layers": (1, 2),
        "decoder_ffn": (16, 48),
        "decoder_heads": (1, 2),
        "cross_heads": (1, 2),
        "cross_span": (1, 2),
    },
    32,
)
TASK = Task("toy", SPACE, 80, sentence_length=10)
ONE = Architecture(32, (48,), (2,), 32, (48,), (2,), (2,), (1,))
MIXED = Mixture(kind="neuron-wise", router_width=8)
#: Trained for a moment, with all that is random.
BRIEF: dict[str, Any] = {
    "n_updates": 12,
    "n_warm_up": 3,
    "peak_rate": 3e-3,
    "max_tokens": 256,
    "valid_every": 5,
    "n_averaged": 2,
    "n_judged": 1,
    "n_beams": 1,
}


def task_file(path: Path) -> Path:
    """Writes the toy task as a user would."""
    sizes = {"vocabulary": TASK.vocabulary, "sentence_length": TASK.sentence_length}
    content = {"schema": TASK_SCHEMA, "name": TASK.name, "space": SPACE.to_dict(), **sizes}
    path.write_text(json.dumps(content))
    return path


def brief(**changes: Any) -> Recipe:
    """A recipe of a few updates."""
    return Recipe(**{**BRIEF, **changes})


def train(directory: Path, corpus: Corpus, **settings: Any) -> dict[str, Any]:
    """Trains one architecture for a moment."""
    return train_architecture(ONE, corpus, directory, space=SPACE, **{"recipe": brief(), **settings})


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the very same tensors."""
    import torch
    from safetensors.torch import load_file

    mine, theirs = load_file(one), load_file(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def names(folder: Path) -> set[str]:
    """The names of what is in a folder."""
    return {path.name for path in folder.iterdir()}


@cache
def toy_corpus() -> Corpus:
    """A corpus of short sentences, made once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="llmpp-toy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Corpus.load(prepare_short(folder, 80))


def prepare_short(folder: Path, vocabulary: int, sizes: Sequence[int] = (600, 60, 30)) -> Path:
    """Prepares sentences of at most six words, and returns the directory of the corpus."""
    sets = {
        name: write_files(folder, f"short-{name}", _short(n, seed))
        for seed, (name, n) in enumerate(zip(("train", "valid", "test"), sizes, strict=True))
    }
    prepare_toy(folder, vocabulary=vocabulary, **sets)
    return folder / "corpus"


def _short(n: int, seed: int) -> Pairs:
    pairs = (pair for pair in toy_pairs(20 * n, seed) if len(pair[0].split()) <= 6)
    return [pair for _, pair in zip(range(n), pairs, strict=False)]


def toy_supernet(path: Path, corpus: Corpus, *, seed: int = 0, **settings: Any) -> SuperTransformer:
    """Writes a supernet that was never trained, but whose architectures differ."""
    import torch

    from small_networks import shake

    torch.manual_seed(seed)
    net = SuperTransformer(SPACE, vocabulary=corpus.vocabulary, max_length=64, **settings)
    shake(net)
    net.save(path)
    return net.eval()
