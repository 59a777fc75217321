"""Measuring what a search found: predicted latencies beside measured ones, and what follows from them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.machine import device_name
from llmpp.measuring.measurement import Measurement, MeasurementSettings, measure
from llmpp.measuring.timing import Workload, runs_of
from llmpp.predictor import MlpPredictor
from llmpp.ranges import integer, positive
from llmpp.task import Task

#: An error is systematic if its mean is beyond this share and so many times its standard error.
SYSTEMATIC, _N_ERRORS = 0.02, 3.0
#: From fewer candidates nothing is concluded about the others.
_FEWEST = 3
_N_ROUNDS = 2
#: So many times as many candidates as were asked for are measured at most, until one keeps the bound.
_MOST = 4


class Predicted(Protocol):
    """An architecture and its predicted latency, such as `llmpp.Candidate`."""

    @property
    def architecture(self) -> Architecture:
        """The architecture."""

    @property
    def latency_ms(self) -> float | None:
        """Its predicted latency."""


Found = TypeVar("Found", bound=Predicted)


@dataclass(frozen=True)
class Verified(Generic[Found]):
    """A candidate that was measured.

    Attributes:
        candidate: The candidate.
        predicted_ms: Its predicted latency.
        measured_ms: Its measured one, the mean of the rounds.
        half_width: Half the 95% interval of the measured median, as a share of it, in the worse round.
        is_within: Whether it keeps the bound in truth.
    """

    candidate: Found
    predicted_ms: float
    measured_ms: float
    half_width: float
    is_within: bool

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured_ms / self.predicted_ms

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain values, ready for JSON."""
        return {
            "architecture": self.candidate.architecture.to_dict(),
            "predicted_ms": self.predicted_ms,
            "measured_ms": self.measured_ms,
            "half_width": self.half_width,
            "is_within": self.is_within,
        }


@dataclass(frozen=True)
class Verification(Generic[Found]):
    """What measuring the best candidates showed.

    Attributes:
        bound_ms: The bound on latency, or None.
        measured: All that were measured, in the order in which they were given.
        factor: What predictions are to be multiplied by: the median ratio of measured to predicted latency if
            the error is systematic, else 1.
        is_interrupted: Whether Ctrl-C ended it early.
    """

    bound_ms: float | None
    measured: tuple[Verified[Found], ...]
    factor: float
    is_interrupted: bool = False

    @property
    def kept(self) -> tuple[Verified[Found], ...]:
        """Those that keep the bound in truth, in the order in which they were given."""
        return tuple(one for one in self.measured if one.is_within)

    @property
    def dropped(self) -> tuple[Verified[Found], ...]:
        """Those that break it."""
        return tuple(one for one in self.measured if not one.is_within)

    @property
    def is_systematic(self) -> bool:
        """Whether predictions miss to one side, and not by chance."""
        return self.factor != 1.0

    @property
    def corrected_bound_ms(self) -> float | None:
        """The bound for the predictions as they are: what a search again should be given."""
        return None if self.bound_ms is None else self.bound_ms / self.factor

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know."""
        notes = []
        if self.dropped:
            ratios = ", ".join(
                f"{one.measured_ms:.1f} ms, not {one.predicted_ms:.1f}" for one in self.dropped
            )
            notes.append(
                f"{len(self.dropped)} of {len(self.measured)} candidates measured break the bound of "
                f"{self.bound_ms:g} ms and were dropped: {ratios}"
            )
        if self.is_systematic:
            side = "above" if self.factor > 1 else "below"
            notes.append(
                f"measured latencies are {100 * abs(self.factor - 1):.1f}% {side} the predicted ones, and "
                f"not by chance: predictions are to be multiplied by {self.factor:.3f}"
            )
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain values, ready for JSON."""
        return {
            "bound_ms": self.bound_ms,
            "factor": self.factor,
            "is_interrupted": self.is_interrupted,
            "corrected_bound_ms": self.corrected_bound_ms,
            "measured": [one.to_dict() for one in self.measured],
            "notes": list(self.notes),
        }


def verify(
    candidates: Iterable[Found],
    measure_one: Callable[[Architecture], Measurement],
    bound_ms: float | None,
    *,
    n: int = 5,
    quantile: float = 0.5,
    known: dict[Architecture, list[Measurement]] | None = None,
    is_last: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> Verification[Found]:
    """Measures the best candidates, and compares with what was predicted of them.

    They are measured in two rounds, so that what slows the machine for a moment counts half. If all break
    the bound, and the error is not systematic, further ones are measured until one keeps it, four times as
    many at most. Ctrl-C ends it early, with what was measured.

    Args:
        candidates: Best first, each with its predicted latency.
        measure_one: Measures an architecture, see `measurer`.
        bound_ms: The bound on latency; None if there is none.
        n: How many to measure.
        quantile: What is taken of the repeats: that which the predictions are of.
        known: What was measured before; what is measured now is added.
        is_last: Whether no search follows that a systematic error would correct: then further candidates are
            measured also if there is one.
        progress: Told how many measurements are done, and how many there are.

    Returns:
        All that was measured; `kept` and `dropped` tell the bound, `factor` and `corrected_bound_ms` how to
        go on if the error is systematic.

    Raises:
        InputError: If `n` or the bound is out of its range, or a candidate has no predicted latency.
    """
    n = integer("n", n, 1, 10**6)
    bound_ms = None if bound_ms is None else positive("the bound of `latency_ms`", bound_ms)
    bench = _Bench(measure_one, bound_ms, quantile, {} if known is None else known)
    chosen = list(islice(candidates, _MOST * n))
    measured: list[Verified[Found]] = []
    is_interrupted, told = False, progress or (lambda _done, _total: None)
    try:
        while len(measured) < len(chosen) and not _is_enough(measured, n, is_last=is_last):
            begin, end = len(measured), min(max(n, len(measured) + 1), len(chosen))
            for number in range(_N_ROUNDS):
                for place in range(begin, end):
                    measured[place : place + 1] = [bench.verified(chosen[place], number)]
                    told(_N_ROUNDS * begin + number * (end - begin) + place - begin + 1, _N_ROUNDS * end)
    except KeyboardInterrupt:
        is_interrupted = True
    return Verification(bound_ms, tuple(measured), _factor(measured), is_interrupted)


def _is_enough(measured: Sequence[Verified[Any]], n: int, *, is_last: bool) -> bool:
    if len(measured) < n:
        return False
    return any(one.is_within for one in measured) or (not is_last and _factor(measured) != 1.0)


@dataclass(frozen=True)
class _Bench:
    measure_one: Callable[[Architecture], Measurement]
    bound_ms: float | None
    quantile: float
    known: dict[Architecture, list[Measurement]]

    def verified(self, candidate: Found, number: int) -> Verified[Found]:
        """What is known of a candidate after a round; it is measured if that was not done before."""
        predicted = positive("a candidate's predicted latency", candidate.latency_ms)
        rounds = self.known.setdefault(candidate.architecture, [])
        if len(rounds) <= number:
            rounds.append(self.measure_one(candidate.architecture))
        latency = fmean(sum(one.parts_ms(self.quantile)) for one in rounds)
        is_within = self.bound_ms is None or latency <= self.bound_ms
        return Verified(candidate, predicted, latency, max(one.half_width for one in rounds), is_within)


def _factor(measured: Sequence[Verified[Any]]) -> float:
    """The median ratio of measured to predicted latency, if it is not by chance that it is not 1."""
    logs = np.log([one.ratio for one in measured])
    if len(logs) < _FEWEST:
        return 1.0
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    is_systematic = abs(logs.mean()) > max(SYSTEMATIC, _N_ERRORS * error)
    return math.exp(float(np.median(logs))) if is_systematic else 1.0


def measurer(
    hardware: MlpPredictor, task: Task, settings: MeasurementSettings | None = None
) -> Callable[[Architecture], Measurement]:
    """Returns what measures architectures as those were that a latency model was fitted to.

    Args:
        hardware: A latency model that `llmpp fit-latency` made of what `llmpp measure` wrote here.
        task: The task.
        settings: How long to measure each.

    Raises:
        InputError: If the model was not fitted to measurements of this machine.
        MissingExtraError: If the runtime is not installed.
    """
    if "workload" not in hardware.record:
        raise InputError(
            f"{hardware.name} was not measured by `llmpp measure`, so what it predicts cannot be measured "
            f"here. Make a latency model of this machine: `llmpp measure --task {task.name} -o FILE`, then "
            "`llmpp fit-latency FILE`"
        )
    workload = Workload(**hardware.record["workload"])
    build = runs_of(task, workload)
    here, there = device_name(workload.device), hardware.record["machine"]["device_name"]
    if here != there:
        raise InputError(
            f"{hardware.name} was measured on {there}, but this is {here}: what it predicts cannot be "
            "measured here"
        )

    from llmpp.cpu_threads import threads

    def measure_one(architecture: Architecture) -> Measurement:
        with threads(workload.threads):
            return measure(build(architecture), settings)

    return measure_one
