"""That no predictor is tested on what it saw."""

import re
from dataclasses import replace

import numpy as np
import pytest

from llmpp import report_card
from llmpp.answers import Answers
from llmpp.exam import Exam, set_exams
from llmpp.report_card import Live, ReportCard, evaluate
from llmpp.space import Floats
from report_cards import (
    ANSWERS,
    LIVE,
    MODEL,
    STUDENT,
    TASK,
    all_predictions,
    figure,
    one_split,
    own_task,
    with_scores,
)

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("quick_students")


def test_no_prediction_depends_on_a_score_that_was_held_out(extended: ReportCard) -> None:
    held_out = {figures.id for figures in TASK.held_out("123")}
    poisoned = one_split(with_scores(100.0, held_out))
    card = evaluate(poisoned, live=LIVE, n_seeds=2, n_bootstrap=5, extended=True)
    assert all_predictions(card) == all_predictions(extended)
    assert figure(card, STUDENT, "mae") > 100


def test_predictions_do_depend_on_the_scores_that_were_shown(
    extended: ReportCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_card, "recorded_answers", lambda _task: ANSWERS)
    shown = {figures.id for figures in TASK.demonstrations("123")}
    card = evaluate(one_split(with_scores(1.0, shown)), live=LIVE, n_seeds=1, n_bootstrap=5, extended=True)
    before, after = all_predictions(extended), all_predictions(card)
    same = {name for name in before if before[name][:20] == after[name][:20]}
    raw = {name for name in before if re.fullmatch(r"supernet \w+", name)}
    assert same == raw | {MODEL, STUDENT, f"{STUDENT}, per-layer features", "fusion: LLM-PP, student"}


def poison(answers: Answers, *, of_others: bool) -> Answers:
    """Spoils the answers of the other splits and of 'all', or those of split 123 about what it holds out."""
    held_out = {figures.architecture for figures in TASK.held_out("123")}
    return Answers(
        answers.header,
        tuple(
            replace(row, answer=row.answer + 50 + number)
            if (row.split != "123" if of_others else row.architecture in held_out)
            else row
            for number, row in enumerate(answers.rows)
        ),
    )


def test_no_prediction_depends_on_answers_of_another_split(
    extended: ReportCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = poison(ANSWERS, of_others=True)
    assert sum(a != b for a, b in zip(spoilt.rows, ANSWERS.rows, strict=True)) == 450 + 300 + 300
    monkeypatch.setattr(report_card, "recorded_answers", lambda _task: spoilt)
    card = evaluate(one_split(), live=LIVE, n_seeds=2, n_bootstrap=5, extended=True)
    assert all_predictions(card) == all_predictions(extended)


def test_no_student_learns_answers_about_what_it_is_tested_on(
    extended: ReportCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = poison(ANSWERS, of_others=False)
    monkeypatch.setattr(report_card, "recorded_answers", lambda _task: spoilt)
    card = evaluate(one_split(), live=LIVE, n_seeds=2, n_bootstrap=5, extended=True)
    before, after = all_predictions(extended), all_predictions(card)
    assert after[STUDENT] == before[STUDENT]
    per_layer = f"{STUDENT}, per-layer features"
    assert after[per_layer] == before[per_layer]
    assert after[MODEL] != before[MODEL]


def test_an_exam_holds_no_score_that_was_held_out_and_no_other_answer() -> None:
    """By construction: what predictors are given is searched for what they must not have."""
    marked = with_scores(0.0, set())
    figures = tuple(
        replace(one, valid_score=7.7000001 + one.id, test_score=8.8000001 + one.id) for one in marked.figures
    )
    rows = [row if row.split == "123" else replace(row, answer=9.9000001) for row in ANSWERS.rows]
    task = replace(TASK, figures=figures)
    exam = next(one for one in set_exams(task, Answers(ANSWERS.header, tuple(rows))) if one.split == "123")
    text = repr(exam)
    seen = {int(whole) - 7 for whole in re.findall(r"(\d+)\.700000", text)}
    assert seen == {figures.id for figures in task.demonstrations("123")}
    assert {int(whole) - 8 for whole in re.findall(r"(\d+)\.800000", text)} == seen
    assert "9.9000001" not in text
    assert exam.pool
    tested = {figures.architecture for figures in task.figures}
    assert len(exam.pool.rows) == 280
    assert not tested & set(exam.pool.architectures)
    assert {row.split for row in exam.pool.rows} == {"123"}


def test_a_live_model_is_shown_the_demonstrations_alone() -> None:
    seen: list[Exam] = []

    def spy(exam: Exam) -> Floats:
        seen.append(exam)
        return np.arange(float(len(exam.architectures)))

    evaluate(own_task(), live=Live("spy", spy), n_bootstrap=5)
    [exam] = seen
    assert list(exam.demonstrations) == list(exam.task.figures) == TASK.demonstrations("123")
    assert not exam.task.splits
    assert list(exam.architectures) == [figures.architecture for figures in TASK.held_out("123")]
