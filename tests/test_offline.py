"""Questions and replies as files: by hand, for OpenAI's Batch API, of other caches, and as recorded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmpp import InputError, LlmPredictor, MissingAnswersError, load_task
from llmpp.answers import read_answers
from llmpp.assets import asset
from llmpp.cache import ReplyCache
from llmpp.offline import Imported, export_questions, export_replies, import_replies
from llmpp.survey import Survey, SurveySettings
from stand_in import completion, in_context

TASK = load_task("wmt14.en-de")
ASKED = [*TASK.space.sample(5, seed=3), TASK.figures[4].architecture]
CLAUDE = "claude (version not recorded)"


#: A reply as another cache's export has it.
ROW = {"model": "m", "settings": "{}", "sample": 0, "prompt": "p", "reply": "r", "input_tokens": None}
ROW |= {"output_tokens": None, "is_cut": 0, "source": "api"}
SEPARATORS = "\u2028 \u2029 \x85 \x0b \x0c \x1c"


@pytest.fixture
def cache(tmp_path: Path) -> ReplyCache:
    return ReplyCache(tmp_path / "replies.sqlite")


def predictor(cache: ReplyCache, **model: Any) -> LlmPredictor:
    """Can find replies, and may not ask for any."""
    settings = SurveySettings(batch_size=2)
    return LlmPredictor(TASK, split="123", settings=settings, cache=cache.path, max_calls=0, **model)


def exported(cache: ReplyCache, folder: Path, **model: Any) -> list[dict[str, Any]]:
    export_questions({"123": predictor(cache, **model).survey(ASKED)}, folder)
    return read_lines(folder / "index.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def output_of(request: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    """What the Batch API writes about a request."""
    said = in_context(request["body"]) if text is None else text
    body = json.loads(completion(said, request["body"]).get_data())
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None}


def reply_by_hand(folder: Path, name: str, *, text: str | None = None) -> None:
    prompt = (folder / "prompts" / f"{name}.txt").read_bytes().decode()
    answer = in_context({"input": prompt}) if text is None else text
    (folder / "replies" / f"{name}.txt").write_text(answer)


def test_replies_that_are_put_into_the_folder_are_found(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    rows = exported(cache, folder)
    assert len(rows) == 3
    for row in rows:
        reply_by_hand(folder, row["name"])
    imported = import_replies(cache, folder, model="gpt-4.1")
    assert [(entry.n_answers, entry.n_asked, entry.is_new) for entry in imported] == [(2, 2, True)] * 3
    assert len(predictor(cache).predict(ASKED)) == 6
    assert [entry.is_new for entry in import_replies(cache, folder, model="gpt-4.1")] == [False] * 3


def test_the_index_says_what_was_asked(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    rows = exported(cache, folder)
    pool = {row["id"]: row["architecture"] for row in read_lines(folder / "pool.jsonl")}
    queries = [query for row in rows for query in row["queries"]]
    assert queries[-1] == {"tfs": 4}
    assert [pool[query["pool"]] for query in queries[:-1]] == [found.to_dict() for found in ASKED[:-1]]
    assert rows[0]["demonstrations"] == [figures.id for figures in TASK.demonstrations("123")]
    assert (rows[0]["task"], rows[0]["split"], rows[0]["model"]) == ("wmt14.en-de", 123, "gpt-4.1")


@pytest.mark.parametrize(("one", "other"), [("a/b", "a b"), ("dev", "DEV")])
def test_two_splits_do_not_write_over_each_others_questions(
    one: str, other: str, cache: ReplyCache, tmp_path: Path
) -> None:
    survey = predictor(cache).survey(ASKED)
    with pytest.raises(InputError, match=f"splits '{one}' and '{other}' would both be called .* rename"):
        export_questions({one: survey, other: survey}, tmp_path / "questions")
    assert not (tmp_path / "questions").exists()


def test_only_a_seed_is_written_as_a_number(cache: ReplyCache, tmp_path: Path) -> None:
    survey = predictor(cache).survey(ASKED[:1])
    export_questions(dict.fromkeys(("0", "²", "012"), survey), tmp_path / "questions")
    rows = read_lines(tmp_path / "questions" / "index.jsonl")
    assert [row["split"] for row in rows] == [0, "\u00b2", "012"]
    assert [row["name"] for row in rows] == [
        f"wmt14.en-de_{stem}_0" for stem in ("seed0", "split-_", "split-012")
    ]


def test_what_is_missing_is_said_and_exported_again(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    names = [row["name"] for row in exported(cache, folder)]
    reply_by_hand(folder, names[0], text="1 25.5\nand 2 is hard to say")
    reply_by_hand(folder, names[1], text="Here is a poem instead.")
    imported = import_replies(cache, folder, model="gpt-4.1")
    assert [(entry.n_answers, entry.problem[:21]) for entry in imported] == [
        (1, ""),
        (0, "no answer can be read"),
        (0, "there is no reply"),
    ]
    again = exported(cache, tmp_path / "again")
    assert [len(row["queries"]) for row in again] == [1, 2, 2]
    with pytest.raises(MissingAnswersError, match=r"5 of 6 .*\(numbers 2, 3, 4, 5, 6\)"):
        predictor(cache).predict(ASKED)
    for row in again:
        reply_by_hand(tmp_path / "again", row["name"])
    import_replies(cache, tmp_path / "again", model="gpt-4.1")
    assert len(predictor(cache).predict(ASKED)) == 6


def test_replies_belong_to_the_model_that_is_named(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    for row in exported(cache, folder, temperature=0.5):
        reply_by_hand(folder, row["name"])
    with pytest.raises(InputError, match="name the model that gave the replies in"):
        import_replies(cache, folder)
    import_replies(cache, folder, model="another model")
    assert len(predictor(cache, model="another model").predict(ASKED)) == 6
    with pytest.raises(MissingAnswersError):
        predictor(cache, temperature=0.5).predict(ASKED)
    import_replies(cache, folder, model="gpt-4.1")
    assert len(predictor(cache, temperature=0.5).predict(ASKED)) == 6


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_batch_is_taken_from_its_output_file(api: str, cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    exported(cache, folder, api=api, n_samples=2, temperature=1.0, structured=True)
    requests = read_lines(folder / "requests.jsonl")
    assert len(requests) == 6
    assert {request["url"] for request in requests} == {f"/v1/{'chat/completions' if api == 'chat' else api}"}
    for request in requests:
        assert request["method"] == "POST"
        assert request["body"]["temperature"] == 1.0
    path = tmp_path / "batch_output.jsonl"
    write_lines(path, [output_of(request) for request in reversed(requests)])
    imported = import_replies(cache, path, prompts=folder)
    assert [entry.n_answers for entry in imported] == [2] * 6
    found = predictor(cache, api=api, n_samples=2, temperature=1.0, structured=True)
    assert len(found.predict(ASKED, return_std=True)[1]) == 6
    assert found.usage.cached_input_tokens > 0


def test_failed_requests_of_a_batch_are_reported(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    names = [row["name"] for row in exported(cache, folder)]
    rows = [
        {"custom_id": names[0], "response": None, "error": {"code": "batch_expired"}},
        {"custom_id": names[1], "response": {"status_code": 200, "body": {"choices": []}}, "error": None},
    ]
    path = folder / "output.jsonl"
    write_lines(path, rows)
    problems = [entry.problem for entry in import_replies(cache, path)]
    assert "batch_expired" in problems[0]
    assert "this is no reply" in problems[1]
    assert problems[2] == "there is no reply"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"custom_id": "x", "response": {}}'], "has no index.jsonl"),
        (["no json"], "holds no JSON lines"),
        ([], "neither a batch's output nor a file of `llmpp cache export`"),
        (['{"schema": "llmpp.replies/1"}', "{}"], "line 2, is no reply"),
        (['{"schema": "llmpp.replies/2"}'], "neither"),
        (["[1]", "2"], "neither"),
        (["[" * 100_000], "holds no JSON lines"),
        (
            [json.dumps({"schema": "llmpp.replies/1"}), json.dumps(ROW | {"reply": "\ud800"})],
            "line 2, is no reply",
        ),
        (
            [json.dumps({"schema": "llmpp.replies/1"}), json.dumps(ROW | {"sample": 2**70})],
            "line 2, is no reply",
        ),
    ],
)
def test_other_files_are_not_imported(
    lines: list[str], words: str, cache: ReplyCache, tmp_path: Path
) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=words):
        import_replies(cache, path)


def test_folders_without_prompts_and_missing_files_are_not_imported(
    cache: ReplyCache, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has no prompts/NAME.txt"):
        import_replies(cache, tmp_path, model="m")
    with pytest.raises(InputError, match="cannot read .*nothing"):
        import_replies(cache, tmp_path / "nothing")


def test_a_folder_that_is_not_empty_is_not_written_to(cache: ReplyCache, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(InputError, match="is not empty: name another"):
        exported(cache, tmp_path)


def test_a_cache_goes_through_its_export_unchanged(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    for row in exported(cache, folder, temperature=0.5):
        reply_by_hand(folder, row["name"])
    import_replies(cache, folder, model="gpt-4.1")
    assert export_replies(cache, tmp_path / "replies.jsonl") == 3
    other = ReplyCache(tmp_path / "other.sqlite")
    assert [entry.is_new for entry in import_replies(other, tmp_path / "replies.jsonl")] == [True] * 3
    assert export_replies(other, tmp_path / "again.jsonl") == 3
    first, second = (read_lines(tmp_path / name)[1:] for name in ("replies.jsonl", "again.jsonl"))
    assert [{**row, "created": ""} for row in first] == [{**row, "created": ""} for row in second]


def test_a_changed_question_in_an_export_is_found_out(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    for row in exported(cache, folder):
        reply_by_hand(folder, row["name"])
    import_replies(cache, folder, model="gpt-4.1")
    path = tmp_path / "replies.jsonl"
    export_replies(cache, path)
    path.write_text(path.read_text().replace("gpt-4.1", "gpt-5"))
    with pytest.raises(InputError, match="line 2: the key does not belong to the question"):
        import_replies(cache, path)


def problems_of(imported: list[Imported]) -> list[str]:
    return [entry.problem for entry in imported]


def answered(cache: ReplyCache, folder: Path, **model: Any) -> list[str]:
    """Exports questions and puts a reply to each into the folder; returns their names."""
    names = [row["name"] for row in exported(cache, folder, **model)]
    for name in names:
        reply_by_hand(folder, name)
    return names


def test_replies_with_any_separator_of_unicode_go_through_files(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    names = [row["name"] for row in exported(cache, folder)]
    for name in names[:2]:
        reply_by_hand(folder, name, text=f"Here{SEPARATORS}you are:\n1 25.5\n2 25.25\n")
    last = read_lines(folder / "requests.jsonl")[2]
    write_lines(tmp_path / "output.jsonl", [output_of(last, f"1 25.5\n2 25.25\nBye{SEPARATORS}")])
    import_replies(cache, folder, model="gpt-4.1")
    imported = import_replies(cache, tmp_path / "output.jsonl", prompts=folder)
    assert problems_of(imported) == ["there is no reply", "there is no reply", ""]
    export_replies(cache, tmp_path / "replies.jsonl")
    assert (tmp_path / "replies.jsonl").read_bytes().isascii()
    other = ReplyCache(tmp_path / "other.sqlite")
    assert [entry.is_new for entry in import_replies(other, tmp_path / "replies.jsonl")] == [True] * 3
    assert sorted(row["reply"] for row in other.rows()) == sorted(row["reply"] for row in cache.rows())
    # As earlier versions wrote them.
    write_lines(tmp_path / "raw.jsonl", read_lines(tmp_path / "replies.jsonl"))
    assert [entry.problem for entry in import_replies(other, tmp_path / "raw.jsonl")] == [""] * 3


def test_what_editors_and_archives_do_to_files_is_undone(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    answered(cache, folder)
    for path in [*(folder / "prompts").iterdir(), *(folder / "replies").iterdir(), folder / "index.jsonl"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    imported = import_replies(cache, folder, model="gpt-4.1")
    assert [(entry.n_answers, entry.problem) for entry in imported] == [(2, "")] * 3
    assert len(predictor(cache).predict(ASKED)) == 6


def test_one_bad_file_keeps_no_other_from_being_taken(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    names = answered(cache, folder)
    (folder / "replies" / f"{names[0]}.txt").write_bytes("1 25.5\n2 25.5".encode("utf-16"))
    (folder / "prompts" / "notes.txt").write_text("mine")
    (folder / "prompts" / "zip.txt").write_bytes(b"PK\xff")
    imported = import_replies(cache, folder, model="gpt-4.1")
    found = {entry.name: (entry.n_answers, entry.n_asked, entry.problem) for entry in imported}
    assert (found[names[1]], found[names[2]]) == ((2, 2, ""), (2, 2, ""))
    assert found[names[0]][:2] == (0, 2)
    assert "cannot read" in found[names[0]][2]
    assert found["notes"] == (0, 0, "this is no prompt of llmpp: 'mine'")
    assert "cannot read" in found["zip"][2]


@pytest.mark.parametrize("way", ["by hand", "batch"])
def test_a_reply_to_a_prompt_that_was_changed_is_not_taken(
    way: str, cache: ReplyCache, tmp_path: Path
) -> None:
    folder = tmp_path / "questions"
    name = answered(cache, folder)[1]
    output = folder / "output.jsonl"
    write_lines(output, [output_of(request) for request in read_lines(folder / "requests.jsonl")])
    prompt = folder / "prompts" / f"{name}.txt"
    prompt.write_text(prompt.read_text().replace("# Role\nYou", "# Role\nPlease, you"))
    is_batch = way == "batch"
    imported = import_replies(cache, output) if is_batch else import_replies(cache, folder, model="gpt-4.1")
    assert [entry.problem[:22] for entry in imported] == ["", "the prompt was changed", ""]
    assert len(list(cache.rows())) == 2


def test_an_index_without_digests_is_taken(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    answered(cache, folder)
    rows = read_lines(folder / "index.jsonl")
    assert {len(row.pop("prompt_sha256")) for row in rows} == {64}
    write_lines(folder / "index.jsonl", rows)
    assert problems_of(import_replies(cache, folder, model="gpt-4.1")) == [""] * 3
    assert len(predictor(cache).predict(ASKED)) == 6


def test_samples_are_kept_apart_for_another_model_too(cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    names = answered(cache, folder, n_samples=2, temperature=1.0)
    assert len(names) == 6
    imported = import_replies(cache, folder, model="another model")
    assert [(entry.problem, entry.is_new) for entry in imported] == [("", True)] * 6
    kept = sorted((row["sample"], row["settings"]) for row in cache.rows())
    assert kept == [(0, "{}")] * 3 + [(1, "{}")] * 3


def test_another_reply_to_the_same_question_is_reported(cache: ReplyCache, tmp_path: Path) -> None:
    folder, kept = tmp_path / "questions", "another reply to this question is kept already"
    names = answered(cache, folder)
    import_replies(cache, folder, model="gpt-4.1")
    before = [dict(row) for row in cache.rows()]
    other = ReplyCache(tmp_path / "other.sqlite")
    reply_by_hand(folder, names[1], text="1 25.5\n2 25.5")
    assert problems_of(import_replies(other, folder, model="gpt-4.1")) == [""] * 3
    imported = import_replies(cache, folder, model="gpt-4.1")
    assert [(entry.problem, entry.is_new) for entry in imported] == [("", False), (kept, False), ("", False)]
    export_replies(other, tmp_path / "replies.jsonl")
    assert sorted(problems_of(import_replies(cache, tmp_path / "replies.jsonl"))) == ["", "", kept]
    assert [dict(row) for row in cache.rows()] == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response": "x"}, "this is no reply"),
        ({"response": [1]}, "this is no reply"),
        ({"response": {}}, "the request failed"),
        ({"response": {"status_code": 200}}, "this is no reply"),
        ({"response": {"status_code": 200, "body": 3}}, "this is no reply"),
        ({"response": {"status_code": 200, "body": {"output": 3}}}, "this is no reply"),
        ({"response": {"status_code": 500, "body": 3}, "error": 4}, "the request failed: 4"),
    ],
)
def test_malformed_rows_of_a_batch_are_reported(
    change: dict[str, Any], words: str, cache: ReplyCache, tmp_path: Path
) -> None:
    folder = tmp_path / "questions"
    exported(cache, folder)
    rows = [output_of(request) for request in read_lines(folder / "requests.jsonl")]
    rows[0] |= change
    write_lines(folder / "output.jsonl", rows)
    problems = problems_of(import_replies(cache, folder / "output.jsonl"))
    assert words in problems[0]
    assert problems[1:] == ["", ""]


def test_replies_of_a_batch_are_brought_into_a_form_that_can_be_kept(
    cache: ReplyCache, tmp_path: Path
) -> None:
    folder = tmp_path / "questions"
    exported(cache, folder)
    rows = [output_of(request) for request in read_lines(folder / "requests.jsonl")]
    rows[0]["response"]["body"]["choices"][0]["message"]["content"] = "1 25.5\n2 25.5\n\ud83d"
    rows[1]["response"]["body"]["usage"]["prompt_tokens"] = 2**70
    path = folder / "output.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = problems_of(import_replies(cache, path))
    assert (problems[0], problems[2]) == ("", "")
    assert "`tokens` must be an integer" in problems[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, "index.jsonl does not say which model was asked"),
        ({"model": 3}, "index.jsonl does not say which model was asked"),
        ({"settings": "x"}, "index.jsonl does not say which model was asked, with which settings"),
        ({"sample": "x"}, "`sample` must be an integer"),
        ({"prompt_sha256": 3}, "the prompt was changed"),
    ],
)
def test_a_malformed_index_is_reported(
    change: dict[str, Any], words: str, cache: ReplyCache, tmp_path: Path
) -> None:
    folder = tmp_path / "questions"
    rows = exported(cache, folder)
    rows[0] |= change
    write_lines(folder / "index.jsonl", rows)
    requests = read_lines(folder / "requests.jsonl")
    write_lines(folder / "output.jsonl", [output_of(request) for request in requests])
    problems = problems_of(import_replies(cache, folder / "output.jsonl"))
    assert words in problems[0]
    assert problems[1:] == ["", ""]


@pytest.mark.parametrize("row", ["3", "[]", "{}", '{"name": 3}'])
def test_what_is_no_index_is_not_imported(row: str, cache: ReplyCache, tmp_path: Path) -> None:
    folder = tmp_path / "questions"
    answered(cache, folder)
    (folder / "index.jsonl").write_text(row)
    with pytest.raises(InputError, match="is no index of prompts"):
        import_replies(cache, folder, model="gpt-4.1")


def test_a_batch_of_an_index_without_models_is_reported(
    data: Path, cache: ReplyCache, tmp_path: Path
) -> None:
    names = [row["name"] for row in read_lines(data / "llm_answers" / "index.jsonl")]
    write_lines(tmp_path / "output.jsonl", [{"custom_id": name, "response": None} for name in names])
    imported = import_replies(cache, tmp_path / "output.jsonl", prompts=data / "llm_answers")
    assert {entry.problem for entry in imported} == {
        "index.jsonl does not say which model was asked, with which settings"
    }


def test_a_task_may_have_any_name(cache: ReplyCache, tmp_path: Path) -> None:
    folder, task = tmp_path / "questions", replace(TASK, name="../my tasks/größte: 1")
    asking = LlmPredictor(task, split="123", cache=cache.path, max_calls=0)
    assert export_questions({"123": asking.survey(ASKED)}, folder) == 1
    (row,) = read_lines(folder / "index.jsonl")
    assert row["name"] == ".._my_tasks_gr_te_1_seed123_0"
    assert row["task"] == task.name
    reply_by_hand(folder, row["name"])
    assert problems_of(import_replies(cache, folder, model="gpt-4.1")) == [""]


@pytest.mark.parametrize("name", ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"])
def test_asking_the_recorded_model_finds_every_recorded_answer(
    name: str, data: Path, cache: ReplyCache
) -> None:
    imported = import_replies(cache, data / "llm_answers", model=CLAUDE)
    assert sum(entry.n_answers for entry in imported) == 27 * 150
    shipped = read_answers(asset("answers", f"{name}.jsonl"))
    for split in ("123", "456", "789", "all"):
        rows = shipped.of_split(split)
        found = LlmPredictor(name, split=split, model=CLAUDE, cache=cache.path, max_calls=0)
        survey = found.survey(rows.architectures)
        assert isinstance(survey, Survey)
        assert survey.run().answers.tolist() == rows.values.tolist()
