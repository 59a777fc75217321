"""Who is tested: the rows of a report card, as far as a task's figures and answers allow them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from llmpp.baselines import (
    FROM_DEMONSTRATIONS,
    Predict,
    calibrated_supernet,
    chosen_supernet,
    distinct_supernets,
    gaussian_process,
    physics,
    raw_supernet,
    ridge,
    ridge_on_supernets,
    weighted_supernets,
)
from llmpp.errors import PredictorError
from llmpp.exam import Exam
from llmpp.space import Floats
from llmpp.students import Students, corrected_answers
from llmpp.task import LOSS_SUFFIX

STUDENT = "LLM-Distill-PP: student"
PHYSICS = "ridge on log depth, log FLOPs"
_RAW = "supernet "
_CHEAP = "hat"
_LINE = "line in 1/decoder layers"
_WEIGHTED = "supernets weighted by left-out error"
_CHOSEN = "supernet of least left-out error"
_GP_RESIDUAL = "LLM-PP + GP residual"
_ALONE = "fusion: every supernet"
_MEDIAN = "median of every supernet"


@dataclass(frozen=True)
class Fusion:
    """What is made of several rows.

    Attributes:
        members: Names of rows above it.
        combine: Mean or median over the first axis.
    """

    members: tuple[str, ...]
    combine: Callable[..., Floats] = np.mean


@dataclass
class Lineup:
    """Predictors, and fusions of them, by name and in order.

    Attributes:
        predictors: Each sees an exam and nothing else.
        fusions: Each sees the predictions of its members, which stand above it, and nothing else.
    """

    predictors: dict[str, Predict] = field(default_factory=dict)
    fusions: dict[str, Fusion] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All rows, in order."""
        return [*self.predictors, *self.fusions]

    def sit(self, exam: Exam) -> dict[str, Floats]:
        """Predicts the scores of an exam: `(n_seeds, n)` by row, one seed where a row has none.

        Raises:
            PredictorError: If a predictor does not give one finite score per architecture.
        """
        predictions: dict[str, Floats] = {}
        for name, predict in self.predictors.items():
            predictions[name] = _checked(name, predict(exam), len(exam.architectures))
        for name, fusion in self.fusions.items():
            seen = np.broadcast_arrays(*(predictions[member] for member in fusion.members))
            predictions[name] = fusion.combine(np.stack(seen), axis=0)
        return predictions


def _checked(name: str, predictions: Floats, n: int) -> Floats:
    """Makes one row per seed."""
    rows = np.atleast_2d(np.asarray(predictions, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != n or not np.isfinite(rows).all():
        raise PredictorError(
            f"{name} must give one finite score for each of {n} architectures, got {rows.shape[-1]} "
            f"scores, {np.isfinite(rows).sum()} finite numbers in all"
        )
    return rows


def line_up(
    exam: Exam,
    models: Mapping[str, Predict],
    students: Students | None,
    extended: Sequence[Students] | None = None,
) -> Lineup:
    """Lists the rows that a task allows.

    Args:
        exam: One of its exams, which all have the same supernets.
        models: Language models by the name of their row: 'LLM-PP: claude'.
        students: Distilled from recorded answers, if there are any.
        extended: If given, adds what was tried beyond the plan, these students among it.
    """
    lineup = Lineup(dict(FROM_DEMONSTRATIONS))
    lineup.predictors |= {_RAW + name: partial(raw_supernet, name) for name in exam.supernet_scores}
    lineup.predictors |= {_fitted(name): partial(calibrated_supernet, name) for name in exam.supernet_scores}
    lineup.predictors |= models
    if students:
        lineup.predictors[STUDENT] = students.predict
    supernets = tuple(_fitted(name) for name in distinct_supernets(exam))
    for model in models:
        _add_fusions(lineup, model, supernets)
    if extended is not None:
        _add_trials(lineup, supernets, students, extended)
    return lineup


def only_ranks(row: str) -> bool:
    """Whether a row is in units of its own, not in the metric's: losses of a supernet."""
    return row.startswith(_RAW) and row.endswith(LOSS_SUFFIX)


def _fitted(supernet: str) -> str:
    return f"{_RAW}{supernet} + line"


def _label(model: str) -> str:
    """What a model's row is called within others: 'LLM-PP' or 'LLM-PP live'."""
    return model.partition(":")[0]


def _add_fusions(lineup: Lineup, model: str, supernets: tuple[str, ...]) -> None:
    """Adds the named rule, which was fixed before any figure was seen, and its cheap version."""
    if supernets:
        lineup.fusions[f"fusion: {_label(model)}, every supernet"] = Fusion((model, *supernets))
    if _fitted(_CHEAP) in lineup.predictors:
        lineup.fusions[f"fusion: {_label(model)}, {_CHEAP}"] = Fusion((model, _fitted(_CHEAP)))


def _add_trials(
    lineup: Lineup, supernets: tuple[str, ...], students: Students | None, others: Sequence[Students]
) -> None:
    """Adds what was tried beyond the plan."""
    lineup.predictors[PHYSICS] = physics
    if supernets:
        lineup.predictors["ridge on supernets"] = ridge_on_supernets
        lineup.predictors[_WEIGHTED] = weighted_supernets
        lineup.predictors[_CHOSEN] = chosen_supernet
        lineup.fusions[_ALONE] = Fusion(supernets)
    if not students:
        return
    for other in others:
        lineup.predictors[_of_encoding(other)] = other.predict
    model = next((name for name in lineup.predictors if _label(name) == "LLM-PP"), None)
    if model is None:
        return
    lineup.predictors["LLM-PP + ridge residual"] = partial(corrected_answers, students, ridge)
    lineup.predictors[_GP_RESIDUAL] = partial(corrected_answers, students, gaussian_process)
    _add_free_trials(lineup, model)
    if supernets:
        _add_fused_trials(lineup, model, supernets)
        _add_late_trials(lineup, model, supernets, others)


def _of_encoding(students: Students) -> str:
    return f"{STUDENT}, {students.encoding} features"


def _add_free_trials(lineup: Lineup, model: str) -> None:
    """Adds fusions that need no supernet."""
    for name, member in (("line in 1/decoder layers", _LINE), ("physics", PHYSICS), ("student", STUDENT)):
        lineup.fusions[f"fusion: LLM-PP, {name}"] = Fusion((model, member))


def _add_fused_trials(lineup: Lineup, model: str, supernets: tuple[str, ...]) -> None:
    trials = {
        "student, every supernet": (STUDENT, *supernets),
        "LLM-PP, student, every supernet": (model, STUDENT, *supernets),
        "LLM-PP, physics, every supernet": (model, PHYSICS, *supernets),
        "LLM-PP, line in 1/decoder layers, every supernet": (model, _LINE, *supernets),
        "LLM-PP + GP residual, every supernet": (_GP_RESIDUAL, *supernets),
        "LLM-PP one half, every supernet the other": (model, _ALONE),
        "LLM-PP one half, weighted supernets the other": (model, _WEIGHTED),
        "LLM-PP, supernet of least left-out error": (model, _CHOSEN),
    }
    lineup.fusions |= {f"fusion: {name}": Fusion(members) for name, members in trials.items()}
    lineup.fusions["median of LLM-PP, every supernet"] = Fusion((model, *supernets), np.median)
    for supernet in supernets:
        name = supernet.removeprefix(_RAW).removesuffix(" + line")
        # The cheap rule with the model is no trial and stands already.
        lineup.fusions.setdefault(f"fusion: LLM-PP, {name}", Fusion((model, supernet)))
        lineup.fusions[f"fusion: student, {name}"] = Fusion((STUDENT, supernet))


def _add_late_trials(
    lineup: Lineup, model: str, supernets: tuple[str, ...], others: Sequence[Students]
) -> None:
    """Adds fusions that were thought of after the figures of the others had been seen."""
    lineup.fusions[_MEDIAN] = Fusion(supernets, np.median)
    lineup.fusions["fusion: LLM-PP one half, median of supernets the other"] = Fusion((model, _MEDIAN))
    for other in others if _fitted(_CHEAP) in lineup.predictors else ():
        members = (_of_encoding(other), _fitted(_CHEAP))
        lineup.fusions[f"fusion: {other.encoding} student, {_CHEAP}"] = Fusion(members)
        lineup.fusions[f"fusion: LLM-PP, {other.encoding} student, {_CHEAP}"] = Fusion((model, *members))
