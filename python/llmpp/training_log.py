"""The log of a training, one JSON object per line, and what its last lines say of speed and time left."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from llmpp.errors import writing
from llmpp.text import read_text, replace_text

LOG_SCHEMA = "llmpp.training-log/1"


@dataclass(frozen=True)
class Progress:
    """How a training is doing.

    Attributes:
        update: Updates done.
        n_updates: Updates in all.
        loss: Training loss since the last report, label-smoothed, in nats per target token.
        valid_loss: The last validation loss; None before the first.
        tokens_per_second: Target tokens trained on per second since the last report.
        seconds_left: Estimate of the time left.
    """

    update: int
    n_updates: int
    loss: float
    valid_loss: float | None
    tokens_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        valid = "" if self.valid_loss is None else f", validation {self.valid_loss:.3f}"
        return (
            f"update {self.update}/{self.n_updates}: loss {self.loss:.3f}{valid}, "
            f"{self.tokens_per_second:,.0f} tokens/s, {duration(self.seconds_left)} left"
        )


#: Is told how a training is doing.
Report: TypeAlias = Callable[[Progress], object]


@dataclass(frozen=True)
class TrainingLog:
    """The file of a training's log.

    | line | what |
    |---|---|
    | first | `schema` |
    | `kind` 'update' | `update`, `epoch`, `loss`, `rate`, `gradient_norm`, `n_tokens`, `seconds` |
    | `kind` 'validation' | `update`, `loss`, `losses` by architecture, `is_best`, `seconds` |

    Attributes:
        path: Where it is.
    """

    path: Path

    def begin(self, update: int) -> None:
        """Makes the file, or takes out what a run that was killed wrote after the update that goes on.

        Raises:
            InputError: If it cannot be written.
        """
        lines = [{"schema": LOG_SCHEMA}]
        if self.path.is_file():
            lines += [line for line in self.lines() if line["update"] <= update]
        with writing(f"the log {self.path}"):
            replace_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends a line.

        Raises:
            InputError: If it cannot be written.
        """
        with writing(f"the log {self.path}"), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Reads all lines but the header; one that was cut off when a run was killed counts for nothing.

        Raises:
            InputError: If the file cannot be read.
        """
        found = []
        for text in read_text(self.path, "the log").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict) and "update" in line:
                found.append(line)
        return found


class Meter:
    """Means since the last line of the log."""

    def __init__(self) -> None:
        self.losses, self.norms = 0.0, 0.0
        self.n_updates, self.n_tokens = 0, 0
        self.start = time.perf_counter()

    def add(self, loss: float, norm: float, n_tokens: int) -> None:
        """Counts an update."""
        self.losses += loss * n_tokens
        self.norms += norm
        self.n_updates, self.n_tokens = self.n_updates + 1, self.n_tokens + n_tokens

    @property
    def loss(self) -> float:
        """Nats per target token."""
        return self.losses / self.n_tokens

    @property
    def norm(self) -> float:
        """The mean norm of the gradient before it was clipped."""
        return self.norms / self.n_updates

    def tokens_per_second(self) -> float:
        """Target tokens per second."""
        return self.n_tokens / max(time.perf_counter() - self.start, 1e-9)


def duration(seconds: float) -> str:
    """Writes a time for people: seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
