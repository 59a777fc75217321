"""The robust latency model: a few products of the averaged features, fitted to measured latencies.

Measurements drift: whole blocks of rows are shifted. The fit is linear in the coefficients and minimises
Huber's loss of the relative error, so that shifted rows weigh little; see `docs/latency.md`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import InputError, require
from llmpp.provenance import origin
from llmpp.space import HYPERPARAMETERS, Floats
from llmpp.task import Task
from llmpp.weights import write_mlp

if TYPE_CHECKING:
    import polars as pl


#: HAT's names of the averaged features, in the order of `HYPERPARAMETERS`.
FEATURE_COLUMNS = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
LATENCY_COLUMNS = ("latency_mean_encoder", "latency_mean_decoder")

#: The relative error beyond which Huber's loss is linear.
HUBER_SCALE = 0.01

_NAMES = tuple(HYPERPARAMETERS)
#: Pairs to multiply, beside each feature by itself. Products with a layer count turn means over layers into
#: sums; the last one sizes feed-forward matrices.
PRODUCTS = (
    *(("encoder_layers", other) for other in ("encoder_dim", "encoder_ffn", "encoder_heads")),
    *(
        ("decoder_layers", other)
        for other in ("decoder_dim", "decoder_ffn", "decoder_heads", "cross_heads", "cross_span")
    ),
    ("decoder_dim", "decoder_ffn"),
)
_MIN_ROWS = 30


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Measured latencies.

    Attributes:
        features: Averaged features, `(n, 10)`, divided by a space's largest options.
        latency_ms: Encoder plus decoder, `(n,)`.
    """

    features: Floats
    latency_ms: Floats


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """latency_ms = intercept + sum over products k of coefficients[k] * x[i_k] * x[j_k].

    Attributes:
        products: Index pairs `(p, 2)`; the index 10 stands for the constant 1.
        coefficients: `(p,)`.
        intercept: In ms.
    """

    products: NDArray[np.int32]
    coefficients: Floats
    intercept: float

    def predict(self, features: Floats) -> Floats:
        """Predicts latencies in ms, `(n,)`, from averaged features `(n, 10)`."""
        return _columns(features, self.products) @ self.coefficients + self.intercept

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
        }


def read_table(path: Path, task: Task) -> LatencyTable:
    """Reads a CSV with HAT's columns, in which each row is one architecture measured.

    Raises:
        InputError: If it cannot be read, lacks a column or rows, or a number is missing or not positive.
    """
    import polars as pl

    try:
        frame = pl.read_csv(path)
        frame = frame.select(pl.col(*FEATURE_COLUMNS, *LATENCY_COLUMNS).cast(pl.Float64))
    except pl.exceptions.ColumnNotFoundError as error:
        missing = sorted({*FEATURE_COLUMNS, *LATENCY_COLUMNS} - set(frame.columns))
        raise InputError(f"{path} lacks the columns {missing}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is not a CSV of latencies: {error}") from error
    n_distinct = frame.select(FEATURE_COLUMNS).n_unique()
    if n_distinct < _MIN_ROWS:
        raise InputError(
            f"{path} has {n_distinct} distinct architectures, but a latency model needs at least {_MIN_ROWS}"
        )
    values = _finite(frame, path)
    largest = np.array(list(task.space.largest.values()), np.float64)
    return LatencyTable(
        values[:, : len(FEATURE_COLUMNS)] / largest, values[:, len(FEATURE_COLUMNS) :].sum(axis=1)
    )


def _finite(frame: "pl.DataFrame", path: Path) -> Floats:
    values = np.asarray(frame.to_numpy(), np.float64)
    bad = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: `{frame.columns[column]}` of row {row + 1} is {values[row, column]}, not above 0"
        )
    return values


def fit(features: Floats, latency_ms: Floats) -> LatencyModel:
    """Fits the model to averaged features `(n, 10)` and latencies `(n,)` in ms.

    Features that never vary are left out, and so are products with them. The loss is convex, so the fit is
    deterministic.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    products = _products_for(features)
    rows = np.column_stack([np.ones(len(features)), _columns(features, products)]) / latency_ms[:, None]
    least_squares = require("scipy.optimize", "train").least_squares
    solution = least_squares(
        lambda c: rows @ c - 1.0,
        np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0],
        jac=lambda _: rows,
        loss="huber",
        f_scale=HUBER_SCALE,
    )
    return LatencyModel(products, solution.x[1:], float(solution.x[0]))


def _products_for(features: Floats) -> NDArray[np.int32]:
    varies = dict(zip(_NAMES, np.ptp(features, axis=0) > 0, strict=True))
    linear = [(index, len(_NAMES)) for index, name in enumerate(_NAMES) if varies[name]]
    pairs = [(_NAMES.index(a), _NAMES.index(b)) for a, b in PRODUCTS if varies[a] and varies[b]]
    return np.array(linear + pairs, np.int32)


def _columns(features: Floats, products: NDArray[np.int32]) -> Floats:
    extended = np.column_stack([features, np.ones(len(features))])
    columns: Floats = extended[:, products[:, 0]] * extended[:, products[:, 1]]
    return columns


def split_rows(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """HAT's split of `n` rows: the first 80% of a shuffle to fit on, the last 10% to test on."""
    order = np.arange(n)
    # The split is defined by this generator.
    np.random.RandomState(0).shuffle(order)
    return order[: int(n * 0.8)], order[int(n * 0.9) :]


def errors(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Computes RMSE and MAE in ms, and mean and median absolute error in percent of the measured value."""
    error = predicted - measured
    percent = 100 * np.abs(error) / measured
    return {
        "rmse_ms": float(np.sqrt(np.mean(error**2))),
        "mae_ms": float(np.mean(np.abs(error))),
        "mape_pct": float(np.mean(percent)),
        "median_ape_pct": float(np.median(percent)),
    }


def held_out_errors(table: LatencyTable) -> dict[str, float]:
    """Fits on the rows of HAT's training split, and computes the errors on its test rows."""
    train, test = split_rows(len(table.latency_ms))
    model = fit(table.features[train], table.latency_ms[train])
    return errors(model.predict(table.features[test]), table.latency_ms[test])


def fit_file(
    csv: Path, output: Path, task: Task, *, hardware: str, command: str, date: str | None = None
) -> dict[str, float]:
    """Fits a model to all rows of a CSV, writes it, and returns the errors on HAT's test rows.

    Raises:
        InputError: If the CSV cannot be used or the file not be written.
        MissingExtraError: If scipy or safetensors is not installed.
    """
    made = origin(command, ["llmpp", "numpy", "scipy"], date)
    table = read_table(csv, task)
    test = held_out_errors(table)
    record = {
        "kind": "latency",
        "encoding": "averaged",
        "largest": task.space.largest,
        "task": task.name,
        "hardware": hardware,
        "source": csv.name,
        "n_rows": len(table.latency_ms),
        "test_errors": {name: round(value, 4) for name, value in test.items()},
        **made,
    }
    write_mlp(output, fit(table.features, table.latency_ms).tensors(), record)
    return test
