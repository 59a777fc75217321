"""Prepares a corpus: reads parallel text, learns the vocabulary, and writes what `corpus.py` reads.

The training text is read twice, for the vocabulary and to be encoded, so that no more than its subwords are
held in memory. The directory appears under its name only when it is whole.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.corpus import (
    CORPUS_SCHEMA,
    RECORD,
    SETS,
    TOKENIZER,
    content_hash,
    file_entry,
    file_names,
    token_type,
)
from llmpp.errors import InputError
from llmpp.new_directory import new_directory
from llmpp.parallel_text import Files, LineReport, Pair, ParallelText
from llmpp.provenance import origin
from llmpp.ranges import integer
from llmpp.special_tokens import SPECIAL_TOKENS, UNK
from llmpp.subwords import Subwords

#: Pairs encoded at once; more are no faster.
_CHUNK = 4096


def prepare(
    *,
    train: Files,
    valid: Files,
    test: Files | None = None,
    output: str | Path,
    vocabulary: int = 3000,
    max_tokens: int = 256,
    command: str = "llmpp.preparation.prepare",
    date: str | None = None,
) -> dict[str, Any]:
    """Turns parallel text into a corpus for `Corpus.load`.

    Args:
        train: One TSV of two columns, or a source and a target file with a sentence per line; UTF-8, plain or
            compressed by gzip.
        valid: The same to choose by.
        test: The same to report on.
        output: A new directory, or an empty one.
        vocabulary: Subwords that source and target share, special tokens included.
        max_tokens: Subwords of the longest sentence that is used, its end included; in 2..2^20.
        command: The command to record.
        date: The date to record, `YYYY-MM-DD`; None for today.

    Returns:
        What `corpus.json` holds: counts of each set, and how many lines were dropped, why, and which first.

    Raises:
        InputError: If a file cannot be used, a set is left without a pair, the vocabulary does not fit the
            training text, or the output cannot be written or is not empty.
        MissingExtraError: If tokenizers is not installed.
    """
    max_tokens = integer("max_tokens", max_tokens, 2, 2**20)
    made = origin(command, ["llmpp", "numpy", "tokenizers"], date)
    given = {name: files for name, files in zip(SETS, (train, valid, test), strict=True) if files is not None}
    texts = {name: ParallelText.of(name, files) for name, files in given.items()}
    with new_directory(Path(output), "the corpus") as directory:
        subwords = _learn(texts["train"], vocabulary)
        (directory / TOKENIZER).write_text(subwords.to_json(), encoding="utf-8")
        sets = {name: _write_set(directory, name, text, subwords, max_tokens) for name, text in texts.items()}
        names = [TOKENIZER, *chain.from_iterable(map(file_names, sets))]
        files = {name: file_entry(directory / name) for name in names}
        settings = {
            "vocabulary": len(subwords),
            "special_tokens": list(SPECIAL_TOKENS),
            "max_tokens": max_tokens,
        }
        record = {
            "schema": CORPUS_SCHEMA,
            "hash": content_hash(files),
            **settings,
            "sets": sets,
            "files": files,
        }
        record |= made
        (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _learn(text: ParallelText, vocabulary: int) -> Subwords:
    report = LineReport()
    first = next(pairs := text.pairs(report), None)
    if first is None:
        raise _nothing_left("train", text, report)
    return Subwords.learn((side for pair in chain([first], pairs) for side in pair[1:]), vocabulary)


def _nothing_left(name: str, text: ParallelText, report: LineReport) -> InputError:
    return InputError(f"the {name} set has no pair that can be used: {text} has {report}")


def _write_set(
    directory: Path, name: str, text: ParallelText, subwords: Subwords, max_tokens: int
) -> dict[str, Any]:
    """Writes the arrays of a set, and its raw sentences if they will be needed; returns its counts."""
    report, type_ = LineReport(), token_type(len(subwords))
    tokens, lengths = [np.empty(0, type_)], [np.empty((0, 2), np.int64)]
    tokens_file, bounds_file, *raw_files = file_names(name)
    with ExitStack() as stack:
        raw = [stack.enter_context((directory / file).open("wb")) for file in raw_files]
        for pairs, rows in _encode(text, subwords, max_tokens, report):
            tokens.append(np.fromiter(chain.from_iterable(chain.from_iterable(rows)), type_))
            lengths.append(np.array([[len(source), len(target)] for source, target in rows], np.int64))
            for side, file in enumerate(raw):
                file.writelines(f"{pair[side + 1]}\n".encode() for pair in pairs)
    if report.n_kept == 0:
        raise _nothing_left(name, text, report)
    all_tokens, all_lengths = np.concatenate(tokens), np.concatenate(lengths)
    bounds = np.concatenate([[0], np.cumsum(all_lengths)]).astype("<i8")
    np.save(directory / tokens_file, all_tokens, allow_pickle=False)
    np.save(directory / bounds_file, bounds, allow_pickle=False)
    return {**report.to_dict(), **_counts(all_tokens, all_lengths + 1), "text": _describe(text)}


def _encode(
    text: ParallelText, subwords: Subwords, max_tokens: int, report: LineReport
) -> Iterator[tuple[list[Pair], list[tuple[list[int], list[int]]]]]:
    """Yields pairs with their subwords, many at once; too long ones are counted and left out."""
    pairs = text.pairs(report)
    while chunk := list(islice(pairs, _CHUNK)):
        sources = subwords.encode([pair.source for pair in chunk])
        targets = subwords.encode([pair.target for pair in chunk])
        kept = []
        for pair, source, target in zip(chunk, sources, targets, strict=True):
            if max(len(source), len(target)) < max_tokens:
                kept.append((pair, (source, target)))
            else:
                report.drop("over_long", pair.line)
        if kept:
            yield [pair for pair, _ in kept], [rows for _, rows in kept]


def _counts(tokens: NDArray[Any], lengths: NDArray[np.int64]) -> dict[str, int]:
    """Counts the subwords of a set; `lengths` `(n, 2)` include the ends."""
    n_source, n_target = lengths.sum(axis=0).tolist()
    return {
        "n_source_tokens": n_source,
        "n_target_tokens": n_target,
        "n_unknown_tokens": int(np.count_nonzero(tokens == UNK)),
        "longest": int(lengths.max()),
    }


def _describe(text: ParallelText) -> list[dict[str, Any]]:
    return [{"name": path.name, **file_entry(path)} for path in text.files]
