"""`JobQueue`: which jobs of a study are done, which can be begun, and what came of them, all in files.

Any number of runs may use one directory. Each change of claims is made under one lock, so that no job is
given out twice. A job is done when it has a result; one whose files are gone and are needed by a job that is
still to be done is done again, so results can be carried to another machine without the files.

A result is `{schema, job, outcome, seconds, machine, command, date, versions, n_attempts}`.
A failure is `{schema, job, attempts: [{message, details}], is_final}`.
"""

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from llmpp.errors import InputError, writing
from llmpp.file_lock import locked
from llmpp.study.claim import Claim, Owner, read_claim
from llmpp.study.job import Job, check_jobs
from llmpp.text import read_record, replace_text

RESULT_SCHEMA = "llmpp.study-result/1"
FAILURE_SCHEMA = "llmpp.study-failure/1"
#: 'blocked' waits for a job that failed.
State: TypeAlias = Literal["done", "running", "failed", "waiting", "blocked"]
#: Seconds between heartbeats, and how long a run on another machine may be silent.
_BEAT, PATIENCE = 10.0, 120.0


class JobQueue:
    """The jobs of a study, as one run sees them.

    Args:
        directory: The study's.
        jobs: All of them, each after those that it waits for; earlier ones are begun first.
        only: Ids of the jobs that this run is to do, with all that they need; None for all.
        n_attempts: How often a job is begun that ends its worker or fails.
        patience: Seconds for which a run on another machine may be silent.

    Raises:
        InputError: If jobs are not what they should be, a result in the directory is of another job, or the
            system has no locks of files.
    """

    def __init__(
        self,
        directory: Path,
        jobs: Sequence[Job],
        *,
        only: Collection[str] | None = None,
        n_attempts: int = 3,
        patience: float = PATIENCE,
    ) -> None:
        if os.name != "posix":
            raise InputError("studies need locks of files and the like: a system such as Linux or macOS")
        self.directory, self.jobs = directory, check_jobs(jobs)
        self.wanted = set(self.jobs) if only is None else self._with_needs(only)
        self.n_attempts, self.patience = n_attempts, patience
        self.owner, self.mine, self.beaten = Owner(), set[str](), 0.0
        #: Jobs of this run that are done again for their files.
        self.again: set[str] = set()
        for job in jobs:
            if self.is_done(job.id):
                self._check_result(job)

    def take(self) -> Job | None:
        """Claims a job that can be begun; None if there is none now. An exclusive one is begun last."""
        with self._locked():
            claims = self.claims()
            if any(claim.is_exclusive for claim in claims.values()):
                return None
            ready = self._ready()
            shared = [job for job in ready if not job.is_exclusive]
            if not ready or (claims and not shared):
                return None
            job = shared[0] if shared else ready[0]
            now = time.time()
            self._write("claims", job.id, Claim(job.id, self.owner, job.is_exclusive, now, now).to_dict())
            self.mine.add(job.id)
            if self.is_done(job.id):
                self.again.add(job.id)
            return job

    def succeed(self, job: Job, record: Mapping[str, Any]) -> bool:
        """Writes what a job brought, and gives it back; False if another run took it over meanwhile."""
        with self._locked():
            is_mine = self._is_mine(job.id) and (job.id in self.again or not self.is_done(job.id))
            if is_mine:
                n_attempts = 1 + len(self.attempts(job.id))
                content = {"schema": RESULT_SCHEMA, "job": job.to_dict(), **record, "n_attempts": n_attempts}
                self._write("results", job.id, content)
                self._path("failures", job.id).unlink(missing_ok=True)
            self._drop(job.id)
            return is_mine

    def fail(self, job: Job, message: str, details: str = "", *, is_final: bool = False) -> bool:
        """Notes a failed attempt, and gives the job back; returns whether it was the last one."""
        with self._locked():
            if not self._is_mine(job.id):
                self.mine.discard(job.id)
                return False
            attempts = [*self.attempts(job.id), {"message": message, "details": details}]
            is_final = is_final or len(attempts) >= self.n_attempts
            content = {"job": job.to_dict(), "attempts": attempts, "is_final": is_final}
            self._write("failures", job.id, {"schema": FAILURE_SCHEMA, **content})
            self._drop(job.id)
            return is_final

    def give_back(self) -> None:
        """Lets go of all jobs of this run."""
        with self._locked():
            for name in tuple(self.mine):
                self._drop(name)

    def beat(self) -> None:
        """Says that this run is there, if it has not done so for a while."""
        if time.monotonic() - self.beaten < _BEAT:
            return
        self.beaten = time.monotonic()
        with self._locked():
            for name in self.mine:
                claim = read_claim(self._path("claims", name))
                if claim and claim.owner == self.owner:
                    self._write("claims", name, replace(claim, heartbeat=time.time()).to_dict())

    def forgive(self) -> list[str]:
        """Has jobs that failed tried again; returns their ids."""
        with self._locked():
            failed = [name for name in self.jobs if self._is_failed(name)]
            for name in failed:
                self._path("failures", name).unlink(missing_ok=True)
        return failed

    def is_done(self, name: str) -> bool:
        """Whether a job has its result."""
        return self._path("results", name).is_file()

    def result(self, name: str) -> dict[str, Any]:
        """Reads the result of a job.

        Raises:
            InputError: If there is none.
        """
        return read_record(self._path("results", name), RESULT_SCHEMA)

    def attempts(self, name: str) -> list[dict[str, str]]:
        """Lists the attempts of a job that failed."""
        return list(self._failure(name).get("attempts", []))

    def claims(self) -> dict[str, Claim]:
        """Lists the claims that hold, by job."""
        now, found = time.time(), {}
        for path in sorted((self.directory / "claims").glob("*.json")):
            claim = read_claim(path)
            if claim and claim.holds(now, self.patience):
                found[claim.job] = claim
        return found

    def states(self) -> dict[str, State]:
        """Says of each job how it stands; one that is to be done again is not done."""
        claims, missing, found = self.claims(), self.missing(), dict[str, State]()
        for name, job in self.jobs.items():
            if self.is_done(name) and name not in missing:
                found[name] = "done"
            elif self._is_failed(name):
                found[name] = "failed"
            elif name in claims:
                found[name] = "running"
            else:
                is_blocked = any(found[other] in {"failed", "blocked"} for other in job.after)
                found[name] = "blocked" if is_blocked else "waiting"
        return found

    def is_at_end(self) -> bool:
        """Whether nothing is left to do for this run, nor to wait for."""
        if self.mine:
            return False
        states = self.states()
        return not {states[name] for name in self.wanted} & {"waiting", "running"}

    def missing(self) -> set[str]:
        """Lists the jobs whose results are there without the files, though a job to be done needs these."""
        needed, found = set[str](), set[str]()
        for name, job in reversed(self.jobs.items()):
            is_done = self.is_done(name)
            if is_done and name in needed and not self.has_files(job):
                found.add(name)
            if (name in found or not is_done) and not self._is_failed(name):
                needed |= set(job.after)
        return found

    def has_files(self, job: Job) -> bool:
        """Whether the files are there that a job leaves to others."""
        return all((self.directory / "work" / job.id / name).is_file() for name in job.leaves)

    def _ready(self) -> list[Job]:
        """Lists the jobs of this run that can be begun and that nobody does."""
        states = self.states()
        return [
            job
            for name, job in self.jobs.items()
            if name in self.wanted
            and states[name] == "waiting"
            and all(states[other] == "done" for other in job.after)
        ]

    def _with_needs(self, only: Collection[str]) -> set[str]:
        """Adds all that some jobs need."""
        found = set(only)
        for name, job in reversed(self.jobs.items()):
            if name in found:
                found |= set(job.after)
        return found

    def _is_failed(self, name: str) -> bool:
        return bool(self._failure(name).get("is_final"))

    def _failure(self, name: str) -> dict[str, Any]:
        path = self._path("failures", name)
        return read_record(path, FAILURE_SCHEMA) if path.is_file() else {}

    def _is_mine(self, name: str) -> bool:
        claim = read_claim(self._path("claims", name))
        return claim is not None and claim.owner == self.owner

    def _drop(self, name: str) -> None:
        if self._is_mine(name):
            self._path("claims", name).unlink(missing_ok=True)
        self.mine.discard(name)

    def _check_result(self, job: Job) -> None:
        found = self.result(job.id).get("job")
        # As JSON would give it back: with lists for tuples.
        if found != (wanted := json.loads(json.dumps(job.to_dict()))):
            raise InputError(
                f"{self._path('results', job.id)} is the result of another job of that name (it differs in "
                f"{', '.join(_differing(found, wanted))}): name another directory for this study, or remove "
                "that file to do the job again"
            )

    def _path(self, folder: str, name: str) -> Path:
        return self.directory / folder / f"{name}.json"

    def _locked(self) -> Any:
        return locked(self.directory / "locks" / "queue.lock")

    def _write(self, folder: str, name: str, content: Mapping[str, Any]) -> None:
        """Writes a file as a whole.

        Raises:
            InputError: If it cannot be written.
        """
        path = self._path(folder, name)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _differing(found: Any, wanted: Mapping[str, Any]) -> list[str]:
    """Names what two jobs differ in, parameters by their own names."""
    flat = [{**one, **one.get("parameters", {})} for one in (found or {}, wanted)]
    names = sorted(name for one in flat for name in one if name != "parameters")
    return [name for name in dict.fromkeys(names) if flat[0].get(name) != flat[1].get(name)]
