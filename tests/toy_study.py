"""Jobs that take moments, and a run of them as a process of its own: `python toy_study.py DIRECTORY N [RAY]`.

Every time that a job is begun or ended is a line of `DIRECTORY/trace.txt`.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmpp.study.dispatcher import Workers, dispatch
from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue
from llmpp.study.local_workers import LocalWorkers
from llmpp.study.place import Place
from llmpp.study.ray_workers import RayWorkers
from llmpp.study.worker import Kind


def trace(place: Place, word: str, job: str) -> None:
    with (place.directory / "trace.txt").open("a", encoding="utf-8") as file:
        file.write(f"{word} {job} {os.getpid()}\n")


def add(job: Job, place: Place) -> Mapping[str, Any]:
    """Adds up what was before it and a number of its own."""
    trace(place, "begin", job.id)
    time.sleep(job.parameters.get("nap", 0))
    total = sum(place.outcome(name)["total"] for name in job.after) + job.parameters["number"]
    trace(place, "end", job.id)
    return {"total": total}


def leave(job: Job, place: Place) -> Mapping[str, Any]:
    """Adds up what is in the files of those before it, and leaves the sum in one of its own."""
    trace(place, "begin", job.id)
    total = job.parameters["number"] + sum(int((place.work(name) / "sum").read_text()) for name in job.after)
    place.work(job.id).mkdir(parents=True, exist_ok=True)
    (place.work(job.id) / job.parameters.get("file", "sum")).write_text(str(total))
    trace(place, "end", job.id)
    return {"total": total}


def hang(job: Job, place: Place) -> Mapping[str, Any]:
    """Waits to be killed until a file says that it was; then it ends at once."""
    trace(place, "begin", job.id)
    if not (place.directory / "killed").exists():
        time.sleep(60)
    trace(place, "end", job.id)
    return {"total": job.parameters["number"]}


def die(job: Job, place: Place) -> Mapping[str, Any]:
    trace(place, "begin", job.id)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def refuse(job: Job, place: Place) -> Mapping[str, Any]:
    trace(place, "begin", job.id)
    if job.parameters.get("is_nan"):
        return {"total": float("nan")}
    if job.parameters.get("is_final"):
        from llmpp import InputError

        raise InputError("there is no hope")
    raise RuntimeError("no luck today")


KINDS: dict[str, Kind] = {"add": add, "leave": leave, "hang": hang, "die": die, "refuse": refuse}


def toy_place(directory: Path) -> Place:
    return Place(directory, "toy_study", command="toy")


#: Two chains that meet, one that hangs until it is killed, and one that must be alone.
JOBS = (
    Job("a", "add", {"number": 1, "nap": 0.1}),
    Job("hang", "hang", {"number": 10}),
    *(Job(f"b{i}", "add", {"number": i, "nap": 0.1}, ("a",)) for i in range(4)),
    Job("sum", "add", {"number": 100}, ("b0", "b1", "b2", "b3", "hang")),
    Job("alone", "add", {"number": 7, "nap": 0.3}, is_exclusive=True),
)
TOTALS = {"a": 1, "hang": 10, "b0": 1, "b1": 2, "b2": 3, "b3": 4, "sum": 120, "alone": 7}


def main(directory: str, n: str, ray: str = "") -> None:
    place = toy_place(Path(directory))
    workers: Workers = RayWorkers(place, ray, int(n)) if ray else LocalWorkers(place, int(n))
    states = dispatch(JobQueue(place.directory, JOBS), workers)
    sys.exit(set(states.values()) != {"done"})


if __name__ == "__main__":
    main(*sys.argv[1:])
