"""What predictors are worth: their error and rank agreement on architectures trained from scratch.

A predictor is tested on the architectures that its split holds out, with answers of that split's prompts
alone: nothing that saw a test figure is tested on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmpp import distill
from llmpp.answers import Answers, read_answers
from llmpp.assets import asset
from llmpp.distill import Floats, Progress
from llmpp.errors import InputError, require
from llmpp.ranges import integer
from llmpp.task import Figures, Task, load_task


@dataclass(frozen=True)
class Row:
    """One predictor's figures: means over the splits, and their spread over seeds.

    Attributes:
        predictor: Its name.
        mae: Mean absolute error in the task's metric.
        mae_std: Its standard deviation over seeds; 0 for a predictor without a seed.
        kendall_tau: Kendall's tau-b.
        kendall_tau_std: Its standard deviation over seeds.
        n_seeds: The number of seeds.
    """

    predictor: str
    mae: float
    mae_std: float
    kendall_tau: float
    kendall_tau_std: float
    n_seeds: int


def evaluate(
    task: str | Path | Task,
    *,
    n_seeds: int = 5,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> list[Row]:
    """Measures the recorded answers of a task, and the students distilled from them.

    On each split, students are trained on the answers about the pool and tested on the architectures that the
    split holds out; their size is chosen on held-out answers of the pool alone.

    Args:
        task: A task with figures and recorded answers.
        n_seeds: Students trained per split, at least 1.
        seed: The first of their seeds.
        progress: Called with the number of trainings done and of all trainings.

    Returns:
        One row for the answers, named after the model that gave them, and one for the students.

    Raises:
        InputError: If the task has no recorded answers.
        MissingExtraError: If torch or scipy is not installed.
    """
    task = load_task(task)
    seeds = range(integer("seed", seed, 0, 2**32), seed + integer("n_seeds", n_seeds, 1, 1000))
    answers = recorded_answers(task)
    splits = list(task.splits or {})
    from_answers, from_students = [], []
    n_trainings = len(splits) * (len(distill.SIZES) * distill.N_FOLDS + len(seeds))
    for number, split in enumerate(splits):
        offset = number * n_trainings // len(splits)
        of_split = answers.of_split(split)
        tested = task.held_out(split)
        from_answers.append([_figures(_answers_about(of_split, tested), tested)])
        students = _students(task, of_split, tested, seeds, _shifted(progress, offset, n_trainings))
        from_students.append([_figures(scores, tested) for scores in students])
    model = str(answers.header.get("model", "recorded answers"))
    return [_row(f"LLM-PP: {model}", from_answers), _row("LLM-Distill-PP: student", from_students)]


def _shifted(progress: Progress, offset: int, total: int) -> Progress:
    """Reports the progress of a part as that of the whole."""
    return lambda done, _total: progress(offset + done, total)


def recorded_answers(task: Task) -> Answers:
    """Reads the answers that ship with a task.

    Raises:
        InputError: If none ship.
    """
    path = asset("answers", f"{task.name}.jsonl")
    if not path.is_file():
        raise InputError(f"no recorded answers ship for the task {task.name!r}")
    return read_answers(path)


def _answers_about(answers: Answers, tested: Sequence[Figures]) -> Floats:
    known = {row.architecture: row.answer for row in answers.rows}
    return np.array([known[figures.architecture] for figures in tested])


def _students(
    task: Task, answers: Answers, tested: Sequence[Figures], seeds: range, progress: Progress
) -> list[Floats]:
    """Trains students on the answers about all but the tested, and returns their scores of the tested."""
    held_out = {figures.architecture for figures in tested}
    pool = Answers(answers.header, tuple(row for row in answers.rows if row.architecture not in held_out))
    features = task.space.features(pool.architectures)
    choice = distill.choose(features, pool.values, progress=progress)
    test_features = task.space.features([f.architecture for f in tested]).astype(np.float64)
    scores = []
    for number, seed in enumerate(seeds, 1):
        scores.append(distill.fit(features, pool.values, choice.hidden, seed=seed).predict(test_features))
        progress(len(distill.SIZES) * distill.N_FOLDS + number, 0)
    return scores


def _figures(scores: Floats, tested: Sequence[Figures]) -> tuple[float, float]:
    """Mean absolute error and Kendall's tau-b."""
    truth = np.array([figures.valid_score for figures in tested])
    tau = require("scipy.stats", "train").kendalltau(scores, truth).statistic
    return float(np.abs(scores - truth).mean()), float(tau)


def _row(predictor: str, figures: list[list[tuple[float, float]]]) -> Row:
    """Averages `(n_splits, n_seeds, 2)` over splits, then over seeds."""
    by_seed = np.array(figures).mean(axis=0)
    n_seeds = len(by_seed)
    spread: Any = by_seed.std(axis=0, ddof=1) if n_seeds > 1 else np.zeros(2)
    mae, tau = by_seed.mean(axis=0)
    return Row(predictor, float(mae), float(spread[0]), float(tau), float(spread[1]), n_seeds)
