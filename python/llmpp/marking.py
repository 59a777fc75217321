"""Marks predictions against what was trained: figures, intervals, paired differences, noise ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmpp.baselines import line
from llmpp.lineup import only_ranks
from llmpp.metrics import MEASURES, kendall_tau, mean_absolute_error
from llmpp.resampling import Estimate, estimate, estimate_difference, measure
from llmpp.space import Floats
from llmpp.task import Figures, Task


@dataclass(frozen=True, eq=False)
class Row:
    """One predictor's figures.

    Attributes:
        predictor: Its name.
        measures: What it achieves, by the names of `llmpp.metrics.MEASURES`; 'mae' is in the task's metric,
            NaN if the predictions are not.
        difference: What it achieves less what the row that it is compared with does, paired.
        n_seeds: Seeds that were averaged; 1 for a predictor without.
        predictions: `(n_seeds, n)` of each split.
    """

    predictor: str
    measures: Mapping[str, Estimate]
    difference: Mapping[str, Estimate]
    n_seeds: int
    predictions: tuple[Floats, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures, ready for JSON."""
        return {
            "predictor": self.predictor,
            **{name: one.to_dict() for name, one in self.measures.items()},
            "n_seeds": self.n_seeds,
            "difference": {name: interval(one) for name, one in self.difference.items()},
        }


@dataclass(frozen=True)
class NoiseCeiling:
    """How well test scores of the same trained models predict their validation scores.

    Attributes:
        kendall_tau: Kendall's tau-b of the two, over all architectures.
        mae: Error of a line from test to validation score, fitted to the demonstrations, on the held-out.
    """

    kendall_tau: Estimate
    mae: Estimate


@dataclass(frozen=True, eq=False)
class Key:
    """What exams leave out.

    Attributes:
        ids: Of the architectures that each split holds out, `n`.
        trained: Their validation scores, `(n,)` of each split.
        copies: How often each resample holds them, `(b, n)` of each split.
    """

    ids: tuple[tuple[int, ...], ...]
    trained: tuple[Floats, ...]
    copies: tuple[Floats, ...]


def make_key(task: Task, splits: Sequence[str], copies: Floats) -> Key:
    """Collects the scores that splits hold out.

    Args:
        task: The task.
        splits: Names of its splits.
        copies: How often each resample holds each trained architecture of the task, `(b, n_figures)`.
    """
    column = {figures.id: index for index, figures in enumerate(task.figures)}
    held_out = [task.held_out(split) for split in splits]
    return Key(
        tuple(tuple(figures.id for figures in of_split) for of_split in held_out),
        tuple(np.array([figures.valid_score for figures in of_split]) for of_split in held_out),
        tuple(copies[:, [column[figures.id] for figures in of_split]] for of_split in held_out),
    )


def join(keys: Sequence[Key]) -> Key:
    """Puts the splits of several keys, drawn from the same resamples, one after the other."""
    return Key(
        tuple(ids for key in keys for ids in key.ids),
        tuple(trained for key in keys for trained in key.trained),
        tuple(copies for key in keys for copies in key.copies),
    )


def mark(predictions: Sequence[Mapping[str, Floats]], key: Key, *, against: str) -> tuple[Row, ...]:
    """Measures every row on every resample, and its difference to the row `against`.

    Rows in other units than the metric have no error.

    Args:
        predictions: Of each split, `(n_seeds, n)` by row.
        key: What was held out.
        against: A row.
    """

    def measured(name: str) -> dict[str, Floats]:
        of_splits = [of_split[name] for of_split in predictions]
        values = {what: measure(it, of_splits, key.trained, key.copies) for what, it in MEASURES.items()}
        if only_ranks(name):
            values["mae"] = np.full_like(values["mae"], np.nan)
        return values

    reference = measured(against)
    return tuple(
        _row(name, measured(name), reference, tuple(of_split[name] for of_split in predictions))
        for name in predictions[0]
    )


def _row(
    name: str,
    measured: Mapping[str, Floats],
    reference: Mapping[str, Floats],
    predictions: tuple[Floats, ...],
) -> Row:
    return Row(
        name,
        {what: estimate(values) for what, values in measured.items()},
        {what: estimate_difference(values, reference[what]) for what, values in measured.items()},
        len(predictions[0]),
        predictions,
    )


def measure_noise(task: Task, splits: Sequence[str], key: Key, copies: Floats) -> NoiseCeiling | None:
    """Measures how far two trained scores of the same architectures agree; None if a test score is missing.

    Args:
        task: The task.
        splits: Names of its splits.
        key: What they hold out.
        copies: How often each resample holds each trained architecture of the task, `(b, n_figures)`.
    """
    valid = np.array([figures.valid_score for figures in task.figures])
    test = _test_scores(task.figures)
    if not np.isfinite(test).all():
        return None
    fitted = [_line_from_test(task, split)[None] for split in splits]
    return NoiseCeiling(
        estimate(kendall_tau(test, valid, copies)[None]),
        estimate(measure(mean_absolute_error, fitted, key.trained, key.copies)),
    )


def _line_from_test(task: Task, split: str) -> Floats:
    shown = task.demonstrations(split)
    scores = np.array([figures.valid_score for figures in shown])
    return line(_test_scores(shown), scores, _test_scores(task.held_out(split)))


def _test_scores(some: Sequence[Figures]) -> Floats:
    return np.array([figures.test_score for figures in some], dtype=np.float64)


def interval(one: Estimate) -> dict[str, float | None]:
    """Returns the numbers of an estimate of something without seeds, ready for JSON."""
    return {name: value for name, value in one.to_dict().items() if name != "std"}
