"""Runs of the toy jobs, here or as processes of their own, and what is to be seen of them."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmpp.study.claim import birth_of
from llmpp.study.dispatcher import dispatch
from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue, State
from llmpp.study.local_workers import LocalWorkers
from toy_study import JOBS, TOTALS, toy_place

_TESTS = Path(__file__).parent
#: Seconds to wait for what takes moments: machines may be busy.
PATIENCE = 120.0


def _path() -> str:
    """Where workers find the toy jobs."""
    return os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])


def begin(directory: Path, n: int = 2, *more: str) -> "subprocess.Popen[bytes]":
    """Begins a run of the toy jobs as a process of its own."""
    command = [sys.executable, str(_TESTS / "toy_study.py"), str(directory), str(n), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": _path()})


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def traced(directory: Path) -> list[tuple[str, str, int]]:
    """Lists what jobs were begun and ended: 'begin' or 'end', the job, and its process."""
    path = directory / "trace.txt"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [(word, job, int(pid)) for word, job, pid in map(str.split, lines)]


def pid_of(directory: Path, job: str) -> int | None:
    """The process that last began a job."""
    return next(
        (pid for word, name, pid in reversed(traced(directory)) if (word, name) == ("begin", job)), None
    )


def allow(directory: Path) -> None:
    """Has jobs end that hang."""
    (directory / "killed").touch()


def run(directory: Path, jobs: Sequence[Job], n: int = 2, **settings: Any) -> dict[str, State]:
    """Runs jobs of the kinds of `toy_study.py`; `settings` are those of their queue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", _path())
        return dispatch(JobQueue(directory, jobs, **settings), LocalWorkers(toy_place(directory), n))


def check_all_done_once(directory: Path, *, also: Sequence[str] = ("hang",)) -> None:
    """Checks every result; jobs were begun and ended once, but for those that were killed."""
    jobs = JobQueue(directory, JOBS)
    assert {name: jobs.result(name)["outcome"]["total"] for name in jobs.jobs} == TOTALS
    counts = Counter((job, word) for word, job, _ in traced(directory))
    assert all(counts[job, word] == 1 for job in TOTALS if job not in also for word in ("begin", "end"))
    assert all(counts[job, "end"] >= 1 for job in also)
    left = {path.name for path in directory.rglob("*") if path.suffix == ".part"}
    assert not left
    assert not list((directory / "claims").glob("*.json"))
    assert not list(directory.glob("failures/*.json"))


def begun(directory: Path) -> list[str]:
    """Lists the jobs that were begun."""
    return [job for word, job, _ in traced(directory) if word == "begin"]


def lives(pid: int) -> bool:
    """Whether a process is there."""
    return birth_of(pid) is not None
