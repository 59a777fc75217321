"""The directory of a training.

| file | what |
|---|---|
| `training.json` | what is trained, on which corpus, by which recipe; versions, machine, command, date |
| `tokenizer.json` | the vocabulary, so that the network can translate without the corpus |
| `log.jsonl` | losses and speed, see `TrainingLog` |
| `state.safetensors` | what is needed to go on, see `checkpoint.py`; gone at the end |
| `snapshots/UPDATE.safetensors` | weights of the last validations, for the average; gone at the end |
| `best.safetensors` | the weights with the smallest validation loss |
| `averaged.safetensors` | the mean of the last validations' weights |
| `model.safetensors` | the better of these two, to be used |
| `result.json` | what came of it; written last |
| `training.lock` | empty; the process that trains here holds its lock |
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpp.corpus import TOKENIZER, Corpus
from llmpp.errors import InputError, writing
from llmpp.file_lock import locked
from llmpp.text import read_record, replace_text
from llmpp.training_log import TrainingLog
from llmpp.translation import MODEL

TRAINING_SCHEMA = "llmpp.training/1"
RESULT_SCHEMA = "llmpp.training-result/1"
_RECORD, _RESULT, LOCK = "training.json", "result.json", "training.lock"
#: What must be the same for a training to go on.
_DECISIVE = ("subject", "corpus", "recipe")


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a training.

    Attributes:
        path: Their directory.
    """

    path: Path

    @property
    def log(self) -> TrainingLog:
        """The log."""
        return TrainingLog(self.path / "log.jsonl")

    @property
    def state(self) -> Path:
        """What is needed to go on."""
        return self.path / "state.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the smallest validation loss."""
        return self.path / "best.safetensors"

    @property
    def averaged(self) -> Path:
        """The mean of the last validations' weights."""
        return self.path / "averaged.safetensors"

    @property
    def model(self) -> Path:
        """The weights to use."""
        return self.path / MODEL

    @property
    def result(self) -> Path:
        """What came of the training."""
        return self.path / _RESULT

    def snapshot(self, update: int) -> Path:
        """The weights at a validation."""
        return self.path / "snapshots" / f"{update:09}.safetensors"

    def snapshots(self) -> list[Path]:
        """The weights of the last validations, oldest first."""
        return sorted((self.path / "snapshots").glob("*.safetensors"))

    @contextmanager
    def held(self, record: Mapping[str, Any], corpus: Corpus) -> Iterator[None]:
        """Makes the directory, or checks that it is that of the same training, and keeps other processes out.

        Raises:
            InputError: If it holds something else, cannot be written, or another process trains in it.
        """
        if not (self.path / _RECORD).is_file():
            self._make()
        busy = (
            f"another process trains in {self.path}: wait until it ends, stop it, or name another directory"
        )
        with locked(self.path / LOCK, busy=busy):
            # Whoever held the lock before may have begun a training here.
            if (self.path / _RECORD).is_file():
                self._check_is_same(record)
            else:
                self._begin(record, corpus)
            yield

    def _make(self) -> None:
        """Makes the directory, or takes an empty one, or one that is as a start that was killed left it."""
        begun = {LOCK, TOKENIZER, *(f"{name}.part" for name in (TOKENIZER, _RECORD))}
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file: name a directory")
        with writing(f"the training {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            is_free = all(path.name in begun for path in self.path.iterdir())
        if not is_free:
            raise InputError(f"{self.path} is there and is no training: name another directory, or remove it")

    def _begin(self, record: Mapping[str, Any], corpus: Corpus) -> None:
        """Writes what a training is; the record last, since it says that the rest is there."""
        with writing(f"the training {self.path}"):
            shutil.copyfile(corpus.path / TOKENIZER, self.path / f"{TOKENIZER}.part")
            (self.path / f"{TOKENIZER}.part").replace(self.path / TOKENIZER)
            self._write_json(_RECORD, {"schema": TRAINING_SCHEMA, **record})

    def _check_is_same(self, record: Mapping[str, Any]) -> None:
        found = read_record(self.path / _RECORD, TRAINING_SCHEMA, "the training")
        # As JSON would give it back: with lists for tuples.
        wanted = json.loads(json.dumps({name: record[name] for name in _DECISIVE}))
        differing = [
            f"{name}: {old!r:.60} there, {new!r:.60} here" for name, old, new in _differences(found, wanted)
        ]
        if differing:
            raise InputError(
                f"{self.path} is another training ({'; '.join(differing[:5])}): name another directory, or "
                "give the same settings to go on with it"
            )

    def write_result(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes what came of the training, removes what is only needed to go on, and returns the content.

        Raises:
            InputError: If it cannot be written.
        """
        with writing(self.result):
            self._write_json(_RESULT, content := {"schema": RESULT_SCHEMA, **result})
        self.tidy()
        return content

    def tidy(self) -> None:
        """Removes what is only needed to go on."""
        self.state.unlink(missing_ok=True)
        shutil.rmtree(self.path / "snapshots", ignore_errors=True)

    def read_result(self) -> dict[str, Any] | None:
        """Reads what came of the training; None while it has not ended.

        Raises:
            InputError: If the file cannot be read.
        """
        return read_record(self.result, RESULT_SCHEMA, "the training") if self.result.is_file() else None

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        replace_text(self.path / name, json.dumps(content, indent=2) + "\n")


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Lists what differs: name, what was found, what was wanted; the innermost names of nested mappings."""
    listed: list[tuple[str, Any, Any]] = []
    for name in wanted:
        old, new = found.get(name), wanted[name]
        if isinstance(old, dict) and isinstance(new, dict):
            listed += _differences(old, {key: new.get(key) for key in {**old, **new}})
        elif old != new:
            listed.append((name, old, new))
    return listed
