"""A prepared corpus: its batches, its texts, and directories that are not what was written."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpp import InputError
from llmpp.batches import Batch, Pairs, plan
from llmpp.corpus import Corpus, content_hash, file_entry
from llmpp.special_tokens import BOS, EOS, PAD, UNK
from llmpp.subwords import Subwords
from toy_text import prepare_toy, toy_pairs

pytest.importorskip("tokenizers")

Seeds = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("toy")
    prepare_toy(folder)
    return Corpus.load(folder / "corpus")


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(corpus.path, tmp_path / "copy"))


def pairs_of(lengths: list[tuple[int, int]]) -> Pairs:
    """Sentences of these lengths, ends not counted, whose subwords are their places in the set."""
    bounds = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    return Pairs(np.arange(4, 4 + bounds[-1]).astype(np.uint32), bounds)


def slow_batch(pairs: Pairs, indices: list[int]) -> tuple[list[list[int]], ...]:
    """The readable twin of a batch's assembly."""

    def sentence(number: int) -> list[int]:
        start, end = pairs.bounds[number : number + 2]
        return [int(token) for token in pairs.tokens[start:end]]

    def padded(rows: list[list[int]]) -> list[list[int]]:
        width = max(map(len, rows))
        return [row + [PAD] * (width - len(row)) for row in rows]

    sources, targets = ([sentence(2 * i + side) for i in indices] for side in (0, 1))
    rows = ([[*s, EOS] for s in sources], [[EOS, *t] for t in targets], [[*t, EOS] for t in targets])
    return tuple(map(padded, rows))


def contents(batch: Batch) -> tuple[list[list[int]], ...]:
    return tuple(rows.tolist() for rows in (batch.source, batch.target_in, batch.target_out))


Lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)


@given(Lengths, Seeds | st.none(), st.integers(0, 2**32 - 1), st.integers(31, 300))
def test_every_pair_occurs_once_within_budget_and_as_its_slow_twin_says(
    lengths: list[tuple[int, int]], seed: int | None, epoch: int, max_tokens: int
) -> None:
    pairs = pairs_of(lengths)
    batches = plan(pairs, max_tokens=max_tokens, seed=seed, epoch=epoch)
    assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(len(lengths)))
    n_padding = n_cells = 0
    for batch in batches:
        source, target_in, target_out = batch.source, batch.target_in, batch.target_out
        assert len(source) * max(source.shape[1], target_in.shape[1]) <= max_tokens
        assert contents(batch) == slow_batch(pairs, batch.indices.tolist())
        assert {rows.dtype for rows in (source, target_in, target_out)} == {np.dtype(np.int64)}
        assert batch.n_target_tokens == sum(lengths[i][1] + 1 for i in batch.indices)
        n_padding += int((source == PAD).sum() + (target_out == PAD).sum())
        n_cells += source.size + target_out.size
    assert batches.padding == pytest.approx(n_padding / n_cells)


@given(Seeds, st.integers(0, 2**32 - 1))
def test_the_same_seed_and_epoch_give_the_same_batches(corpus: Corpus, seed: int, epoch: int) -> None:
    one, other = (corpus.batches("train", max_tokens=300, seed=seed, epoch=epoch) for _ in range(2))
    assert (one.order == other.order).all()
    assert (one.spans == other.spans).all()
    changed = corpus.batches("train", max_tokens=300, seed=seed, epoch=epoch ^ 1)
    assert (one.order != changed.order).any()


def test_a_large_seed_is_no_other_seeds_epoch(corpus: Corpus) -> None:
    settings = [(0, 0), (0, 1), (1, 0), (2**32, 0), (2**32, 1), (2**32 + 1, 0)]
    orders = {
        tuple(corpus.batches("train", max_tokens=300, seed=seed, epoch=epoch).order.tolist())
        for seed, epoch in settings
    }
    assert len(orders) == len(settings)


def test_the_order_is_the_one_of_every_platform() -> None:
    pairs = pairs_of([(n % 5 + 1, n % 3 + 1) for n in range(12)])
    batches = plan(pairs, max_tokens=12, seed=7, epoch=3)
    found = [batch.indices.tolist() for batch in batches]
    assert found == [[3, 9], [11, 8], [4], [0, 1, 10, 6], [7, 2, 5]]


def test_pairs_meet_others_in_each_epoch_and_batches_come_in_another_order(corpus: Corpus) -> None:
    epochs = [corpus.batches("train", max_tokens=100, seed=1, epoch=epoch) for epoch in range(2)]
    groups = [{frozenset(batch.indices.tolist()) for batch in batches} for batches in epochs]
    assert len(groups[0] & groups[1]) < len(groups[0]) / 2
    widths = [[batch.source.shape[1] for batch in batches] for batches in epochs]
    assert all(w != sorted(w) for w in widths)


def test_an_epoch_goes_on_at_any_batch_without_those_before(corpus: Corpus) -> None:
    batches = corpus.batches("train", max_tokens=200, seed=5, epoch=2)
    whole = [contents(batch) for batch in batches]
    assert len(batches) == len(whole) > 10
    for n_done in (0, 1, len(whole) - 1, len(whole)):
        assert [contents(batch) for batch in batches.after(n_done)] == whole[n_done:]
    assert contents(batches[-1]) == whole[-1]
    with pytest.raises(IndexError):
        batches[len(whole)]


def test_without_a_seed_batches_are_the_same_always_and_the_shortest_come_first(corpus: Corpus) -> None:
    one, other = (corpus.batches("valid", max_tokens=200, epoch=epoch) for epoch in (0, 3))
    assert [contents(batch) for batch in one] == [contents(batch) for batch in other]
    longest = [max(batch.source.shape[1], batch.target_in.shape[1]) for batch in one]
    assert longest == sorted(longest)


def test_little_of_a_batch_is_padding(corpus: Corpus) -> None:
    assert corpus.batches("train", max_tokens=500, seed=0).padding < 0.15


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "dev"}, "unknown set 'dev'; known: train, valid, test"),
        ({"max_tokens": 9}, r"`max_tokens` must be at least \d+, the longest sentence of 'train', got 9"),
        ({"max_tokens": 0}, "`max_tokens` must be an integer"),
        ({"max_tokens": 99.5}, "`max_tokens` must be an integer"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"seed": 2**64}, "`seed` must be an integer"),
        ({"epoch": -1}, "`epoch` must be an integer"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(change: dict[str, Any], words: str, corpus: Corpus) -> None:
    settings = {"name": "train", "max_tokens": 300, "seed": 0, **change}
    with pytest.raises(InputError, match=words):
        corpus.batches(settings.pop("name"), **settings)


def test_the_longest_sentence_is_the_least_budget(corpus: Corpus) -> None:
    longest = corpus.record["sets"]["train"]["longest"]
    assert max(len(batch.source) for batch in corpus.batches("train", max_tokens=longest, seed=0)) >= 1
    with pytest.raises(InputError, match="at least"):
        corpus.batches("train", max_tokens=longest - 1)


def test_tensors_hold_what_the_arrays_hold(corpus: Corpus) -> None:
    torch = pytest.importorskip("torch")
    batch = corpus.batches("valid", max_tokens=200)[0]
    tensors = batch.tensors()
    assert [tensor.dtype for tensor in tensors] == [torch.int64] * 3
    assert tuple(tensor.tolist() for tensor in tensors) == contents(batch)
    assert corpus.decode(tensors[2]) == corpus.decode(batch.target_out)


def test_loading_a_corpus_needs_no_torch_and_maps_its_arrays(corpus: Corpus) -> None:
    assert isinstance(corpus.pairs["train"].tokens, np.memmap)
    script = "import sys, llmpp.corpus as c; c.Corpus.load(sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", script, str(corpus.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"


def test_batches_hold_the_text_that_was_prepared(corpus: Corpus) -> None:
    pairs = toy_pairs(40, 1)
    assert corpus.sources("valid") == [source for source, _ in pairs]
    assert corpus.references("valid") == [target for _, target in pairs]
    for batch in corpus.batches("valid", max_tokens=200):
        expected = [pairs[i] for i in batch.indices]
        sides = zip(corpus.decode(batch.source), corpus.decode(batch.target_out), strict=True)
        assert list(sides) == expected
        assert corpus.decode(batch.target_in[:, 1:]) == [target for _, target in expected]


def test_raw_sentences_are_kept_of_the_sets_that_are_scored(corpus: Corpus) -> None:
    for name in ("train", "dev"):
        for read in (corpus.sources, corpus.references):
            with pytest.raises(InputError, match=f"unknown set with raw sentences '{name}'; known: valid"):
                read(name)


def test_sentences_that_were_changed_after_opening_are_named(copy: Path) -> None:
    corpus = Corpus.load(copy)
    (copy / "valid.source.txt").unlink()
    (copy / "valid.target.txt").write_bytes("älter\n".encode("latin-1"))
    for read, name in ((corpus.sources, "valid.source.txt"), (corpus.references, "valid.target.txt")):
        with pytest.raises(InputError, match=f"cannot read .*{name}: .*was changed since .*prepare it again"):
            read("valid")


def learn_every_byte() -> Subwords:
    """A vocabulary in which no text is unknown: it has seen every byte of UTF-8, and some words."""
    points = [*range(1, 0xD800, 32), 0xE000, 0xF000, 0x10000, 0x40000, 0x80000, 0xC0000, 0x100000]
    points += range(1, 0x800)
    words = [side for pair in toy_pairs(50) for side in pair]
    return Subwords.learn([*words, *map(chr, points)], 300)


EVERY = learn_every_byte()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30), max_size=5))
def test_decoding_restores_the_normalised_text(texts: list[str]) -> None:
    rows = EVERY.encode(texts)
    assert EVERY.decode(rows) == [EVERY.normalise(text) for text in texts]
    assert not any(token in (BOS, PAD, EOS, UNK) for row in rows for token in row)
    assert all(row for row, text in zip(rows, texts, strict=True) if text.strip())


@given(st.text("aäeE\u0301\u0308 \t\u00a0\u2028\r.<s>/", max_size=30))
def test_normalisation_is_nfc_and_single_spaces(text: str) -> None:
    assert EVERY.normalise(text) == re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def test_names_of_special_tokens_are_text_like_any_other(corpus: Corpus) -> None:
    text = "a</s>dog <pad> <s> <unk>"
    assert EVERY.decode(EVERY.encode([text])) == [text]
    (row,) = corpus.encode([text])
    assert not {BOS, PAD, EOS} & set(row)


def test_a_vocabulary_survives_its_json(corpus: Corpus) -> None:
    again = Subwords.from_json(corpus.subwords.to_json())
    texts = ["a dog </s>", "Straße", "zzz"]
    assert again.encode(texts) == corpus.encode(texts)
    assert len(again) == corpus.vocabulary


def test_an_unknown_byte_shows_in_the_text(corpus: Corpus) -> None:
    rows = corpus.encode(["a Qog"])
    assert rows[0].count(UNK) == 1
    assert corpus.decode(rows) == ["a <unk>og"]


def test_decoding_ends_at_the_first_end_and_leaves_special_tokens_out(corpus: Corpus) -> None:
    (dog,), (cat,) = corpus.encode(["dog", "cat"])[0:1], corpus.encode(["cat"])
    row = [corpus.bos, *dog, corpus.pad, corpus.eos, *cat, corpus.eos]
    assert corpus.decode([row, np.array(row), [], [corpus.eos]]) == ["dog", "dog", "", ""]


@pytest.mark.parametrize("row", [[4, 80], [-1, 4], [10**9]])
def test_numbers_of_another_vocabulary_are_refused(row: list[int], corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"subwords must be in 0..79, got .*another vocabulary"):
        corpus.decode([row])


def test_the_hash_is_that_of_the_text_and_the_settings(tmp_path: Path, corpus: Corpus) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    for folder in (again, other):
        folder.mkdir()
    assert prepare_toy(again, date="2026-11-11", command="another")["hash"] == corpus.hash
    assert prepare_toy(other, vocabulary=81)["hash"] != corpus.hash


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((path / "corpus.json").read_text(encoding="utf-8"))
    change(record)
    (path / "corpus.json").write_text(json.dumps(record), encoding="utf-8")


def rehash(path: Path) -> None:
    """Makes the record agree with the files that are there."""

    def change(record: dict[str, Any]) -> None:
        record["files"] = {name: file_entry(path / name) for name in record["files"]}
        record["hash"] = content_hash(record["files"])

    edit(path, change)


FILES = [
    "tokenizer.json",
    *(f"{name}.{part}.npy" for name in ("train", "valid", "test") for part in ("tokens", "bounds")),
    *(f"{name}.{side}.txt" for name in ("valid", "test") for side in ("source", "target")),
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_cut_or_lost_is_noticed(name: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        (copy / name).write_bytes(damaged)
        with pytest.raises(InputError, match=f"{name} does not match corpus.json: prepare the corpus again"):
            Corpus.load(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"cannot read .*{name}"):
        Corpus.load(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema="llmpp.corpus/2"), "is of schema 'llmpp.corpus/2', not 'llmpp.corpus/1'"),
        (lambda r: r.pop("schema"), "is of schema None"),
        (lambda r: r.pop("files"), "not the record of a corpus: KeyError"),
        (
            lambda r: r.update(sets=3),
            "not the record of a corpus: InputError: `sets` must be an object, got 3",
        ),
        (lambda r: r.update(sets=list(r["sets"])), r"`sets` must be an object, got \['train'"),
        (lambda r: r.update(files=list(r["files"])), "`files` must be an object"),
        (lambda r: r["files"].update({"tokenizer.json": 3}), "not the record of a corpus: TypeError"),
        (lambda r: r.pop("max_tokens"), "not the record of a corpus: KeyError: 'max_tokens'"),
        (lambda r: r.update(max_tokens="256"), "`max_tokens` must be an integer in 2..1048576, got '256'"),
        (lambda r: r.update(hash="0"), "not the record of a whole corpus"),
        (lambda r: r["sets"].pop("test"), "not the record of a whole corpus"),
        (lambda r: r["sets"].update({"../x": {}}), "not the record of a whole corpus"),
        (lambda r: r["files"].pop("tokenizer.json"), "not the record of a whole corpus"),
        (lambda r: r["sets"]["valid"].update(n_pairs=39), "valid.bounds.npy does not match"),
        (lambda r: r["sets"]["valid"].update(n_pairs="40"), "valid.bounds.npy does not match"),
        (lambda r: r["sets"].update(valid=None), "valid.bounds.npy does not match"),
        (lambda r: r.update(vocabulary=79), "tokenizer.json does not match"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], Any], words: str, copy: Path
) -> None:
    edit(copy, change)
    with pytest.raises(InputError, match=words):
        Corpus.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema": "llmpp.corpus/1"}'])
def test_what_is_no_record_is_refused(text: str, copy: Path) -> None:
    (copy / "corpus.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="corpus.json"):
        Corpus.load(copy)


@pytest.mark.parametrize("path", ["missing", "copy/corpus.json"])
def test_what_is_no_directory_is_refused(path: str, copy: Path) -> None:
    with pytest.raises(InputError, match="cannot read the corpus"):
        Corpus.load(copy.parent / path)


ARRAYS: list[tuple[str, Any]] = [
    ("tokens", np.zeros(3, np.int64)),
    ("tokens", np.zeros((3, 2), np.uint16)),
    ("tokens", np.full(3, 80, np.uint16)),
    ("bounds", np.zeros(81, np.int32)),
    ("bounds", np.zeros(80, np.int64)),
    ("bounds", np.zeros(81, np.int64)),
    ("bounds", np.arange(81)),
    ("bounds", np.arange(1, 82)),
]


@pytest.mark.parametrize(("part", "array"), ARRAYS)
def test_arrays_that_cannot_be_a_set_are_refused_also_under_their_hash(
    part: str, array: Any, copy: Path
) -> None:
    np.save(copy / f"valid.{part}.npy", array)
    rehash(copy)
    with pytest.raises(InputError, match=f"valid.{part}.npy does not match"):
        Corpus.load(copy)


def test_a_pickle_is_not_opened(copy: Path) -> None:
    for content in (pickle.dumps([1, 2]), b"\x93NUMPY"):
        (copy / "valid.tokens.npy").write_bytes(content)
        rehash(copy)
        with pytest.raises(InputError, match="valid.tokens.npy is not an array"):
            Corpus.load(copy)
    with (copy / "valid.tokens.npy").open("wb") as file:
        np.savez(file, np.zeros(3, np.uint16))
    rehash(copy)
    with pytest.raises(InputError, match="valid.tokens.npy is not an array"):
        Corpus.load(copy)
    np.save(copy / "valid.tokens.npy", np.array([{}]), allow_pickle=True)
    rehash(copy)
    with pytest.raises(InputError, match="valid.tokens.npy is not an array"):
        Corpus.load(copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "cannot read the vocabulary"),
        ("", "cannot read the vocabulary"),
        (None, "must begin with <s>, <pad>"),
    ],
)
def test_a_vocabulary_of_another_kind_is_refused(text: str | None, words: str, copy: Path) -> None:
    path = copy / "tokenizer.json"
    renamed = path.read_text(encoding="utf-8").replace("<pad>", "[PAD]")
    path.write_text(renamed if text is None else text, encoding="utf-8")
    rehash(copy)
    with pytest.raises(InputError, match=words):
        Corpus.load(copy)
