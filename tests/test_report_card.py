"""The report card: the figures of the paper's table, its rows, and its form."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmpp import InputError, PredictorError, load_task, report_card
from llmpp.answers import Answers, join_answers, write_answers
from llmpp.exam import Exam
from llmpp.metrics import MEASURES
from llmpp.report_card import Live, ReportCard, average, compare, evaluate
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
    row_called,
    with_losses,
    with_scores,
)

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("quick_students")

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]


@pytest.fixture(scope="module")
def cards(quick_students: None) -> dict[str, ReportCard]:
    return {name: evaluate(name, n_seeds=1, n_bootstrap=200) for name in WMT_TASKS}


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


def test_a_task_of_ones_own_does_not_get_the_answers_of_its_namesake() -> None:
    shown = {figures.id for figures in TASK.demonstrations("123")}
    names = [row.predictor for row in evaluate(one_split(with_scores(1.0, shown)), n_bootstrap=5).rows]
    assert not any(name.startswith("LLM") for name in names)


def test_tasks_without_a_mean_are_refused_before_any_work() -> None:
    report_card.check_alike(WMT_TASKS)
    with pytest.raises(InputError, match="have no mean: they differ"):
        report_card.check_alike([TASK, replace(TASK, metric="chrF")])


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
    reference = row_called(card, "ridge")
    zero = reference.difference["mae"]
    assert (zero.mean, zero.low, zero.high) == (0, 0, 0)
    other = row_called(card, "line in FLOPs")
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
    widths = [row_called(card, MODEL).measures["mae"] for card in (mean, *cards.values())]
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


def test_losses_of_supernets_have_ranks_and_only_their_lines_an_error() -> None:
    card = evaluate(with_losses(), n_bootstrap=5)
    raw, fitted = (row_called(card, f"supernet hat_loss{suffix}") for suffix in ("", " + line"))
    assert math.isnan(raw.measures["mae"].mean)
    assert math.isnan(raw.difference["mae"].mean)
    assert raw.measures["kendall_tau"] == fitted.measures["kendall_tau"]
    assert fitted.measures["mae"].mean < 1
    json.dumps(card.to_dict(), allow_nan=False)


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
