"""The robust latency model: a sum of products of the averaged features, fitted to measured latencies.

Two shapes compete by cross-validation. The physical one has few terms (see `terms.py`) whose coefficients are
not negative, encoder and decoder apart; the free one has products without constraints, which pays with
hundreds of measurements. Both minimise Huber's loss of the relative error: measurements drift, whole blocks
of rows are shifted, and shifted rows should weigh little.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import require
from llmpp.space import Floats
from llmpp.spread import Spread, calibrate
from llmpp.terms import Basis, multiply, physical_basis, plain_basis

Shape: TypeAlias = Literal["physical", "free"]
SHAPES: tuple[Shape, ...] = ("physical", "free")
Indices: TypeAlias = NDArray[np.intp]

#: The relative error beyond which Huber's loss is linear.
HUBER_SCALE = 0.01
#: Pairs to multiply in the free shape, beside each feature by itself. Products with a layer count turn means
#: over layers into sums; the last one sizes feed-forward matrices.
PRODUCTS = (
    *(("encoder_layers", other) for other in ("encoder_dim", "encoder_ffn", "encoder_heads")),
    *(
        ("decoder_layers", other)
        for other in ("decoder_dim", "decoder_ffn", "decoder_heads", "cross_heads", "cross_span")
    ),
    ("decoder_dim", "decoder_ffn"),
)
N_FOLDS = 10
#: From so many rows on the shapes hardly differ, and errors within this share of each other are equal.
MANY, _TIE = 1000, 0.01
_MAX_STEPS = 100
#: Reweighting ends when no prediction changes by more than this share of itself.
_STILL = 1e-7


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Measured latencies.

    Attributes:
        features: Averaged features `(n, 10)`, divided by a space's largest options.
        encoder_ms: The part of the encoder `(n,)`.
        decoder_ms: The part of the decoder `(n,)`.
        smallest: The smallest options of the space `(10,)`, divided likewise.
    """

    features: Floats
    encoder_ms: Floats
    decoder_ms: Floats
    smallest: Floats

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def latency_ms(self) -> Floats:
        """Encoder plus decoder `(n,)`."""
        return self.encoder_ms + self.decoder_ms

    @cached_property
    def ranges(self) -> tuple[Floats, Floats]:
        """The smallest and the largest value of each feature, in the space and here, `(10,)` each."""
        smallest = np.minimum(self.features.min(axis=0), self.smallest)
        return smallest, np.maximum(self.features.max(axis=0), 1.0)

    def take(self, rows: Indices) -> "LatencyTable":
        """Takes some of the rows."""
        return replace(
            self,
            features=self.features[rows],
            encoder_ms=self.encoder_ms[rows],
            decoder_ms=self.decoder_ms[rows],
        )


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """latency_ms = intercept + sum over products k of coefficients[k] * x[i_k] * x[j_k].

    Attributes:
        products: Index pairs `(p, 2)`; the index 10 stands for the constant 1.
        coefficients: `(p,)`.
        intercept: In ms.
        shape: 'physical' or 'free'.
        spread: How far measurements may lie from predictions, if that was computed.
    """

    products: NDArray[np.int32]
    coefficients: Floats
    intercept: float
    shape: Shape
    spread: Spread | None = None

    def predict(self, features: Floats) -> Floats:
        """Predicts latencies in ms, `(n,)`, from averaged features `(n, 10)`."""
        predicted: Floats = multiply(features, self.products) @ np.append(self.intercept, self.coefficients)
        return predicted

    @property
    def noise(self) -> float:
        """The standard deviation of a single measurement, as a share of it; NaN where it is not known."""
        return self.spread.noise if self.spread else math.nan

    def std(self, features: Floats) -> Floats:
        """Computes standard deviations of measurements in ms, `(n,)`; NaN where they are not known."""
        predicted = self.predict(features)
        return self.spread.std(features, predicted) if self.spread else np.full(len(features), np.nan)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Returns the model as an MLP without hidden layers, nothing lost but float32's rounding."""
        n = len(self.products)
        return {
            "input.products": self.products,
            "input.mean": np.zeros(n, np.float32),
            "input.std": np.ones(n, np.float32),
            "layers.0.weight": self.coefficients.astype(np.float32)[None, :],
            "layers.0.bias": np.array([self.intercept], np.float32),
            "output.mean": np.zeros(1, np.float32),
            "output.std": np.ones(1, np.float32),
            **(self.spread.tensors() if self.spread else {}),
        }


def fit(table: LatencyTable) -> LatencyModel:
    """Fits the shape whose predictions of rows that it has not seen are closer, with its spread.

    The losses are convex and the folds fixed, so the fit is deterministic.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    held_out = {shape: cross_validated(table, shape) for shape in SHAPES}
    errors = {shape: float(np.abs(one / table.latency_ms - 1).mean()) for shape, one in held_out.items()}
    shape = _better(errors["physical"], errors["free"], len(table))
    basis, coefficients = _FITS[shape](table)
    used = replace(basis, expansion=basis.expansion[coefficients != 0])
    spread = calibrate(used, table.features, table.latency_ms, held_out[shape])
    return replace(_model(basis, coefficients, shape), spread=spread)


def _better(physical: float, free: float, n: int) -> Shape:
    """The shape with the smaller error; of equals the one that assumes less, if there are many rows."""
    if n >= MANY and free <= physical * (1 + _TIE):
        return "free"
    return "physical" if physical <= free else "free"


def fit_shape(table: LatencyTable, shape: Shape) -> LatencyModel:
    """Fits one shape, without its spread.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    return _model(*_FITS[shape](table), shape)


def cross_validated(table: LatencyTable, shape: Shape) -> Floats:
    """Predicts each row, in ms `(n,)`, by a model fitted to the folds that it is not in."""
    predicted = np.empty(len(table))
    for inside, outside in folds(table):
        predicted[outside] = fit_shape(table.take(inside), shape).predict(table.features[outside])
    return predicted


def folds(table: LatencyTable) -> Iterator[tuple[Indices, Indices]]:
    """Yields the rows to fit and the rows to test; rows of equal features are always together."""
    distinct, of_row = np.unique(table.features, axis=0, return_inverse=True)
    # The folds are defined by this generator.
    shuffled = np.random.RandomState(0).permutation(len(distinct))
    fold = (shuffled % min(N_FOLDS, len(distinct)))[of_row.ravel()]
    for number in range(fold.max() + 1):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _model(basis: Basis, coefficients: Floats, shape: Shape) -> LatencyModel:
    """Multiplies the columns out."""
    amounts = coefficients @ basis.expansion
    return LatencyModel(basis.products, amounts[1:], float(amounts[0]), shape)


def _fit_physical(table: LatencyTable) -> tuple[Basis, Floats]:
    basis, is_encoder = physical_basis(*table.ranges)
    columns, coefficients = basis.columns(table.features), np.empty(len(is_encoder))
    for side, measured in ((is_encoder, table.encoder_ms), (~is_encoder, table.decoder_ms)):
        coefficients[side] = fit_rising(columns[:, side] / measured[:, None])
    return basis, coefficients


def fit_rising(rows: Floats) -> Floats:
    """Minimises Huber's loss of `rows @ c - 1` over c that are not negative, by reweighted least squares."""
    nnls = require("scipy.optimize", "train").nnls
    predicted, weights = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(_MAX_STEPS):
        roots = np.sqrt(weights)
        coefficients: Floats = nnls(rows * roots[:, None], roots)[0]
        before, predicted = predicted, rows @ coefficients
        if np.abs(predicted - before).max() < _STILL:
            break
        weights = np.minimum(1.0, HUBER_SCALE / np.maximum(np.abs(predicted - 1), HUBER_SCALE))
    return coefficients


def _fit_free(table: LatencyTable) -> tuple[Basis, Floats]:
    basis = plain_basis(PRODUCTS, np.ptp(table.features, axis=0) > 0)
    rows = basis.columns(table.features) / table.latency_ms[:, None]
    solution = require("scipy.optimize", "train").least_squares(
        lambda c: rows @ c - 1.0,
        np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0],
        jac=lambda _: rows,
        loss="huber",
        f_scale=HUBER_SCALE,
    )
    return basis, solution.x


_FITS = {"physical": _fit_physical, "free": _fit_free}
