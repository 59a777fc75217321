"""What a predictor may see when it is tested: all that a split shows, and no score of what it holds out.

Predictors are given an `Exam`, never the task. Leakage would need a figure that is not in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from llmpp.answers import Answers
from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.space import Encoding, Floats
from llmpp.task import Figures, Task, cost_measures

_FEWEST = 2


@dataclass(frozen=True, eq=False)
class Exam:
    """One split of a task, without the scores of the architectures that it holds out.

    Attributes:
        split: Its name.
        task: The task; the only figures in it are the demonstrations.
        demonstrations: The trained architectures that a predictor may learn from.
        architectures: Those that it has to predict, `n`.
        supernet_scores: What supernets say about them, `(n,)` by supernet; only supernets that scored every
            architecture of the task.
        answers: The answers about them of a model that saw this split's demonstrations, `(n,)`, if recorded.
        pool: That model's answers about other architectures, if any.
    """

    split: str
    task: Task
    demonstrations: tuple[Figures, ...]
    architectures: tuple[Architecture, ...]
    supernet_scores: Mapping[str, Floats]
    answers: Floats | None = None
    pool: Answers | None = None

    @property
    def shown_architectures(self) -> tuple[Architecture, ...]:
        """The architectures of the demonstrations, `m`."""
        return tuple(figures.architecture for figures in self.demonstrations)

    @property
    def shown_scores(self) -> Floats:
        """Their trained scores, `(m,)`."""
        return np.array([figures.valid_score for figures in self.demonstrations])

    def shown_supernet_scores(self, supernet: str) -> Floats:
        """What a supernet says about them, `(m,)`."""
        return np.array([figures.supernet_scores[supernet] for figures in self.demonstrations])

    def features(self, encoding: Encoding = "averaged") -> tuple[Floats, Floats]:
        """Encodes demonstrations `(m, d)` and architectures `(n, d)`."""
        both = (self.shown_architectures, self.architectures)
        shown, asked = (self.task.space.features(some, encoding).astype(np.float64) for some in both)
        return shown, asked

    def gflops(self) -> tuple[Floats, Floats]:
        """FLOPs/1e9 of demonstrations `(m,)` and architectures `(n,)`, output projection included."""
        both = (self.shown_architectures, self.architectures)
        shown, asked = (cost_measures(self.task.space.genomes(some), self.task)["gflops"] for some in both)
        return shown, asked

    def depths(self) -> tuple[Floats, Floats]:
        """Decoder layers of demonstrations `(m,)` and architectures `(n,)`."""
        both = (self.shown_architectures, self.architectures)
        shown, asked = (np.array([float(one.decoder_layers) for one in some]) for some in both)
        return shown, asked


def set_exams(task: Task, answers: Answers | None) -> list[Exam]:
    """Builds the exam of each split.

    Args:
        task: A task with figures and splits.
        answers: Answers of a model about the task, by split.

    Raises:
        InputError: If the task has no figures or splits, a figure without a score, or a split that is too
            small.
    """
    if not task.figures or not task.splits:
        raise InputError(
            f"the task {task.name} has {len(task.figures)} trained architectures and "
            f"{len(task.splits or {})} splits: give it `figures` and `splits` to test predictors on"
        )
    unscored = [one.id for one in task.figures if not np.isfinite(np.array(one.valid_score, np.float64))]
    if unscored:
        raise InputError(
            f"the figures {unscored} of {task.name} have no finite `valid_score`: give them one, or leave "
            "them out"
        )
    exams = [_exam(task, split) for split in task.splits]
    return [_answered(exam, answers) for exam in exams] if answers else exams


def _exam(task: Task, split: str) -> Exam:
    shown, asked = task.demonstrations(split), task.held_out(split)
    if min(len(shown), len(asked)) < _FEWEST:
        raise InputError(
            f"the split {split!r} of {task.name} demonstrates {len(shown)} architectures and holds out "
            f"{len(asked)}: it needs at least {_FEWEST} of each"
        )
    supernets = [name for name in task.figures[0].supernet_scores if _has_scored_all(task, name)]
    return Exam(
        split,
        replace(task, figures=tuple(shown), splits=None),
        tuple(shown),
        tuple(figures.architecture for figures in asked),
        {name: np.array([figures.supernet_scores[name] for figures in asked]) for name in supernets},
    )


def _has_scored_all(task: Task, supernet: str) -> bool:
    scores = [figures.supernet_scores.get(supernet, np.nan) for figures in task.figures]
    return bool(np.isfinite(np.array(scores, dtype=np.float64)).all())


def _answered(exam: Exam, answers: Answers) -> Exam:
    """Adds the split's answers: those about what is asked, if complete, and those about others."""
    rows = [row for row in answers.rows if row.split == exam.split]
    known = {row.architecture: row.answer for row in rows}
    is_complete = set(exam.architectures) <= set(known)
    asked = np.array([known[one] for one in exam.architectures]) if is_complete else None
    apart = {*exam.architectures, *exam.shown_architectures}
    pool = Answers(answers.header, tuple(row for row in rows if row.architecture not in apart))
    return replace(exam, answers=asked, pool=pool if pool.rows else None)
