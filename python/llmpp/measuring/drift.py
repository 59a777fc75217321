"""Drift: what a reference architecture, measured again and again, says of how a machine's speed changes.

Machines heat up, and neighbours come and go. Four of HAT's files hold blocks of rows that are shifted by up
to a third, and nothing in them tells which. A reference does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmpp.space import Floats

#: Fewer references than these say nothing about drift.
_FEWEST = 4
#: A reference that is further from its neighbours than so many times what is usual does not count.
_OUTLIER = 4.0
#: The median distance of a standard normal variable from 0.
_NORMAL_MEDIAN = 0.6745


@dataclass(frozen=True, eq=False)
class Drift:
    """How much slower or faster a machine was at any time than at most times.

    Attributes:
        times: When the reference was measured, in seconds `(m,)`, rising.
        factors: What latencies were multiplied by then `(m,)`; their median is about 1.
        share: How much of the reference's variance is drift, in [0, 1]; the rest is noise.
    """

    times: Floats
    factors: Floats
    share: float

    def factor(self, time: float) -> float:
        """Interpolates between the references on both sides; before the first and after the last, theirs."""
        return float(np.interp(time, self.times, self.factors)) if len(self.times) else 1.0

    @property
    def size(self) -> float:
        """The largest factor over the smallest, less 1."""
        return float(self.factors.max() / self.factors.min() - 1) if len(self.times) else 0.0


def find_drift(times: Sequence[float], latencies: Sequence[float]) -> Drift:
    """Finds the drift in a reference's latencies.

    A correction adds the noise of the reference to what it corrects, so only that share is taken out that
    is not noise. Most neighbours differ by noise alone, for drift is slow or comes in few steps, so half the
    square of their typical difference is the noise's variance.

    Args:
        times: When it was measured, in seconds, rising.
        latencies: Its latencies then, in ms.
    """
    at, logs = np.array(times, np.float64), np.log(np.array(latencies, np.float64))
    if len(at) < _FEWEST:
        return Drift(at, np.ones(len(at)), 0.0)
    logs = _without_outliers(logs - np.median(logs))
    variance = float(logs.var())
    noise = float(np.median(np.abs(np.diff(logs))) / _NORMAL_MEDIAN) ** 2 / 2
    share = max(0.0, 1 - noise / variance) if variance > 0 else 0.0
    return Drift(at, np.exp(share * _running_median(logs)), share)


def _without_outliers(logs: Floats) -> Floats:
    smooth = _running_median(logs)
    distance = np.abs(logs - smooth)
    return np.where(distance > _OUTLIER * np.median(distance), smooth, logs)


def _running_median(values: Floats) -> Floats:
    """The median of each value and its two neighbours; the ends have the next inner one twice."""
    padded = np.concatenate([values[1:2], values, values[-2:-1]])
    smooth: Floats = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    return smooth
