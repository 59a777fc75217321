"""Frozen networks: the core against torch, the record, and broken weight files."""

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmpp import SPACES, InputError, MlpPredictor, ShapeError, SpaceError, load_latency, load_predictor
from llmpp._core import Mlp
from llmpp.weights import read_mlp, write_mlp

torch = pytest.importorskip("torch")
numpy_format = pytest.importorskip("safetensors.numpy")

WMT = SPACES["hat-wmt"]
Tensors = dict[str, NDArray[Any]]
#: The record that makes a file a predictor of quality for WMT'14 En-De.
RECORD: dict[str, Any] = {
    "kind": "score",
    "encoding": "averaged",
    "largest": WMT.largest,
    "task": "wmt14.en-de",
}


def random_tensors(widths: list[int], seed: int, n_features: int | None = None) -> Tensors:
    """Draws an MLP of the given widths; `n_features` asks for products of so many features."""
    draw = np.random.default_rng(seed)
    tensors: Tensors = {
        "input.mean": draw.normal(size=widths[0]),
        "input.std": draw.uniform(0.5, 2, widths[0]),
        "output.mean": draw.normal(size=1),
        "output.std": draw.uniform(0.5, 2, 1),
    }
    for index, (n_in, n_out) in enumerate(pairwise(widths)):
        tensors[f"layers.{index}.weight"] = draw.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        tensors[f"layers.{index}.bias"] = draw.normal(size=n_out)
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    if n_features is not None:
        products = draw.integers(0, n_features + 1, (widths[0], 2))
        products[0] = (0, n_features)
        tensors["input.products"] = products.astype(np.int32)
    return tensors


def torch_forward(tensors: Tensors, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same network in torch, in float64."""
    tensor = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
    x = torch.from_numpy(features).double()
    if "input.products" in tensors:
        extended = torch.cat([x, torch.ones(len(x), 1).double()], dim=1)
        pairs = torch.from_numpy(tensors["input.products"]).long()
        x = extended[:, pairs[:, 0]] * extended[:, pairs[:, 1]]
    x = (x - tensor["input.mean"]) / tensor["input.std"]
    n_layers = sum(name.endswith(".bias") for name in tensors)
    for index in range(n_layers):
        x = torch.nn.functional.linear(x, tensor[f"layers.{index}.weight"], tensor[f"layers.{index}.bias"])
        x = torch.relu(x) if index < n_layers - 1 else x
    scores: NDArray[np.float64] = (x[:, 0] * tensor["output.std"] + tensor["output.mean"]).numpy()
    return scores


def assert_close(got: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    assert np.abs(got - expected).max(initial=0) <= 1e-5 * scale


def save(path: Path, tensors: Tensors, **changes: Any) -> Path:
    write_mlp(path, tensors, {**RECORD, **changes})
    return path


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A weights file that loads."""
    path = save(tmp_path / "student.safetensors", random_tensors([10, 5, 1], seed=0))
    load_predictor(path, task="wmt14.en-de")
    return path


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 20),
    st.lists(st.integers(1, 70), max_size=4),
    st.integers(0, 300),
    st.integers(1, 4),
)
def test_forward_equals_torch(seed: int, n_in: int, hidden: list[int], n_rows: int, n_threads: int) -> None:
    tensors = random_tensors([n_in, *hidden, 1], seed)
    mlp = Mlp(numpy_format.save(tensors))
    features = np.random.default_rng(seed + 1).normal(size=(n_rows, n_in)).astype(np.float32)
    assert mlp.widths == [n_in, *hidden, 1]
    assert mlp.n_features == n_in
    assert_close(mlp.forward(features, n_threads), torch_forward(tensors, features))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 30), st.lists(st.integers(1, 20), max_size=2)
)
def test_forward_on_products_equals_torch(
    seed: int, n_features: int, n_products: int, hidden: list[int]
) -> None:
    tensors = random_tensors([n_products, *hidden, 1], seed, n_features)
    mlp = Mlp(numpy_format.save(tensors))
    features = np.random.default_rng(seed + 1).normal(size=(40, n_features)).astype(np.float32)
    assert mlp.n_features == n_features
    assert_close(mlp.forward(features), torch_forward(tensors, features))


def test_forward_of_the_papers_network_equals_torch() -> None:
    tensors = random_tensors([10, 400, 400, 400, 400, 1], seed=1)
    features = WMT.features(WMT.sample(257, seed=1))
    assert_close(Mlp(numpy_format.save(tensors)).forward(features), torch_forward(tensors, features))


def test_a_score_depends_neither_on_other_rows_nor_on_threads() -> None:
    mlp = Mlp(numpy_format.save(random_tensors([10, 33, 17, 1], seed=2)))
    features = WMT.features(WMT.sample(500, seed=2))
    together = mlp.forward(features)
    one_by_one = np.concatenate([mlp.forward(features[i : i + 1]) for i in range(500)])
    assert (together == one_by_one).all()
    assert (together == mlp.forward(features, 3)).all()


def test_features_of_another_width_or_layout_are_refused() -> None:
    mlp = Mlp(numpy_format.save(random_tensors([10, 4, 1], seed=3)))
    with pytest.raises(ShapeError, match="expected 10, got 9"):
        mlp.forward(np.zeros((2, 9), np.float32))
    with pytest.raises(ShapeError, match="contiguous"):
        mlp.forward(np.zeros((10, 10), np.float32).T[:5, :])


def test_features_in_fortran_order_are_scored_alike_or_refused() -> None:
    mlp = Mlp(numpy_format.save(random_tensors([10, 40, 1], seed=3)))
    features = WMT.features(WMT.sample(20))
    assert len(np.unique(mlp.forward(features))) == 20
    try:
        scores = mlp.forward(np.asfortranarray(features))
    except ShapeError:
        return
    assert (scores == mlp.forward(features)).all()


def test_other_threads_run_during_forward() -> None:
    mlp = Mlp(numpy_format.save(random_tensors([10, 400, 400, 400, 400, 1], seed=4)))
    features = np.zeros((40_000, 10), np.float32)
    span: list[float] = []

    def score() -> None:
        span.append(time.perf_counter())
        mlp.forward(features)
        span.append(time.perf_counter())

    thread = threading.Thread(target=score)
    ticks = []
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    thread.join()
    inside = [tick for tick in ticks if span[0] < tick < span[1]]
    assert len(inside) > 20


def test_the_record_comes_back_as_written(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "mlp.safetensors", random_tensors([10, 4, 1], seed=5), origin="näme", n=3)
    mlp, record = read_mlp(path)
    assert mlp.widths == [10, 4, 1]
    assert record == {"schema": "llmpp.mlp/1", **RECORD, "origin": "näme", "n": 3}


def test_equal_weights_make_equal_bytes(tmp_path: Path) -> None:
    tensors = random_tensors([10, 4, 1], seed=6)
    first = save(tmp_path / "first", tensors).read_bytes()
    second = save(tmp_path / "second", dict(reversed(tensors.items()))).read_bytes()
    assert first == second


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        save(tmp_path, random_tensors([10, 4, 1], seed=7))


def test_a_loaded_predictor_scores_as_its_network(student: Path) -> None:
    predictor = load_predictor(student, task="wmt14.en-de")
    sample = WMT.sample(30, seed=3)
    tensors = numpy_format.load(student.read_bytes())
    assert (predictor.encoding, predictor.notes, predictor.name) == ("averaged", (), str(student))
    assert_close(predictor.predict(sample), torch_forward(tensors, WMT.features(sample)))
    with pytest.raises(SpaceError, match="not one of"):
        predictor.predict(SPACES["hat-iwslt"].sample(1))


def test_a_predictor_may_read_features_per_layer(tmp_path: Path) -> None:
    tensors = random_tensors([WMT.core.n_genes, 6, 1], seed=8)
    path = save(tmp_path / "mlp", tensors, encoding="per-layer")
    sample = WMT.sample(20)
    predictor = load_predictor(path, task="wmt14.en-de")
    assert predictor.encoding == "per-layer"
    assert_close(predictor.predict(sample), torch_forward(tensors, WMT.features(sample, "per-layer")))


def test_a_student_of_another_task_of_the_space_says_so(student: Path) -> None:
    predictor = load_predictor(student, task="wmt19.en-de")
    assert len(predictor.notes) == 1
    assert "made for wmt14.en-de stands in for wmt19.en-de" in predictor.notes[0]


def test_a_truncated_file_is_refused_at_every_length(student: Path) -> None:
    whole = student.read_bytes()
    lengths = sorted({*range(20), *range(20, len(whole), 37), len(whole) - 1})
    for length in lengths:
        student.write_bytes(whole[:length])
        with pytest.raises(InputError, match="student.safetensors"):
            load_predictor(student, task="wmt14.en-de")


def test_a_file_with_rubbish_at_its_end_or_start_is_refused(student: Path) -> None:
    whole = student.read_bytes()
    for rubbish in (whole + b"\0", b"\0" + whole, b"x" * 1000, whole[:8] + b"{" * 50 + whole[58:]):
        student.write_bytes(rubbish)
        with pytest.raises(InputError, match="student.safetensors"):
            load_predictor(student, task="wmt14.en-de")


def change(name: str, value: Any) -> Any:
    """Builds a change of the tensors: a new value under a name, None to leave it out."""

    def changed(tensors: Tensors) -> Tensors:
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        return rest if value is None else {**rest, name: value}

    return changed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    ["input.mean", "input.std", "output.mean", "output.std", "layers.0.weight", "layers.1.bias"],
)
def test_a_number_that_is_not_finite_is_told_by_its_tensor(name: str, value: float, tmp_path: Path) -> None:
    tensors = random_tensors([10, 5, 1], seed=0)
    tensors[name].flat[-1] = value
    with pytest.raises(InputError, match=f"`{name}` holds (NaN|inf|-inf)"):
        load_predictor(save(tmp_path / "mlp", tensors), task="wmt14.en-de")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("input.mean", None, "`input.mean` is missing"),
        ("output.std", None, "`output.std` is missing"),
        ("layers.0.weight", None, "`layers.0.weight` is missing"),
        ("layers.1.weight", None, "one output, got 5"),
        ("layers.1.bias", None, "`layers.1.bias` is missing"),
        ("layers.0.weight", np.zeros((5, 9), np.float32), r"`layers.0.weight` must be \(5, 10\)"),
        ("layers.0.weight", np.zeros((10, 5), np.float64), "must be F32"),
        ("layers.0.weight", np.zeros(50, np.float32), "2 dimensions"),
        ("layers.1.weight", np.zeros((1, 6), np.float32), r"`layers.1.weight` must be \(1, 5\)"),
        ("layers.2.weight", np.zeros((1, 1), np.float32), "`layers.2.bias` is missing"),
        ("input.std", np.ones(9, np.float32), "input.std has 9 values, input.mean 10"),
        ("input.std", np.zeros(10, np.float32), "input.std has a zero"),
        ("output.mean", np.zeros(2, np.float32), "`output.mean` must hold one number, got 2"),
        ("input.products", np.zeros((9, 2), np.int32), r"`input.products` must be \(10, 2\)"),
        ("input.products", np.full((10, 2), -1, np.int32), "negative index"),
        ("input.products", np.zeros((10, 2), np.int32), "speaks of 0 features"),
        ("input.products", np.full((10, 2), 11, np.int32), "reads 11 features"),
    ],
)
def test_a_misshapen_tensor_is_told_by_name(name: str, value: Any, words: str, tmp_path: Path) -> None:
    tensors = change(name, value)(random_tensors([10, 5, 1], seed=0))
    with pytest.raises(InputError, match=words):
        load_predictor(save(tmp_path / "mlp", tensors), task="wmt14.en-de")


def test_a_transposed_weight_is_refused(tmp_path: Path) -> None:
    tensors = random_tensors([10, 5, 1], seed=0)
    tensors["layers.0.weight"] = np.ascontiguousarray(tensors["layers.0.weight"].T)
    with pytest.raises(InputError, match="layers.0.weight"):
        load_predictor(save(tmp_path / "mlp", tensors), task="wmt14.en-de")


def test_a_network_for_another_number_of_features_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mlp", random_tensors([9, 5, 1], seed=0))
    with pytest.raises(InputError, match="reads 9 features of the encoding 'averaged'"):
        load_predictor(path, task="wmt14.en-de")


@pytest.mark.parametrize("encoding", ["onehot", None, "per-layer"])
def test_a_network_of_an_encoding_that_does_not_fit_is_refused(encoding: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "mlp", random_tensors([10, 5, 1], seed=0), encoding=encoding)
    with pytest.raises(InputError, match="reads 10 features of the encoding"):
        load_predictor(path, task="wmt14.en-de")


def test_a_model_of_another_kind_is_refused(student: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind 'score', but one of kind 'latency'"):
        load_latency(student, task="wmt14.en-de")
    path = save(tmp_path / "latency", random_tensors([10, 5, 1], seed=0), kind="latency")
    with pytest.raises(InputError, match="kind 'latency', but one of kind 'score'"):
        load_predictor(path, task="wmt14.en-de")


def test_a_model_of_another_space_is_refused(student: Path) -> None:
    with pytest.raises(InputError, match="another space.*3072.*iwslt14.de-en.*2048"):
        load_predictor(student, task="iwslt14.de-en")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "no `llmpp` record"),
        ({}, "no `llmpp` record"),
        ({"other": "{}"}, "no `llmpp` record"),
        ({"llmpp": "{"}, "no `llmpp` record"),
        ({"llmpp": "[]"}, "schema"),
        ({"llmpp": "5"}, "schema"),
        ({"llmpp": "{}"}, "schema 'llmpp.mlp/1'"),
        ({"llmpp": json.dumps({"schema": "llmpp.mlp/9"})}, "schema 'llmpp.mlp/1'"),
    ],
)
def test_a_file_without_a_record_of_ours_is_refused(metadata: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mlp"
    path.write_bytes(numpy_format.save(random_tensors([10, 5, 1], seed=0), metadata=metadata))
    with pytest.raises(InputError, match=words):
        load_predictor(path, task="wmt14.en-de")


def test_an_unknown_predictor_gets_the_list_of_names() -> None:
    with pytest.raises(InputError, match="unknown predictor 'destilled'; known: distilled, or the path"):
        load_predictor("destilled", task="wmt14.en-de")


def test_a_task_without_a_student_says_how_to_make_one() -> None:
    with pytest.raises(InputError, match="llmpp distill ANSWERS --task iwslt14.de-en -o FILE"):
        load_predictor("distilled", task="iwslt14.de-en")


def test_predictors_are_recognised_by_their_one_method(student: Path) -> None:
    from llmpp import Predictor

    assert isinstance(load_predictor(student, task="wmt14.en-de"), Predictor)
    assert isinstance(load_predictor(student, task="wmt14.en-de"), MlpPredictor)
    assert not isinstance(object(), Predictor)
