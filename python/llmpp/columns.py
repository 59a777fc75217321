"""Columns: a predictor's numbers for every feature vector of a space."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import PredictorError
from llmpp.phase import name_of
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.record import Record

#: What a feature vector holds that was not scored.
UNSCORED = np.float32(-np.inf)

#: About how many FLOPs, or architectures of a predictor outside the core, lie between two signs of life.
_CHUNK_FLOP = 4e9
_CHUNK_ASKED = 4096


def flop_of(predictor: MlpPredictor) -> int:
    """The multiplications and additions of one forward pass."""
    widths = predictor.mlp.widths
    return 2 * sum(n_in * n_out for n_in, n_out in pairwise(widths))


def fill(
    column: NDArray[np.float32],
    predictor: Predictor,
    wanted: NDArray[np.bool_],
    record: Record,
    n_threads: int,
) -> Iterator[int]:
    """Writes a predictor's numbers into a column `(n_rows, n_columns)`, some rows at a time.

    Args:
        column: Of the grid's shape. Rows that are not wanted become `UNSCORED`.
        predictor: A predictor of averaged features.
        wanted: Which rows to score, `(n_rows,)`.
        record: The search that it is for.
        n_threads: Threads for the inference of MLPs.

    Yields:
        How many rows are done.

    Raises:
        PredictorError: If it does not give one finite number per feature vector.
    """
    n_rows, width = column.shape
    if isinstance(predictor, MlpPredictor):
        step = max(1, int(_CHUNK_FLOP / flop_of(predictor) / width))
    else:
        step = max(1, _CHUNK_ASKED // width)
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        if isinstance(predictor, MlpPredictor):
            _sweep(column[rows], predictor, start, wanted[rows], record, n_threads=n_threads)
        else:
            _ask(column[rows], predictor, start, wanted[rows], record)
        yield rows.stop


def _sweep(
    out: NDArray[np.float32],
    predictor: MlpPredictor,
    start: int,
    wanted: NDArray[np.bool_],
    record: Record,
    *,
    n_threads: int,
) -> None:
    """Scores rows from `start` on inside the core."""
    try:
        record.task.space.grid.sweep(predictor.mlp, start, wanted, out, n_threads=n_threads)
    except RuntimeError as error:
        raise PredictorError(record.place(f"the predictor `{name_of(predictor)}`", str(error))) from error


def _ask(
    out: NDArray[np.float32], predictor: Predictor, start: int, wanted: NDArray[np.bool_], record: Record
) -> None:
    """Scores rows from `start` on by asking about one architecture of each feature vector."""
    width = out.shape[1]
    out[~wanted] = UNSCORED
    rows = start + np.flatnonzero(wanted)
    numbers = (rows[:, None] * width + np.arange(width)).astype(np.uint64).reshape(-1)
    genomes = record.task.space.grid.genomes(numbers)
    out[wanted] = record.predict(predictor, genomes).reshape(-1, width)
