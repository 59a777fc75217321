"""Parallel text of a small made-up language, and corpora of it."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.preparation import prepare

#: Words of the source with their translations; the second half are verbs, which the target puts last.
WORDS = {
    "a": "ein", "dog": "Hund", "cat": "Katze", "small": "kleiner", "old": "älterer", "street": "Straße",
    "sees": "sieht", "chases": "jagt", "likes": "mag",
}  # fmt: skip
_NOUNS, _VERBS = list(WORDS)[:6], list(WORDS)[6:]

Pairs = Sequence[tuple[str, str]]


def toy_pairs(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Makes sentence pairs of 3 to 20 words."""
    draw = np.random.Generator(np.random.PCG64(seed))
    return [_pair(draw) for _ in range(n)]


def _pair(draw: np.random.Generator) -> tuple[str, str]:
    before, after = ([_NOUNS[i] for i in draw.integers(0, 6, int(draw.integers(1, 10)))] for _ in range(2))
    verb = _VERBS[int(draw.integers(0, 3))]
    target = [WORDS[word] for word in [*before, *after, verb]]
    return " ".join([*before, verb, *after]) + ".", " ".join(target) + "."


def write_files(folder: Path, name: str, pairs: Pairs, *, is_compressed: bool = False) -> tuple[Path, Path]:
    """Writes sources and targets as two files."""
    paths = []
    for side, suffix in enumerate(("src", "tgt")):
        content = "".join(f"{pair[side]}\n" for pair in pairs).encode()
        path = folder / f"{name}.{suffix}"
        path.write_bytes(gzip.compress(content) if is_compressed else content)
        paths.append(path)
    return paths[0], paths[1]


def write_tsv(path: Path, pairs: Pairs) -> Path:
    """Writes pairs as a file of two columns."""
    path.write_bytes("".join(f"{source}\t{target}\n" for source, target in pairs).encode())
    return path


def toy_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Writes three sets of toy text."""
    sizes = {"train": (300, 0), "valid": (40, 1), "test": (30, 2)}
    return {name: write_files(folder, name, toy_pairs(n, seed)) for name, (n, seed) in sizes.items()}


def prepare_toy(folder: Path, **changes: Any) -> dict[str, Any]:
    """Prepares toy text as `folder/corpus`, and returns the record."""
    settings = {"output": folder / "corpus", "vocabulary": 80, "date": "2026-01-02", **toy_files(folder)}
    return prepare(**{**settings, **changes})
