"""Works through a queue with workers of any sort, until all is done or the run is stopped."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue, State

#: Seconds between two looks at what other runs have done.
_POLL = 0.3


@dataclass(frozen=True)
class Ending:
    """How a job ended, as its worker says.

    Attributes:
        job: The job.
        record: What it brought, for the result; None if it failed.
        message: Why it failed.
        details: More on that.
        is_final: Whether another attempt would fail, too.
    """

    job: Job
    record: dict[str, Any] | None = None
    message: str = ""
    details: str = ""
    is_final: bool = False


class Workers(Protocol):
    """What the dispatcher needs of workers."""

    @property
    def n_idle(self) -> int:
        """How many more jobs can be begun now."""

    def start(self, job: Job) -> None:
        """Begins a job."""

    def wait(self, seconds: float) -> list[Ending]:
        """Waits for jobs to end, for so many seconds at most."""

    def stop(self) -> None:
        """Ends all workers, whatever they do."""


#: Is told what happened: 'begun', 'done', 'failed' or 'again', the job, and the message of a failure.
Report: TypeAlias = Callable[[str, Job, str], object]


def dispatch(jobs: JobQueue, workers: Workers, report: Report | None = None) -> dict[str, State]:
    """Works through a queue; goes on until nothing is left that can be begun, also by other runs.

    Args:
        jobs: The queue.
        workers: Who does them. They are ended in any case.
        report: Is told what happens.

    Returns:
        How each job stands.

    Raises:
        KeyboardInterrupt: If the run is stopped; its jobs are free for another.
    """
    report = report or (lambda *_: None)
    try:
        while True:
            while workers.n_idle and (job := jobs.take()):
                report("begun", job, "")
                workers.start(job)
            if jobs.is_at_end():
                return jobs.states()
            for ending in workers.wait(_POLL):
                _settle(jobs, ending, report)
            jobs.beat()
    finally:
        workers.stop()
        jobs.give_back()


def _settle(jobs: JobQueue, ending: Ending, report: Report) -> None:
    if ending.record is not None and not jobs.has_files(ending.job):
        ending = Ending(ending.job, message=f"it did not leave {list(ending.job.leaves)}", is_final=True)
    if ending.record is not None:
        if jobs.succeed(ending.job, ending.record):
            report("done", ending.job, "")
        return
    is_final = jobs.fail(ending.job, ending.message, ending.details, is_final=ending.is_final)
    report("failed" if is_final else "again", ending.job, ending.message)
