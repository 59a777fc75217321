"""Trainings of what searches found: the same architecture by the same recipe is trained once."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.file_lock import locked
from llmpp.study.job import Job
from llmpp.study.job_queue import RESULT_SCHEMA
from llmpp.study.place import Place
from llmpp.text import read_record, read_text, replace_text


def train_find(
    job: Job, place: Place, architecture: Architecture, train: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Trains what a search found, unless that was done as another job.

    Jobs of one training share its directory and take turns there: a result is written some time after its job
    is done, so it cannot say alone whether a training was done.

    Args:
        job: The job.
        place: Where the study is.
        architecture: What was found.
        train: Trains in a directory, goes on with a training there, or reads off it what came of it.

    Returns:
        What came of it; that of another job with `same_as`, its id, and no seconds.
    """
    name = f"find-{_digest(job, architecture)}"
    with locked(place.directory / "locks" / f"{name}.lock"):
        if known := known_training(job, place, architecture):
            return known
        owner = _owner(job, place.work(name))
        outcome = train(place.work(name) / "training")
    return outcome if owner == job.id else _without_seconds(outcome, owner)


def known_training(job: Job, place: Place, architecture: Architecture) -> dict[str, Any] | None:
    """What the same training brought as another job: searches may find what is known, or the same twice."""
    for path in sorted((place.directory / "results").glob("train-*.json")):
        record = read_record(path, RESULT_SCHEMA)
        outcome, recipe = record["outcome"], record["job"]["parameters"]["recipe"]
        first = outcome.get("same_as", record["job"]["id"])
        is_same = outcome["architecture"] == architecture.to_dict() and recipe == job.parameters["recipe"]
        if is_same and first != job.id:
            return _without_seconds(outcome, first)
    return None


def _without_seconds(outcome: Mapping[str, Any], job: str) -> dict[str, Any]:
    """What a training brought as another job, whose seconds must not be counted twice."""
    return {**outcome, "seconds": 0.0, "seconds_to_finish": 0.0, "same_as": job}


def _owner(job: Job, folder: Path) -> str:
    """The job that a training counts for: the one that ended it, which is this one if none has yet."""
    from llmpp.training_files import TrainingFiles

    path = folder / "job.txt"
    if path.is_file() and TrainingFiles(folder / "training").result.is_file():
        return read_text(path, "the training's job").strip()
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, f"{job.id}\n")
    return job.id


def _digest(job: Job, architecture: Architecture) -> str:
    content = [architecture.to_dict(), job.parameters["recipe"], job.parameters["task"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
