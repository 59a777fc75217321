"""Answer files: the shipped ones, writing and reading, and lines that are no answers."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpp import SPACES, InputError, load_task
from llmpp.answers import Answer, Answers, read_answers, write_answers

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]
ARCHITECTURE = SPACES["hat-wmt"].sample(1)[0]
GOOD = {"architecture": ARCHITECTURE.to_dict(), "answer": 25.5}
#: Text that a file may hold: lone surrogates cannot be encoded.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def shipped(task: str) -> Answers:
    return read_answers(Path(str(files("llmpp"))) / "assets" / "answers" / f"{task}.jsonl")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("task", WMT_TASKS)
def test_shipped_answers_equal_every_recorded_reply(task: str, data: Path) -> None:
    folder = data / "llm_answers"
    pool = {row["id"]: row["architecture"] for row in read_jsonl(folder / "pool.jsonl")}
    figures = {row["id"]: row["architecture"] for row in read_jsonl(data / "tfs" / f"{task}.jsonl")}
    prompts = [row for row in read_jsonl(folder / "index.jsonl") if row["task"] == task]
    by_prompt: dict[str | None, list[Answer]] = {}
    for row in shipped(task).rows:
        by_prompt.setdefault(row.prompt, []).append(row)
    assert len(prompts) == 9
    assert set(by_prompt) == {row["name"] for row in prompts}
    for prompt in prompts:
        text = (folder / "replies" / f"{prompt['name']}.txt").read_text()
        reply = [line.split() for line in text.splitlines()]
        rows = by_prompt[prompt["name"]]
        assert len(rows) == len(reply) == len(prompt["queries"])
        for number, (row, line, query) in enumerate(zip(rows, reply, prompt["queries"], strict=True), 1):
            asked = figures[query["tfs"]] if "tfs" in query else pool[query["pool"]]
            assert (row.architecture.to_dict(), [str(number), row.answer]) == (
                asked,
                [line[0], float(line[1])],
            )
            assert row.split == ("all" if prompt["split"] is None else str(prompt["split"]))


@pytest.mark.parametrize("task", WMT_TASKS)
def test_shipped_answers_name_their_task_and_the_model(task: str) -> None:
    answers = shipped(task)
    assert answers.header["task"] == task
    assert "claude" in answers.header["model"]
    sizes = {split: len(answers.of_split(split).rows) for split in ("all", "123", "456", "789")}
    assert sizes == {"all": 450, "123": 300, "456": 300, "789": 300}


@pytest.mark.parametrize("task", WMT_TASKS)
def test_answers_of_prompts_that_showed_all_figures_are_not_about_them(task: str) -> None:
    known = {figures.architecture for figures in load_task(task).figures}
    assert not known & set(shipped(task).of_split("all").architectures)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.builds(
            Answer,
            st.integers(0, 2**32).map(lambda seed: SPACES["hat-wmt"].sample(1, seed=seed)[0]),
            st.floats(allow_nan=False, allow_infinity=False),
            TEXT,
            st.none() | TEXT,
        ),
        min_size=1,
        max_size=5,
    ),
    header=st.dictionaries(st.sampled_from(["task", "model", "source"]), TEXT),
)
def test_reading_inverts_writing(rows: list[Answer], header: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers = Answers(header, tuple(rows))
    write_answers(path, answers)
    assert read_answers(path) == answers
    assert len(path.read_text().splitlines()) == len(rows) + 1


def test_a_file_needs_neither_header_nor_split_nor_prompt(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n" + json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "answer": 7}))
    answers = read_answers(path)
    assert answers.header == {}
    assert answers.rows == (Answer(ARCHITECTURE, 25.5), Answer(ARCHITECTURE, 7.0))
    assert answers.values.tolist() == [25.5, 7.0]


def test_a_missing_split_gets_the_list_of_splits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split '5'.*\['123', '456', '789', 'all'\]"):
        shipped("wmt14.en-de").of_split("5")


BAD_LINES: list[tuple[str, str]] = [
    ("{", "Expecting"),
    ("not json", "Expecting value"),
    ("5", ""),
    ("null", ""),
    ("[1]", ""),
    ('"text"', ""),
    ("{}", "answer"),
    (json.dumps({"answer": 1}), "architecture"),
    (json.dumps({**GOOD, "answer": "25"}), "`answer` must be a finite number, got '25'"),
    (json.dumps({**GOOD, "answer": None}), "got None"),
    (json.dumps({**GOOD, "answer": True}), "got True"),
    (json.dumps({**GOOD, "answer": float("nan")}), "got nan"),
    (json.dumps({**GOOD, "answer": float("inf")}), "got inf"),
    (json.dumps({**GOOD, "architecture": {}}), "exactly the fields"),
    (json.dumps({**GOOD, "architecture": 3}), "exactly the fields"),
    (json.dumps({**GOOD, "architecture": {**ARCHITECTURE.to_dict(), "encoder_dim": 0}}), "encoder_dim"),
]


@pytest.mark.parametrize(("line", "words"), BAD_LINES)
def test_a_bad_line_is_told_by_its_number(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(InputError, match="answers.jsonl, line 3, is not an answer") as caught:
        read_answers(path)
    assert words in str(caught.value)


def test_an_absurdly_long_number_is_a_bad_line_too(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({**GOOD, "answer": 10**400}))
    with pytest.raises(InputError, match="line 1"):
        read_answers(path)


def test_a_missing_key_is_told_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"architecture": ARCHITECTURE.to_dict()}))
    with pytest.raises(InputError, match="not an answer: .*(missing|lacks|needs)"):
        read_answers(path)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"schema": "llmpp.answers/9"}) + "\n" + json.dumps(GOOD))
    with pytest.raises(InputError, match="line 1.*'llmpp.answers/1', got 'llmpp.answers/9'"):
        read_answers(path)


@pytest.mark.parametrize("content", ["", "\n\n", json.dumps({"schema": "llmpp.answers/1"})])
def test_a_file_without_answers_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="holds no answers"):
        read_answers(path)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.jsonl", tmp_path, binary):
        with pytest.raises(InputError, match="cannot read the answers"):
            read_answers(path)
    with pytest.raises(InputError, match="cannot write"):
        write_answers(tmp_path / "no" / "folder", Answers({}, (Answer(ARCHITECTURE, 1.0),)))
