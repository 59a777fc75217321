"""How far a study is, and how long it may still take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmpp.study.job_queue import JobQueue, State

STATES: tuple[State, ...] = ("done", "running", "waiting", "failed", "blocked")


@dataclass(frozen=True)
class Status:
    """How a study stands.

    Attributes:
        states: How each job stands, by id.
        kinds: The kind of each job.
        seconds: How long each job took that is done, and each that is running has so far.
        seconds_left: Estimate of the time left, with so many workers; jobs that are blocked left out.
        n_workers: The number of workers that this is for.
        errors: Why jobs failed that did, by id.
    """

    states: Mapping[str, State]
    kinds: Mapping[str, str]
    seconds: Mapping[str, float]
    seconds_left: float
    n_workers: int
    errors: Mapping[str, str]

    def counts(self) -> dict[str, dict[State, int]]:
        """Counts jobs by kind and state."""
        found = {kind: dict.fromkeys(STATES, 0) for kind in self.kinds.values()}
        for name, state in self.states.items():
            found[self.kinds[name]][state] += 1
        return found

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it, ready for JSON."""
        jobs = {
            name: {
                "kind": self.kinds[name],
                "state": state,
                "seconds": self.seconds.get(name),
                "error": self.errors.get(name),
            }
            for name, state in self.states.items()
        }
        left = {"seconds_left": round(self.seconds_left, 1), "n_workers": self.n_workers}
        return {"jobs": jobs, "counts": self.counts(), **left}


def status_of(jobs: JobQueue, *, n_workers: int = 2) -> Status:
    """Says how a study stands; reads its files only.

    Args:
        jobs: Its queue.
        n_workers: Workers that the time left is for.
    """
    states, now = jobs.states(), time.time()
    claims = jobs.claims()
    records = {name: jobs.result(name) for name, state in states.items() if state == "done"}
    seconds = {name: seconds_of(record) for name, record in records.items()}
    telling = {name: seconds[name] for name, record in records.items() if not is_known(record)}
    left = _left(jobs, states, telling)
    for name, state in states.items():
        if state == "running" and name in claims:
            seconds[name] = now - claims[name].started
            left[name] = max(left[name] - seconds[name], 0.0)
    errors = {name: found[-1]["message"] for name in jobs.jobs if (found := jobs.attempts(name))}
    kinds = {name: job.kind for name, job in jobs.jobs.items()}
    return Status(states, kinds, seconds, _makespan(jobs, left, n_workers), n_workers, errors)


def seconds_of(record: Mapping[str, Any]) -> float:
    """The seconds of a job, those before it was killed included where it counts them.

    A training that was done as another job took none, though its worker may have waited for the other.
    """
    outcome = record["outcome"]
    if is_known(record):
        return 0.0
    names = ("seconds", "seconds_to_finish") if "seconds" in outcome else ("search_seconds",)
    usage = outcome.get("usage", {})
    parts = [
        *(outcome.get(name, 0) for name in names),
        usage.get("seconds", 0),
        usage.get("seconds_cached", 0),
    ]
    counted = sum(part for part in parts if isinstance(part, (int, float)))
    return max(float(record["seconds"]), float(counted))


def is_known(record: Mapping[str, Any]) -> bool:
    """Whether a job was done as another one, so that its seconds tell nothing."""
    return "same_as" in record["outcome"]


def _left(jobs: JobQueue, states: Mapping[str, State], seconds: Mapping[str, float]) -> dict[str, float]:
    """Estimates open jobs: by what others of their kind took beside their estimates, or all others did."""
    open_ = [job for job in jobs.jobs.values() if states[job.id] in {"waiting", "running"}]
    overall = _ratio(jobs, seconds, list(seconds), 1.0)
    found = {}
    for job in open_:
        same = [name for name in seconds if jobs.jobs[name].kind == job.kind]
        found[job.id] = job.estimate * _ratio(jobs, seconds, same, overall)
    return found


def _ratio(jobs: JobQueue, seconds: Mapping[str, float], names: list[str], default: float) -> float:
    expected = sum(jobs.jobs[name].estimate for name in names)
    return sum(seconds[name] for name in names) / expected if names else default


def _makespan(jobs: JobQueue, left: Mapping[str, float], n_workers: int) -> float:
    """Exclusive jobs one by one; the others side by side, no sooner than the longest chain of them ends."""
    alone = sum(value for name, value in left.items() if jobs.jobs[name].is_exclusive)
    chains: dict[str, float] = {}
    for name, job in jobs.jobs.items():
        if not job.is_exclusive:
            before = max((chains.get(other, 0.0) for other in job.after), default=0.0)
            chains[name] = before + left.get(name, 0.0)
    shared = sum(left.values()) - alone
    return alone + max(shared / max(n_workers, 1), max(chains.values(), default=0.0))
