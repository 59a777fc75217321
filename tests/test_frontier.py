"""The frontier: every constraint answered at once."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from command import Command, last_line
from enumeration import PAIR, Everything, figures, small_task, task_of
from llmpp import InputError, PredictorError, hsnas
from llmpp.frontier import Frontier
from predictors import Board, Faulty, Ordered, Shallow, network, raise_
from trial import FIELDS, TASK

SMALL = small_task()
SCORE = network(SMALL.space, seed=3)
LATENCY = network(SMALL.space, (), seed=4, mean=100)


@pytest.fixture(scope="module")
def wmt() -> Frontier:
    return hsnas.frontier("wmt14.en-de", "titan-xp")


@pytest.fixture
def small() -> Frontier:
    return hsnas.frontier(SMALL, LATENCY, initial=SCORE)


@pytest.fixture
def empty() -> Frontier:
    return hsnas.frontier(SMALL, LATENCY, initial=SCORE, constraints={"gflops": 1e-6})


@pytest.mark.parametrize("bound", [61, 80, 99.5, 100, 150, 200, 1000])
def test_the_best_within_a_bound_is_what_a_search_finds(bound: float, wmt: Frontier) -> None:
    assert wmt.best(bound) == hsnas.search("wmt14.en-de", "titan-xp", {"latency_ms": bound}).best


def test_a_bound_that_nothing_keeps_has_no_best(wmt: Frontier) -> None:
    assert wmt.best(60) is None
    assert hsnas.search("wmt14.en-de", "titan-xp", {"latency_ms": 60}).status == "infeasible"


def test_a_bound_may_be_that_of_a_point_itself(small: Frontier) -> None:
    for before, candidate in pairwise(small.candidates):
        assert candidate.latency_ms is not None
        assert small.best(candidate.latency_ms) == candidate
        assert small.best(candidate.latency_ms - 1e-9) == before


def test_the_curve_is_the_front_of_brute_force_and_rises(small: Frontier) -> None:
    everything = Everything(SMALL, SCORE, LATENCY, is_ordered=False)
    assert figures(small.candidates, "latency_ms") == everything.front({}, "latency_ms")
    assert len(small.candidates) > 10
    assert (small.task, small.measure) == (SMALL.name, "latency_ms")
    latencies = [candidate.latency_ms or 0 for candidate in small.candidates]
    scores = [candidate.score for candidate in small.candidates]
    assert latencies == sorted(latencies)
    assert scores == sorted(scores)


def test_without_hardware_the_curve_is_against_flops() -> None:
    everything = Everything(SMALL, SCORE, is_ordered=False)
    curve = hsnas.frontier(SMALL, initial=SCORE)
    assert curve.measure == "gflops"
    assert figures(curve.candidates, "gflops") == everything.front({}, "gflops")
    bound = curve.candidates[2].gflops
    assert curve.best(bound) == hsnas.search(SMALL, None, {"gflops": bound}, initial=SCORE).best
    assert curve.to_frame()["latency_ms"].null_count() == len(curve.candidates)


def test_further_constraints_hold_along_the_curve() -> None:
    everything = Everything(SMALL, SCORE, LATENCY, is_ordered=False)
    bounds = everything.quantiles({"gflops": 0.3, "params_m": 0.4})
    curve = hsnas.frontier(SMALL, LATENCY, initial=SCORE, constraints=bounds)
    assert figures(curve.candidates, "latency_ms") == everything.front(bounds, "latency_ms")


def test_predictors_in_python_have_a_curve_too() -> None:
    curve = hsnas.frontier(SMALL, Board(), initial=Shallow())
    assert [candidate.latency_ms for candidate in curve.candidates] == [10.0]
    assert curve.best(10) == curve.best(1e9) == curve.candidates[0]
    assert curve.best(9.99) is None


def test_the_frame_holds_every_point_with_its_architecture(small: Frontier) -> None:
    frame = small.to_frame()
    assert frame.columns == ["score", "latency_ms", "gflops", "params_m", *FIELDS]
    assert [row["score"] for row in frame.to_dicts()] == [c.score for c in small.candidates]
    for row, candidate in zip(frame.to_dicts(), small.candidates, strict=True):
        assert {name: row[name] for name in FIELDS} == candidate.architecture.to_dict()
        assert (row["latency_ms"], row["gflops"]) == (candidate.latency_ms, candidate.gflops)


def test_the_curve_is_ready_for_json(small: Frontier) -> None:
    content = json.loads(json.dumps(small.to_dict()))
    assert (content["task"], content["measure"]) == (SMALL.name, "latency_ms")
    assert content["front"] == [candidate.to_dict() for candidate in small.candidates]
    assert content["notes"] == list(small.notes)


def test_a_plot_drawn_twice_is_equal_to_the_byte(small: Frontier, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = small.plot(tmp_path / "one" / "curve.v1")
    two = small.plot(str(tmp_path / "two" / "curve"))
    assert [path.name for path in one] == ["curve.v1.png", "curve.v1.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert one[0].read_bytes().startswith(b"\x89PNG")
    assert one[1].read_text().startswith("<?xml")


def test_a_curve_of_one_point_against_flops_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = hsnas.frontier(task_of({name: values[:1] for name, values in PAIR.items()}), initial=Shallow())
    assert len(curve.candidates) == 1
    assert all(path.is_file() for path in curve.plot(tmp_path / "point"))


def test_a_plot_that_cannot_be_written_is_wrong_input(small: Frontier, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        small.plot(tmp_path / "file" / "curve")


def test_an_empty_curve_says_so(empty: Frontier, tmp_path: Path) -> None:
    assert empty.candidates == ()
    assert empty.best(1e9) is None
    assert json.loads(json.dumps(empty.to_dict()))["front"] == []
    with pytest.raises(InputError, match="the frontier is empty: no architecture keeps the constraints"):
        empty.plot(tmp_path / "curve")
    assert list(tmp_path.glob("curve*")) == []


def test_the_frame_of_an_empty_curve_has_the_columns_of_any_other(empty: Frontier, small: Frontier) -> None:
    assert len(empty.to_frame()) == 0
    assert empty.to_frame().schema == small.to_frame().schema
    assert pl.concat([small.to_frame(), empty.to_frame()]).equals(small.to_frame())


@pytest.mark.parametrize("bound", [0, -1, float("nan"), float("inf"), "150", None, True])
def test_a_bound_that_is_no_positive_number_is_refused(bound: Any, small: Frontier) -> None:
    with pytest.raises(InputError, match="the bound of `latency_ms` must be a positive number"):
        small.best(bound)


def test_kept_columns_give_the_same_curve_also_with_two_threads(small: Frontier) -> None:
    for _ in range(2):
        again = hsnas.frontier(SMALL, LATENCY, initial=SCORE, keep=True, n_threads=2)
        assert again.candidates == small.candidates


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"initial": Ordered()}, "strategy='exact' is not possible: `Ordered` can tell apart"),
        ({"max_vectors": 1000}, "strategy='exact' is not possible: the space has"),
        ({"hardware": "h100"}, "unknown hardware 'h100'"),
        ({"task": "wmt15"}, "unknown task 'wmt15'"),
        ({"constraints": {"flops": 1}}, "unknown constraint 'flops'"),
    ],
)
def test_wrong_input_is_refused_as_by_search(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        hsnas.frontier(**{"task": TASK, "hardware": "titan-xp", **arguments})


def test_a_predictor_that_fails_is_named() -> None:
    with pytest.raises(PredictorError, match="`Faulty`, in iteration 0, raised OSError: unplugged"):
        hsnas.frontier(task_of(), Faulty(0, raise_(OSError("unplugged"))), initial=Shallow())


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected"):
        hsnas.frontier(TASK, population=5)  # type: ignore[call-arg]


def test_the_command_prints_writes_and_draws_the_curve(llmpp_command: Command, wmt: Frontier) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["frontier", "--task", "wmt14.en-de", "--hardware", "titan-xp"]
    code, out, _ = llmpp_command(*arguments, "-o", "curve.parquet", "--plot", "curve", "--json")
    assert code == 0
    assert last_line(out) == json.loads(json.dumps(wmt.to_dict()))
    assert pl.read_parquet("curve.parquet").equals(wmt.to_frame())
    assert sorted(path.name for path in Path().glob("curve*")) == ["curve.parquet", "curve.png", "curve.svg"]
    code, out, _ = llmpp_command(*arguments, "-o", "curve.json")
    assert code == 0
    assert json.loads(Path("curve.json").read_text()) == json.loads(json.dumps(wmt.to_dict()))
    assert f"{wmt.candidates[-1].score:.3f}" in out
    assert "written: curve.json" in out


def test_the_command_exits_with_three_where_nothing_is_feasible(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("frontier", "--task", "wmt14.en-de", "--gflops", "0.5", "--json")
    assert (code, last_line(out)["front"]) == (3, [])
    assert llmpp_command("frontier", "--task", "wmt14.en-de", "--gflops", "0.5")[0] == 3
