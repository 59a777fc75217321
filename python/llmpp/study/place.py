"""`Place`: what the functions that do jobs are told beside the job."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmpp.study.job_queue import RESULT_SCHEMA
from llmpp.text import read_record


@dataclass(frozen=True)
class Place:
    """Where and how a study runs; results do not depend on it.

    Attributes:
        directory: The study's.
        kinds: The module whose `KINDS` say what does each kind of job: `{kind: function(job, place)}`.
        command: The command to record.
        settings: What else the functions need, as JSON holds it, such as where raw text lies.
    """

    directory: Path
    kinds: str
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def work(self, job: str) -> Path:
        """The directory of a job's own files, which may not be there yet."""
        return self.directory / "work" / job

    def is_done(self, job: str) -> bool:
        """Whether a job has its result."""
        return self._result(job).is_file()

    def outcome(self, job: str) -> dict[str, Any]:
        """Reads what a job brought that was done before.

        Raises:
            InputError: If it is not done.
        """
        record = read_record(self._result(job), RESULT_SCHEMA)
        return dict(record["outcome"])

    def _result(self, job: str) -> Path:
        return self.directory / "results" / f"{job}.json"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return {**asdict(self), "directory": str(self.directory)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Place":
        """Builds a place from what `to_dict` returns."""
        return cls(**{**data, "directory": Path(data["directory"])})
