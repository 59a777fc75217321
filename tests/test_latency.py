"""Latency models: how good they are, what the shipped ones are, and tables that do not serve."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from llmpp import SPACES, InputError, hardware_names, load_latency, load_task
from llmpp.latency import (
    FEATURE_COLUMNS,
    LATENCY_COLUMNS,
    errors,
    fit,
    fit_file,
    held_out_errors,
    measured_task,
    read_table,
    split_rows,
)
from llmpp.space import Floats

pytest.importorskip("scipy")

#: Per CSV: hardware, task, and the reference's MAPE and (where there is one) median error of a Huber fit.
TABLE: list[tuple[str, str, str, float, float | None]] = [
    ("wmt14ende_gpu_titanxp", "titan-xp", "wmt14.en-de", 4.5, 2.7),
    ("wmt14enfr_gpu_titanxp", "titan-xp", "wmt14.en-fr", 1.63, None),
    ("iwslt14deen_gpu_titanxp", "titan-xp", "iwslt14.de-en", 5.4, 2.1),
    ("wmt14ende_cpu_xeon", "xeon-e5-2640", "wmt14.en-de", 4.7, None),
    ("wmt14ende_cpu_raspberrypi", "raspberry-pi-4", "wmt14.en-de", 3.0, 0.7),
    ("wmt14enfr_cpu_raspberrypi", "raspberry-pi-4", "wmt14.en-fr", 0.62, None),
]
FILES = [row[:3] for row in TABLE]
TASK = load_task("wmt14.en-de")


def fake_latency(features: Floats) -> Floats:
    """A known law of the kind that the model can express."""
    dim, ffn, depth, span = features[:, 0], features[:, 2], features[:, 5], features[:, 9]
    return 20 + 7 * dim + 3 * ffn + 150 * depth * (1 + 0.1 * features[:, 4]) + 9 * depth * span


def fake_frame(n: int = 400, seed: int = 0) -> pl.DataFrame:
    """A table as HAT writes it: features in their units, latency in two parts."""
    features = TASK.space.features(TASK.space.sample(n, seed=seed)).astype(np.float64)
    raw = features * np.array(list(TASK.space.largest.values()))
    columns = dict(zip(FEATURE_COLUMNS, raw.T, strict=True))
    total = fake_latency(features)
    return pl.DataFrame({**columns, LATENCY_COLUMNS[0]: total * 0.1, LATENCY_COLUMNS[1]: total * 0.9})


@pytest.mark.parametrize(("csv", "_hardware", "task", "mape", "median"), TABLE)
def test_errors_on_held_out_rows_reach_the_target(
    csv: str, _hardware: str, task: str, mape: float, median: float | None, data: Path
) -> None:
    table = read_table(data / "hat_latency" / f"{csv}.csv", load_task(task))
    got = held_out_errors(table)
    assert set(got) == {"rmse_ms", "mae_ms", "mape_pct", "median_ape_pct"}
    assert got["mape_pct"] <= mape * 1.03
    if median is not None:
        assert got["median_ape_pct"] <= median * 1.2


@pytest.mark.parametrize(("csv", "hardware", "task"), FILES)
def test_a_shipped_model_equals_a_fit_on_all_rows(csv: str, hardware: str, task: str, data: Path) -> None:
    table = read_table(data / "hat_latency" / f"{csv}.csv", load_task(task))
    model = load_latency(hardware, task=task)
    refit = fit(table).predict(table.features)
    shipped = model.mlp.forward(np.ascontiguousarray(table.features, np.float32))
    np.testing.assert_allclose(shipped, refit, rtol=1e-4)
    assert model.record["n_rows"] == len(table.latency_ms) == 2000
    got = held_out_errors(table)
    assert model.record["test_errors"] == pytest.approx(got, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("csv", "hardware", "task"), FILES)
def test_a_shipped_model_knows_its_origin(csv: str, hardware: str, task: str) -> None:
    model = load_latency(hardware, task=task)
    assert (model.name, model.encoding, model.notes) == (hardware, "averaged", ())
    assert (model.record["hardware"], model.record["task"]) == (hardware, task)
    assert model.record["source"] == f"{csv}.csv"
    assert set(model.record["versions"]) == {"llmpp", "numpy", "scipy"}


def test_predictions_are_those_of_the_formula() -> None:
    model, sample = load_latency("titan-xp", task="wmt14.en-de"), TASK.space.sample(50)
    predicted = model.predict(sample)
    assert predicted.shape == (50,)
    assert (predicted > 0).all()
    shallow = [a for a in sample if a.decoder_layers == 1]
    deep = [a for a in sample if a.decoder_layers == 6]
    assert model.predict(shallow).max() < model.predict(deep).min()


def test_the_split_is_hats() -> None:
    order = np.arange(2000)
    np.random.RandomState(0).shuffle(order)
    train, test = split_rows(2000)
    assert (train == order[:1600]).all()
    assert (test == order[1800:]).all()


def test_errors_are_computed_as_they_are_called() -> None:
    got = errors(np.array([11.0, 18.0, 30.0]), np.array([10.0, 20.0, 30.0]))
    assert got == pytest.approx(
        {"rmse_ms": np.sqrt(5 / 3), "mae_ms": 1.0, "mape_pct": 20 / 3, "median_ape_pct": 10.0}
    )


@pytest.mark.parametrize(
    ("hardware", "task", "stand_in"),
    [
        ("titan-xp", "wmt19.en-de", "wmt14.en-fr"),
        ("raspberry-pi-4", "wmt19.en-de", "wmt14.en-fr"),
        ("xeon-e5-2640", "wmt14.en-fr", "wmt14.en-de"),
        ("xeon-e5-2640", "wmt19.en-de", "wmt14.en-de"),
    ],
)
def test_the_task_with_the_nearest_vocabulary_stands_in_and_the_model_says_so(
    hardware: str, task: str, stand_in: str
) -> None:
    model = load_latency(hardware, task=task)
    assert model.record["task"] == stand_in
    assert len(model.notes) == 1
    assert f"made for {stand_in} stands in for {task}" in model.notes[0]
    assert hardware in model.notes[0]


@pytest.mark.parametrize("hardware", ["xeon-e5-2640", "raspberry-pi-4"])
def test_hardware_without_a_model_for_the_space_says_how_to_fit_one(hardware: str) -> None:
    with pytest.raises(InputError, match=f"{hardware} was measured on.*llmpp measure --task iwslt14"):
        load_latency(hardware, task="iwslt14.de-en")


def test_unknown_hardware_gets_the_list_of_hardware() -> None:
    assert hardware_names() == ["raspberry-pi-4", "titan-xp", "xeon-e5-2640"]
    with pytest.raises(InputError, match="unknown hardware 'titan'; known: raspberry-pi-4, titan-xp, xeon"):
        load_latency("titan", task="wmt14.en-de")


def test_a_known_law_is_recovered_although_every_tenth_row_is_shifted(tmp_path: Path) -> None:
    frame = fake_frame(600)
    shift = np.where(np.arange(600) % 10 == 0, 40.0, 0.0)
    drifted = frame.with_columns(pl.col(LATENCY_COLUMNS[1]) + pl.Series(shift))
    drifted.write_csv(tmp_path / "drifted.csv")
    table = read_table(tmp_path / "drifted.csv", TASK)
    model = fit(table)
    truth = fake_latency(table.features)
    assert np.abs(model.predict(table.features) / truth - 1).max() < 0.005
    rows = np.column_stack([np.ones(600), table.features])
    plain = rows @ np.linalg.lstsq(rows, table.latency_ms, rcond=None)[0]
    assert np.abs(plain / truth - 1).max() > 0.01


def test_fitting_a_file_makes_a_model_that_loads_and_predicts(tmp_path: Path) -> None:
    csv, output = tmp_path / "my-board.csv", tmp_path / "new" / "model"
    fake_frame().write_csv(csv)
    report = fit_file(csv, output, TASK, hardware="my-board", command="c", date="2026-01-02")
    assert report["mape_pct"] < 0.01
    model = load_latency(output, task="wmt14.en-de")
    assert (model.record["hardware"], model.record["source"]) == ("my-board", "my-board.csv")
    assert (model.record["n_rows"], model.record["date"]) == (400, "2026-01-02")
    sample = TASK.space.sample(100, seed=9)
    truth = fake_latency(TASK.space.features(sample).astype(np.float64))
    np.testing.assert_allclose(model.predict(sample), truth, rtol=1e-4)
    fit_file(csv, tmp_path / "again", TASK, hardware="my-board", command="c", date="2026-01-02")
    assert (tmp_path / "again").read_bytes() == output.read_bytes()


def test_columns_may_come_in_any_order_among_others(tmp_path: Path) -> None:
    frame = fake_frame()
    frame.write_csv(tmp_path / "a.csv")
    frame.select(reversed(frame.columns)).with_columns(note=pl.lit("x")).write_csv(tmp_path / "b.csv")
    one, other = read_table(tmp_path / "a.csv", TASK), read_table(tmp_path / "b.csv", TASK)
    assert (one.features == other.features).all()
    assert (one.latency_ms == other.latency_ms).all()


def cell(column: str, value: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Puts a value into row 8 of a column."""

    def changed(frame: pl.DataFrame) -> pl.DataFrame:
        values: list[Any] = frame[column].to_list()
        values[7] = value
        if isinstance(value, str):
            values = [str(v) for v in values]
        return frame.with_columns(pl.Series(column, values))

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop("encoder_layer_num"), r"lacks the columns \['encoder_layer_num'\]"),
        (lambda f: f.drop(LATENCY_COLUMNS), r"lacks the columns \['latency_mean_decoder', 'latency_mean_en"),
        (cell("latency_mean_decoder", float("nan")), "`latency_mean_decoder` of row 8 is nan"),
        (cell("latency_mean_decoder", None), "`latency_mean_decoder` of row 8 is nan"),
        (cell("latency_mean_decoder", float("inf")), "`latency_mean_decoder` of row 8 is inf"),
        (cell("latency_mean_encoder", 0.0), "`latency_mean_encoder` of row 8 is 0.0, not above 0"),
        (cell("latency_mean_encoder", -3.0), "`latency_mean_encoder` of row 8 is -3.0, not above 0"),
        (cell("decoder_embed_dim", 0.0), "`decoder_embed_dim` of row 8 is 0.0"),
        (cell("latency_mean_decoder", "fast"), "is not a CSV of latencies"),
        (lambda f: f.head(1), "has 1 distinct architectures, but a latency model needs at least 30"),
        (lambda f: f.head(0), "has 0 distinct"),
    ],
)
def test_a_table_that_does_not_serve_says_why(
    change: Callable[[pl.DataFrame], pl.DataFrame], words: str, tmp_path: Path
) -> None:
    csv = tmp_path / "latencies.csv"
    change(fake_frame(60)).write_csv(csv)
    with pytest.raises(InputError, match=words) as caught:
        fit_file(csv, tmp_path / "model", TASK, hardware="h", command="c")
    assert "latencies.csv" in str(caught.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00\x01" * 50, b"{}", b"a,b\n1,2,3\n4\n"])
def test_what_is_no_table_is_refused(content: bytes, tmp_path: Path) -> None:
    csv = tmp_path / "latencies.csv"
    csv.write_bytes(content)
    with pytest.raises(InputError, match="latencies.csv"):
        read_table(csv, TASK)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(InputError, match="is not a CSV of latencies"):
            read_table(path, TASK)


def test_a_table_of_one_architecture_is_refused(tmp_path: Path) -> None:
    csv = tmp_path / "latencies.csv"
    pl.concat([fake_frame(1)] * 40).write_csv(csv)
    with pytest.raises(InputError, match="latencies.csv"):
        fit_file(csv, tmp_path / "model", TASK, hardware="h", command="c")


def test_a_model_of_another_space_is_refused(tmp_path: Path) -> None:
    fake_frame().write_csv(tmp_path / "latencies.csv")
    fit_file(tmp_path / "latencies.csv", tmp_path / "model", TASK, hardware="h", command="c")
    shutil.copy(tmp_path / "model", tmp_path / "copy")
    assert load_latency(tmp_path / "copy", task="wmt19.en-de").notes
    assert SPACES["hat-iwslt"].largest != TASK.space.largest
    with pytest.raises(InputError, match="another space"):
        load_latency(tmp_path / "copy", task="iwslt14.de-en")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of measurements of 36 architectures on a machine that gets slower halfway."""
    pytest.importorskip("torch")
    from machines import Machine, campaign, run

    path = tmp_path_factory.mktemp("measured") / "a.parquet"
    run(Machine(lambda seconds: 1.0 if seconds < 60 else 1.2), campaign(path, 36))
    return path


def test_a_file_of_measurements_gives_what_was_measured_without_the_drift(measured: Path) -> None:
    table, frame = read_table(measured, TASK), pl.read_parquet(measured)
    frame = frame.filter(pl.col("kind") == "architecture")
    assert len(table) == len(frame) == 36
    assert table.latency_ms.tolist() == pytest.approx(frame["latency_ms"].to_list())
    factors = (frame["raw_latency_ms"] / frame["latency_ms"]).to_numpy()
    assert factors.max() > 1.15 * factors.min()
    dims = (table.features[:, 4] * 640).round().astype(int)
    assert dims.tolist() == frame["decoder_dim"].to_list()


def test_a_model_of_measurements_knows_how_they_were_made(measured: Path, tmp_path: Path) -> None:
    task = measured_task(measured)
    assert task is not None
    assert (task.name, task.space) == (TASK.name, TASK.space)
    report = fit_file(measured, tmp_path / "m", task, hardware="abacus", command="c", note="by hand")
    assert report["mape_pct"] < 4
    assert (report["n_rows"], report["tested_on"]) == (36, "10-fold cross-validation")
    record = load_latency(tmp_path / "m", task=TASK).record
    assert record["workload"]["target_length"] == 30
    assert (record["machine"]["device_name"], record["note"]) == ("abacus", "by hand")
    assert record["drift_pct"] > 10
    assert record["half_width_pct"] < 2
    tested = fit_file(measured, tmp_path / "m", task, hardware="abacus", command="c", test=measured)
    assert tested["tested_on"] == "another file"
    assert measured_task(tmp_path / "missing.csv") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: f.with_columns(decoder_ms=pl.lit(float("nan"))),
            "`decoder_ms` of row 1 is nan, not above 0",
        ),
        (lambda f: f.with_columns(encoder_ms=pl.lit(0.0)), "`encoder_ms` of row 1 is 0.0, not above 0"),
        (lambda f: f.with_columns(encoder_ms=-pl.col("encoder_ms")), "`encoder_ms` of row 1 is -"),
        (lambda f: f.with_columns(decoder_ms=pl.lit(None, pl.Float64)), "`decoder_ms` of row 1 is nan"),
        (lambda f: f.drop("decoder_ms"), r"lacks the columns \['decoder_ms'\]"),
        (lambda f: f.head(2), "has 1 distinct architectures, but a latency model needs at least 30"),
        (lambda f: f.filter(pl.col("kind") == "reference"), "holds no architecture yet"),
        (lambda f: pl.concat([f.head(2)] * 40), "has 1 distinct"),
        (lambda f: f.with_columns(decoder_dim=pl.lit(600)), "an architecture that is not of wmt14.en-de: "),
    ],
)
def test_measurements_that_do_not_serve_say_why(
    change: Callable[[pl.DataFrame], pl.DataFrame], words: str, measured: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.parquet"
    change(pl.read_parquet(measured)).write_parquet(path)
    with pytest.raises(InputError, match=words) as caught:
        fit_file(path, tmp_path / "model", TASK, hardware="h", command="c")
    assert "b.parquet" in str(caught.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("task", ["iwslt14.de-en", "wmt14.en-fr"])
def test_measurements_of_another_task_are_refused(task: str, measured: Path) -> None:
    with pytest.raises(InputError, match=f"was measured on wmt14.en-de, in the space hat-wmt, not on {task}"):
        read_table(measured, load_task(task))


def test_a_table_of_a_larger_space_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latencies.csv"
    fake_frame(60).with_columns(decoder_layer_num=pl.lit(12)).write_csv(path)
    with pytest.raises(
        InputError, match="`decoder_layer_num` of row 1 is 12, but the largest of wmt14.en-de"
    ):
        read_table(path, TASK)


def test_a_table_that_repeats_an_architecture_is_fitted(tmp_path: Path) -> None:
    path = tmp_path / "latencies.csv"
    pl.concat([fake_frame(40)] * 3).write_csv(path)
    assert fit_file(path, tmp_path / "model", TASK, hardware="h", command="c")["mape_pct"] < 1
