"""Questions and replies as files: for batch jobs, chat windows, and machines without a connection.

| file | what |
|---|---|
| `prompts/NAME.txt` | a whole user message |
| `replies/NAME.txt` | the reply to it, put there by the user |
| `index.jsonl` | for each NAME what was asked, of which model, with which settings; the prompt's SHA-256 |
| `pool.jsonl` | the architectures that the index names, unless the task has figures of them |
| `requests.jsonl` | the same questions as input of OpenAI's Batch API |
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.cache import Question, ReplyCache, StoredReply
from llmpp.endpoint import read_body
from llmpp.errors import InputError, writing
from llmpp.prompt import read_shape
from llmpp.ranges import integer
from llmpp.reply import read_reply
from llmpp.survey import Survey
from llmpp.task import Task

REPLIES_SCHEMA = "llmpp.replies/1"
#: Larger counts in a file are none.
_MOST = 2**53
_URLS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
#: Splits that are called by a seed.
_SEED = re.compile("0|[1-9][0-9]{0,19}")


@dataclass(frozen=True)
class Imported:
    """What became of one reply.

    Attributes:
        name: The prompt's name.
        n_answers: Answers that can be read.
        n_asked: Architectures that the prompt asks about; 0 if the prompt cannot be read.
        problem: Why it was not taken; empty if it was.
        is_new: Whether the cache did not have a reply to this question.
    """

    name: str
    n_answers: int
    n_asked: int
    problem: str = ""
    is_new: bool = False


def export_questions(surveys: Mapping[str, Survey], directory: Path) -> int:
    """Writes every question of surveys about one task that has no reply in the cache.

    Args:
        surveys: What is to be asked, by the demonstrations' name: a split, or 'all'.
        directory: A new or empty directory.

    Returns:
        The number of questions.

    Raises:
        InputError: If the directory is not empty or cannot be written, or the names of two splits make one
            name of a file.
    """
    stems = _stems(surveys)
    pool = _Pool(next(iter(surveys.values())).task)
    prompts: dict[str, str] = {}
    index: list[Mapping[str, Any]] = []
    requests: list[Mapping[str, Any]] = []
    for split, survey in surveys.items():
        for number, (question, architectures) in enumerate(survey.open_questions()):
            name = f"{stems[split]}_{number}"
            prompts[name] = question.prompt
            about = {"name": name, **_shown(survey, split), "queries": list(map(pool.place, architectures))}
            index.append({**about, **_index_row(question)})
            requests.append(_batch_request(survey, question, name))
    with writing(f"the questions to {directory}"):
        _make_empty(directory)
        for name, prompt in prompts.items():
            (directory / "prompts" / f"{name}.txt").write_bytes(prompt.encode())
        for table, rows in {"index": index, "requests": requests, "pool": pool.rows}.items():
            _write_lines(directory / f"{table}.jsonl", rows)
    return len(prompts)


class _Pool:
    """The architectures that an index names: by the task's figures, or by a number of their own."""

    def __init__(self, task: Task) -> None:
        self.places = {figures.architecture: {"tfs": figures.id} for figures in task.figures}
        self.rows: list[Mapping[str, Any]] = []

    def place(self, architecture: Architecture) -> dict[str, int]:
        """Says how the index names an architecture; a new one gets the next number."""
        if architecture not in self.places:
            self.places[architecture] = {"pool": len(self.rows)}
            self.rows.append({"id": len(self.rows), "architecture": architecture.to_dict()})
        return self.places[architecture]


def _stems(surveys: Mapping[str, Survey]) -> dict[str, str]:
    """The beginnings of the names of all splits' prompts.

    Raises:
        InputError: If two are the same, which would mix their questions.
    """
    found: dict[str, str] = {}
    for split, survey in surveys.items():
        stem = _stem(survey.task, split)
        # Some systems do not tell capitals in names of files.
        same = next((other for other, known in found.items() if known.lower() == stem.lower()), None)
        if same is not None:
            raise InputError(
                f"the questions of the splits {same!r} and {split!r} would both be called {stem!r}: rename "
                "one of the splits"
            )
        found[split] = stem
    return found


def _stem(task: Task, split: str) -> str:
    """The beginning of the names of a split's prompts, such as `wmt14.en-de_seed123`."""
    kind = "seed" if _SEED.fullmatch(split) else "split-"
    shown = f"all{len(task.figures)}" if split == "all" else f"{kind}{split}"
    # A task's name may hold anything, a file's name not.
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{task.name}_{shown}")


def _shown(survey: Survey, split: str) -> dict[str, Any]:
    """What the index says of the demonstrations; a split that is a seed is written as the number."""
    named: str | int | None = int(split) if _SEED.fullmatch(split) else split
    return {
        "task": survey.task.name,
        "split": None if split == "all" else named,
        "demonstrations": [figures.id for figures in survey.shown],
    }


def _index_row(question: Question) -> dict[str, Any]:
    return {
        "model": question.model,
        "settings": dict(question.settings),
        "sample": question.sample,
        "prompt_sha256": _digest(question.prompt),
    }


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


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
    # All in ASCII: many readers take U+2028 and its like for the end of a line.
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def import_replies(
    cache: ReplyCache, source: Path, *, model: str | None = None, prompts: Path | None = None
) -> list[Imported]:
    """Takes replies into the cache: of an exported folder, a batch's output file, or another cache.

    A reply is checked against its prompt; one in which no answer can be read is not taken, nor one to a
    prompt that was changed, nor a second one to the same question.

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
        return [_take(cache, source, *entry, model=model) for entry in _of_folder(source, model)]
    if model is not None:
        raise InputError(f"`model` is for folders of replies; {source} names the model itself")
    rows = _read_lines(source)
    if rows and all(isinstance(row, dict) and "custom_id" in row for row in rows):
        folder = prompts or source.parent
        return [_take(cache, folder, *entry) for entry in _of_batch(rows, folder)]
    return _of_export(cache, rows, source)


#: A prompt's name, its row of the index (empty if it has none), and the reply or why there is none.
_Entry = tuple[str, Mapping[str, Any], StoredReply | str]


def _take(
    cache: ReplyCache,
    folder: Path,
    name: str,
    asked: Mapping[str, Any],
    reply: StoredReply | str,
    *,
    model: str | None = None,
) -> Imported:
    """Checks a reply, or the reason why there is none, against its prompt, and keeps it."""
    try:
        question = _question(asked, _read_prompt(folder / "prompts" / f"{name}.txt", asked), model)
        shape = read_shape(question.prompt)
    except InputError as error:
        return Imported(name, 0, 0, str(error))
    if isinstance(reply, str):
        return Imported(name, 0, shape.n, reply)
    n_answers = len(read_reply(reply.text, shape.n, shape.shown, is_cut=reply.is_cut).estimates)
    if not n_answers:
        return Imported(name, 0, shape.n, f"no answer can be read in {reply.text[:60]!r}")
    return _keep(cache, question, reply, Imported(name, n_answers, shape.n))


def _keep(cache: ReplyCache, question: Question, reply: StoredReply, entry: Imported) -> Imported:
    """Keeps a reply, unless there is one that differs in more than its blanks."""
    if cache.put(question, reply):
        return replace(entry, is_new=True)
    kept = cache.get(question)
    if kept is not None and kept.text.split() != reply.text.split():
        return replace(entry, problem="another reply to this question is kept already")
    return entry


def _read_prompt(path: Path, asked: Mapping[str, Any]) -> str:
    """Reads a prompt as it was written: editors and archives may have turned its line ends."""
    prompt = _read_text(path).replace("\r\n", "\n")
    if asked.get("prompt_sha256", _digest(prompt)) != _digest(prompt):
        raise InputError("the prompt was changed: this is another question now")
    return prompt


def _question(asked: Mapping[str, Any], prompt: str, model: str | None) -> Question:
    """The question of the index. Which settings another model than the index's was given is unknown."""
    own = asked.get("model")
    name = own if model is None else model
    settings = asked.get("settings", {}) if name == own else {}
    if not (isinstance(name, str) and name and isinstance(settings, dict)):
        raise InputError("index.jsonl does not say which model was asked, with which settings")
    sample = integer("sample", asked.get("sample", 0), 0, _MOST)
    return Question(name, prompt, tuple(sorted(settings.items())), sample)


def _of_folder(folder: Path, model: str | None) -> Iterator[_Entry]:
    if not model:
        raise InputError(f"name the model that gave the replies in {folder} by `model`")
    index = _read_index(folder)
    names = sorted(path.stem for path in (folder / "prompts").glob("*.txt"))
    if not names:
        raise InputError(f"{folder} has no prompts/NAME.txt")
    for name in names:
        yield name, index.get(name, {}), _written_reply(folder, name)


def _written_reply(folder: Path, name: str) -> StoredReply | str:
    path = folder / "replies" / f"{name}.txt"
    if not path.is_file():
        return "there is no reply"
    try:
        return StoredReply(_read_text(path), source=f"import {folder.name}")
    except InputError as error:
        return str(error)


def _of_batch(rows: list[dict[str, Any]], folder: Path) -> Iterator[_Entry]:
    index = _read_index(folder)
    if not index:
        raise InputError(f"{folder} has no index.jsonl: name the exported folder by `prompts`")
    outputs = {str(row["custom_id"]): row for row in rows}
    if strange := sorted(set(outputs) - set(index)):
        raise InputError(f"the batch answers {strange[0]!r}, which {folder}/index.jsonl does not ask")
    for name, asked in index.items():
        yield name, asked, _batch_reply(outputs[name]) if name in outputs else "there is no reply"


def _batch_reply(row: Mapping[str, Any]) -> StoredReply | str:
    response = row.get("response") or {}
    if not isinstance(response, dict):
        return f"this is no reply: {json.dumps(response)[:200]}"
    if response.get("status_code") != 200:
        return f"the request failed: {json.dumps(row.get('error') or response.get('body'))[:200]}"
    try:
        reply = read_body(response["body"])
        tokens = _tokens(reply.input_tokens), _tokens(reply.output_tokens)
        return StoredReply(reply.text, *tokens, reply.is_cut, source="batch")
    except (LookupError, TypeError, AttributeError, InputError) as error:
        return f"this is no reply ({error!r}): {json.dumps(response.get('body'))[:200]}"


def _tokens(count: Any) -> int | None:
    return None if count is None else integer("tokens", count, 0, _MOST)


def _read_index(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / "index.jsonl"
    rows = _read_lines(path) if path.is_file() else []
    if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
        raise InputError(f"{path} is no index of prompts: each line needs a `name`")
    return {row["name"]: row for row in rows}


def _read_lines(path: Path) -> list[Any]:
    """Reads JSON lines; of all that ends a line in Unicode, only a line feed ends one here."""
    lines = _read_text(path).split("\n")
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds no JSON lines: {error}") from error


def _read_text(path: Path) -> str:
    """Reads a text in UTF-8; the mark that some editors put before it is no part of it."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def export_replies(cache: ReplyCache, path: Path) -> int:
    """Writes every reply of a cache as JSON lines, and returns their number.

    Raises:
        InputError: If the file cannot be written.
    """
    rows = [dict(row) for row in cache.rows()]
    with writing(path):
        _write_lines(path, [{"schema": REPLIES_SCHEMA}, *rows])
    return len(rows)


def _of_export(cache: ReplyCache, rows: list[Any], source: Path) -> list[Imported]:
    if not rows or not isinstance(rows[0], dict) or rows[0].get("schema") != REPLIES_SCHEMA:
        raise InputError(f"{source} is neither a batch's output nor a file of `llmpp cache export`")
    taken = []
    for number, row in enumerate(rows[1:], 2):
        try:
            question, reply = _exported(row)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{source}, line {number}, is no reply: {error!r}") from error
        if question.key != row.get("key"):
            raise InputError(f"{source}, line {number}: the key does not belong to the question")
        taken.append(_keep(cache, question, reply, Imported(question.key[:12], 0, 0)))
    return taken


def _exported(row: Any) -> tuple[Question, StoredReply]:
    # A lone surrogate is no text that the cache could hold.
    json.dumps(row, ensure_ascii=False).encode()
    settings = tuple(sorted(json.loads(row["settings"]).items()))
    sample = integer("sample", row["sample"], 0, _MOST)
    question = Question(str(row["model"]), str(row["prompt"]), settings, sample)
    reply = StoredReply(
        str(row["reply"]),
        _tokens(row["input_tokens"]),
        _tokens(row["output_tokens"]),
        bool(row["is_cut"]),
        str(row["source"]),
    )
    return question, reply


def as_rows(imported: Iterable[Imported]) -> list[dict[str, Any]]:
    """Lists imports as plain records."""
    return [asdict(entry) for entry in imported]
