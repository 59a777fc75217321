"""The search, whatever its strategy: its figures, its arguments, its run directory, Ctrl-C and failures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llmpp
from enumeration import every_architecture, small_task, tiny_task
from llmpp import (
    Architecture,
    Iteration,
    PredictorError,
    SearchResult,
    hsnas,
    load_latency,
    load_predictor,
)
from llmpp.distill import Student
from llmpp.weights import write_mlp
from predictors import FAULTS, Board, Faulty, Plain, Shallow, network, raise_
from trial import BOUNDS, SHORT, TASK, WAYS, architectures_of, n_distinct_features, same, same_found

SMALL = small_task()
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
Way = dict[str, Any]


@pytest.fixture(scope="module", params=["auto", "exact", "evolution"])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def example(strategy: str) -> SearchResult:
    """The search that the README shows, each way."""
    return hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, strategy=strategy)


def test_the_best_is_feasible_and_its_figures_are_those_of_cost_and_predictors(example: SearchResult) -> None:
    best = example.best
    assert best is not None
    assert example.status == {"exact": "optimal", "evolution": "budget"}[example.strategy]
    assert example.reachable is None
    assert all(getattr(best, name) <= bound for name, bound in BOUNDS.items())
    cost = llmpp.cost(best.architecture, task="wmt14.en-de")
    assert (best.gflops, best.params_m) == (cost.flops / 1e9, cost.params / 1e6)
    assert best.latency_ms == load_latency("titan-xp", task=TASK).predict([best.architecture])[0]
    assert best.score == load_predictor("distilled", task=TASK).predict([best.architecture])[0]


def test_every_row_of_the_frame_holds_the_figures_of_its_architecture(example: SearchResult) -> None:
    frame = example.to_frame()
    sample = architectures_of(frame)
    costs = [llmpp.cost(a, task=TASK) for a in sample]
    assert frame["gflops"].to_list() == [cost.flops / 1e9 for cost in costs]
    assert frame["params_m"].to_list() == [cost.params / 1e6 for cost in costs]
    latencies = load_latency("titan-xp", task=TASK).predict(sample)
    assert (frame["latency_ms"].to_numpy() == latencies).all()
    assert (frame["score"].to_numpy() == load_predictor("distilled", task=TASK).predict(sample)).all()
    assert frame["is_feasible"].to_list() == [
        all(row[name] <= bound for name, bound in BOUNDS.items()) for row in frame.to_dicts()
    ]
    assert n_distinct_features(frame) == len(frame)


def test_the_best_is_the_best_of_the_frame(example: SearchResult) -> None:
    assert example.best is not None
    assert example.best.score == example.to_frame()["score"].max()


def test_search_beats_random_sampling_of_as_many_candidates(example: SearchResult) -> None:
    assert example.best is not None
    sample = TASK.space.sample(3000, seed=11)
    feasible = [
        a
        for a, ms in zip(sample, load_latency("titan-xp", task=TASK).predict(sample), strict=True)
        if ms <= 150 and llmpp.cost(a, task=TASK).flops <= 3.5e9 and llmpp.cost(a, task=TASK).params <= 45e6
    ]
    assert example.best.score > load_predictor("distilled", task=TASK).predict(feasible).max()


@pytest.mark.parametrize("n_threads", [2, 3])
def test_one_seed_gives_one_result_for_any_number_of_threads(
    n_threads: int, example: SearchResult, strategy: str
) -> None:
    other = hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, strategy=strategy, n_threads=n_threads)
    assert same(example, other)


def test_notes_say_what_the_search_decided(example: SearchResult) -> None:
    missing, decided = "no baseline: `distilled` scored all iterations", "exact search: there are 5,717,348"
    if example.strategy == "evolution":
        assert example.notes[0] == missing
    else:
        assert missing not in example.notes
        assert all(note.startswith(decided) for note in example.notes)
    assert len(example.notes) <= 2


def test_a_result_is_ready_for_json(example: SearchResult) -> None:
    content = json.loads(json.dumps(example.to_dict()))
    assert (content["status"], content["strategy"]) == (example.status, example.strategy)
    assert content["n_evaluations"] == sum(iteration.n_evaluations for iteration in example.history)
    assert content["n_evaluations"] >= len(example.to_frame())
    assert (content["n_ties"], content["n_architectures"]) == (example.n_ties, example.n_architectures)
    assert content["best"]["architecture"] == example.best.architecture.to_dict() if example.best else False


def test_predictors_may_be_files_paths_and_objects(example: SearchResult, strategy: str) -> None:
    folder = Path(llmpp.__file__).parent / "assets"
    student = folder / "students" / "wmt14.en-de.safetensors"
    latency = folder / "latency" / "titan-xp.wmt14.en-de.safetensors"
    from_files = hsnas.search("wmt14.en-de", str(latency), BOUNDS, initial=student, strategy=strategy)
    assert same(example, from_files)
    assert from_files.to_frame()["predictor"].unique().to_list() == [str(student)]
    loaded = load_predictor("distilled", task=TASK), load_latency("titan-xp", task=TASK)
    assert same(example, hsnas.search(TASK, loaded[1], BOUNDS, initial=loaded[0], strategy=strategy))


@each_way
def test_without_hardware_latency_is_unknown(way: Way) -> None:
    result = hsnas.search("wmt14.en-de", constraints={"gflops": 3}, **way)
    assert result.best is not None
    assert result.best.latency_ms is None
    assert result.to_frame()["latency_ms"].null_count() == len(result.to_frame())


@each_way
@pytest.mark.parametrize("which", ["initial", "hardware", "both"])
def test_predictors_in_python_give_the_result_of_the_core(which: str, way: Way) -> None:
    initial, latency = network(SMALL.space, seed=1), network(SMALL.space, (), seed=2, mean=100)
    bounds = {"latency_ms": 100, "gflops": 0.004}
    one = hsnas.search(SMALL, latency, bounds, initial=initial, **way)
    other = hsnas.search(
        SMALL,
        Plain(latency) if which != "initial" else latency,
        bounds,
        initial=Plain(initial) if which != "hardware" else initial,
        **way,
    )
    assert one.best is not None
    assert same_found(one, other)


@pytest.mark.parametrize("encoding", ["averaged", "per-layer", None])
def test_hardware_may_be_any_object_that_predicts_ms(encoding: str | None) -> None:
    class Device:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return Board().predict(architectures)

    device = Device()
    if encoding:
        device.encoding = encoding  # type: ignore[attr-defined]
    result = hsnas.search(SMALL, device, {"latency_ms": 20}, initial=network(SMALL.space))
    assert result.strategy == ("exact" if encoding == "averaged" else "evolution")
    assert result.best is not None
    assert result.best.architecture.decoder_layers <= 2
    assert set(result.to_frame()["latency_ms"]) <= {10.0, 20.0}


def test_a_vocabulary_that_costs_do_not_count_is_noted() -> None:
    class Small:
        name, vocabulary = "small", 3000

        def predict(self, architectures: list[Architecture], /) -> list[float]:
            return [float(one.decoder_layers) for one in architectures]

    few: dict[str, Any] = {
        "n_iterations": 1,
        "n_population": 4,
        "n_parents": 2,
        "n_mutants": 1,
        "n_children": 1,
    }
    note = "small has a vocabulary of 3,000, but costs count the 32,768 of wmt14.en-de"
    assert note in hsnas.search("wmt14.en-de", initial=Small(), **few).notes
    Small.vocabulary = 32768
    assert not any("vocabulary" in one for one in hsnas.search("wmt14.en-de", initial=Small(), **few).notes)


@each_way
def test_a_stand_in_for_the_latency_is_noted(way: Way) -> None:
    result = hsnas.search("wmt19.en-de", "titan-xp", **way)
    assert any("made for wmt14.en-fr stands in for wmt19.en-de" in note for note in result.notes)


@each_way
def test_an_infeasible_search_is_written_too(way: Way, tmp_path: Path) -> None:
    calls: list[Iteration] = []
    result = hsnas.search(
        "wmt14.en-de",
        "titan-xp",
        {"latency_ms": 5},
        callbacks=[calls.append],
        run_dir=tmp_path / "run",
        **way,
    )
    assert (result.status, result.best, result.history, calls) == ("infeasible", None, [], [])
    assert (result.pareto_front(), len(result.to_frame())) == ([], 0)
    assert result.reachable is not None
    assert list(result.reachable) == ["latency_ms", "gflops", "params_m"]
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    found = (written["status"], written["best"], written["reachable"])
    assert found == ("infeasible", None, result.reachable)
    assert len(pl.read_parquet(tmp_path / "run" / "candidates.parquet")) == 0
    assert not (tmp_path / "run" / "best.json").exists()


@each_way
def test_a_tiny_space_ends_with_the_optimum(way: Way) -> None:
    score = network(tiny_task().space, seed=7)
    result = hsnas.search(tiny_task(), initial=score, **{**way, "seed": 1})
    assert result.best is not None
    assert result.best.score == score.predict(list(every_architecture(tiny_task().space))).max()


@each_way
@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_predictor_that_fails_is_named(fault: Any, words: str, way: Way, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(PredictorError, match=words) as caught:
        hsnas.search(SMALL, initial=Faulty(0, fault), run_dir=run_dir, **way)
    assert "`Faulty`, in iteration 0" in str(caught.value)
    assert str(run_dir) in str(caught.value)
    assert (run_dir / "settings.json").is_file()


@each_way
def test_what_was_scored_before_a_predictor_failed_is_in_the_run_directory(way: Way, tmp_path: Path) -> None:
    predictor = Faulty(2, raise_(OSError("gone")))
    with pytest.raises(PredictorError, match="what was scored before is in"):
        hsnas.search(SMALL, initial=predictor, run_dir=tmp_path / "run", **way)
    candidates = pl.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert len(candidates) > 0
    assert [float(a.decoder_layers) for a in architectures_of(candidates)] == candidates["score"].to_list()


@each_way
def test_a_failing_latency_is_named(way: Way) -> None:
    class Unplugged(Board):
        def predict(self, architectures: Sequence[Architecture]) -> Any:
            raise OSError("unplugged")

    words = "`my-board`, in iteration 0, raised OSError: unplugged"
    with pytest.raises(PredictorError, match=words) as caught:
        hsnas.search(SMALL, Unplugged(), initial=network(SMALL.space), **way)
    assert isinstance(caught.value.__cause__, OSError)


@each_way
def test_a_network_whose_scores_overflow_is_a_failing_predictor(way: Way, tmp_path: Path) -> None:
    layers = [(np.full((1, 10), 1e30), np.zeros(1))]
    tensors = Student(layers, np.zeros(10), 1.0, 0.0, 1e30).tensors()
    record = {"kind": "score", "encoding": "averaged", "largest": TASK.space.largest, "task": TASK.name}
    write_mlp(tmp_path / "mlp", tensors, record)
    with pytest.raises(PredictorError, match="mlp.*iteration 0"):
        hsnas.search("wmt14.en-de", initial=tmp_path / "mlp", **way)


@each_way
def test_ctrl_c_before_anything_was_scored_gives_an_empty_result(way: Way, tmp_path: Path) -> None:
    predictor = Faulty(0, raise_(KeyboardInterrupt()))
    result = hsnas.search(SMALL, initial=predictor, run_dir=tmp_path / "run", **way)
    assert (result.status, result.best, result.history) == ("interrupted", None, [])
    assert result.pareto_front() == []
    assert len(result.to_frame()) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] is None


@each_way
@pytest.mark.parametrize("make", [lambda: network(SMALL.space), Shallow])
@pytest.mark.parametrize("last", [0, 2])
def test_ctrl_c_in_a_callback_keeps_what_was_found(
    last: int, make: Callable[[], Any], way: Way, tmp_path: Path
) -> None:
    calls: list[Iteration] = []

    def callback(iteration: Iteration) -> None:
        calls.append(iteration)
        if iteration.iteration == last:
            raise KeyboardInterrupt

    baseline = Shallow() if way["strategy"] == "exact" and last else None
    arguments = {"initial": make(), "baseline": baseline, "callbacks": [callback], **way}
    try:
        result = hsnas.search(SMALL, run_dir=tmp_path / "run", **arguments)
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C went through the search")
    assert result.status == "interrupted"
    assert calls == result.history
    assert len(calls) == last + 1
    assert result.best is not None
    assert result.pareto_front()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


@each_way
def test_callbacks_get_every_iteration_in_order(way: Way) -> None:
    first: list[Iteration] = []
    second: list[Iteration] = []
    callbacks = (callback for callback in (first.append, second.append))
    result = hsnas.search(SMALL, initial=Shallow(), baseline=Shallow(), callbacks=callbacks, **way)
    assert first == second == result.history
    assert [iteration.iteration for iteration in first] == list(range(len(first)))
    assert len(first) >= 4


@each_way
def test_an_error_in_a_callback_passes_and_what_was_scored_is_kept(way: Way, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(ValueError, match="mine"):
        hsnas.search("wmt14.en-de", callbacks=[raise_(ValueError("mine"))], run_dir=run_dir, **way)
    assert len(pl.read_parquet(run_dir / "candidates.parquet")) >= 12


@each_way
def test_progress_is_shown_on_stderr_alone(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    hsnas.search("wmt14.en-de", progress=True, **way)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


@each_way
def test_a_run_directory_is_complete_and_readable_without_the_library(way: Way, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    result = hsnas.search(
        "wmt14.en-de", "titan-xp", BOUNDS, seed=7, baseline=Shallow(), run_dir=run_dir, **way
    )
    names = ["best.json", "best.yml", "candidates.parquet", "history.json", "result.json", "settings.json"]
    assert sorted(path.name for path in run_dir.iterdir()) == names
    read = {path.name: json.loads(path.read_text()) for path in run_dir.glob("*.json")}
    settings, written = read["settings.json"], read["result.json"]
    for name in ("settings.json", "history.json", "result.json"):
        assert read[name]["schema"] == "llmpp.run/1"
    assert (settings["task"], settings["hardware"], settings["seed"]) == ("wmt14.en-de", "titan-xp", 7)
    assert settings["constraints"] == BOUNDS
    assert settings["strategy"] == written["strategy"] == way["strategy"]
    assert settings["predictors"] == ["distilled", "Shallow"]
    if way["strategy"] == "evolution":
        assert settings["evolution"] == {**SHORT, "mutation_prob": 0.3, "max_draws": 20}
    assert {"llmpp", "numpy", "polars", "python"} <= set(settings["versions"])
    assert pl.read_parquet(run_dir / "candidates.parquet").equals(result.to_frame())
    assert [Iteration(**row) for row in read["history.json"]["iterations"]] == result.history
    assert result.best is not None
    assert written["status"] == "budget"
    assert written["best"] == result.best.to_dict()
    assert written["pareto_front"] == [candidate.to_dict() for candidate in result.pareto_front()]
    assert written["run_dir"] == result.run_dir == str(run_dir)
    assert Architecture.from_dict(read["best.json"]) == result.best.architecture
    assert Architecture.from_hat((run_dir / "best.yml").read_text()) == result.best.architecture


@each_way
def test_no_run_directory_means_no_files(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hsnas.search("wmt14.en-de", **way).run_dir is None
    assert list(tmp_path.iterdir()) == []
