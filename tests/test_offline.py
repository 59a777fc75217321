"""Questions and replies as files: by hand, for OpenAI's Batch API, of other caches, and as recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmpp import InputError, LlmPredictor, MissingAnswersError, load_task
from llmpp.answers import read_answers
from llmpp.assets import asset
from llmpp.cache import ReplyCache
from llmpp.offline import export_questions, export_replies, import_replies
from llmpp.survey import Survey, SurveySettings
from stand_in import completion, in_context

TASK = load_task("wmt14.en-de")
ASKED = [*TASK.space.sample(5, seed=3), TASK.figures[4].architecture]
CLAUDE = "claude (version not recorded)"


@pytest.fixture
def cache(tmp_path: Path) -> ReplyCache:
    return ReplyCache(tmp_path / "replies.sqlite")


def predictor(cache: ReplyCache, **model: Any) -> LlmPredictor:
    """Can find replies, and may not ask for any."""
    settings = SurveySettings(batch_size=2)
    return LlmPredictor(TASK, split="123", settings=settings, cache=cache.path, max_calls=0, **model)


def exported(cache: ReplyCache, folder: Path, **model: Any) -> list[dict[str, Any]]:
    export_questions(predictor(cache, **model).survey(ASKED), folder, split="123")
    return read_lines(folder / "index.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    assert (rows[0]["task"], rows[0]["split"], rows[0]["model"]) == ("wmt14.en-de", "123", "gpt-4.1")


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
    output = []
    for request in requests:
        assert request["method"] == "POST"
        assert request["body"]["temperature"] == 1.0
        body = json.loads(completion(in_context(request["body"]), request["body"]).get_data())
        response = {"status_code": 200, "request_id": "r", "body": body}
        output.append({"id": "b", "custom_id": request["custom_id"], "response": response, "error": None})
    path = tmp_path / "batch_output.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in reversed(output)))
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
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = [entry.problem for entry in import_replies(cache, path)]
    assert "batch_expired" in problems[0]
    assert "this is no reply" in problems[1]
    assert problems[2] == "there is no reply"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"custom_id": "x", "response": {}}'], "has no index.jsonl"),
        (["no json"], "cannot read the replies"),
        ([], "neither a batch's output nor a file of `llmpp cache export`"),
        (['{"schema": "llmpp.replies/1"}', "{}"], "line 2, is no reply"),
        (['{"schema": "llmpp.replies/2"}'], "neither"),
        (["[1]", "2"], "neither"),
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
    with pytest.raises(InputError, match="cannot read the replies"):
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
