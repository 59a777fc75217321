"""A prepared corpus: what `llmpp prepare` wrote, checked as it is loaded, and batches of it.

| file | what |
|---|---|
| `corpus.json` | schema, hash, vocabulary, counts and dropped lines of each set, hashes of files, origin |
| `tokenizer.json` | the vocabulary, in the format of the library `tokenizers` |
| `SET.tokens.npy` | source 0, target 0, source 1, ... `(n_tokens,)` uint16 (uint32 above 65,536 subwords) |
| `SET.bounds.npy` | where each sentence begins, and the end of the last: `(2 * n_pairs + 1,)` int64 |
| `SET.source.txt`, `SET.target.txt` | the raw sentences of 'valid' and 'test', one per line, for BLEU |

Sentences are stored without special tokens. `corpus.json` is written last.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmpp.batches import Batches, Pairs, plan
from llmpp.errors import InputError, unknown
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.special_tokens import BOS, EOS, PAD, UNK
from llmpp.subwords import Subwords
from llmpp.text import read_text

CORPUS_SCHEMA = "llmpp.corpus/1"
RECORD = "corpus.json"
TOKENIZER = "tokenizer.json"
SETS = ("train", "valid", "test")
SIDES = ("source", "target")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared corpus.

    Attributes:
        path: Its directory.
        record: What `corpus.json` holds.
        subwords: The vocabulary.
        pairs: Subwords of each set, by its name.
        bos: `<s>`, which HAT's vocabularies have, too; no sentence begins with it.
        pad: `<pad>`, which fills rows up.
        eos: `</s>`, which ends a source and a decoder's output, and begins its input, as HAT's.
        unk: `<unk>`, a byte that the training text did not have.
    """

    path: Path
    record: Mapping[str, Any]
    subwords: Subwords
    pairs: Mapping[str, Pairs]
    bos: int = BOS
    pad: int = PAD
    eos: int = EOS
    unk: int = UNK

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Opens a corpus; arrays are mapped into memory, and every file is read once to check its hash.

        Raises:
            InputError: If it is not a whole corpus of this schema, or a file is not the one that was written.
            MissingExtraError: If tokenizers is not installed.
        """
        path = Path(path)
        record = _read_record(path)
        for name, entry in record["files"].items():
            if file_entry(path / name) != entry:
                raise _mismatch(path / name)
        subwords = Subwords.from_json(read_text(path / TOKENIZER, "the vocabulary"))
        if len(subwords) != record.get("vocabulary"):
            raise _mismatch(path / TOKENIZER)
        pairs = {
            name: _read_pairs(path, name, counts, len(subwords)) for name, counts in record["sets"].items()
        }
        return cls(path, record, subwords, pairs)

    @property
    def hash(self) -> str:
        """SHA-256 of what was prepared: vocabulary, subwords and raw sentences."""
        return str(self.record["hash"])

    @property
    def vocabulary(self) -> int:
        """Number of subwords, special tokens included."""
        return len(self.subwords)

    @property
    def sets(self) -> tuple[str, ...]:
        """Which sets there are: 'train', 'valid', and 'test' if one was given."""
        return tuple(self.pairs)

    def batches(self, name: str, *, max_tokens: int, seed: int | None = None, epoch: int = 0) -> Batches:
        """Plans one epoch, in which each pair occurs once, and pairs of similar lengths go together.

        Args:
            name: The set.
            max_tokens: Budget of a batch: its rows times the longest source or target in it, end included.
            seed: Seed of the order, in 0..2^64-1; None for the same batches always, the shortest first.
            epoch: Number of the epoch, from 0; each has its own order, and pairs meet others.

        Returns:
            Batches, assembled as they are asked for.

        Raises:
            InputError: If there is no such set, a number is out of range, or the longest pair is over budget.
        """
        if name not in self.pairs:
            raise unknown("set", name, list(self.sets))
        if seed is not None:
            seed = integer("seed", seed, 0, LARGEST_SEED)
        epoch = integer("epoch", epoch, 0, 2**32 - 1)
        pairs = self.pairs[name]
        longest = int(pairs.lengths.max())
        max_tokens = integer("max_tokens", max_tokens, 1, 2**31 - 1)
        if max_tokens < longest:
            raise InputError(
                f"`max_tokens` must be at least {longest}, the longest sentence of {name!r}, got {max_tokens}"
            )
        return plan(pairs, max_tokens=max_tokens, seed=seed, epoch=epoch)

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Turns texts into subwords, without special tokens at their ends."""
        return self.subwords.encode(list(texts))

    def decode(self, rows: Iterable[ArrayLike]) -> list[str]:
        """Turns subwords into texts; a row ends at its first `</s>`.

        Raises:
            InputError: If a number is not in the vocabulary.
        """
        return self.subwords.decode(rows)

    def sources(self, name: str) -> list[str]:
        """Reads the raw sources of 'valid' or 'test', in their order.

        Raises:
            InputError: If there is no such set, it is 'train', or its file cannot be read.
        """
        return self._sentences(name, "source")

    def references(self, name: str) -> list[str]:
        """Reads the raw targets of 'valid' or 'test', in their order; BLEU is taken against them.

        Raises:
            InputError: If there is no such set, it is 'train', or its file cannot be read.
        """
        return self._sentences(name, "target")

    def _sentences(self, name: str, side: str) -> list[str]:
        if name == "train" or name not in self.sets:
            raise unknown("set with raw sentences", name, [s for s in self.sets if s != "train"])
        path = self.path / f"{name}.{side}.txt"
        try:
            # Not as text: a reader of text files would break lines at a lone carriage return.
            return path.read_bytes().decode("utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read {path}: {error}. It was changed since the corpus was opened: prepare it again"
            ) from error


def file_entry(path: Path) -> dict[str, Any]:
    """Describes a file by its size in bytes and its SHA-256.

    Raises:
        InputError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Hashes names and hashes of files."""
    lines = [f"{name} {entry['sha256']}\n" for name, entry in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def token_type(vocabulary: int) -> np.dtype[Any]:
    """Returns the type that subwords are stored as, in the same byte order on every machine."""
    return np.dtype("<u2" if vocabulary <= 2**16 else "<u4")


def file_names(name: str) -> list[str]:
    """Lists the files of a set."""
    texts = [] if name == "train" else [f"{name}.{side}.txt" for side in SIDES]
    return [f"{name}.tokens.npy", f"{name}.bounds.npy", *texts]


def _mismatch(path: Path) -> InputError:
    return InputError(f"{path} does not match {RECORD}: prepare the corpus again")


def _read_record(path: Path) -> dict[str, Any]:
    text = read_text(path / RECORD, "the corpus")
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path / RECORD} is not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != CORPUS_SCHEMA:
        got = record.get("schema") if isinstance(record, dict) else record
        raise InputError(
            f"{path / RECORD} is of schema {got!r}, not {CORPUS_SCHEMA!r}: prepare the corpus again"
        )
    try:
        is_whole = _is_whole(record)
    except (KeyError, TypeError, InputError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path / RECORD} is not the record of a corpus: {what}") from error
    if not is_whole:
        raise InputError(f"{path / RECORD} is not the record of a whole corpus: prepare it again")
    return record


def _is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a record has the sets that it must, and their files under its hash.

    Raises:
        InputError: If an entry is not of its kind; other errors of missing entries are left as they are.
    """
    integer("max_tokens", record["max_tokens"], 2, 2**20)
    sets, files = record["sets"], record["files"]
    for name, entry in (("sets", sets), ("files", files)):
        if not isinstance(entry, dict):
            raise InputError(f"`{name}` must be an object, got {entry!r:.60}")
    names = {TOKENIZER, *(file for name in sets for file in file_names(name))}
    has_sets = set(SETS[:2]) <= set(sets) <= set(SETS)
    return has_sets and set(files) == names and content_hash(files) == record["hash"]


def _read_pairs(path: Path, name: str, counts: Mapping[str, Any], vocabulary: int) -> Pairs:
    tokens_file, bounds_file = (path / file for file in file_names(name)[:2])
    tokens, bounds = _read_array(tokens_file), _read_array(bounds_file)
    n_pairs = counts.get("n_pairs") if isinstance(counts, Mapping) else None
    if tokens.ndim != 1 or tokens.dtype != token_type(vocabulary) or int(tokens.max(initial=0)) >= vocabulary:
        raise _mismatch(tokens_file)
    if (
        not isinstance(n_pairs, int)
        or n_pairs < 1
        or bounds.dtype != np.dtype("<i8")
        or bounds.shape != (2 * n_pairs + 1,)
    ):
        raise _mismatch(bounds_file)
    if bounds[0] != 0 or bounds[-1] != len(tokens) or not (np.diff(bounds) > 0).all():
        raise _mismatch(bounds_file)
    return Pairs(tokens, bounds)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        # Unlike np.load, this opens no archives of arrays.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not an array: {error}") from error
    return array
