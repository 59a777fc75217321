"""`Results`: what the jobs of a study brought, for tables, tasks and pages; reads files only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.study.description import Study
from llmpp.study.expansion import expand, measurement_id, trained_architectures, training_id
from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue
from llmpp.study.status import seconds_of

_MOST_NAMED = 3
#: What a task's figures are made of, by the keys of `Results.missing`.
_FIGURES = ("trainings", "latencies")


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
        study: The study.
        directory: Its directory.

    Raises:
        InputError: If a result in the directory is of another job.
    """

    study: Study
    directory: Path

    @cached_property
    def queue(self) -> JobQueue:
        """Its jobs."""
        return JobQueue(self.directory, expand(self.study))

    @cached_property
    def records(self) -> Mapping[str, dict[str, Any]]:
        """The whole results that are there, by job."""
        return {name: self.queue.result(name) for name in self.queue.jobs if self.queue.is_done(name)}

    @cached_property
    def architectures(self) -> Mapping[int, Architecture]:
        """What is trained from scratch, by number."""
        return trained_architectures(self.study)

    def job(self, name: str) -> Job:
        """The job of a name."""
        return self.queue.jobs[name]

    def outcome(self, name: str) -> dict[str, Any] | None:
        """What a job brought; None if it is not done."""
        return dict(self.records[name]["outcome"]) if name in self.records else None

    def training(self, number: int, seed: int | None = None) -> dict[str, Any] | None:
        """What came of training an architecture, with the study's first seed by default."""
        return self.outcome(training_id(number, self.study.architectures.seeds[0] if seed is None else seed))

    def first_trainings(self) -> list[dict[str, Any]]:
        """What came of training each architecture with the study's first seed, as far as that is done."""
        return [one for number in self.architectures if (one := self.training(number))]

    def latency(self, number: int) -> dict[str, Any] | None:
        """What measuring an architecture brought."""
        return self.outcome(measurement_id(number))

    def scores(self) -> Iterator[tuple[str, str, dict[int, float]]]:
        """Yields supernet, metric, and the score of each architecture by number, where there are any."""
        for job in self.queue.jobs.values():
            if job.kind == "score" and (outcome := self.outcome(job.id)):
                kind = str(job.parameters["supernet"]).removeprefix("supernet-")
                found = {int(number): float(score) for number, score in outcome["scores"].items()}
                yield kind, str(job.parameters["metric"]), found

    def seconds(self) -> dict[str, float]:
        """Seconds of one process, by kind of job."""
        found: dict[str, float] = {}
        for name, record in self.records.items():
            kind = self.job(name).kind
            found[kind] = found.get(kind, 0.0) + seconds_of(record)
        return found

    @cached_property
    def missing(self) -> Mapping[str, list[str]]:
        """What is not done of the figures of all architectures: ids of jobs, by what they bring.

        'trainings' are those of every architecture with the first seed, 'further seeds' those that tell noise
        from signal, 'latencies' and 'supernet scores' what the names say.
        """
        first, *others = self.study.architectures.seeds
        again = self.study.architectures.replicated
        needed = {
            "trainings": [training_id(number, first) for number in self.architectures],
            "further seeds": [training_id(number, seed) for number in again for seed in others],
            "latencies": [measurement_id(number) for number in self.architectures],
            "supernet scores": [job.id for job in self.queue.jobs.values() if job.kind == "score"],
        }
        return {what: [name for name in names if name not in self.records] for what, names in needed.items()}

    def check_complete(self) -> None:
        """Checks that all architectures were trained and measured.

        Raises:
            InputError: If one was not.
        """
        found = [f"{len(self.missing[what])} {what}" for what in _FIGURES if self.missing[what]]
        names = [name for what in _FIGURES for name in self.missing[what]]
        if names:
            more = ", ..." if len(names) > _MOST_NAMED else ""
            raise InputError(
                f"{self.directory} lacks {' and '.join(found)} of {len(self.architectures)} "
                f"({', '.join(names[:_MOST_NAMED])}{more}): go on with `llmpp study run`"
            )
