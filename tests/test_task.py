"""Tasks: those that ship, those from a file, and files that are none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llmpp
from llmpp import InputError, SpaceError, load_task, task_names

SIZES = {
    "wmt14.en-de": ("hat-wmt", 32768, 30),
    "wmt14.en-fr": ("hat-wmt", 44512, 30),
    "wmt19.en-de": ("hat-wmt", 49600, 30),
}
WMT_TASKS = sorted(SIZES)
CUSTOM: dict[str, Any] = {
    "schema": "llmpp.task/1",
    "name": "mine.de-en",
    "space": {
        "name": "small",
        "qkv_dim": 256,
        "options": {
            "encoder_dim": [256],
            "encoder_layers": [2],
            "encoder_ffn": [512, 1024],
            "encoder_heads": [4],
            "decoder_dim": [256],
            "decoder_layers": [1, 2],
            "decoder_ffn": [512, 1024],
            "decoder_heads": [4],
            "cross_heads": [4],
            "cross_span": [1, 2],
        },
    },
    "vocabulary": 8000,
    "sentence_length": 20,
}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "task.json"
    path.write_text(json.dumps({**CUSTOM, **changes}))
    return path


def test_importing_llmpp_leaves_heavy_packages_alone() -> None:
    code = "import llmpp, sys; print([m for m in ('torch', 'openai', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_is_listed() -> None:
    assert all(getattr(llmpp, name) is not None for name in llmpp.__all__)
    assert set(llmpp.__all__) <= set(dir(llmpp))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = llmpp.nonsense


def test_the_built_in_tasks_are_hats_and_one_of_our_own() -> None:
    assert task_names() == ["iwslt14.de-en", "multi30k.en-de", *WMT_TASKS]


def test_the_task_of_our_own_has_figures_scores_and_splits() -> None:
    task = load_task("multi30k.en-de")
    assert (task.vocabulary, task.sentence_length, task.space.qkv_dim) == (3000, 18, 128)
    assert task.space.options == llmpp.SPACES["multi30k"].options
    assert [one.id for one in task.figures] == list(range(1, 31))
    assert all(28 < one.test_score < 34 and one.latency_ms > 0 for one in task.figures)
    assert {name: len(ids) for name, ids in (task.splits or {}).items()} == {"123": 10, "456": 10, "789": 10}
    assert "llmpp study run" in task.source
    assert "AMD EPYC" in task.source


@pytest.mark.parametrize("name", WMT_TASKS)
def test_a_wmt_task_has_the_sizes_of_hat_and_words_for_a_prompt(name: str) -> None:
    task = load_task(name)
    assert (task.space.name, task.vocabulary, task.sentence_length) == SIZES[name]
    assert task.metric == "BLEU"
    year, language = name[3:5], {"de": "German", "fr": "French"}[name[-2:]]
    assert f"20{year}" in task.words
    assert language in task.words
    assert "llmas" in task.source


def test_the_iwslt_task_has_its_own_space_and_sentence_length() -> None:
    task = load_task("iwslt14.de-en")
    assert (task.space.name, task.sentence_length) == ("hat-iwslt", 23)
    assert task.figures == ()


@pytest.mark.parametrize("name", WMT_TASKS)
def test_shipped_figures_equal_the_source(name: str, data: Path) -> None:
    task, rows = load_task(name), read_jsonl(data / "tfs" / f"{name}.jsonl")
    assert len(task.figures) == len(rows) == 30
    for figures, row in zip(task.figures, rows, strict=True):
        assert figures.id == row["id"]
        assert figures.architecture.to_dict() == row["architecture"]
        assert (figures.valid_score, figures.test_score) == (row["valid_bleu"], row["test_bleu"])
        assert figures.latency_ms == pytest.approx(row["latency_ms"], abs=5.1e-4)
        assert figures.supernet_scores == row["supernet_valid_bleu"]


@pytest.mark.parametrize("name", WMT_TASKS)
def test_splits_show_the_demonstrations_of_the_recorded_prompts_in_their_order(name: str, data: Path) -> None:
    task = load_task(name)
    prompts = [row for row in read_jsonl(data / "llm_answers" / "index.jsonl") if row["task"] == name]
    assert {row["split"] for row in prompts} == {123, 456, 789, None}
    for row in prompts:
        split = "all" if row["split"] is None else str(row["split"])
        assert [figures.id for figures in task.demonstrations(split)] == row["demonstrations"]


@pytest.mark.parametrize("name", WMT_TASKS)
def test_splits_equal_the_marks_of_the_source(name: str, data: Path) -> None:
    task, rows = load_task(name), read_jsonl(data / "tfs" / f"{name}.jsonl")
    for split in ("123", "456", "789"):
        marked = {row["id"] for row in rows if int(split) in row["demonstration_in"]}
        assert {figures.id for figures in task.demonstrations(split)} == marked


@pytest.mark.parametrize("name", WMT_TASKS)
@pytest.mark.parametrize("split", ["123", "456", "789"])
def test_a_split_parts_the_figures_into_ten_and_twenty(name: str, split: str) -> None:
    task = load_task(name)
    shown = {figures.id for figures in task.demonstrations(split)}
    held_out = {figures.id for figures in task.held_out(split)}
    assert (len(shown), len(held_out)) == (10, 20)
    assert shown | held_out == {figures.id for figures in task.figures}


def test_the_split_of_all_holds_nothing_out() -> None:
    assert load_task("wmt14.en-de").held_out("all") == []


def test_an_unknown_split_gets_the_list_of_splits() -> None:
    with pytest.raises(InputError, match=r"unknown split of wmt14\.en-de '1'; known: 123, 456, 789, all"):
        load_task("wmt14.en-de").demonstrations("1")


def test_a_custom_task_brings_its_own_space(tmp_path: Path) -> None:
    task = load_task(write(tmp_path))
    assert (task.name, task.vocabulary, task.space.qkv_dim) == ("mine.de-en", 8000, 256)
    architecture = task.space.sample(1)[0]
    assert architecture.encoder_layers == 2
    assert llmpp.cost(architecture, task=str(tmp_path / "task.json")).embedding_params == 8000 * 256
    with pytest.raises(SpaceError, match="not one of"):
        llmpp.cost(llmpp.SPACES["hat-wmt"].sample(1)[0], task=task)


def test_a_custom_task_may_use_a_space_by_name_and_bring_figures(tmp_path: Path) -> None:
    architecture = llmpp.SPACES["hat-wmt"].sample(1)[0]
    figures = {
        "id": 3,
        "architecture": architecture.to_dict(),
        "valid_score": 20.0,
        "test_score": 21.0,
        "latency_ms": 5.0,
        "supernet_scores": {},
    }
    path = write(tmp_path, space="hat-wmt", figures=[figures], splits={"a": [3]}, metric="chrF")
    task = load_task(path)
    assert task.space is llmpp.SPACES["hat-wmt"]
    assert task.demonstrations("a") == list(task.figures)
    assert (task.metric, task.figures[0].architecture) == ("chrF", architecture)


def test_a_task_passes_through() -> None:
    task = load_task("wmt14.en-fr")
    assert load_task(task) is task


def test_an_unknown_task_gets_the_list_of_tasks_and_the_way_out() -> None:
    with pytest.raises(InputError, match=r"unknown task .wmt15.*multi30k.en-de, wmt14.*JSON file"):
        load_task("wmt15")


def test_a_folder_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown task"):
        load_task(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "null", '"text"', "\x00", "{}"])
def test_a_file_that_is_no_task_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(content)
    with pytest.raises(InputError, match="task"):
        load_task(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a task"):
        load_task(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "llmpp.task/2"}, "schema 'llmpp.task/1', got 'llmpp.task/2'"),
        ({"space": "hat"}, "unknown space 'hat'; known: hat-iwslt, hat-wmt, multi30k"),
        ({"space": {"name": "x"}}, "exactly the keys name, qkv_dim, options"),
        ({"space": [1]}, "is not a task"),
        ({"colour": 1}, "may have.*got.*colour"),
        ({"figures": 5}, "is not a task"),
        ({"figures": [{}]}, "is not a task"),
        ({"figures": [{"architecture": {}}]}, "exactly the fields"),
        ({"splits": [1]}, "is not a task"),
        ({"splits": {"a": 1}}, "is not a task"),
    ],
)
def test_a_task_file_with_a_bad_entry_says_what_is_wrong(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        load_task(write(tmp_path, **changes))


@pytest.mark.parametrize("key", CUSTOM)
def test_a_task_file_without_a_needed_key_gets_the_list_of_keys(key: str, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({name: value for name, value in CUSTOM.items() if name != key}))
    with pytest.raises(InputError, match=f"needs the keys.*{key}"):
        load_task(path)


@pytest.mark.parametrize("key", ["vocabulary", "sentence_length"])
@pytest.mark.parametrize("value", [0, -1, "many", 1.5, None, 2**40])
def test_a_size_that_is_no_positive_integer_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=key):
        load_task(write(tmp_path, **{key: value}))


def test_a_split_of_figures_that_do_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="99"):
        load_task(write(tmp_path, splits={"a": [99]})).demonstrations("a")


@pytest.mark.parametrize("wrong", [None, 5])
def test_what_is_neither_name_nor_path_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="unknown task"):
        load_task(wrong)


def test_a_name_too_long_for_a_file_is_an_unknown_task() -> None:
    with pytest.raises(InputError, match="unknown task"):
        load_task("x" * 5000)
