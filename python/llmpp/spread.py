"""How far a latency may lie from its prediction."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import InputError
from llmpp.space import Floats
from llmpp.terms import Basis, multiply
from llmpp.weights import read_arrays

#: A normal variable is within so many standard deviations in 90% of cases.
_Z90 = 1.6449


@dataclass(frozen=True, eq=False)
class Spread:
    """The uncertainty of a latency model that is linear in products of features.

    Attributes:
        products: The model's products `(p, 2)`, see `LatencyModel`.
        noise: The standard deviation of a single measurement, as a share of the latency.
        factor: Of the coefficients' uncertainty `(r, 1 + p)`: multiplied with 1 and the products, it gives
            numbers in ms whose squares add up to the variance of the prediction.
    """

    products: NDArray[np.int32]
    noise: float
    factor: Floats

    def std(self, features: Floats, predicted: Floats) -> Floats:
        """Computes standard deviations of measured latencies in ms, `(n,)`.

        Args:
            features: Averaged features `(n, 10)`.
            predicted: Its predictions in ms `(n,)`.
        """
        of_fit = multiply(features, self.products) @ self.factor.T
        std: Floats = np.sqrt((self.noise * predicted) ** 2 + (of_fit**2).sum(axis=1))
        return std

    @classmethod
    def read(cls, path: Path) -> "Spread | None":
        """Reads the spread of a weights file; None if it has none.

        Raises:
            InputError: If the file cannot be read.
        """
        arrays = read_arrays(path, "spread.") | read_arrays(path, "input.products")
        if not {"spread.noise", "spread.factor", "input.products"} <= set(arrays):
            return None
        factor, products = arrays["spread.factor"].astype(np.float64), arrays["input.products"]
        if factor.ndim != 2 or factor.shape[1] != 1 + len(products):
            raise InputError(
                f"{path}: `spread.factor` is {factor.shape}, which does not fit {len(products)} products"
            )
        return cls(products, float(arrays["spread.noise"][0]), factor)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Returns the tensors that stand beside those of the model."""
        return {
            "spread.noise": np.array([self.noise], np.float32),
            "spread.factor": self.factor.astype(np.float32),
        }


def calibrate(basis: Basis, features: Floats, measured: Floats, held_out: Floats) -> Spread:
    """Scales the spread so that 90% of the held-out measurements lie within 1.645 standard deviations.

    Scaling by a quantile rather than by the squares keeps rows that drifted from widening all intervals.

    Args:
        basis: The columns that the model uses.
        features: Averaged features of what it was fitted to `(n, 10)`.
        measured: Latencies in ms `(n,)`.
        held_out: What models that had not seen them predicted `(n,)`.
    """
    rows = basis.columns(features) / measured[:, None]
    gram = rows.T @ rows
    # Columns may be sums of others: a trace of the identity makes the matrix regular.
    gram += np.eye(len(gram)) * (1e-9 * np.trace(gram) + np.finfo(np.float64).tiny)
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    leverage = ((rows @ inverse.T) ** 2).sum(axis=1)
    errors = np.abs(held_out / measured - 1) / np.sqrt(1 + leverage)
    # The quantile of n errors that a further one stays below with 90%.
    level = min(1.0, 0.9 * (1 + 1 / len(errors)))
    noise = float(np.quantile(errors, level, method="higher")) / _Z90
    return Spread(basis.products, noise, noise * inverse @ basis.expansion)
