"""Wrong input to `hsnas.search`: what is refused, with what words, and before anything is written."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmpp
from llmpp import InputError, PredictorError, hsnas, load_latency, load_predictor, load_task
from llmpp.distill import Student
from llmpp.weights import write_mlp
from predictors import Shallow
from trial import BOUNDS, SHORT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "wmt15"}, "unknown task 'wmt15'; known: iwslt14.de-en, multi30k.en-de"),
        ({"task": "iwslt14.de-en"}, "llmpp distill ANSWERS --task iwslt14.de-en -o FILE"),
        ({"hardware": "h100"}, "unknown hardware 'h100'; known: raspberry-pi-4, titan-xp, xeon-e5-2640"),
        ({"hardware": 5}, "`hardware` must be a name, a path or an object with `predict`, got 5"),
        ({"hardware": "no/such/file"}, "there is no weights file no/such/file"),
        ({"initial": "destilled"}, "unknown predictor 'destilled'; known: distilled"),
        ({"initial": object()}, "`initial` must be a name, a path or an object with `predict`"),
        ({"baseline": "hat"}, "unknown predictor 'hat'"),
        ({"baseline": 5}, "`baseline` must be a name, a path or an object with `predict`, got 5"),
        ({"constraints": {"flops": 3}}, "unknown constraint 'flops'; known: latency_ms, gflops, params_m"),
        ({"constraints": {"latency_ms": 9}, "hardware": None}, "`latency_ms` needs `hardware`"),
        ({"seed": -1}, r"`seed` must be an integer in 0..2\^64-1, got -1"),
        ({"seed": 1 << 64}, "`seed` must be an integer"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"seed": "0"}, "`seed` must be an integer"),
        ({"switch": -0.1}, r"`switch` must be in \[0, 1\], got -0.1"),
        ({"switch": 1.1}, "got 1.1"),
        ({"switch": math.nan}, "got nan"),
        ({"switch": "half"}, "got 'half'"),
        ({"n_threads": 0}, "`n_threads` must be an integer in 1..1024, got 0"),
        ({"strategy": "best"}, "unknown strategy 'best'; known: auto, exact, evolution"),
        ({"n_proposals": 0}, "`n_proposals` must be an integer in 1..1000000, got 0"),
        ({"max_vectors": 0}, "`max_vectors` must be an integer in 1..4294967295, got 0"),
        ({"n_iterations": 0}, "`n_iterations` must be an integer in 1..1000000, got 0"),
        ({"n_population": 0}, "`n_population` must be"),
        ({"n_parents": -1}, "`n_parents` must be"),
        ({"n_mutants": -1}, "`n_mutants` must be an integer in 0..1000000, got -1"),
        ({"n_children": 2.5}, "`n_children` must be"),
        ({"n_population": True}, "`n_population` must be"),
        ({"n_population": 10**7}, "`n_population` must be"),
        ({"max_draws": 0}, "`max_draws` must be"),
        ({"mutation_prob": 1.3}, r"`mutation_prob` must be in \[0, 1\], got 1.3"),
        ({"mutation_prob": math.nan}, "`mutation_prob` must be"),
        ({"mutation_prob": "a"}, "`mutation_prob` must be"),
    ],
)
def test_a_wrong_argument_is_told_with_what_would_be_right(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    given = {"task": "wmt14.en-de", "hardware": "titan-xp", "run_dir": tmp_path / "run", **arguments}
    with pytest.raises(InputError, match=words):
        hsnas.search(**given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list(BOUNDS))
@pytest.mark.parametrize("bound", [-1, 0, math.nan, math.inf, -math.inf, "150", True, None, [1]])
def test_a_bound_that_is_no_positive_number_is_refused(name: str, bound: Any) -> None:
    with pytest.raises(InputError, match=f"the bound of `{name}` must be a positive number, got"):
        hsnas.search("wmt14.en-de", "titan-xp", {name: bound}, **SHORT)


def test_bounds_may_be_numpy_numbers() -> None:
    bounds = {"gflops": np.float32(3), "params_m": np.int64(45)}
    assert hsnas.search("wmt14.en-de", None, bounds, **SHORT).status == "budget"


def test_an_unknown_keyword_gets_the_list_of_the_evolutions() -> None:
    with pytest.raises(TypeError, match="unexpected argument 'population'.*n_iterations, n_population"):
        hsnas.search("wmt14.en-de", population=5)


def test_no_predictor_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="`initial` must be"):
        hsnas.search("wmt14.en-de", initial=None, **SHORT)  # type: ignore[arg-type]


def test_a_baseline_without_an_initial_predictor_is_refused_or_scores_all_iterations() -> None:
    try:
        result = hsnas.search("wmt14.en-de", initial=None, baseline=Shallow(), **SHORT)  # type: ignore[arg-type]
    except InputError:
        return
    assert len(result.history) == SHORT["n_iterations"]


@pytest.mark.parametrize("argument", ["hardware", "initial"])
def test_a_model_of_another_space_is_refused_also_as_an_object(argument: str, tmp_path: Path) -> None:
    iwslt = load_task("iwslt14.de-en")
    layers = [(np.ones((1, 10)), np.zeros(1))]
    tensors = Student(layers, np.zeros(10), 1.0, 0.0, 1.0).tensors()
    record = {"kind": "score", "encoding": "averaged", "largest": iwslt.space.largest, "task": iwslt.name}
    write_mlp(tmp_path / "mlp", tensors, record)
    models = {
        "hardware": load_latency("titan-xp", task=iwslt),
        "initial": load_predictor(tmp_path / "mlp", task=iwslt),
    }
    with pytest.raises((InputError, PredictorError, llmpp.SpaceError)):
        hsnas.search("wmt14.en-de", **{argument: models[argument]}, **SHORT)  # type: ignore[arg-type]


@pytest.mark.parametrize("argument", ["seed", "switch", "n_threads", "mutation_prob"])
def test_a_bool_is_no_number(argument: str) -> None:
    with pytest.raises(InputError, match=f"`{argument}` must be"):
        hsnas.search("wmt14.en-de", **{**SHORT, argument: True})


@pytest.mark.parametrize("argument", ["seed", "n_threads", "n_iterations"])
def test_numpy_integers_are_integers(argument: str) -> None:
    result = hsnas.search("wmt14.en-de", **{**SHORT, argument: np.int64(3)})
    assert result.status == "budget"


@pytest.mark.parametrize("constraints", [["latency_ms"], {"gflops": 10**400}])
def test_constraints_that_are_no_mapping_of_numbers_are_refused(constraints: Any) -> None:
    with pytest.raises(InputError, match="constraint|bound"):
        hsnas.search("wmt14.en-de", "titan-xp", constraints, **SHORT)


def test_a_run_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match="is not empty: name another, remove it, or resume"):
        hsnas.search("wmt14.en-de", run_dir=tmp_path, **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
    with pytest.raises(InputError, match="cannot make the run directory"):
        hsnas.search("wmt14.en-de", run_dir=tmp_path / "note", **SHORT)


@pytest.mark.parametrize("wrong", [5, None, [5]])
def test_callbacks_that_are_no_functions_are_refused_before_anything_is_written(
    wrong: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="`callbacks` must be functions"):
        hsnas.search("wmt14.en-de", callbacks=wrong, run_dir=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


def test_a_class_is_no_predictor() -> None:
    with pytest.raises(InputError, match="`baseline` must be"):
        hsnas.search("wmt14.en-de", baseline=Shallow, **SHORT)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [lambda a: a, lambda a: [a.to_dict()]])
def test_a_predictor_wants_a_list_of_architectures(wrong: Any) -> None:
    predictor = load_predictor("distilled", task="wmt14.en-de")
    with pytest.raises(InputError, match="expected"):
        predictor.predict(wrong(llmpp.load_task("wmt14.en-de").figures[0].architecture))
