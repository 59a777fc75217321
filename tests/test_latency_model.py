"""The latency model: its terms, its two shapes, and how far it says that it may be off."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmpp import InputError, load_latency, load_predictor, load_task
from llmpp.latency import HeldOut, hold_out, read_table, split_rows
from llmpp.latency_model import MANY, LatencyTable, cross_validated, fit, fit_shape, folds
from llmpp.space import HYPERPARAMETERS, Floats
from llmpp.spread import Spread
from llmpp.terms import NAMES, multiply, physical_basis, plain_basis
from llmpp.weights import read_arrays, write_mlp

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

TASK = load_task("wmt14.en-de")
SMALLEST = np.array([min(options) / max(options) for options in TASK.space.options.values()])
#: What may not get faster by more of it.
RISING = [NAMES.index(name) for name in NAMES if "heads" not in name]
MORE_ROWS = [("wmt14ende_cpu_xeon", 6.0), ("wmt14ende_gpu_titanxp", 5.3), ("wmt14enfr_cpu_raspberrypi", 0.85)]


def features_of(n: int, seed: int = 0) -> Floats:
    return TASK.space.features(TASK.space.sample(n, seed=seed)).astype(np.float64)


def encoder_law(x: Floats) -> Floats:
    return 10 + 20 * x[:, 0] + 15 * x[:, 2]


def decoder_law(x: Floats) -> Floats:
    return 40 * x[:, 4] + x[:, 5] * (60 + 80 * x[:, 4] + 90 * x[:, 6] - 20 * x[:, 7] + 10 * x[:, 9])


def table_of(n: int, noise: float = 0.0, seed: int = 0) -> LatencyTable:
    """Measurements of the two laws with noise of so large a share."""
    x, random = features_of(n, seed), np.random.RandomState(seed)
    factors = 1 + noise * random.standard_normal((2, n))
    return LatencyTable(x, encoder_law(x) * factors[0], decoder_law(x) * factors[1], SMALLEST)


def errors_of(predicted: Floats, x: Floats) -> Floats:
    error: Floats = np.abs(predicted / (encoder_law(x) + decoder_law(x)) - 1)
    return error


def test_thirty_exact_measurements_give_the_law_although_more_heads_take_less_time() -> None:
    model, x = fit(table_of(30)), features_of(500, 1)
    assert model.shape == "physical"
    assert errors_of(model.predict(x), x).max() < 0.01


def test_few_noisy_measurements_teach_the_physical_shape_more() -> None:
    x = features_of(500, 1)
    errors = {
        shape: np.mean([errors_of(fit_shape(table_of(30, 0.03, k), shape).predict(x), x) for k in range(5)])
        for shape in ("physical", "free")
    }
    assert errors["physical"] < 0.75 * errors["free"]
    assert [fit(table_of(30, 0.03, k)).shape for k in range(5)].count("physical") >= 4


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_measured_no_size_and_no_layer_makes_the_physical_shape_faster(seed: int) -> None:
    random = np.random.RandomState(seed)
    x = features_of(60, seed)
    table = LatencyTable(x, random.lognormal(2, 1, 60), random.lognormal(4, 1, 60), SMALLEST)
    model = fit_shape(table, "physical")
    where = np.clip(random.rand(2000, 10), SMALLEST, 1)
    before = model.predict(where)
    assert (before > 0).all()
    for index in RISING:
        more = where.copy()
        more[:, index] += (1 - more[:, index]) * random.rand(2000)
        assert (model.predict(more) >= before - 1e-9 * before.max()).all()


def test_a_law_that_falls_where_it_should_rise_is_left_to_the_free_shape() -> None:
    x = features_of(300)
    table = LatencyTable(x, 5 + 0 * x[:, 0], 100 + 200 * x[:, 5] * (2 - x[:, 6]), SMALLEST)
    model = fit(table)
    assert model.shape == "free"
    np.testing.assert_allclose(model.predict(x), table.latency_ms, rtol=1e-4)


def test_with_many_rows_the_shape_that_assumes_less_is_taken_of_equals() -> None:
    assert fit(table_of(MANY, 0.02)).shape == "free"
    assert fit(table_of(200, 0.02)).shape == "physical"


@pytest.mark.parametrize(("csv", "mape"), MORE_ROWS)
def test_thirty_real_measurements_make_a_model_that_is_nearly_as_good_as_many(
    csv: str, mape: float, data: Path
) -> None:
    table = read_table(data / "hat_latency" / f"{csv}.csv", TASK)
    train, test = split_rows(len(table))
    errors: dict[str, list[Any]] = {"physical": [], "free": []}
    for seed in range(5):
        rows = np.random.RandomState(seed).permutation(train)[:30]
        for shape, of_shape in errors.items():
            predicted = fit_shape(table.take(rows), shape).predict(table.features[test])  # type: ignore[arg-type]
            of_shape.append(100 * np.abs(predicted / table.latency_ms[test] - 1))
    assert np.mean(errors["physical"]) < mape
    assert np.mean(errors["physical"]) < 0.85 * np.mean(errors["free"])


def test_columns_are_what_their_terms_say() -> None:
    basis, is_encoder = physical_basis(SMALLEST, np.ones(10))
    x = features_of(200)
    at = {name: x[:, index] for index, name in enumerate(NAMES)}
    above = {name: at[name] - SMALLEST[index] for index, name in enumerate(NAMES)}
    one, layers = np.ones(200), at["decoder_layers"]
    encoder = [one, above["encoder_dim"], above["encoder_ffn"], above["encoder_heads"]]
    encoder += [1 - at["encoder_heads"], above["encoder_dim"] * above["encoder_ffn"]]
    decoder = [
        one,
        above["decoder_dim"],
        layers,
        layers * above["decoder_dim"],
        layers * above["decoder_ffn"],
    ]
    for heads in ("decoder_heads", "cross_heads"):
        decoder += [layers * above[heads], layers * (1 - at[heads])]
    decoder += [layers * above["cross_span"], layers * above["encoder_dim"]]
    decoder += [above["decoder_dim"] * above["decoder_ffn"]]
    columns = basis.columns(x)
    for side, expected in ((columns[:, is_encoder], encoder), (columns[:, ~is_encoder], decoder)):
        assert side.shape[1] == len(expected)
        for column in side.T:
            assert min(np.abs(column - one).max() for one in expected) < 1e-12
    assert columns.min() > -1e-12


def test_a_space_whose_encoder_depth_varies_has_costs_per_encoder_layer() -> None:
    smallest = SMALLEST.copy()
    smallest[NAMES.index("encoder_layers")] = 1 / 6
    fixed, deep = physical_basis(SMALLEST, np.ones(10)), physical_basis(smallest, np.ones(10))
    assert deep[1].sum() == fixed[1].sum() + 2
    none = physical_basis(np.ones(10), np.ones(10))[0]
    assert (none.products.shape, none.expansion.tolist()) == ((0, 2), [[1.0], [1.0]])


def test_free_columns_leave_out_what_never_varies() -> None:
    x = features_of(50)
    basis = plain_basis(
        (("encoder_layers", "encoder_dim"), ("decoder_layers", "decoder_dim")), np.ptp(x, axis=0) > 0
    )
    assert len(basis.products) == 9 + 1
    np.testing.assert_array_equal(basis.columns(x), multiply(x, basis.products))


def test_rows_of_equal_features_are_in_one_fold_and_every_row_is_tested_once() -> None:
    once = table_of(40)
    table = once.take(np.tile(np.arange(40), 3))
    tested = []
    for inside, outside in folds(table):
        assert not {tuple(row) for row in table.features[inside]} & {
            tuple(row) for row in table.features[outside]
        }
        tested += outside.tolist()
    assert sorted(tested) == list(range(120))


def test_equal_tables_make_equal_models() -> None:
    one, other = fit(table_of(50, 0.03)), fit(table_of(50, 0.03))
    assert all((one.tensors()[name] == tensor).all() for name, tensor in other.tensors().items())


@pytest.mark.parametrize(("n", "noise"), [(30, 0.05), (40, 0.01), (150, 0.03)])
def test_nine_of_ten_measurements_lie_within_the_interval(n: int, noise: float) -> None:
    others, shares = table_of(2000, noise, 100), []
    for seed in range(8):
        model = fit(table_of(n, noise, seed))
        far = np.abs(model.predict(others.features) - others.latency_ms) / model.std(others.features)
        shares.append(np.mean(far < 1.6449))
        assert 0.4 * noise < model.noise < 1.7 * noise
    assert 0.87 < np.mean(shares) < 0.95


def test_a_prediction_is_less_certain_where_nothing_was_measured() -> None:
    table = table_of(200, 0.03)
    model = fit(table.take(np.flatnonzero(table.features[:, 5] < 0.6)))
    x = features_of(500, 3)
    share = model.std(x) / model.predict(x)
    assert share[x[:, 5] > 0.9].mean() > 1.01 * share[x[:, 5] < 0.4].mean()


def test_a_model_without_spread_does_not_know() -> None:
    model = fit_shape(table_of(40), "free")
    assert math.isnan(model.noise)
    assert np.isnan(model.std(features_of(3))).all()
    assert not any(name.startswith("spread") for name in model.tensors())


@pytest.mark.parametrize("hardware", ["titan-xp", "xeon-e5-2640", "raspberry-pi-4"])
def test_shipped_hardware_says_how_far_it_may_be_off(hardware: str) -> None:
    model, sample = load_latency(hardware, task=TASK), TASK.space.sample(40)
    predicted, std = model.predict(sample, return_std=True)
    np.testing.assert_array_equal(predicted, model.predict(sample))
    assert std.shape == (40,)
    noise = model.record["std_pct"] / 100
    assert (std >= 0.999 * noise * predicted).all()
    assert (std < 1.2 * noise * predicted).all()


def test_a_file_gives_the_spread_of_the_fit(tmp_path: Path) -> None:
    model = fit(table_of(60, 0.04))
    record = {"kind": "latency", "encoding": "averaged", "largest": TASK.space.largest, "task": TASK.name}
    write_mlp(tmp_path / "m", model.tensors(), record)
    sample = TASK.space.sample(30, seed=5)
    predicted, std = load_latency(tmp_path / "m", task=TASK).predict(sample, return_std=True)
    x = TASK.space.features(sample).astype(np.float64)
    np.testing.assert_allclose(predicted, model.predict(x), rtol=1e-4)
    np.testing.assert_allclose(std, model.std(x), rtol=1e-3)


def test_a_predictor_that_does_not_know_its_spread_says_so() -> None:
    student = load_predictor("distilled", task=TASK)
    assert student.spread is None
    with pytest.raises(InputError, match="distilled does not know how far it may be off"):
        student.predict(TASK.space.sample(2), return_std=True)


def test_a_spread_that_does_not_fit_its_model_is_refused(tmp_path: Path) -> None:
    tensors = fit(table_of(60, 0.04)).tensors()
    tensors["spread.factor"] = tensors["spread.factor"][:, :-1]
    write_mlp(tmp_path / "m", tensors, {})
    with pytest.raises(InputError, match="`spread.factor` is .* which does not fit"):
        Spread.read(tmp_path / "m")
    with pytest.raises(InputError, match="cannot use the weights file"):
        read_arrays(tmp_path / "missing", "spread.")
    (tmp_path / "cut").write_bytes((tmp_path / "m").read_bytes()[:20])
    with pytest.raises(InputError, match="cannot use the weights file"):
        read_arrays(tmp_path / "cut", "spread.")


def test_how_rows_are_held_out_depends_on_how_many_there_are() -> None:
    few, many = table_of(40, 0.02), table_of(MANY, 0.02)
    assert hold_out(few).how == "10-fold cross-validation"
    assert len(hold_out(few).measured_ms) == 40
    assert hold_out(many).how == "HAT's test rows"
    assert len(hold_out(many).measured_ms) == MANY // 10
    tested = hold_out(few, many)
    assert (tested.how, len(tested.measured_ms)) == ("another file", MANY)
    assert tested.errors["mape_pct"] == pytest.approx(1.6, abs=0.8)


def test_cross_validation_predicts_each_row_by_models_that_have_not_seen_it() -> None:
    table = table_of(60, 0.02)
    spoiled = LatencyTable(table.features, table.encoder_ms, table.decoder_ms.copy(), SMALLEST)
    spoiled.decoder_ms[7] *= 1000
    np.testing.assert_allclose(
        cross_validated(spoiled, "physical")[7], cross_validated(table, "physical")[7], rtol=1e-9
    )


def test_the_figure_is_the_same_every_time_and_says_how_good_the_model_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from llmpp.latency_figure import draw

    held_out = HeldOut("10 rows", np.linspace(10.0, 99, 10), np.linspace(11.0, 105, 10), np.full(10, 2.0))
    files = draw(held_out, tmp_path / "new" / "one", title="a board")
    assert [file.name for file in files] == ["one.png", "one.svg"]
    again = draw(held_out, tmp_path / "two", title="a board")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        draw(held_out, tmp_path / "folder", title="a board")


def test_every_hyperparameter_is_in_a_term() -> None:
    basis, _ = physical_basis(np.full(10, 0.5), np.ones(10))
    assert set(basis.products.ravel()) == set(range(len(HYPERPARAMETERS) + 1))
