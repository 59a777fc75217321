"""Answers of a language model: JSON lines of an architecture and the quality that the model expects of it.

The first line may be a header: `{"schema": "llmpp.answers/1", "task": ..., "model": ..., "source": ...}`.
Each further line has `architecture` and `answer`, and may have `split` (which demonstrations the prompt
showed, 'all' if missing) and `prompt` (its name).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.errors import InputError, writing
from llmpp.text import read_text, replace_text

ANSWERS_SCHEMA = "llmpp.answers/1"


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        architecture: What was asked about.
        answer: The expected quality.
        split: The demonstrations that the prompt showed.
        prompt: The prompt's name, if known.
    """

    architecture: Architecture
    answer: float
    split: str = "all"
    prompt: str | None = None


@dataclass(frozen=True)
class Answers:
    """The answers of one file.

    Attributes:
        header: `task`, `model` and `source`, as far as known.
        rows: The answers, in order.
    """

    header: Mapping[str, Any]
    rows: tuple[Answer, ...]

    @property
    def values(self) -> NDArray[np.float64]:
        """The answers as numbers, `(n,)`."""
        return np.array([row.answer for row in self.rows])

    @property
    def architectures(self) -> list[Architecture]:
        """What was asked about, in order."""
        return [row.architecture for row in self.rows]

    def of_split(self, split: str) -> "Answers":
        """Keeps the answers of one split.

        Raises:
            InputError: If there are none.
        """
        rows = tuple(row for row in self.rows if row.split == split)
        if not rows:
            splits = sorted({row.split for row in self.rows})
            raise InputError(f"there are no answers of the split {split!r}; the file has the splits {splits}")
        return Answers(self.header, rows)


def read_answers(path: Path) -> Answers:
    """Reads answers.

    Raises:
        InputError: If the file cannot be read, is empty, or a line (the message has its number) is no answer.
    """
    lines = read_text(path, "the answers").splitlines()
    header: Mapping[str, Any] = {}
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            if number == 1 and "schema" in data:
                header = _header(data)
            else:
                rows.append(_answer(data))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}, line {number}, is not an answer: {error}") from error
    if not rows:
        raise InputError(f"{path} holds no answers")
    return Answers(header, tuple(rows))


def _header(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if data["schema"] != ANSWERS_SCHEMA:
        raise InputError(f"expected the schema {ANSWERS_SCHEMA!r}, got {data['schema']!r}")
    return {key: value for key, value in data.items() if key != "schema"}


def _answer(data: Mapping[str, Any]) -> Answer:
    if not isinstance(data, dict) or not {"architecture", "answer"} <= set(data):
        raise InputError("it needs `architecture` and `answer`")
    answer = data["answer"]
    is_number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
    if not is_number or not abs(answer) <= sys.float_info.max:
        raise InputError(f"`answer` must be a finite number, got {answer!r:.60}")
    architecture = Architecture.from_dict(data["architecture"])
    return Answer(architecture, float(answer), str(data.get("split", "all")), data.get("prompt"))


def join_answers(files: Sequence[Path]) -> Answers:
    """Reads several files of one model's answers as one.

    Raises:
        InputError: If one of them cannot be read, or they are of different tasks or models.
    """
    read = [read_answers(path) for path in files]
    for name in ("task", "model"):
        values = {str(one.header.get(name)) for one in read}
        if len(values) > 1:
            raise InputError(f"the files of answers differ in their {name}: {', '.join(sorted(values))}")
    return Answers(read[0].header, tuple(row for one in read for row in one.rows))


def write_answers(path: Path, answers: Answers) -> None:
    """Writes answers, one per line, after their header; the file is replaced once its successor is whole.

    Raises:
        InputError: If the file cannot be written.
    """
    lines = [{"schema": ANSWERS_SCHEMA, **answers.header}]
    for row in answers.rows:
        line = {"answer": row.answer, "split": row.split, "architecture": row.architecture.to_dict()}
        lines.append(line | ({"prompt": row.prompt} if row.prompt else {}))
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    with writing(path):
        replace_text(path, text)
