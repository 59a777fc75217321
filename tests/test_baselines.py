"""Simple predictors: equal to their twins in numpy and scikit-learn, and robust to little data."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmpp import Figures, Task, load_task
from llmpp.baselines import (
    FROM_DEMONSTRATIONS,
    calibrated_supernet,
    chosen_supernet,
    distinct_supernets,
    gaussian_process,
    line,
    nearest,
    physics,
    raw_supernet,
    ridge,
    ridge_on_supernets,
    weighted_supernets,
)
from llmpp.exam import Exam, set_exams
from llmpp.space import Floats

linear_model = pytest.importorskip("sklearn.linear_model")
neighbors = pytest.importorskip("sklearn.neighbors")
pipeline = pytest.importorskip("sklearn.pipeline")
preprocessing = pytest.importorskip("sklearn.preprocessing")

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]
TASK = load_task("wmt14.en-de")


def exam(task: Task = TASK, split: str = "123") -> Exam:
    return next(one for one in set_exams(task, None) if one.split == split)


def points(n: int, d: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    draw = np.random.Generator(np.random.PCG64(seed))
    shown = draw.normal(3, [1.0, *[5.0] * (d - 1)], (n, d))
    return shown, draw.normal(25, 1, n), draw.normal(3, 2, (7, d))


def standardising(model: Any) -> Any:
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=8))
def test_a_line_is_that_of_polyfit(both: list[tuple[float, float]]) -> None:
    x, y = np.array(both).T
    assume(x.std() > 0.01)
    asked = np.array([-5.0, 0.0, 7.0])
    expected = np.polyval(np.polyfit(x, y, 1), asked)
    np.testing.assert_allclose(line(x, y, asked), expected, rtol=1e-6, atol=1e-6)


def test_a_line_through_equal_points_is_flat() -> None:
    flat = line(np.array([2.0, 2.0]), np.array([1.0, 3.0]), np.array([0.0, 2.0, 9.0]))
    np.testing.assert_array_equal(flat, [2, 2, 2])


def test_ridge_is_that_of_scikit_learn() -> None:
    shown, scores, asked = points(10, 4)
    twin = standardising(linear_model.Ridge(alpha=1.0)).fit(shown, scores)
    np.testing.assert_allclose(ridge(shown, scores, asked), twin.predict(asked))


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    shown, scores, asked = points(10, 4)
    twin = standardising(neighbors.KNeighborsRegressor(3)).fit(shown, scores)
    np.testing.assert_allclose(nearest(shown, scores, asked), twin.predict(asked))


def test_of_neighbours_at_equal_distance_the_first_shown_count() -> None:
    shown, scores = np.array([[1.0], [-1.0], [1.0], [-1.0], [0.0]]), np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    np.testing.assert_allclose(nearest(shown, scores, np.array([[0.0]])), [(16 + 1 + 2) / 3])


def test_a_gaussian_process_learns_a_smooth_function_and_repeats_itself() -> None:
    shown, _, _ = points(30, 2)
    scores = 25 + np.sin(shown[:, 0])
    asked = shown[:10] + 0.1
    predicted = gaussian_process(shown, scores, asked)
    assert np.abs(predicted - 25 - np.sin(asked[:, 0])).max() < 0.1
    np.testing.assert_array_equal(predicted, gaussian_process(shown, scores, asked))


def test_a_gaussian_process_of_equal_scores_is_flat() -> None:
    shown, _, asked = points(6, 3)
    np.testing.assert_allclose(gaussian_process(shown, np.full(6, 25.0), asked), 25)


@pytest.mark.parametrize("name", list(FROM_DEMONSTRATIONS))
def test_two_demonstrations_are_enough(name: str) -> None:
    task = replace(TASK, splits={"few": TASK.splits["123"][:2]} if TASK.splits else None)
    predicted = FROM_DEMONSTRATIONS[name](exam(task, "few"))
    assert predicted.shape == (28,)
    assert np.isfinite(predicted).all()


def with_scores(task: Task, name: str, scores: list[float]) -> Task:
    figures = tuple(
        replace(figures, supernet_scores={**figures.supernet_scores, name: score})
        for figures, score in zip(task.figures, scores, strict=True)
    )
    return replace(task, figures=figures)


def test_a_supernet_is_shown_raw_and_after_a_line_through_the_demonstrations() -> None:
    one = exam()
    shown = [figures.supernet_scores["hat"] for figures in TASK.demonstrations("123")]
    asked = [figures.supernet_scores["hat"] for figures in TASK.held_out("123")]
    scores = [figures.valid_score for figures in TASK.demonstrations("123")]
    np.testing.assert_array_equal(raw_supernet("hat", one), asked)
    expected = np.polyval(np.polyfit(shown, scores, 1), asked)
    np.testing.assert_allclose(calibrated_supernet("hat", one), expected)


@pytest.mark.parametrize(("name", "n"), [("wmt14.en-de", 4), ("wmt14.en-fr", 4), ("wmt19.en-de", 3)])
def test_supernets_of_equal_scores_count_once(name: str, n: int) -> None:
    names = distinct_supernets(exam(load_task(name)))
    assert len(names) == n
    assert names[0] == "hat"
    assert ("sandwich" in names) == (n == 4)


def test_a_supernet_that_differs_in_one_score_is_another() -> None:
    hat = [figures.supernet_scores["hat"] for figures in TASK.figures]
    assert "copy" not in distinct_supernets(exam(with_scores(TASK, "copy", hat)))
    for index in (0, 2):  # one that split 123 shows, one that it holds out
        other = [score + (number == index) for number, score in enumerate(hat)]
        assert "copy" in distinct_supernets(exam(with_scores(TASK, "copy", other)))


@pytest.mark.parametrize("lack", [{}, {"hat": math.nan}])
def test_a_supernet_that_lacks_a_score_is_left_out(lack: dict[str, float]) -> None:
    figures = TASK.figures[3]
    scores = {name: score for name, score in figures.supernet_scores.items() if name != "hat"} | lack
    changed = [replace(figures, supernet_scores=scores) if one is figures else one for one in TASK.figures]
    assert set(exam(replace(TASK, figures=tuple(changed))).supernet_scores) == set(scores) - {"hat"}


def oracle(figures: Figures) -> float:
    return 2 * figures.valid_score - 7


def test_a_supernet_that_is_right_is_chosen_and_gets_all_weight() -> None:
    one = exam(with_scores(TASK, "oracle", [oracle(figures) for figures in TASK.figures]))
    trained = [figures.valid_score for figures in TASK.held_out("123")]
    np.testing.assert_allclose(chosen_supernet(one), trained)
    np.testing.assert_allclose(weighted_supernets(one), trained, atol=1e-6)
    assert (
        np.abs(ridge_on_supernets(one) - trained).mean() < np.abs(ridge_on_supernets(exam()) - trained).mean()
    )


def test_weights_come_from_left_out_errors() -> None:
    one = replace(
        exam(), supernet_scores={name: exam().supernet_scores[name] for name in ("hat", "sandwich")}
    )
    scores, errors = one.shown_scores, []
    for name in ("hat", "sandwich"):
        x = one.shown_supernet_scores(name)
        rest = [np.delete(np.arange(10), left_out) for left_out in range(10)]
        missed = [np.polyval(np.polyfit(x[r], scores[r], 1), x[i]) - scores[i] for i, r in enumerate(rest)]
        errors.append(np.square(missed).mean())
    hat, sandwich = calibrated_supernet("hat", one), calibrated_supernet("sandwich", one)
    expected = (hat / errors[0] + sandwich / errors[1]) / (1 / errors[0] + 1 / errors[1])
    np.testing.assert_allclose(weighted_supernets(one), expected)
    np.testing.assert_allclose(chosen_supernet(one), hat if errors[0] < errors[1] else sandwich)


def test_physics_is_ridge_on_two_logarithms() -> None:
    one = exam()
    depths, gflops = one.depths(), one.gflops()
    shown, asked = (np.log(np.column_stack([depths[side], gflops[side]])) for side in (0, 1))
    np.testing.assert_allclose(physics(one), ridge(shown, one.shown_scores, asked))
    assert math.isclose(gflops[0][0], 3.479416512)
