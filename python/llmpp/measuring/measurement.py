"""Measuring one latency: warm up until it no longer gets faster, then repeat until the median is known well.

The clock and what is measured are arguments, so that tests can make time pass as they like.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, TypeAlias

import numpy as np

from llmpp.errors import InputError
from llmpp.ranges import between, integer, positive

#: The probability with which the interval of the median covers it.
CONFIDENCE = 0.95
#: Warming up ends with the first run that takes at least this share of the fastest before it.
_WARM = 0.95
#: Where time is short, fewer repeats than `min_repeats` do, but not fewer than these.
_FEWEST = 3


class Sample(NamedTuple):
    """One run, in ms."""

    encoder_ms: float
    decoder_ms: float

    @property
    def latency_ms(self) -> float:
        """Both together."""
        return self.encoder_ms + self.decoder_ms


#: Runs a network once.
Run: TypeAlias = Callable[[], Sample]
#: Tells the time in seconds.
Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class MeasurementSettings:
    """How long one architecture is measured.

    Attributes:
        precision: Half the width of the median's interval that is good enough, as a share of the median.
        min_repeats: Repeats at least; 6 are the fewest whose range covers the median with 95%.
        max_repeats: Repeats at most.
        max_seconds: No repeat is begun later than this, once there are 3.
        max_warmups: Runs before the repeats at most.

    Raises:
        InputError: If a setting is out of its range.
    """

    precision: float = 0.02
    min_repeats: int = 6
    max_repeats: int = 50
    max_seconds: float = 3.0
    max_warmups: int = 10

    def __post_init__(self) -> None:
        between("precision", self.precision, 1e-4, 1)
        integer("min_repeats", self.min_repeats, 1, 10**6)
        integer("max_repeats", self.max_repeats, 1, 10**6)
        integer("max_warmups", self.max_warmups, 1, 10**6)
        positive("`max_seconds`", self.max_seconds)
        if self.max_repeats < self.min_repeats:
            raise InputError(
                f"`max_repeats` must be at least `min_repeats`, got {self.max_repeats} and {self.min_repeats}"
            )


@dataclass(frozen=True)
class Measurement:
    """What was measured of one architecture.

    Attributes:
        samples: The repeats, in order, without the runs that warmed up.
        half_width: Half the width of the interval of the median of encoder and decoder together, as a share
            of that median.
        is_precise: Whether that is within the precision that was asked for.
        n_warmups: Runs before the repeats.
    """

    samples: tuple[Sample, ...]
    half_width: float
    is_precise: bool
    n_warmups: int

    @property
    def encoder_ms(self) -> float:
        """The median of the encoder's part."""
        return self.parts_ms()[0]

    @property
    def decoder_ms(self) -> float:
        """The median of the decoder's part."""
        return self.parts_ms()[1]

    def parts_ms(self, quantile: float = 0.5) -> tuple[float, float]:
        """A quantile of the encoder's repeats, and of the decoder's; 0.5 for their medians."""
        encoder, decoder = np.array(self.samples).T
        return float(np.quantile(encoder, quantile)), float(np.quantile(decoder, quantile))

    @property
    def latency_ms(self) -> float:
        """The two medians together."""
        return sum(self.parts_ms())


def measure(
    run: Run, settings: MeasurementSettings | None = None, clock: Clock = time.perf_counter
) -> Measurement:
    """Measures a latency.

    Args:
        run: Runs the network once, and says how long its parts took.
        settings: How long to measure.
        clock: What `max_seconds` is counted by.
    """
    settings = settings or MeasurementSettings()
    n_warmups = _warm_up(run, settings, clock)
    samples: list[Sample] = []
    start = clock()
    while not _is_enough(samples, settings, clock() - start):
        samples.append(run())
    half_width = relative_half_width([sample.latency_ms for sample in samples])
    is_precise = len(samples) >= settings.min_repeats and half_width <= settings.precision
    return Measurement(tuple(samples), half_width, is_precise, n_warmups)


def _warm_up(run: Run, settings: MeasurementSettings, clock: Clock) -> int:
    """Runs until a run is no faster than those before it; returns the number of runs."""
    start, fastest = clock(), math.inf
    for number in range(1, settings.max_warmups + 1):
        latency = run().latency_ms
        if latency >= _WARM * fastest or clock() - start > settings.max_seconds:
            return number
        fastest = min(fastest, latency)
    return settings.max_warmups


def _is_enough(samples: Sequence[Sample], settings: MeasurementSettings, seconds: float) -> bool:
    n = len(samples)
    if n >= settings.max_repeats or (n >= _FEWEST and seconds >= settings.max_seconds):
        return True
    if n < settings.min_repeats:
        return False
    return relative_half_width([sample.latency_ms for sample in samples]) <= settings.precision


def relative_half_width(values: Sequence[float]) -> float:
    """Computes half the width of the median's interval, as a share of the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / median(values)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Computes an interval that covers the median with 95%, whatever the distribution: two order statistics.

    How many of n values lie below the median is binomial with n and 1/2, so the k-th smallest and the k-th
    largest enclose it unless fewer than k lie on one side. Of fewer than 6 values the range does not reach
    95%; it is returned all the same.
    """
    ordered, n = sorted(values), len(values)
    rank, outside = 0, 0.0
    while rank < n // 2:
        outside += 2 * math.comb(n, rank) * 0.5**n
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[n - rank]
