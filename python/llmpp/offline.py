"""Questions and replies as files: for batch jobs, chat windows, and machines without a connection.

| file | what |
|---|---|
| `prompts/NAME.txt` | a whole user message |
| `replies/NAME.txt` | the reply to it, put there by the user |
| `index.jsonl` | for each NAME what was asked: task, split, demonstrations, architectures, model, settings |
| `pool.jsonl` | the architectures that the index names, unless the task has figures of them |
| `requests.jsonl` | the same questions as input of OpenAI's Batch API |
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmpp.cache import Question, ReplyCache, StoredReply
from llmpp.endpoint import read_body
from llmpp.errors import InputError
from llmpp.prompt import read_shape
from llmpp.reply import read_reply
from llmpp.survey import Survey

REPLIES_SCHEMA = "llmpp.replies/1"
_URLS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}


@dataclass(frozen=True)
class Imported:
    """What became of one reply.

    Attributes:
        name: The prompt's name.
        n_answers: Answers that can be read.
        n_asked: Architectures that the prompt asks about.
        problem: Why it was not taken; empty if it was.
        is_new: Whether the cache did not have a reply to this question.
    """

    name: str
    n_answers: int
    n_asked: int
    problem: str = ""
    is_new: bool = False


def export_questions(survey: Survey, directory: Path, *, split: str) -> int:
    """Writes every question of a survey that has no reply in the cache.

    Args:
        survey: What is to be asked.
        directory: A new or empty directory.
        split: The demonstrations' name, for the index.

    Returns:
        The number of questions.

    Raises:
        InputError: If the directory is not empty or cannot be written.
    """
    questions = survey.open_questions()
    ids = {figures.architecture: figures.id for figures in survey.task.figures}
    pool: dict[Any, int] = {}
    index, requests = [], []
    try:
        _make_empty(directory)
        for number, (question, architectures) in enumerate(questions):
            name = f"{survey.task.name}_split-{split}_{number}"
            (directory / "prompts" / f"{name}.txt").write_bytes(question.prompt.encode())
            places = [
                {"tfs": ids[architecture]}
                if architecture in ids
                else {"pool": pool.setdefault(architecture, len(pool))}
                for architecture in architectures
            ]
            index.append(
                {
                    "name": name,
                    "task": survey.task.name,
                    "split": split,
                    "demonstrations": [figures.id for figures in survey.shown],
                    "queries": places,
                    "model": question.model,
                    "settings": dict(question.settings),
                    "sample": question.sample,
                }
            )
            requests.append(_batch_request(survey, question, name))
        _write_lines(directory / "index.jsonl", index)
        _write_lines(directory / "requests.jsonl", requests)
        rows = [{"id": place, "architecture": found.to_dict()} for found, place in pool.items()]
        _write_lines(directory / "pool.jsonl", rows)
    except OSError as error:
        raise InputError(f"cannot write the questions to {directory}: {error}") from error
    return len(questions)


def _make_empty(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise InputError(f"the directory {directory} is not empty: name another")
    for folder in ("prompts", "replies"):
        (directory / folder).mkdir(parents=True, exist_ok=True)


def _batch_request(survey: Survey, question: Question, name: str) -> dict[str, Any]:
    settings = survey.model.settings
    body = settings.request(question.prompt, settings.max_output_tokens)
    return {"custom_id": name, "method": "POST", "url": _URLS[settings.api], "body": body}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def import_replies(
    cache: ReplyCache, source: Path, *, model: str | None = None, prompts: Path | None = None
) -> list[Imported]:
    """Takes replies into the cache: of an exported folder, a batch's output file, or another cache.

    A reply is checked against its prompt; one in which no answer can be read is not taken.

    Args:
        cache: Where they go.
        source: A folder with `prompts` and `replies`, the output file of OpenAI's Batch API, or a file of
            `export_replies`.
        model: The model that gave the replies of a folder.
        prompts: The folder whose `requests.jsonl` the batch worked on; by default where its output file lies.

    Returns:
        One entry per prompt, also for those without a reply; for another cache's export, per reply.

    Raises:
        InputError: If the source is none of these, or a folder's model is not named.
    """
    if source.is_dir():
        return [_take(cache, *entry) for entry in _of_folder(source, model)]
    if model is not None:
        raise InputError(f"`model` is for folders of replies; {source} names the model itself")
    try:
        rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the replies {source}: {error}") from error
    if rows and all(isinstance(row, dict) and "custom_id" in row for row in rows):
        return [_take(cache, *entry) for entry in _of_batch(rows, prompts or source.parent)]
    return _of_export(cache, rows, source)


_Entry = tuple[str, Question, StoredReply | str]


def _take(cache: ReplyCache, name: str, question: Question, reply: StoredReply | str) -> Imported:
    """Checks a reply, or the reason why there is none, against its prompt, and keeps it."""
    shape = read_shape(question.prompt)
    if isinstance(reply, str):
        return Imported(name, 0, shape.n, reply)
    n_answers = len(read_reply(reply.text, shape.n, shape.shown, is_cut=reply.is_cut).estimates)
    if not n_answers:
        return Imported(name, 0, shape.n, f"no answer can be read in {reply.text[:60]!r}")
    return Imported(name, n_answers, shape.n, is_new=cache.put(question, reply))


def _of_folder(folder: Path, model: str | None) -> Iterator[_Entry]:
    if not model:
        raise InputError(f"name the model that gave the replies in {folder} by `model`")
    index = _read_index(folder)
    prompts = sorted((folder / "prompts").glob("*.txt"))
    if not prompts:
        raise InputError(f"{folder} has no prompts/NAME.txt")
    for path in prompts:
        question = Question(model, _read_text(path))
        asked = index.get(path.stem, {})
        if asked.get("model") == model:
            question = _question(asked, question.prompt)
        reply = folder / "replies" / path.name
        text = StoredReply(_read_text(reply), source=f"import {folder.name}") if reply.is_file() else None
        yield path.stem, question, text or "there is no reply"


def _of_batch(rows: list[dict[str, Any]], folder: Path) -> Iterator[_Entry]:
    index = _read_index(folder)
    if not index:
        raise InputError(f"{folder} has no index.jsonl: name the exported folder by `prompts`")
    outputs = {str(row["custom_id"]): row for row in rows}
    if strange := sorted(set(outputs) - set(index)):
        raise InputError(f"the batch answers {strange[0]!r}, which {folder}/index.jsonl does not ask")
    for name, asked in index.items():
        question = _question(asked, _read_text(folder / "prompts" / f"{name}.txt"))
        yield name, question, _batch_reply(outputs.get(name))


def _batch_reply(row: Mapping[str, Any] | None) -> StoredReply | str:
    if row is None:
        return "there is no reply"
    response = row.get("response") or {}
    if response.get("status_code") != 200:
        return f"the request failed: {json.dumps(row.get('error') or response.get('body'))[:200]}"
    try:
        return replace(read_body(response["body"]), source="batch")
    except (LookupError, TypeError, AttributeError) as error:
        return f"this is no reply ({error!r}): {json.dumps(response.get('body'))[:200]}"


def _question(asked: Mapping[str, Any], prompt: str) -> Question:
    settings = tuple(sorted(dict(asked.get("settings", {})).items()))
    return Question(str(asked["model"]), prompt, settings, int(asked.get("sample", 0)))


def _read_index(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / "index.jsonl"
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in _read_text(path).splitlines() if line.strip()]
        return {str(row["name"]): row for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no index of prompts: {error!r}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def export_replies(cache: ReplyCache, path: Path) -> int:
    """Writes every reply of a cache as JSON lines, and returns their number.

    Raises:
        InputError: If the file cannot be written.
    """
    rows = [dict(row) for row in cache.rows()]
    try:
        _write_lines(path, [{"schema": REPLIES_SCHEMA}, *rows])
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    return len(rows)


def _of_export(cache: ReplyCache, rows: list[Any], source: Path) -> list[Imported]:
    if not rows or not isinstance(rows[0], dict) or rows[0].get("schema") != REPLIES_SCHEMA:
        raise InputError(f"{source} is neither a batch's output nor a file of `llmpp cache export`")
    taken = []
    for number, row in enumerate(rows[1:], 2):
        try:
            settings = tuple(sorted(json.loads(row["settings"]).items()))
            question = Question(str(row["model"]), str(row["prompt"]), settings, int(row["sample"]))
            tokens = (row["input_tokens"], row["output_tokens"])
            reply = StoredReply(str(row["reply"]), *tokens, bool(row["is_cut"]), str(row["source"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{source}, line {number}, is no reply: {error!r}") from error
        if question.key != row.get("key"):
            raise InputError(f"{source}, line {number}: the key does not belong to the question")
        taken.append(Imported(question.key[:12], 0, 0, is_new=cache.put(question, reply)))
    return taken


def as_rows(imported: Iterable[Imported]) -> list[dict[str, Any]]:
    """Lists imports as plain records."""
    return [asdict(entry) for entry in imported]
