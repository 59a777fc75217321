"""The report card: the figures of the paper's table, and that nothing is tested on what it saw."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from llmpp import InputError, PredictorError, Task, distill, load_task, report_card
from llmpp.answers import Answers, join_answers, read_answers, write_answers
from llmpp.assets import asset
from llmpp.exam import Exam, set_exams
from llmpp.metrics import MEASURES
from llmpp.report_card import Live, ReportCard, average, compare, evaluate
from llmpp.space import Floats

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]
TASK = load_task("wmt14.en-de")
ANSWERS = read_answers(asset("answers", f"{TASK.name}.jsonl"))
MODEL = "LLM-PP: claude (version not recorded)"
STUDENT = "LLM-Distill-PP: student"


@pytest.fixture(autouse=True, scope="module")
def _is_quick(one_thread: None) -> Iterator[None]:
    """Makes training short and the network small, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "N_STEPS", 15)
        patch.setattr(distill, "choose", partial(distill.choose, sizes=((3,),)))
        yield


def one_split(task: Task = TASK, split: str = "123") -> Task:
    return replace(task, splits={split: (task.splits or {})[split]})


def depth_model(exam: Exam) -> Floats:
    """A live model that adds to the mean of the demonstrations what depth brings."""
    mean = float(np.mean([figures.valid_score for figures in exam.demonstrations]))
    return np.array([mean + 0.3 * (architecture.decoder_layers - 2) for architecture in exam.architectures])


LIVE = Live("toy", depth_model)


@pytest.fixture(scope="module")
def cards() -> dict[str, ReportCard]:
    return {name: evaluate(name, n_seeds=1, n_bootstrap=200) for name in WMT_TASKS}


@pytest.fixture(scope="module")
def extended() -> ReportCard:
    return evaluate(one_split(), live=LIVE, n_seeds=2, n_bootstrap=200, extended=True)


def figure(card: ReportCard, predictor: str, measure: str) -> float:
    return next(row for row in card.rows if row.predictor == predictor).measures[measure].mean


TABLE = {
    "supernet hat": [1.14, 0.71, 1.59, 0.79, 0.91, 0.72],
    "supernet sandwich": [1.05, 0.81, 1.27, 0.78, 0.91, 0.72],
    "supernet layer_wise_mos": [0.97, 0.56, 1.16, 0.79, 0.96, 0.74],
    "supernet neuron_wise_mos": [0.87, 0.79, 1.18, 0.87, 0.87, 0.67],
    "supernet neuron_wise_mos + line": [0.15, 0.79, 0.10, 0.87, 0.24, 0.67],
    "mean of the demonstrations": [0.57, math.nan, 0.59, math.nan, 0.71, math.nan],
    "line in FLOPs": [0.37, 0.43, 0.39, 0.53, 0.45, 0.54],
    "line in 1/decoder layers": [0.16, 0.81, 0.18, 0.81, 0.24, 0.74],
}
LOOSE_TABLE = {
    "ridge": [0.29, 0.67, 0.24, 0.77, 0.33, 0.64],
    "GP (RBF, ARD)": [0.19, 0.75, 0.18, 0.81, 0.28, 0.65],
    "k nearest (3)": [0.42, 0.38, 0.47, 0.40, 0.59, 0.38],
}
RECORDED = {MODEL: [0.139, 0.768, 0.152, 0.825, 0.191, 0.755]}


def row_of(cards: dict[str, ReportCard], predictor: str) -> list[float]:
    both = ("mae", "kendall_tau")
    return [figure(cards[name], predictor, measure) for name in WMT_TASKS for measure in both]


@pytest.mark.parametrize("predictor", list(TABLE))
def test_supernets_mean_and_lines_are_those_of_the_table(
    predictor: str, cards: dict[str, ReportCard]
) -> None:
    # Half of the last decimal, and a hair for halves that round either way.
    assert row_of(cards, predictor) == pytest.approx(TABLE[predictor], abs=0.00501, nan_ok=True)


@pytest.mark.parametrize("predictor", list(LOOSE_TABLE))
def test_what_depends_on_recipe_is_near_the_table(predictor: str, cards: dict[str, ReportCard]) -> None:
    got = row_of(cards, predictor)
    assert got[::2] == pytest.approx(LOOSE_TABLE[predictor][::2], abs=0.03)
    assert got[1::2] == pytest.approx(LOOSE_TABLE[predictor][1::2], abs=0.05)


def test_the_recorded_answers_have_the_figures_of_their_readme(cards: dict[str, ReportCard]) -> None:
    assert row_of(cards, MODEL) == pytest.approx(RECORDED[MODEL], abs=0.000501)


def test_the_cheap_fusion_has_the_figures_of_the_readme(cards: dict[str, ReportCard]) -> None:
    got = np.reshape(row_of(cards, "fusion: LLM-PP, hat"), (3, 2)).mean(axis=0)
    assert got == pytest.approx([0.127, 0.795], abs=0.000501)


def test_ties_broken_at_random_cost_the_line_in_depth_its_lead(cards: dict[str, ReportCard]) -> None:
    name = "line in 1/decoder layers"
    taus = [figure(cards[task], name, "kendall_tau_random_ties") for task in WMT_TASKS]
    assert taus == pytest.approx([0.65, 0.65, 0.60], abs=0.00501)


def test_the_noise_ceiling_is_the_agreement_of_validation_and_test(cards: dict[str, ReportCard]) -> None:
    ceilings = [cards[name].noise_ceiling for name in WMT_TASKS]
    assert all(ceilings)
    taus = [ceiling.kendall_tau for ceiling in ceilings if ceiling]
    assert [tau.mean for tau in taus] == pytest.approx([0.72, 0.88, 0.80], abs=0.00501)
    assert all(tau.low < tau.mean < tau.high < 1 for tau in taus)
    assert all(0.05 < ceiling.mae.mean < 0.2 for ceiling in ceilings if ceiling)


def test_a_missing_test_score_leaves_no_noise_ceiling() -> None:
    figures = (replace(TASK.figures[0], test_score=math.nan), *TASK.figures[1:])
    card = evaluate(own_task(replace(TASK, figures=figures)), n_bootstrap=5)
    assert card.noise_ceiling is None
    assert card.to_dict()["noise_ceiling"] is None


def test_every_row_that_a_task_allows_is_there(cards: dict[str, ReportCard]) -> None:
    names = [row.predictor for row in cards["wmt19.en-de"].rows]
    assert names == [
        "mean of the demonstrations",
        "line in FLOPs",
        "line in 1/decoder layers",
        "ridge",
        "GP (RBF, ARD)",
        "k nearest (3)",
        *(f"supernet {name}" for name in ("hat", "sandwich", "layer_wise_mos", "neuron_wise_mos")),
        *(f"supernet {name} + line" for name in ("hat", "sandwich", "layer_wise_mos", "neuron_wise_mos")),
        MODEL,
        STUDENT,
        "fusion: LLM-PP, every supernet",
        "fusion: LLM-PP, hat",
    ]


def own_task(task: Task = TASK, **changes: object) -> Task:
    """A task that nothing ships for."""
    return replace(one_split(task), name="mine", **changes)  # type: ignore[arg-type]


def test_a_task_of_ones_own_has_the_rows_that_need_nothing_else() -> None:
    bare = tuple(replace(figures, supernet_scores={}) for figures in TASK.figures)
    card = evaluate(own_task(figures=bare), n_bootstrap=5, extended=True)
    assert [row.predictor for row in card.rows][-2:] == ["k nearest (3)", "ridge on log depth, log FLOPs"]
    assert len(card.rows) == 7
    with_model = evaluate(own_task(figures=bare), live=LIVE, n_bootstrap=5)
    assert [row.predictor for row in with_model.rows][6:] == ["LLM-PP live: toy"]


def test_answers_that_lack_a_held_out_architecture_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = TASK.held_out("123")[0].architecture
    rest = Answers(ANSWERS.header, tuple(row for row in ANSWERS.rows if row.architecture != lost))
    monkeypatch.setattr(report_card, "recorded_answers", lambda _task: rest)
    names = [row.predictor for row in evaluate(one_split(), n_bootstrap=5).rows]
    assert not any(name.startswith("LLM-PP") for name in names)


def test_students_of_ones_own_answers_have_a_row_without_answers_to_test(tmp_path: Path) -> None:
    held_out = {figures.architecture for figures in TASK.held_out("123")}
    own = [row for row in ANSWERS.of_split("123").rows if row.architecture not in held_out]
    for number, rows in enumerate((own[:200], own[200:])):
        write_answers(tmp_path / f"{number}.jsonl", Answers({"task": TASK.name, "model": "m"}, tuple(rows)))
    answers = join_answers([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    for extended in (False, True):
        card = evaluate(one_split(), answers=answers, n_seeds=1, n_bootstrap=5, extended=extended)
        names = [row.predictor for row in card.rows]
        assert STUDENT in names
        assert not any(name.startswith("LLM-PP") for name in names)
    shipped = evaluate(one_split(), n_seeds=1, n_bootstrap=5)
    assert figure(card, STUDENT, "mae") == figure(shipped, STUDENT, "mae")


def test_answers_of_several_models_are_not_joined(tmp_path: Path) -> None:
    for name in "ab":
        header = {"task": TASK.name, "model": name}
        write_answers(tmp_path / name, Answers(header, ANSWERS.rows[:2]))
    with pytest.raises(InputError, match="differ in their model: a, b"):
        join_answers([tmp_path / "a", tmp_path / "b"])


# What follows proves that nothing is tested on what it saw.


def all_predictions(card: ReportCard) -> dict[str, list[float]]:
    return {row.predictor: row.predictions[0].ravel().tolist() for row in card.rows}


def with_scores(shift: float, ids: set[int]) -> Task:
    """Moves the trained scores of some architectures, each by another amount."""
    figures = tuple(
        replace(one, valid_score=one.valid_score + shift * (1 + one.id), test_score=one.test_score - shift)
        if one.id in ids
        else one
        for one in TASK.figures
    )
    return replace(TASK, figures=figures)


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


def test_a_task_of_ones_own_does_not_get_the_answers_of_its_namesake() -> None:
    shown = {figures.id for figures in TASK.demonstrations("123")}
    names = [row.predictor for row in evaluate(one_split(with_scores(1.0, shown)), n_bootstrap=5).rows]
    assert not any(name.startswith("LLM") for name in names)


def test_tasks_without_a_mean_are_refused_before_any_work() -> None:
    report_card.check_alike(WMT_TASKS)
    with pytest.raises(InputError, match="have no mean: they differ"):
        report_card.check_alike([TASK, replace(TASK, metric="chrF")])


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


# Figures and their form.


def test_fusions_are_plain_means_of_their_members(extended: ReportCard) -> None:
    predictions = {row.predictor: row.predictions[0] for row in extended.rows}
    supernets = [
        f"supernet {name} + line" for name in ("hat", "sandwich", "layer_wise_mos", "neuron_wise_mos")
    ]
    for model, label in ((MODEL, "LLM-PP"), ("LLM-PP live: toy", "LLM-PP live")):
        named = np.mean([predictions[name] for name in (model, *supernets)], axis=0)
        np.testing.assert_allclose(predictions[f"fusion: {label}, every supernet"], named)
        cheap = (predictions[model] + predictions[supernets[0]]) / 2
        np.testing.assert_allclose(predictions[f"fusion: {label}, hat"], cheap)
    median = np.median([predictions[name] for name in (MODEL, *supernets)], axis=0)
    np.testing.assert_allclose(predictions["median of LLM-PP, every supernet"], median)
    of_students = (predictions[STUDENT] + predictions[supernets[0]]) / 2
    assert of_students.shape == (2, 20)
    np.testing.assert_allclose(predictions["fusion: student, hat"], of_students)


def test_supernets_of_equal_scores_are_fused_once() -> None:
    card = evaluate(one_split(load_task("wmt19.en-de")), n_seeds=1, n_bootstrap=5)
    predictions = {row.predictor: row.predictions[0] for row in card.rows}
    members = [MODEL, *(f"supernet {name} + line" for name in ("hat", "layer_wise_mos", "neuron_wise_mos"))]
    expected = np.mean([predictions[name] for name in members], axis=0)
    np.testing.assert_allclose(predictions["fusion: LLM-PP, every supernet"], expected)


def test_figures_are_means_over_splits_with_intervals_around_them(cards: dict[str, ReportCard]) -> None:
    card = cards["wmt14.en-fr"]
    for row in card.rows:
        errors = [np.abs(p - y).mean() for p, y in zip(row.predictions, card.key.trained, strict=True)]
        assert row.measures["mae"].mean == pytest.approx(np.mean(errors))
        for name in ("mae", "kendall_tau_random_ties"):
            one = row.measures[name]
            assert one.low <= one.mean <= one.high, (row.predictor, name)


def test_differences_are_against_the_chosen_row_and_paired() -> None:
    card = evaluate(own_task(), n_bootstrap=300, against="ridge")
    reference = next(row for row in card.rows if row.predictor == "ridge")
    zero = reference.difference["mae"]
    assert (zero.mean, zero.low, zero.high) == (0, 0, 0)
    other = next(row for row in card.rows if row.predictor == "line in FLOPs")
    difference, one = other.difference["mae"], other.measures["mae"]
    assert difference.mean == pytest.approx(one.mean - reference.measures["mae"].mean)
    width = (one.high - one.low) + (reference.measures["mae"].high - reference.measures["mae"].low)
    assert 0 < difference.high - difference.low < width


def test_the_mean_over_tasks_is_of_all_their_splits_on_the_same_resamples(
    cards: dict[str, ReportCard],
) -> None:
    mean = average([cards[name] for name in WMT_TASKS])
    assert [row.predictor for row in mean.rows] == [row.predictor for row in cards["wmt14.en-de"].rows]
    for row in mean.rows:
        for measure in ("mae", "kendall_tau_random_ties"):
            each = [figure(cards[name], row.predictor, measure) for name in WMT_TASKS]
            assert row.measures[measure].mean == pytest.approx(np.mean(each))
    assert (mean.task, len(mean.splits)) == (", ".join(WMT_TASKS), 9)
    widths = [
        next(row for row in card.rows if row.predictor == MODEL).measures["mae"]
        for card in (mean, *cards.values())
    ]
    assert widths[0].high - widths[0].low < max(one.high - one.low for one in widths[1:])
    alone = average([cards["wmt14.en-fr"]])
    assert [row.to_dict() for row in alone.rows] == [row.to_dict() for row in cards["wmt14.en-fr"].rows]


def test_rows_that_one_task_lacks_are_not_averaged(cards: dict[str, ReportCard]) -> None:
    card = cards["wmt14.en-de"]
    mean = average([card, replace(card, rows=card.rows[1:4])])
    assert [row.predictor for row in mean.rows] == [row.predictor for row in card.rows[1:4]]


def test_cards_that_do_not_belong_together_are_not_averaged(cards: dict[str, ReportCard]) -> None:
    card = cards["wmt14.en-de"]
    others = [
        replace(card, seed=1),
        replace(card, metric="chrF"),
        replace(card, architectures=card.architectures[:9]),
    ]
    for other in others:
        with pytest.raises(InputError, match="need the same architectures"):
            average([card, other])
    with pytest.raises(InputError, match=r"cannot average the cards of \[\]"):
        average([])


def test_predictors_of_ones_own_are_compared_alone() -> None:
    def shallow(exam: Exam) -> Floats:
        return np.array([-float(one.decoder_layers) for one in exam.architectures])

    def noisy(exam: Exam) -> Floats:
        return np.random.Generator(np.random.PCG64(0)).normal(size=(3, len(exam.architectures)))

    card = compare(TASK, {"shallow": shallow, "noisy": noisy}, against="shallow", n_bootstrap=100)
    assert [(row.predictor, row.n_seeds) for row in card.rows] == [("shallow", 1), ("noisy", 3)]
    assert figure(card, "shallow", "kendall_tau") == pytest.approx(-0.806, abs=0.001)
    assert abs(figure(card, "noisy", "kendall_tau")) < 0.3
    assert card.rows[1].measures["kendall_tau"].std
    with pytest.raises(InputError, match="unknown row 'deep'; known: shallow"):
        compare(TASK, {"shallow": shallow}, against="deep")


def test_a_card_becomes_json_without_nan(extended: ReportCard) -> None:
    data = json.loads(json.dumps(extended.to_dict(), allow_nan=False))
    assert (data["task"], data["against"]) == ("wmt14.en-de", "line in 1/decoder layers")
    mean = data["rows"][0]
    assert mean["kendall_tau"] == {"mean": None, "low": None, "high": None, "std": None}
    assert set(mean["mae"]) == {"mean", "low", "high", "std"}
    student = next(row for row in data["rows"] if row["predictor"] == STUDENT)
    assert set(student) == {"predictor", "n_seeds", "difference", *MEASURES}
    assert student["n_seeds"] == 2
    assert student["mae"]["std"] > 0
    assert next(row for row in data["rows"] if row["predictor"] == MODEL)["mae"]["std"] is None
    assert set(student["difference"]["mae"]) == {"mean", "low", "high"}
    assert set(data["noise_ceiling"]) == {"kendall_tau", "mae"}


def test_a_card_becomes_a_frame_of_one_line_per_row(extended: ReportCard) -> None:
    frame = extended.to_frame()
    assert frame.height == len(extended.rows)
    wanted = {"predictor", "mae", "mae_low", "mae_high", "mae_std", "n_seeds", "difference_mae_low"}
    assert wanted <= set(frame.columns)
    assert frame["mae"].to_list() == [row.measures["mae"].mean for row in extended.rows]
    assert frame["kendall_tau"][0] is None


def test_a_card_repeats_itself_and_another_seed_is_another(extended: ReportCard) -> None:
    again = evaluate(one_split(), live=LIVE, n_seeds=2, n_bootstrap=200, extended=True)
    assert again.to_dict() == extended.to_dict()
    other = evaluate(one_split(), n_seeds=1, seed=7, n_bootstrap=200)
    assert all_predictions(other)[STUDENT] != all_predictions(again)[STUDENT][:20]
    assert other.rows[0].measures["mae"].low != again.rows[0].measures["mae"].low


def test_progress_counts_up_to_its_total() -> None:
    steps: list[tuple[int, int]] = []
    evaluate(one_split(), n_seeds=2, n_bootstrap=5, progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert len({total for _, total in steps}) == 1
    assert steps[-1][0] == steps[-1][1]


def test_a_task_without_figures_is_refused() -> None:
    words = "iwslt14.de-en has 0 trained architectures and 0 splits: give it `figures` and `splits`"
    with pytest.raises(InputError, match=words):
        evaluate("iwslt14.de-en")


@pytest.mark.parametrize("ids", [(0,), tuple(range(29))])
def test_a_split_that_shows_or_holds_out_fewer_than_two_is_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the split 'x' of mine demonstrates .* at least 2 of each"):
        evaluate(replace(TASK, name="mine", splits={"x": ids}))


def test_a_figure_without_a_score_is_refused() -> None:
    figures = (*TASK.figures[:29], replace(TASK.figures[29], valid_score=math.nan))
    with pytest.raises(InputError, match=r"the figures \[29\] of mine have no finite `valid_score`"):
        evaluate(own_task(figures=figures))


def test_an_unknown_row_to_compare_with_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown row 'mean'; known: mean of the demonstrations, line in"):
        evaluate(TASK, against="mean")


@pytest.mark.parametrize(
    "setting", [{"n_seeds": 0}, {"n_seeds": 1.5}, {"seed": -1}, {"n_bootstrap": 0}, {"n_bootstrap": "many"}]
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"`{next(iter(setting))}` must be an integer in"):
        evaluate(TASK, **setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(20, math.nan), np.zeros((20, 1)), np.zeros(())])
def test_a_live_model_that_does_not_answer_about_all_is_refused(bad: Floats) -> None:
    live = Live("bad", lambda _exam: bad)
    with pytest.raises(PredictorError, match="LLM-PP live: bad must give one finite score for each of 20"):
        evaluate(own_task(), live=live, n_bootstrap=5)


@pytest.fixture(scope="module")
def small() -> ReportCard:
    bare = tuple(replace(figures, supernet_scores={}) for figures in TASK.figures)
    return evaluate(own_task(figures=bare), live=LIVE, n_bootstrap=5)


def test_a_scatter_is_drawn_with_a_panel_per_predictor(small: ReportCard, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from llmpp import scatter

    png, svg = scatter.draw(small, tmp_path / "new" / "card.v1")
    assert (png.name, svg.name) == ("card.v1.png", "card.v1.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    assert len(small.rows) == 7
    assert text.count('id="axes_') == 10
    assert text.count('id="PathCollection_') == 7 + 1  # the legend's one
    again = scatter.draw(small, tmp_path / "again")
    assert again[1].read_text(encoding="utf-8") == text


def test_a_scatter_that_cannot_be_written_is_named(small: ReportCard, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from llmpp import scatter

    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*card\.png"):
        scatter.draw(small, tmp_path / "file" / "card")
