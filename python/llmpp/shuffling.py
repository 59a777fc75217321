"""Shuffles that stay the same on every platform and with every version of numpy."""

import numpy as np
from numpy.typing import NDArray


def shuffled_order(draw: np.random.PCG64, n: int) -> NDArray[np.int64]:
    """Shuffles `0..n-1` by raw numbers: what numpy makes of them may change, they do not."""
    return np.argsort(np.asarray(draw.random_raw(n)), kind="stable").astype(np.int64)
