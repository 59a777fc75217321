"""Bootstrap over architectures: every split and every predictor is measured on the same resamples.

Splits share architectures and predictors share splits, so that resampling each for itself would call
differences uncertain that are not, and means certain that are not (Efron, Annals of Statistics 7, 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmpp.metrics import Measure
from llmpp.space import Floats

_LEVELS = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap 95% interval (percentiles); NaN where it is not defined.

    Attributes:
        mean: Mean over splits, and over seeds.
        low: Lower end of the interval.
        high: Upper end.
        std: Standard deviation over seeds; None where there are not at least two.
    """

    mean: float
    low: float
    high: float
    std: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Returns the numbers, None for NaN, ready for JSON."""
        values = {"mean": self.mean, "low": self.low, "high": self.high, "std": self.std}
        return {
            name: value if value is None or np.isfinite(value) else None for name, value in values.items()
        }


def resample(n: int, n_resamples: int, *, seed: int) -> Floats:
    """Draws how often a resample holds each of `n` things, `(1 + n_resamples, n)`; the first: once each."""
    draw = np.random.Generator(np.random.PCG64(seed))
    drawn = draw.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    return np.vstack([np.ones(n), drawn])


def measure(
    what: Measure, predictions: Sequence[Floats], trained: Sequence[Floats], copies: Sequence[Floats]
) -> Floats:
    """Measures predictions on every resample, as the mean over splits.

    Args:
        what: The measure.
        predictions: `(n_seeds, n)` of each split.
        trained: Trained scores `(n,)` of each split.
        copies: `(b, n)` of each split.

    Returns:
        `(n_seeds, b)`.
    """
    by_split = [
        np.stack([what(of_seed, truth, of_split) for of_seed in of_seeds])
        for of_seeds, truth, of_split in zip(predictions, trained, copies, strict=True)
    ]
    means: Floats = np.mean(by_split, axis=0)
    return means


def estimate(measured: Floats) -> Estimate:
    """Sums up what `measure` returned; resamples on which it is not defined are left out."""
    original, resampled = measured[:, 0], measured[:, 1:].mean(axis=0)
    defined = resampled[np.isfinite(resampled)]
    low, high = np.percentile(defined, _LEVELS) if defined.size else (np.nan, np.nan)
    std = float(original.std(ddof=1)) if len(original) > 1 else None
    return Estimate(float(original.mean()), float(low), float(high), std)


def estimate_difference(measured: Floats, against: Floats) -> Estimate:
    """Sums up the difference of two measured predictors, paired resample by resample."""
    return estimate((measured.mean(axis=0) - against.mean(axis=0))[None])
