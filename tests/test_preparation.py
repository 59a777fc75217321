"""Preparing a corpus: what is read, what is dropped and said to be, and what is written or left alone."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Command, last_line
from llmpp import InputError
from llmpp.corpus import Corpus, token_type
from llmpp.parallel_text import Files, LineReport, ParallelText
from llmpp.preparation import prepare
from toy_text import prepare_toy, toy_files, toy_pairs, write_files, write_tsv

pytest.importorskip("tokenizers")


def nothing_is_left(folder: Path) -> bool:
    """Whether no corpus is there, whole or in part."""
    return not [path for path in folder.iterdir() if path.is_dir()]


def test_two_files_compressed_or_not_and_one_tsv_give_the_same_corpus(tmp_path: Path) -> None:
    pairs = toy_pairs(100)
    forms: dict[str, Files] = {
        "plain": write_files(tmp_path, "plain", pairs),
        "gz": write_files(tmp_path, "gz", pairs, is_compressed=True),
        "tsv": write_tsv(tmp_path / "text.tsv", pairs),
        "list": [str(path) for path in write_files(tmp_path, "plain", pairs)],
    }
    records = [
        prepare(train=files, valid=files, output=tmp_path / name, vocabulary=60)
        for name, files in forms.items()
    ]
    assert len({record["hash"] for record in records}) == 1
    assert [list(record["sets"]) for record in records] == [["train", "valid"]] * 4
    assert Corpus.load(tmp_path / "gz").references("valid") == [target for _, target in pairs]


def test_what_is_prepared_loads_with_its_counts_and_its_origin(tmp_path: Path) -> None:
    record = prepare_toy(tmp_path, command="llmpp prepare toy")
    corpus = Corpus.load(tmp_path / "corpus")
    assert corpus.record == record
    assert (record["command"], record["date"]) == ("llmpp prepare toy", "2026-01-02")
    assert set(record["versions"]) == {"llmpp", "numpy", "tokenizers"}
    assert (record["schema"], record["vocabulary"], corpus.vocabulary) == ("llmpp.corpus/1", 80, 80)
    for name, n in (("train", 300), ("valid", 40), ("test", 30)):
        counts, lengths = record["sets"][name], corpus.pairs[name].lengths
        assert (counts["n_lines"], counts["n_pairs"], lengths.shape) == (n, n, (n, 2))
        assert [counts["n_source_tokens"], counts["n_target_tokens"]] == lengths.sum(axis=0).tolist()
        assert (counts["longest"], counts["n_unknown_tokens"]) == (lengths.max(), 0)
        assert [text["name"] for text in counts["text"]] == [f"{name}.src", f"{name}.tgt"]


def test_dropped_lines_are_counted_by_reason_with_their_numbers(tmp_path: Path) -> None:
    sources = [
        b"a dog.",
        b"",
        b"cat \xff.",
        b"a cat.",
        b"a\0dog.",
        b"dog " * 50,
        b"a dog.",
        b" \t",
        b"a dog.",
    ]
    targets = [
        b"ein Hund.",
        b"ein.",
        b"Katze.",
        b"\xc2\xa0",
        b"ein Hund.",
        b"Hund.",
        b"Hund " * 50,
        b"",
        b"Hund.",
    ]
    source, target = tmp_path / "mixed.src", tmp_path / "mixed.tgt"
    source.write_bytes(b"\n".join(sources))
    target.write_bytes(b"\n".join(targets) + b"\n")
    record = prepare_toy(tmp_path, valid=(source, target), max_tokens=40)
    counts = record["sets"]["valid"]
    assert (counts["n_lines"], counts["n_pairs"]) == (9, 2)
    assert counts["dropped"] == {
        "blank": {"n": 3, "first_lines": [2, 4, 8]},
        "over_long": {"n": 2, "first_lines": [6, 7]},
        "undecodable": {"n": 2, "first_lines": [3, 5]},
        "misaligned": {"n": 0, "first_lines": []},
    }
    assert Corpus.load(tmp_path / "corpus").references("valid") == ["ein Hund.", "Hund."]


def test_lines_of_a_tsv_without_exactly_two_columns_are_misaligned(tmp_path: Path) -> None:
    path = tmp_path / "text.tsv"
    path.write_text("a\tein\nno tab\na\tein\tmore\n\n\t\na\t\ndog\tHund\n", encoding="utf-8")
    counts = prepare_toy(tmp_path, test=path)["sets"]["test"]
    assert (counts["n_lines"], counts["n_pairs"]) == (7, 2)
    assert counts["dropped"]["misaligned"] == {"n": 2, "first_lines": [2, 3]}
    assert counts["dropped"]["blank"] == {"n": 3, "first_lines": [4, 5, 6]}


def test_a_report_lists_the_first_ten_lines_and_counts_all(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "text.tsv", [("", "ein")] * 25 + [("a", "ein")])
    blank = prepare_toy(tmp_path, valid=path)["sets"]["valid"]["dropped"]["blank"]
    assert blank == {"n": 25, "first_lines": list(range(1, 11))}


def test_a_byte_order_mark_and_line_ends_of_other_systems_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "text.tsv"
    path.write_bytes("\ufeffa dog.\tein Hund.\r\na cat.\teine Katze.\r\n".encode())
    prepare_toy(tmp_path, valid=path)
    corpus = Corpus.load(tmp_path / "corpus")
    assert corpus.sources("valid") == ["a dog.", "a cat."]
    assert corpus.references("valid") == ["ein Hund.", "eine Katze."]


def test_only_line_feeds_end_a_line_and_raw_sentences_stay_as_they_were(tmp_path: Path) -> None:
    targets = ["ein\u2028Hund", "ein\rHund", "ein\x0bHund", "ein\x85Hund", "  ein  Hund "]
    pairs = [("a dog", target) for target in targets]
    prepare_toy(tmp_path, valid=write_files(tmp_path, "odd", pairs))
    corpus = Corpus.load(tmp_path / "corpus")
    assert corpus.references("valid") == targets
    batch = corpus.batches("valid", max_tokens=1000)[0]
    assert corpus.decode(batch.target_out) == ["ein Hund"] * 5


def test_a_byte_that_training_did_not_have_is_unknown_and_counted(tmp_path: Path) -> None:
    odd = write_files(tmp_path, "odd", [("a Qog", "ein Hund"), ("a dog", "ein X")])
    assert prepare_toy(tmp_path, test=odd)["sets"]["test"]["n_unknown_tokens"] == 2


@pytest.mark.parametrize(("n_source", "n_target"), [(5, 7), (9, 3), (0, 2), (2, 0)])
def test_files_of_different_lengths_are_refused_with_both_counts(
    n_source: int, n_target: int, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("a dog.\n" * n_source, encoding="utf-8")
    target.write_text("ein Hund.\n" * n_target, encoding="utf-8")
    words = f"source has {n_source} lines and .*target has {n_target}: line n"
    for name in ("train", "valid"):
        with pytest.raises(InputError, match=words):
            prepare_toy(tmp_path, **{name: (source, target)})
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("älter\n".encode("latin-1") * 6 + b"Hund\n" * 4, "not text in UTF-8: 6 of its 10 lines"),
        ("Hund\n".encode("utf-16") * 10, "is UTF-16, not UTF-8"),
        (b"\x7fELF\0\n" + b"\0\n" * 9, "not text in UTF-8: 10 of its 10 lines"),
        (
            gzip.compress(b"".join(b"%d Hund %d\n" % (n, n * n) for n in range(3000)))[:-200],
            "damaged or was cut",
        ),
        (gzip.compress(b"Hund\n" * 10)[:14] + b"\xff" * 12, "damaged or was cut off"),
        (gzip.compress(b"Hund\n" * 10)[:5], "damaged or was cut off"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    source, target = write_files(tmp_path, "text", [("a dog.", "Hund")] * 10)
    target.write_bytes(content)
    with pytest.raises(InputError, match=f"text.tgt .*{words}"):
        prepare_toy(tmp_path, valid=(source, target))
    assert nothing_is_left(tmp_path)


def test_files_that_are_missing_or_none_or_too_many_are_refused(tmp_path: Path) -> None:
    for valid, words in (
        (tmp_path / "missing", "`valid`: there is no regular file .*missing"),
        (tmp_path, "there is no regular file"),
        ([], "must be one TSV, or a source and a target file; got 0 files"),
        (["a", "b", "c"], "got 3 files"),
    ):
        with pytest.raises(InputError, match=words):
            prepare_toy(tmp_path, valid=valid)
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
@pytest.mark.parametrize(
    ("content", "words"),
    [("", "has 0 lines"), ("\n\nno tab\n", "has 3 lines, of which 2 blank, 1 misaligned")],
)
def test_a_set_without_a_pair_is_refused_with_what_became_of_its_lines(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "empty.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(
        InputError, match=f"the {name} set has no pair that can be used: .*empty.tsv {words}$"
    ):
        prepare_toy(tmp_path, **{name: path})
    assert nothing_is_left(tmp_path)


def test_a_set_whose_sentences_are_all_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train set has no pair .*of which 300 over_long"):
        prepare_toy(tmp_path, max_tokens=2)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (5000, r"allows only (\d+) subwords: ask for at most"),
        (10, r"must be at least (\d+) \(4 special tokens"),
    ],
)
def test_a_vocabulary_that_does_not_fit_the_text_says_which_would(
    asked: int, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        prepare_toy(tmp_path, vocabulary=asked)
    assert f"{asked}" in str(caught.value)
    assert nothing_is_left(tmp_path)
    possible = next(int(word) for word in str(caught.value).split() if word.isdigit() and int(word) != asked)
    assert prepare_toy(tmp_path, vocabulary=possible)["vocabulary"] == possible


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": True},
        {"vocabulary": 4},
        {"vocabulary": 80.0},
        {"max_tokens": 1},
        {"max_tokens": "many"},
        {"date": "today"},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"`{next(iter(change))}` must be"):
        prepare_toy(tmp_path, **change)
    assert nothing_is_left(tmp_path)


def test_an_output_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "notes").write_text("mine", encoding="utf-8")
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="full is not empty: name another"):
        prepare_toy(tmp_path, output=full)
    with pytest.raises(InputError, match="file is a file: name another"):
        prepare_toy(tmp_path, output=file)
    assert [path.name for path in full.iterdir()] == ["notes"]
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_empty_directory_and_one_in_new_folders_serve(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "new" / "folders" / "corpus"):
        prepare_toy(tmp_path, output=output)
        assert Corpus.load(output).sets == ("train", "valid", "test")
        assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []


def test_an_output_that_another_run_has_filled_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, save = tmp_path / "corpus", np.save

    def fill(*arguments: Any, **settings: Any) -> None:
        output.mkdir(exist_ok=True)
        (output / "theirs").touch()
        save(*arguments, **settings)

    monkeypatch.setattr(np, "save", fill)
    with pytest.raises(InputError, match="is not empty"):
        prepare_toy(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["corpus"]
    assert [path.name for path in output.iterdir()] == ["theirs"]


FULL = OSError(errno.ENOSPC, "No space left")


@pytest.mark.parametrize(
    ("error", "raised"), [(FULL, InputError), (KeyboardInterrupt("No space left"), KeyboardInterrupt)]
)
@pytest.mark.parametrize("n_files", [0, 3])
def test_a_full_disk_or_an_interrupt_leaves_nothing(
    error: BaseException,
    raised: type[BaseException],
    n_files: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, written = np.save, list[Path]()

    def stop(path: Path, array: Any, **settings: Any) -> None:
        if len(written) == n_files:
            raise error
        written.append(path)
        save(path, array, **settings)

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(raised, match="No space left"):
        prepare_toy(tmp_path)
    assert len(written) == n_files
    assert nothing_is_left(tmp_path)


def test_an_output_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "corpus", tmp_path / ("long" * 100)):
        with pytest.raises(InputError, match="cannot write the corpus"):
            prepare_toy(tmp_path, output=output)
    assert nothing_is_left(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from llmpp.preparation import prepare
save, folder = np.save, Path(sys.argv[1])
def stop(path, *rest, **settings):
    if path.name == "test.bounds.npy":
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, *rest, **settings)
np.save = stop
sets = {name: (folder / f"{name}.src", folder / f"{name}.tgt") for name in ("train", "valid", "test")}
prepare(**sets, output=folder / "corpus", vocabulary=80)
"""


def test_a_run_that_is_killed_leaves_nothing_that_loads(tmp_path: Path) -> None:
    toy_files(tmp_path)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    (rest,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert rest.name.startswith(".corpus.")
    assert (rest / "train.tokens.npy").exists()
    with pytest.raises(InputError, match="cannot read the corpus"):
        Corpus.load(rest)
    prepare_toy(tmp_path)
    assert Corpus.load(tmp_path / "corpus").sets == ("train", "valid", "test")


def test_other_processes_and_numbers_of_threads_prepare_the_same_corpus(tmp_path: Path) -> None:
    files = toy_files(tmp_path)
    sets = [part for name in files for path in files[name] for part in (f"--{name}", str(path))]
    hashes = {prepare_toy(tmp_path)["hash"]}
    for n_threads in ("1", "3"):
        environment = {**os.environ, "RAYON_NUM_THREADS": n_threads, "PYTHONHASHSEED": n_threads}
        output = str(tmp_path / n_threads)
        command = [
            sys.executable,
            "-m",
            "llmpp",
            "prepare",
            *sets,
            "--vocabulary",
            "80",
            "-o",
            output,
            "--json",
        ]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        hashes.add(last_line(ended.stdout)["hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize(("vocabulary", "name"), [(5, "<u2"), (2**16, "<u2"), (2**16 + 1, "<u4")])
def test_subwords_are_stored_in_as_few_bytes_as_they_need(vocabulary: int, name: str) -> None:
    assert token_type(vocabulary) == np.dtype(name)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    prepare_toy(tmp_path)
    for path in (tmp_path / "corpus").glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.name in ("uint16", "int64")


def test_pairs_can_be_read_on_their_own(tmp_path: Path) -> None:
    report, pairs = LineReport(), toy_pairs(5)
    text = ParallelText.of("train", write_tsv(tmp_path / "text.tsv", pairs))
    assert [(pair.source, pair.target) for pair in text.pairs(report)] == pairs
    assert (str(report), report.n_kept) == ("5 lines", 5)


def options(files: dict[str, Any]) -> list[object]:
    return [part for name, paths in files.items() for path in paths for part in (f"--{name}", path)]


def test_the_command_prints_the_record_as_the_last_line(llmpp_command: Command, tmp_path: Path) -> None:
    sets = options(toy_files(tmp_path))
    code, out, _ = llmpp_command(
        "prepare", *sets, "-o", "c", "--vocabulary", 80, "--max-tokens", 50, "--json"
    )
    content = last_line(out)
    record = json.loads(Path("c/corpus.json").read_text(encoding="utf-8"))
    assert code == 0
    assert content == {**record, "output": "c"}
    assert record["max_tokens"] == 50
    assert record["command"].startswith("llmpp prepare --train ")


def test_the_command_tells_people_what_was_dropped(llmpp_command: Command, tmp_path: Path) -> None:
    files: dict[str, Any] = toy_files(tmp_path)
    files["valid"] = [write_tsv(tmp_path / "valid.tsv", [("", "x"), *toy_pairs(5), *[("", "x")] * 12])]
    files["test"] = [write_tsv(tmp_path / "test.tsv", [("", "x"), *toy_pairs(5)])]
    code, out, _ = llmpp_command("prepare", *options(files), "--output", "c", "--vocabulary", 80)
    assert code == 0
    assert "dropped from train: none" in out
    assert "dropped from valid: 13 blank, lines 1, 7, 8, 9, 10, 11, 12, 13, 14, 15, ..." in out
    assert "dropped from test: 1 blank, line 1\n" in out
    assert "written: c" in out
    assert Corpus.load("c").hash in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files.pop("valid"), "Missing option '--valid'"),
        (lambda files: files.update(valid=["missing"]), "there is no regular file missing"),
        (lambda files: files.update(valid=[*files["valid"], "x"]), "got 3 files"),
    ],
)
def test_the_command_exits_with_two_on_files_that_do_not_serve(
    change: Callable[[dict[str, Any]], Any], words: str, llmpp_command: Command, tmp_path: Path
) -> None:
    files: dict[str, Any] = toy_files(tmp_path)
    change(files)
    code, _, err = llmpp_command("prepare", *options(files), "-o", "c", "--vocabulary", 80)
    assert code == 2
    assert words in err
    assert not Path("c").exists()


def test_multi30k_is_prepared_whole_with_little_padding(data: Path, tmp_path: Path) -> None:
    names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    files = {
        name: tuple(data / "multi30k" / f"{stem}.{language}.gz" for language in ("en", "de"))
        for name, stem in names.items()
    }
    record = prepare(**files, output=tmp_path / "corpus", vocabulary=3000)  # type: ignore[arg-type]
    corpus = Corpus.load(tmp_path / "corpus")
    assert [counts["n_pairs"] for counts in record["sets"].values()] == [29000, 1014, 1000]
    assert all(not lines["n"] for c in record["sets"].values() for lines in c["dropped"].values())
    batches = corpus.batches("train", max_tokens=2048, seed=0)
    assert batches.padding < 0.05
    assert len(batches) < 290
    references = corpus.references("test")
    assert corpus.decode(corpus.encode(references)) == [
        corpus.subwords.normalise(text) for text in references
    ]
