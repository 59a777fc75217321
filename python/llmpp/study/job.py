"""Jobs: pieces of work with names, parameters, and others that must be done before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmpp.errors import InputError
from llmpp.ranges import positive

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        id: Its name, which files are called by: letters in lower case, digits, `.`, `_` and `-`.
        kind: What does it, a key of the module's `KINDS` (see `worker.py`).
        parameters: What it depends on, as JSON holds it; a job with others is another one.
        after: Ids of the jobs that must be done before.
        estimate: About how many seconds it takes.
        is_exclusive: Whether no other job may run beside it.
        leaves: Files below its own directory that jobs after it read. Results may be carried to another
            machine without these: the job is then done again as soon as another needs them.

    Raises:
        InputError: If the id cannot be the name of a file, or the estimate is not positive.
    """

    id: str
    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    estimate: float = 60.0
    is_exclusive: bool = False
    leaves: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InputError(
                f"the id of a job must be of lower-case letters, digits, '.', '_', '-', got {self.id!r}"
            )
        positive(f"the estimate of {self.id}", self.estimate)

    def to_dict(self) -> dict[str, Any]:
        """Returns what makes it the job that it is, ready for JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "after": list(self.after),
        }


def check_jobs(jobs: Sequence[Job]) -> dict[str, Job]:
    """Returns jobs by id, in their order.

    Raises:
        InputError: If two have one id, or one waits for a job that is not listed before it.
    """
    known: dict[str, Job] = {}
    for job in jobs:
        if job.id in known:
            raise InputError(f"two jobs are called {job.id!r}: give each its own id")
        if missing := [name for name in job.after if name not in known]:
            raise InputError(f"the job {job.id!r} waits for {missing}, which must be listed before it")
        known[job.id] = job
    return known
