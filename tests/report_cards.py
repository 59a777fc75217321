"""A task, answers and a live model that report cards are made of."""

from dataclasses import replace

import numpy as np

from llmpp import Task, load_task
from llmpp.answers import read_answers
from llmpp.assets import asset
from llmpp.exam import Exam
from llmpp.marking import Row
from llmpp.report_card import Live, ReportCard
from llmpp.space import Floats

TASK = load_task("wmt14.en-de")
ANSWERS = read_answers(asset("answers", f"{TASK.name}.jsonl"))
MODEL = "LLM-PP: claude (version not recorded)"
STUDENT = "LLM-Distill-PP: student"


def one_split(task: Task = TASK, split: str = "123") -> Task:
    return replace(task, splits={split: (task.splits or {})[split]})


def depth_model(exam: Exam) -> Floats:
    """A live model that adds to the mean of the demonstrations what depth brings."""
    mean = float(np.mean([figures.valid_score for figures in exam.demonstrations]))
    return np.array([mean + 0.3 * (architecture.decoder_layers - 2) for architecture in exam.architectures])


LIVE = Live("toy", depth_model)


def own_task(task: Task = TASK, **changes: object) -> Task:
    """A task that nothing ships for."""
    return replace(one_split(task), name="mine", **changes)  # type: ignore[arg-type]


def with_losses() -> Task:
    """A task whose supernet scores are minus nats per token."""
    losses = [{"hat_loss": one.supernet_scores["hat"] / 9 - 5} for one in TASK.figures]
    figures = tuple(
        replace(one, supernet_scores=loss) for one, loss in zip(TASK.figures, losses, strict=True)
    )
    return own_task(figures=figures)


def with_scores(shift: float, ids: set[int]) -> Task:
    """Moves the trained scores of some architectures, each by another amount."""
    figures = tuple(
        replace(one, valid_score=one.valid_score + shift * (1 + one.id), test_score=one.test_score - shift)
        if one.id in ids
        else one
        for one in TASK.figures
    )
    return replace(TASK, figures=figures)


def row_called(card: ReportCard, predictor: str) -> Row:
    return next(one for one in card.rows if one.predictor == predictor)


def figure(card: ReportCard, predictor: str, measure: str) -> float:
    return row_called(card, predictor).measures[measure].mean


def all_predictions(card: ReportCard) -> dict[str, list[float]]:
    return {row.predictor: row.predictions[0].ravel().tolist() for row in card.rows}
