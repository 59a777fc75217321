"""From measured latencies to a latency model in a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import InputError, SpaceError
from llmpp.latency_model import (
    MANY,
    N_FOLDS,
    LatencyModel,
    LatencyTable,
    fit,
    folds,
)
from llmpp.measuring.measured_file import Measured, is_measured_file, positive_values, read_measured
from llmpp.provenance import origin
from llmpp.ranges import share
from llmpp.space import HYPERPARAMETERS, Floats, SearchSpace
from llmpp.task import Task
from llmpp.weights import write_mlp

__all__ = [
    "FEATURE_COLUMNS",
    "LATENCY_COLUMNS",
    "HeldOut",
    "errors",
    "fit",
    "fit_file",
    "held_out_errors",
    "hold_out",
    "measured_task",
    "read_table",
    "split_rows",
]

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
_MIN_ROWS = 30
#: What a file may sample beyond the space: HAT's have wider feed-forward layers and more heads.
_WITHIN = tuple(name for name, per in HYPERPARAMETERS.items() if per is None)


def read_table(path: Path, task: Task, quantile: float = 0.5, n_least: int = _MIN_ROWS) -> LatencyTable:
    """Reads measured latencies: what `llmpp measure` wrote, or a CSV with HAT's columns.

    In the CSV each row is one architecture.

    Args:
        path: The file.
        task: The task that was measured.
        quantile: What is taken of the repeats of `llmpp measure`, see `Measured.latencies`.
        n_least: How many different architectures it must have.

    Raises:
        InputError: If it cannot be read, lacks a column or rows, a number is missing or not positive, or it
            was measured on another space.
    """
    return _table(path, _measured(path), task, quantile, n_least)


def _measured(path: Path) -> Measured | None:
    """What a file of `llmpp measure` holds; None for other files."""
    return read_measured(path) if is_measured_file(path) else None


def _table(
    path: Path, measured: Measured | None, task: Task, quantile: float, n_least: int = _MIN_ROWS
) -> LatencyTable:
    table = _from_measured(path, measured, task, quantile) if measured else _from_csv(path, task)
    n_distinct = len(np.unique(table.features, axis=0))
    if n_distinct < n_least:
        raise InputError(
            f"{path} has {n_distinct} distinct architectures, but a latency model needs at least {n_least}"
        )
    return table


def measured_task(path: Path) -> Task | None:
    """The task that a file of `llmpp measure` says it was measured on; None for other files.

    Raises:
        InputError: If the file is damaged.
    """
    measured = _measured(path)
    return measured.task if measured else None


def _from_csv(path: Path, task: Task) -> LatencyTable:
    import polars as pl

    try:
        frame = pl.read_csv(path)
        frame = frame.select(pl.col(*FEATURE_COLUMNS, *LATENCY_COLUMNS).cast(pl.Float64))
    except pl.exceptions.ColumnNotFoundError as error:
        missing = sorted({*FEATURE_COLUMNS, *LATENCY_COLUMNS} - set(frame.columns))
        raise InputError(f"{path} lacks the columns {missing}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} is not a CSV of latencies: {error}") from error
    values = positive_values(frame, path)
    features = values[:, : len(FEATURE_COLUMNS)] / _largest(task.space)
    beyond = np.argwhere((features > 1) & np.array([name in _WITHIN for name in HYPERPARAMETERS]))
    if len(beyond):
        row, column = beyond[0]
        raise InputError(
            f"{path}: `{frame.columns[column]}` of row {row + 1} is {values[row, column]:g}, but the largest "
            f"of {task.name} is {_largest(task.space)[column]:g}: name the task that was measured"
        )
    return LatencyTable(features, values[:, -2], values[:, -1], _smallest(task.space))


def _from_measured(path: Path, measured: Measured, task: Task, quantile: float) -> LatencyTable:
    known = measured.task
    if known.name != task.name or known.space.largest != task.space.largest:
        raise InputError(
            f"{path} was measured on {known.name}, in the space {known.space.name}, not on "
            f"{task.name} in {task.space.name}: leave the task out, or name that one"
        )
    latencies = measured.latencies(quantile)
    if not latencies:
        raise InputError(f"{path} holds no architecture yet: go on by `llmpp measure --resume -o {path}`")
    try:
        features = task.space.features(list(latencies)).astype(np.float64)
    except SpaceError as error:
        raise InputError(f"{path} has an architecture that is not of {task.name}: {error}") from error
    encoder_ms, decoder_ms = np.array(list(latencies.values())).T
    return LatencyTable(features, encoder_ms, decoder_ms, _smallest(task.space))


def _largest(space: SearchSpace) -> Floats:
    return np.array(list(space.largest.values()), np.float64)


def _smallest(space: SearchSpace) -> Floats:
    """The smallest options, divided as features are."""
    return np.array([min(options) for options in space.options.values()], np.float64) / _largest(space)


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


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Latencies that a model was tested on.

    Attributes:
        how: Which rows these are.
        measured_ms: Their latencies `(n,)`.
        predicted_ms: What models predicted that had not seen them `(n,)`.
        std_ms: The standard deviations that these gave `(n,)`.
    """

    how: str
    measured_ms: Floats
    predicted_ms: Floats
    std_ms: Floats

    @property
    def errors(self) -> dict[str, float]:
        """See `errors`."""
        return errors(self.predicted_ms, self.measured_ms)


def hold_out(table: LatencyTable, test: LatencyTable | None = None) -> HeldOut:
    """Tests the fit: on a table of its own, on HAT's test rows of many, or by cross-validation of fewer."""
    if test is not None:
        return _tested("another file", [(fit(table), test)])
    if len(table) >= MANY:  # of fewer, its test rows would be too few
        inside, outside = split_rows(len(table))
        return _tested("HAT's test rows", [(fit(table.take(inside)), table.take(outside))])
    parts = [(fit(table.take(inside)), table.take(outside)) for inside, outside in folds(table)]
    return _tested(f"{N_FOLDS}-fold cross-validation", parts)


def _tested(how: str, parts: Sequence[tuple[LatencyModel, LatencyTable]]) -> HeldOut:
    predicted = [model.predict(test.features) for model, test in parts]
    std = [model.std(test.features) for model, test in parts]
    return HeldOut(how, *map(np.concatenate, ([test.latency_ms for _, test in parts], predicted, std)))


def held_out_errors(table: LatencyTable) -> dict[str, float]:
    """Computes the errors on rows that the fit has not seen, see `hold_out`."""
    return hold_out(table).errors


def fit_file(
    source: Path,
    output: Path,
    task: Task,
    *,
    hardware: str,
    command: str,
    date: str | None = None,
    note: str = "",
    test: Path | None = None,
    quantile: float = 0.5,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Fits a model to all rows of a file and writes it.

    Args:
        source: A CSV or a file of `llmpp measure`, see `read_table`.
        output: The weights file to write.
        task: The task that was measured.
        hardware: Name of the hardware, for the record.
        command: The command that makes the model again, for the record.
        date: The date to record, `YYYY-MM-DD`; None for today.
        note: Where the measurements came from, for the record.
        test: Another such file to test on.
        quantile: What is taken of the repeats of `llmpp measure`, see `Measured.latencies`.
        plot: Where to draw predicted against measured latencies: `PLOT.png` and `PLOT.svg`.

    Returns:
        The errors on rows that the fit had not seen, and how they were held out; the shape that was chosen,
        the rows, and the standard deviation of a measurement in percent.

    Raises:
        InputError: If a file cannot be used or not be written.
        MissingExtraError: If scipy or safetensors is not installed, or matplotlib to plot.
    """
    made = origin(command, ["llmpp", "numpy", "scipy"], date)
    quantile = share("quantile", quantile)
    measured = _measured(source)
    table = _table(source, measured, task, quantile)
    held_out = hold_out(table, _test_table(test, measured, source, task, quantile) if test else None)
    model = fit(table)
    found = {
        "n_rows": len(table),
        "shape": model.shape,
        "std_pct": round(100 * model.noise, 4),
        "tested_on": held_out.how,
    }
    record = {
        "kind": "latency",
        "encoding": "averaged",
        "largest": task.space.largest,
        "task": task.name,
        "hardware": hardware,
        "source": source.name,
        "note": note,
        "test_errors": {name: round(value, 4) for name, value in held_out.errors.items()},
        **found,
        **(_circumstances(measured, quantile) if measured else {}),
        **made,
    }
    write_mlp(output, model.tensors(), record)
    if plot:
        from llmpp.latency_figure import draw

        draw(held_out, plot, title=f"{hardware}, {task.name}: {held_out.how}")
    return {**held_out.errors, **found}


def _test_table(
    test: Path, measured: Measured | None, source: Path, task: Task, quantile: float
) -> LatencyTable:
    """Reads what to test on; refuses what was measured in another way or on another machine."""
    tested = _measured(test)
    if measured and tested:
        theirs = _how_measured(tested)
        for name, value in _how_measured(measured).items():
            if value != theirs.get(name):
                raise InputError(
                    f"{test} was measured with {name} {theirs.get(name)!r}, but {source} with {value!r}: "
                    "test on measurements of the same workload and machine"
                )
    return _table(test, tested, task, quantile, n_least=1)


def _how_measured(measured: Measured) -> dict[str, Any]:
    machine = measured.rows[-1].machine
    return {**measured.header["workload"], "device_name": machine.get("device_name")}


def _circumstances(measured: Measured, quantile: float) -> dict[str, Any]:
    """What a model's record keeps of how it was measured."""
    rows = [row for row in measured.rows if not row.is_reference]
    return {
        "workload": measured.header["workload"],
        "machine": dict(rows[-1].machine),
        "quantile": quantile,
        "half_width_pct": round(100 * float(np.median([row.measurement.half_width for row in rows])), 4),
        "drift_pct": round(100 * measured.drift_of(quantile).size, 4),
    }
