"""A study of toy text that takes seconds: its file, and a run of it in this process."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmpp.study.description import Study
from llmpp.study.dispatcher import Ending, dispatch
from llmpp.study.expansion import expand
from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue, State
from llmpp.study.local_workers import ending_of
from llmpp.study.place import Place
from llmpp.study.worker import perform, question_of
from toy_text import toy_files
from toy_training import BRIEF, SPACE

#: Two ways to search, as little as they can be.
COMPARISON: dict[str, Any] = {
    "comparison": {"quantiles": [0.6], "seeds": [1, 2], "n_measured": 30},
    "comparison.evolution": {
        "n_iterations": 2,
        "n_population": 6,
        "n_parents": 2,
        "n_mutants": 2,
        "n_children": 2,
    },
    "comparison.methods.hybrid": {"initial": "student", "baseline": "supernet-plain"},
    "comparison.methods.random": {"initial": "supernet-plain", "is_random": True},
}


def write_small_study(folder: Path, n: int = 2, **more: Mapping[str, Any]) -> Path:
    """Writes toy text, and a study of `n` architectures; `more` are further tables."""
    files = {name: [path.name for path in paths] for name, paths in toy_files(folder).items()}
    tables: dict[str, Mapping[str, Any]] = {
        "corpus": {"path": ".", **files, "vocabulary": 80},
        "space": {"qkv_dim": 32},
        "space.options": {name: list(options) for name, options in SPACE.options.items()},
        "architectures": {"n": n, "seeds": [1, 2], "replicated": [2]},
        "training": BRIEF,
        "supernets": {"kinds": ["plain"], "metrics": ["loss", "bleu"]},
        "measuring": {"max_seconds": 0.02},
        **more,
    }
    lines = ['schema = "llmpp.study/1"', 'name = "small"', 'words = "small talk"', "sentence_length = 4"]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path = folder / "small.toml"
    path.write_text("\n".join(lines), "utf-8")
    return path


class InThisProcess:
    """Does jobs as soon as they are begun."""

    def __init__(self, place: Place) -> None:
        self.place, self.endings = place, list[Ending]()

    @property
    def n_idle(self) -> int:
        return 1 - len(self.endings)

    def start(self, job: Job) -> None:
        self.endings.append(ending_of(job, perform(question_of(job, self.place))))

    def wait(self, seconds: float) -> list[Ending]:
        endings, self.endings = self.endings, []
        return endings

    def stop(self) -> None:
        pass


def small_place(file: Path, directory: Path) -> Place:
    """Where a study of this file runs."""
    settings = {"corpus": str(file.parent), "device": "cpu", "folder": str(file.parent)}
    return Place(directory, "llmpp.study.kinds", "llmpp study run", settings)


def run_here(file: Path, directory: Path, *, only: Collection[str] | None = None) -> dict[str, State]:
    """Runs a study, or some jobs and what they need, in this process; jobs that fail raise what they say."""
    jobs = JobQueue(directory, expand(Study.load(file)), only=only, n_attempts=1)
    states = dispatch(jobs, InThisProcess(small_place(file, directory)))
    for name in jobs.jobs:
        for attempt in jobs.attempts(name):
            raise AssertionError(f"{name}: {attempt['details']}")
    return states
