"""Students: that the shipped ones are what they say, and making one's own."""

import math
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpp import InputError, SpaceError, distill, load_predictor, load_task
from llmpp.answers import Answer, Answers, read_answers, write_answers
from llmpp.distill import Hidden, Student, choose, distill_file, fit
from llmpp.weights import read_mlp, write_mlp

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]
TASK = load_task("wmt14.en-de")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes training short and the sizes small."""
    monkeypatch.setattr(distill, "N_STEPS", 60)
    monkeypatch.setattr(distill, "choose", partial(choose, sizes=((2,), (4,))))


def shipped(task: str) -> Answers:
    path = Path(str(files("llmpp"))) / "assets" / "answers" / f"{task}.jsonl"
    return read_answers(path).of_split("all")


def small_file(path: Path, n: int = 40, **header: Any) -> Path:
    """Answers that grow with decoder depth."""
    rows = [Answer(a, 20.0 + math.sqrt(a.decoder_layers), prompt="p") for a in TASK.space.sample(n)]
    write_answers(path, Answers({"task": TASK.name, "model": "a model", **header}, tuple(rows)))
    return path


@pytest.mark.parametrize("name", WMT_TASKS)
def test_a_shipped_student_is_what_its_record_makes_of_the_shipped_answers(name: str) -> None:
    answers, task = shipped(name), load_task(name)
    predictor = load_predictor("distilled", task=name)
    record = predictor.record
    features = task.space.features(answers.architectures)
    student = fit(features, answers.values, tuple(record["hidden"]), seed=record["seed"])
    refit = student.predict(features.astype(np.float64))
    assert np.abs(refit - predictor.predict(answers.architectures)).max() < 0.01


def test_the_recorded_held_out_error_of_a_shipped_student_is_true() -> None:
    answers = shipped("wmt14.en-fr")
    record = load_predictor("distilled", task="wmt14.en-fr").record
    hidden: Hidden = tuple(record["hidden"])
    features = TASK.space.features(answers.architectures)
    choice = choose(features, answers.values, sizes=[hidden])
    assert choice.hidden == hidden
    assert abs(choice.held_out_mae[hidden] - record["held_out_mae"]) < 0.002
    assert record["held_out_mae"] < np.abs(answers.values - answers.values.mean()).mean() / 4


@pytest.mark.parametrize("name", WMT_TASKS)
def test_the_record_of_a_shipped_student_says_where_it_came_from(name: str) -> None:
    record, answers = load_predictor("distilled", task=name).record, shipped(name)
    assert record["model"] == answers.header["model"]
    assert record["n_answers"] == len(answers.rows) == 450
    assert record["prompts"] == sorted({row.prompt for row in answers.rows if row.prompt})
    assert (record["split"], record["task"], record["metric"]) == ("all", name, "BLEU")
    assert set(record["versions"]) == {"llmpp", "numpy", "torch"}
    assert record["command"].startswith("llmpp distill")
    assert record["date"].count("-") == 2


def test_shipped_students_are_a_few_kilobytes() -> None:
    folder = Path(str(files("llmpp"))) / "assets" / "students"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sorted(sizes) == [f"{name}.safetensors" for name in WMT_TASKS]
    assert max(sizes.values()) < 30_000


@pytest.mark.usefixtures("is_quick")
def test_two_fits_are_equal_to_the_byte(tmp_path: Path) -> None:
    answers = shipped("wmt14.en-de")
    features = TASK.space.features(answers.architectures)
    for name in ("first", "second"):
        write_mlp(tmp_path / name, fit(features, answers.values, (8, 4), seed=3).tensors(), {"kind": "score"})
    other = fit(features, answers.values, (8, 4), seed=4).tensors()
    write_mlp(tmp_path / "other", other, {"kind": "score"})
    first = (tmp_path / "first").read_bytes()
    assert first == (tmp_path / "second").read_bytes()
    assert first != (tmp_path / "other").read_bytes()


@pytest.mark.usefixtures("is_quick")
def test_the_exported_student_predicts_as_the_trained_one(tmp_path: Path) -> None:
    answers = shipped("wmt14.en-de")
    features = TASK.space.features(answers.architectures)
    student = fit(features, answers.values, (8, 4), seed=0)
    write_mlp(tmp_path / "student", student.tensors(), {"kind": "score"})
    mlp, _ = read_mlp(tmp_path / "student")
    assert mlp.widths == [10, 8, 4, 1]
    np.testing.assert_allclose(mlp.forward(features), student.predict(features.astype(np.float64)), rtol=1e-5)


def test_a_student_learns_a_smooth_function() -> None:
    sample = TASK.space.sample(400, seed=1)
    features = TASK.space.features(sample)
    values = np.array([25 + math.log(a.decoder_layers) + a.encoder_dim / 640 for a in sample])
    student = fit(features[:300], values[:300], (16,), seed=0)
    error = np.abs(student.predict(features[300:].astype(np.float64)) - values[300:]).mean()
    assert error < 0.1 * values.std()


def test_the_cheapest_size_within_one_standard_error_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: dict[Hidden, float] = {(1,): 0.9, (2,): 0.52, (3,): 0.5, (4,): 0.51}
    n = 50
    features, answers = np.zeros((n, 1)), np.zeros(n)

    def fake_fit(_x: Any, _y: Any, hidden: Hidden, *, seed: int) -> Student:
        """Predicts its size's error, whatever the features."""
        return Student([(np.zeros((1, 1)), np.array([errors[hidden]]))], np.zeros(1), 1.0, 0.0, 1.0)

    monkeypatch.setattr(distill, "fit", fake_fit)
    choice = choose(features, answers, sizes=list(errors))
    assert choice.held_out_mae == pytest.approx(errors)
    # A constant error has no standard error, so nothing but the best will do.
    assert choice.hidden == (3,)
    answers[::2] = 0.5
    assert choose(features, answers, sizes=list(errors)).hidden == (2,)


@pytest.mark.usefixtures("is_quick")
def test_held_out_answers_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    features, answers = np.arange(50.0)[:, None], np.arange(50.0)
    seen: list[set[float]] = []

    def spy(x: Any, y: Any, hidden: Hidden, *, seed: int) -> Student:
        assert (x[:, 0] == y).all()
        seen.append(set(y.tolist()))
        return Student([(np.zeros((1, 1)), np.zeros(1))], np.zeros(1), 1.0, 0.0, 1.0)

    monkeypatch.setattr(distill, "fit", spy)
    choose(features, answers, sizes=[(2,)])
    held_out = [set(answers.tolist()) - trained for trained in seen]
    assert len(seen) == distill.N_FOLDS * distill.N_SEEDS
    assert {len(fold) for fold in held_out} == {10}
    assert set().union(*held_out) == set(answers.tolist())


@pytest.mark.usefixtures("is_quick")
def test_distilling_a_file_makes_a_predictor_with_a_record(tmp_path: Path) -> None:
    answers, output = small_file(tmp_path / "answers.jsonl"), tmp_path / "new" / "student.safetensors"
    steps: list[tuple[int, int]] = []
    report = distill_file(
        answers,
        output,
        TASK,
        seed=5,
        command="make it",
        date="2026-01-02",
        progress=lambda done, total: steps.append((done, total)),
    )
    predictor = load_predictor(output, task=TASK)
    assert set(report) == {"hidden", "held_out_mae", "n_answers"}
    assert report["n_answers"] == 40
    assert {key: predictor.record[key] for key in report} == report
    assert predictor.record["model"] == "a model"
    assert (predictor.record["seed"], predictor.record["prompts"]) == (5, ["p"])
    assert (predictor.record["command"], predictor.record["date"]) == ("make it", "2026-01-02")
    assert predictor.mlp.widths == [10, *report["hidden"], 1]
    assert np.isfinite(predictor.predict(TASK.space.sample(100, seed=9))).all()
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.usefixtures("is_quick")
def test_distilling_twice_writes_equal_bytes(tmp_path: Path) -> None:
    answers = small_file(tmp_path / "answers.jsonl")
    for name in ("first", "second"):
        distill_file(answers, tmp_path / name, TASK, command="c", date="2026-01-02")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.usefixtures("is_quick")
@pytest.mark.parametrize("value", [0.0, 25.0])
def test_answers_that_are_all_the_same_are_learnt(value: float, tmp_path: Path) -> None:
    rows = tuple(Answer(a, value) for a in TASK.space.sample(30))
    write_answers(tmp_path / "answers.jsonl", Answers({}, rows))
    distill_file(tmp_path / "answers.jsonl", tmp_path / "student", TASK, command="c")
    predictor = load_predictor(tmp_path / "student", task=TASK)
    assert predictor.record["model"] == "not recorded"
    assert np.abs(predictor.predict(TASK.space.sample(20, seed=1)) - value).max() < 0.5


@pytest.mark.usefixtures("is_quick")
def test_answers_about_one_architecture_are_learnt(tmp_path: Path) -> None:
    rows = tuple(Answer(TASK.space.sample(1)[0], 25.0 + i / 100) for i in range(30))
    write_answers(tmp_path / "answers.jsonl", Answers({}, rows))
    distill_file(tmp_path / "answers.jsonl", tmp_path / "student", TASK, command="c")
    predicted = load_predictor(tmp_path / "student", task=TASK).predict(TASK.space.sample(1))
    assert abs(predicted[0] - 25.145) < 0.1


@pytest.mark.parametrize(
    ("n", "header", "split", "words"),
    [
        (19, {}, "all", "has 19 answers; a student needs at least 20"),
        (30, {"task": "wmt14.en-fr"}, "all", "answers for the task 'wmt14.en-fr', not 'wmt14.en-de'"),
        (30, {}, "123", r"no answers of the split '123'.*\['all'\]"),
    ],
)
def test_answers_that_do_not_serve_are_refused(
    n: int, header: dict[str, Any], split: str, words: str, tmp_path: Path
) -> None:
    answers = small_file(tmp_path / "answers.jsonl", n, **header)
    with pytest.raises(InputError, match=words):
        distill_file(answers, tmp_path / "student", TASK, split=split, command="c")
    assert not (tmp_path / "student").exists()


def test_a_missing_file_of_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the answers .*missing"):
        distill_file(tmp_path / "missing", tmp_path / "student", TASK, command="c")


def test_answers_about_another_space_are_refused(tmp_path: Path) -> None:
    iwslt = load_task("iwslt14.de-en")
    rows = tuple(Answer(a, 30.0) for a in iwslt.space.sample(30))
    write_answers(tmp_path / "answers.jsonl", Answers({}, rows))
    with pytest.raises(SpaceError, match="not one of"):
        distill_file(tmp_path / "answers.jsonl", tmp_path / "student", TASK, command="c")


@pytest.mark.usefixtures("is_quick")
def test_a_bad_date_is_refused(tmp_path: Path) -> None:
    answers = small_file(tmp_path / "answers.jsonl")
    with pytest.raises(InputError, match="`date` must be YYYY-MM-DD, got 'today'"):
        distill_file(answers, tmp_path / "student", TASK, command="c", date="today")


@pytest.mark.usefixtures("is_quick")
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    answers = small_file(tmp_path / "answers.jsonl")
    with pytest.raises(InputError, match="cannot write"):
        distill_file(answers, tmp_path, TASK, command="c")


@pytest.mark.usefixtures("is_quick")
@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_bad_seed_is_refused(seed: Any, tmp_path: Path) -> None:
    answers = small_file(tmp_path / "answers.jsonl")
    with pytest.raises(InputError, match="seed"):
        distill_file(answers, tmp_path / "student", TASK, seed=seed, command="c")
