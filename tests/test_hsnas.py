"""The search: what it finds, that it repeats, how predictors hand over, and what goes wrong."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

import llmpp
from llmpp import (
    Architecture,
    InputError,
    Iteration,
    MlpPredictor,
    PredictorError,
    SearchResult,
    Task,
    hsnas,
    load_latency,
    load_predictor,
    load_task,
)
from llmpp.distill import Student
from llmpp.weights import write_mlp

TASK = load_task("wmt14.en-de")
BOUNDS = {"latency_ms": 150, "gflops": 3.5, "params_m": 45}
FIELDS = list(Architecture.__dataclass_fields__)
#: A search of a moment, for the tests of everything around it.
SHORT: dict[str, Any] = {
    "n_iterations": 4,
    "n_population": 12,
    "n_parents": 5,
    "n_mutants": 6,
    "n_children": 6,
}


class Plain:
    """A predictor of the core as any user's object, driven by ask and tell."""

    def __init__(self, inner: MlpPredictor) -> None:
        self.inner, self.name, self.encoding = inner, inner.name, inner.encoding

    def predict(self, architectures: list[Architecture]) -> NDArray[np.float32]:
        return self.inner.predict(architectures)


class Shallow:
    """Likes wide and shallow decoders; its scores lie far from BLEU."""

    encoding = "averaged"

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    def predict(self, architectures: list[Architecture]) -> list[float]:
        self.asked += architectures
        return [-a.decoder_layers + a.decoder_dim / 1e4 + sum(a.cross_span) / 1e5 for a in architectures]


class Faulty:
    """Answers well for some calls, then goes wrong in one way or another."""

    def __init__(self, n_good: int, fault: Callable[[list[Architecture]], Any]) -> None:
        self.n_good, self.fault, self.n_calls = n_good, fault, 0

    def predict(self, architectures: list[Architecture]) -> Any:
        self.n_calls += 1
        if self.n_calls > self.n_good:
            return self.fault(architectures)
        return [float(a.decoder_layers) for a in architectures]


def raise_(error: BaseException) -> Callable[..., Any]:
    def fault(*_: Any) -> Any:
        raise error

    return fault


def architectures_of(frame: pl.DataFrame) -> list[Architecture]:
    return [Architecture.from_dict({name: row[name] for name in FIELDS}) for row in frame.to_dicts()]


def same(one: SearchResult, other: SearchResult) -> bool:
    def history(result: SearchResult) -> list[tuple[Any, ...]]:
        return [(i.iteration, i.best_score, i.n_evaluations, i.n_cache_hits) for i in result.history]

    frames = [result.to_frame().drop("predictor") for result in (one, other)]
    return one.best == other.best and frames[0].equals(frames[1]) and history(one) == history(other)


def n_distinct_features(frame: pl.DataFrame, task: Task = TASK) -> int:
    return len(np.unique(task.space.features(architectures_of(frame)), axis=0))


def tiny_task() -> Task:
    options = {
        "encoder_dim": [64],
        "encoder_layers": [1],
        "encoder_ffn": [64, 128],
        "encoder_heads": [2],
        "decoder_dim": [64],
        "decoder_layers": [1, 2],
        "decoder_ffn": [64, 128],
        "decoder_heads": [2],
        "cross_heads": [2],
        "cross_span": [1],
    }
    space = {"name": "tiny", "qkv_dim": 64, "options": options}
    sizes = {"vocabulary": 100, "sentence_length": 10}
    return Task.from_dict({"schema": "llmpp.task/1", "name": "tiny.de-en", "space": space, **sizes})


@pytest.fixture(scope="module")
def example() -> SearchResult:
    """The search that the README shows."""
    return hsnas.search(task="wmt14.en-de", hardware="titan-xp", constraints=BOUNDS, seed=0)


def test_the_best_is_feasible_and_its_figures_are_those_of_cost_and_predictors(example: SearchResult) -> None:
    best = example.best
    assert best is not None
    assert example.status == "budget"
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


def test_nothing_is_scored_twice(example: SearchResult) -> None:
    frame = example.to_frame()
    assert n_distinct_features(frame) == len(frame)
    assert len(frame) == sum(iteration.n_evaluations for iteration in example.history)


def test_history_counts_parents_as_remembered_and_never_falls(example: SearchResult) -> None:
    history = example.history
    assert [iteration.iteration for iteration in history] == list(range(30))
    assert history[0].n_evaluations == 125
    assert history[0].n_cache_hits == 0
    assert all(iteration.n_cache_hits >= 25 for iteration in history[1:])
    assert all(iteration.n_evaluations + iteration.n_cache_hits <= 125 for iteration in history)
    scores = [iteration.best_score for iteration in history]
    assert scores == sorted(scores)
    assert {iteration.predictor for iteration in history} == {"distilled"}
    assert all(iteration.seconds >= 0 for iteration in history)
    by_iteration = example.to_frame().group_by("iteration").len().sort("iteration")["len"].to_list()
    assert by_iteration == [iteration.n_evaluations for iteration in history]


@pytest.mark.parametrize("hardware", ["titan-xp", None])
def test_the_front_is_that_of_brute_force(hardware: str | None) -> None:
    result = hsnas.search("wmt14.en-de", hardware, {"params_m": 60}, seed=2, n_iterations=8)
    measure = "latency_ms" if hardware else "gflops"
    points = {(row[measure], row["score"]) for row in result.to_frame().to_dicts()}

    def is_beaten(cost: float, score: float) -> bool:
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)

    expected = sorted(point for point in points if not is_beaten(*point))
    front = result.pareto_front()
    assert [(getattr(candidate, measure), candidate.score) for candidate in front] == expected
    assert len(front) > 1
    assert result.best is not None
    assert front[-1].score == result.best.score


def test_without_hardware_latency_is_unknown() -> None:
    result = hsnas.search("wmt14.en-de", constraints={"gflops": 3}, n_iterations=2)
    assert result.best is not None
    assert result.best.latency_ms is None
    assert result.to_frame()["latency_ms"].null_count() == len(result.to_frame())


@pytest.mark.parametrize("n_threads", [2, 3])
def test_one_seed_gives_one_result_for_any_number_of_threads(n_threads: int, example: SearchResult) -> None:
    other = hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, seed=0, n_threads=n_threads)
    assert same(example, other)


def test_another_seed_gives_another_search(example: SearchResult) -> None:
    other = hsnas.search("wmt14.en-de", "titan-xp", BOUNDS, seed=1)
    assert not example.to_frame().equals(other.to_frame())


@pytest.mark.parametrize("which", ["initial", "hardware", "both"])
def test_ask_and_tell_gives_the_result_of_the_core(which: str, example: SearchResult) -> None:
    initial = load_predictor("distilled", task=TASK)
    latency = load_latency("titan-xp", task=TASK)
    other = hsnas.search(
        "wmt14.en-de",
        Plain(latency) if which != "initial" else latency,
        BOUNDS,
        seed=0,
        initial=Plain(initial) if which != "hardware" else initial,
    )
    assert same(example, other)


def test_predictors_may_be_files_paths_and_objects(tmp_path: Path, example: SearchResult) -> None:
    folder = Path(llmpp.__file__).parent / "assets"
    student = folder / "students" / "wmt14.en-de.safetensors"
    latency = folder / "latency" / "titan-xp.wmt14.en-de.safetensors"
    from_files = hsnas.search("wmt14.en-de", str(latency), BOUNDS, initial=student)
    assert same(example, from_files)
    assert from_files.to_frame()["predictor"].unique().to_list() == [str(student)]
    loaded = load_predictor("distilled", task=TASK), load_latency("titan-xp", task=TASK)
    assert same(example, hsnas.search(TASK, loaded[1], BOUNDS, initial=loaded[0]))


def test_hardware_may_be_any_object_that_predicts_ms() -> None:
    class Board:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [10.0 * a.decoder_layers for a in architectures]

    result = hsnas.search("wmt14.en-de", Board(), {"latency_ms": 20}, n_iterations=5)
    assert result.best is not None
    assert result.best.architecture.decoder_layers <= 2
    assert set(result.to_frame()["latency_ms"]) <= {10.0, 20.0}


def test_a_predictor_that_sees_single_layers_gets_all_their_orders() -> None:
    class Ordered:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [float(a.encoder_ffn[0] - a.encoder_ffn[-1] + a.cross_span[0]) for a in architectures]

    result = hsnas.search("wmt14.en-de", initial=Ordered(), n_iterations=12)
    assert result.best is not None
    assert result.best.score == 3072 - 1024 + 3
    frame = result.to_frame()
    assert len(set(architectures_of(frame))) == len(frame) > n_distinct_features(frame)


def test_the_baseline_takes_over_and_scores_the_survivors_again() -> None:
    baseline = Shallow()
    result = hsnas.search("wmt14.en-de", "titan-xp", {"latency_ms": 200}, baseline=baseline, seed=3)
    frame = result.to_frame()
    first, second = (frame.filter(pl.col("predictor") == name) for name in ("distilled", "Shallow"))
    assert len(first) + len(second) == len(frame)
    assert sorted(first["iteration"].unique()) == list(range(15))
    assert sorted(second["iteration"].unique()) == list(range(15, 30))
    survivors = set(architectures_of(first.sort("score", descending=True, maintain_order=True).head(25)))
    assert survivors <= set(architectures_of(second.filter(pl.col("iteration") == 15)))
    assert architectures_of(second) == baseline.asked
    assert n_distinct_features(first) == len(first)
    assert n_distinct_features(second) == len(second)
    assert result.best is not None
    assert result.best.score == second["score"].max()
    assert result.best.architecture.decoder_layers == 1
    assert {candidate.score for candidate in result.pareto_front()} <= set(second["score"])
    assert [iteration.predictor for iteration in result.history] == ["distilled"] * 15 + ["Shallow"] * 15
    assert result.history[15].best_score < 0 < result.history[14].best_score
    assert result.history[15].n_evaluations == len(second.filter(pl.col("iteration") == 15)) >= 25
    assert result.notes == ()


@pytest.mark.parametrize(
    ("switch", "n_initial"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8), (0, 0), (1, 8)]
)
def test_switch_is_the_share_of_iterations_of_the_initial_predictor(switch: float, n_initial: int) -> None:
    settings = {**SHORT, "n_iterations": 8}
    result = hsnas.search("wmt14.en-de", baseline=Shallow(), switch=switch, **settings)
    names = [iteration.predictor for iteration in result.history]
    assert names == ["distilled"] * n_initial + ["Shallow"] * (8 - n_initial)
    idle = {0: "initial", 8: "baseline"}.get(n_initial)
    assert [note for note in result.notes if "leaves no iteration" in note] == (
        [f"`switch={switch}` leaves no iteration to the {idle} predictor"] if idle else []
    )


def test_without_a_baseline_the_result_says_so(example: SearchResult) -> None:
    assert example.notes == ("no baseline: `distilled` scored all iterations",)


def test_a_stand_in_for_the_latency_is_noted() -> None:
    result = hsnas.search("wmt19.en-de", "titan-xp", **SHORT)
    assert any("made for wmt14.en-fr stands in for wmt19.en-de" in note for note in result.notes)


def test_a_baseline_on_averages_scores_nothing_twice_after_an_initial_per_layer() -> None:
    class PerLayer(Plain):
        encoding = "per-layer"

        def __init__(self, inner: MlpPredictor) -> None:
            self.inner, self.name = inner, "per-layer"

    student = load_predictor("distilled", task=TASK)
    result = hsnas.search("wmt14.en-de", initial=PerLayer(student), baseline=student)
    second = result.to_frame().filter(pl.col("predictor") == "distilled")
    assert n_distinct_features(second) == len(second)


def test_an_infeasible_search_ends_and_tells_what_is_reachable(tmp_path: Path) -> None:
    start = time.perf_counter()
    calls: list[Iteration] = []
    result = hsnas.search(
        "wmt14.en-de", "titan-xp", {"latency_ms": 5}, callbacks=[calls.append], run_dir=tmp_path / "run"
    )
    assert time.perf_counter() - start < 20
    assert (result.status, result.best, result.history, calls) == ("infeasible", None, [], [])
    assert result.pareto_front() == []
    assert len(result.to_frame()) == 0
    assert result.reachable is not None
    assert set(result.reachable) == {"latency_ms", "gflops", "params_m"}
    smallest = Architecture(512, (1024,) * 6, (4,) * 6, 512, (1024,), (4,), (4,), (1,))
    cost = llmpp.cost(smallest, task=TASK)
    assert 1 <= result.reachable["gflops"] / (cost.flops / 1e9) < 1.3
    assert 1 <= result.reachable["params_m"] / (cost.params / 1e6) < 1.3
    latency = float(load_latency("titan-xp", task=TASK).predict([smallest])[0])
    assert 0.8 < result.reachable["latency_ms"] / latency < 1.1
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["status"], written["best"], written["reachable"]) == (
        "infeasible",
        None,
        result.reachable,
    )
    assert len(pl.read_parquet(tmp_path / "run" / "candidates.parquet")) == 0
    assert not (tmp_path / "run" / "best.json").exists()


def test_bounds_that_exclude_each_other_are_infeasible() -> None:
    class Reverse:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [1e9 / llmpp.cost(a, task=TASK).flops for a in architectures]

    bounds = {"latency_ms": 0.3, "gflops": 2.0}
    result = hsnas.search("wmt14.en-de", Reverse(), bounds, **SHORT)
    assert result.status == "infeasible"


def test_a_bound_that_very_few_architectures_meet_is_met() -> None:
    smallest = Architecture(512, (1024,) * 6, (4,) * 6, 512, (1024,), (4,), (4,), (1,))
    bound = llmpp.cost(smallest, task=TASK).flops / 1e9 * 1.001
    result = hsnas.search("wmt14.en-de", constraints={"gflops": bound}, n_iterations=3)
    assert result.best is not None
    assert result.best.gflops <= bound


def test_a_tiny_space_is_exhausted_and_the_search_ends_with_the_optimum() -> None:
    task = tiny_task()
    everything = set(task.space.sample(500))
    assert len(everything) == task.space.n_architectures == 2 * (2 + 4)

    class Taste:
        def predict(self, architectures: Sequence[Architecture]) -> list[float]:
            return [sum(f * (i + 1) for i, f in enumerate(a.decoder_ffn)) / 1e3 for a in architectures]

    result = hsnas.search(task, initial=Taste())
    assert result.status == "budget"
    assert set(architectures_of(result.to_frame())) == everything
    assert len(result.to_frame()) == 12
    assert result.best is not None
    assert result.best.architecture.decoder_ffn == (128, 128)
    assert len(result.history) == 30


def test_one_candidate_per_iteration_is_enough() -> None:
    result = hsnas.search("wmt14.en-de", n_population=1, n_parents=1, n_mutants=1, n_children=0)
    assert len(result.to_frame()) == 30
    result = hsnas.search("wmt14.en-de", n_population=3, n_parents=1, n_mutants=0, n_children=0)
    assert len(result.to_frame()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "wmt15"}, "unknown task 'wmt15'; known: iwslt14.de-en, wmt14.en-de"),
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


FAULTS: list[tuple[Callable[[list[Architecture]], Any], str]] = [
    (raise_(ZeroDivisionError("oh no")), "raised ZeroDivisionError: oh no"),
    (lambda a: [1.0] * (len(a) - 1), r"returned scores of shape \(\d+,\) for \d+ architectures"),
    (lambda a: [1.0] * (len(a) + 1), "returned scores of shape"),
    (lambda a: [[1.0]] * len(a), r"returned scores of shape \(\d+, 1\)"),
    (lambda _: 1.0, "returned scores of shape"),
    (lambda _: [], "returned scores of shape"),
    (lambda a: [math.nan] + [1.0] * (len(a) - 1), r"returned nan for Architecture\("),
    (lambda a: [1.0] * (len(a) - 1) + [math.inf], r"returned inf for Architecture\("),
    (lambda a: ["high"] * len(a), "raised ValueError"),
    (lambda _: {"score": 1}, "raised TypeError"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
@pytest.mark.parametrize("n_good", [0, 2])
def test_a_predictor_that_fails_is_named_with_its_iteration_and_what_was_scored_is_kept(
    fault: Any, words: str, n_good: int, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(PredictorError, match=words) as caught:
        hsnas.search("wmt14.en-de", initial=Faulty(n_good, fault), run_dir=run_dir, **SHORT)
    message = str(caught.value)
    assert "`Faulty`" in message
    assert f"iteration {n_good}" in message
    assert str(run_dir) in message
    candidates = pl.read_parquet(run_dir / "candidates.parquet")
    history = json.loads((run_dir / "history.json").read_text())["iterations"]
    assert sorted(candidates["iteration"].unique()) == list(range(n_good))
    assert len(history) == n_good
    assert len(candidates) == sum(iteration["n_evaluations"] for iteration in history)


def test_a_failing_baseline_leaves_what_the_initial_predictor_scored(tmp_path: Path) -> None:
    baseline = Faulty(1, raise_(RuntimeError("gone")))
    with pytest.raises(PredictorError, match="`Faulty`, in iteration 3, raised RuntimeError: gone"):
        hsnas.search("wmt14.en-de", baseline=baseline, run_dir=tmp_path / "run", **SHORT)
    candidates = pl.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert candidates.group_by("predictor", maintain_order=True).len()["predictor"].to_list() == [
        "distilled",
        "Faulty",
    ]


def test_a_failing_latency_is_named(tmp_path: Path) -> None:
    class Board:
        name = "my-board"

        def predict(self, architectures: Sequence[Architecture]) -> Any:
            raise OSError("unplugged")

    with pytest.raises(
        PredictorError, match="`my-board`, in iteration 0, raised OSError: unplugged"
    ) as caught:
        hsnas.search("wmt14.en-de", Board(), run_dir=tmp_path / "run", **SHORT)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_network_whose_scores_overflow_is_a_failing_predictor(tmp_path: Path) -> None:
    layers = [(np.full((1, 10), 1e30), np.zeros(1))]
    tensors = Student(layers, np.zeros(10), 1.0, 0.0, 1e30).tensors()
    record = {"kind": "score", "encoding": "averaged", "largest": TASK.space.largest, "task": TASK.name}
    write_mlp(tmp_path / "mlp", tensors, record)
    with pytest.raises(PredictorError, match="mlp.*iteration 0"):
        hsnas.search("wmt14.en-de", initial=tmp_path / "mlp", **SHORT)


def test_ctrl_c_in_a_predictor_keeps_what_was_found(tmp_path: Path) -> None:
    predictor = Faulty(3, raise_(KeyboardInterrupt()))
    result = hsnas.search("wmt14.en-de", initial=predictor, run_dir=tmp_path / "run", **SHORT)
    assert result.status == "interrupted"
    assert len(result.history) == 3
    assert result.best is not None
    assert result.best.score == result.to_frame()["score"].max()
    assert result.pareto_front()
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["status"] == "interrupted"
    assert written["best"] == result.best.to_dict()


def test_ctrl_c_before_anything_was_scored_gives_an_empty_result(tmp_path: Path) -> None:
    predictor = Faulty(0, raise_(KeyboardInterrupt()))
    result = hsnas.search("wmt14.en-de", initial=predictor, run_dir=tmp_path / "run", **SHORT)
    assert (result.status, result.best, result.history) == ("interrupted", None, [])
    assert result.pareto_front() == []
    assert len(result.to_frame()) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] is None


@pytest.mark.parametrize("initial", ["distilled", Shallow()])
def test_ctrl_c_in_a_callback_keeps_what_was_found(initial: Any) -> None:
    calls: list[Iteration] = []

    def callback(iteration: Iteration) -> None:
        calls.append(iteration)
        if iteration.iteration == 2:
            raise KeyboardInterrupt

    result = hsnas.search("wmt14.en-de", initial=initial, callbacks=[callback], **SHORT)
    assert result.status == "interrupted"
    assert calls == result.history
    assert len(calls) == 3
    assert result.best is not None


def test_callbacks_get_every_iteration_in_order() -> None:
    first: list[Iteration] = []
    second: list[Iteration] = []
    callbacks = (callback for callback in (first.append, second.append))
    result = hsnas.search("wmt14.en-de", baseline=Shallow(), callbacks=callbacks, **SHORT)
    assert first == second == result.history
    assert len(first) == 4


def test_an_error_in_a_callback_passes_and_what_was_scored_is_kept(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(ValueError, match="mine"):
        hsnas.search("wmt14.en-de", callbacks=[raise_(ValueError("mine"))], run_dir=run_dir, **SHORT)
    assert len(pl.read_parquet(run_dir / "candidates.parquet")) == 12


def test_progress_is_shown_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    hsnas.search("wmt14.en-de", progress=True, **SHORT)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


def test_a_run_directory_is_complete_and_readable_without_the_library(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    result = hsnas.search(
        "wmt14.en-de", "titan-xp", BOUNDS, seed=7, baseline=Shallow(), run_dir=run_dir, **SHORT
    )
    names = ["best.json", "best.yml", "candidates.parquet", "history.json", "result.json", "settings.json"]
    assert sorted(path.name for path in run_dir.iterdir()) == names
    read = {path.name: json.loads(path.read_text()) for path in run_dir.glob("*.json")}
    settings, written = read["settings.json"], read["result.json"]
    for name in ("settings.json", "history.json", "result.json"):
        assert read[name]["schema"] == "llmpp.run/1"
    assert (settings["task"], settings["hardware"], settings["seed"]) == ("wmt14.en-de", "titan-xp", 7)
    assert settings["constraints"] == BOUNDS
    assert settings["predictors"] == ["distilled", "Shallow"]
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


def test_no_run_directory_means_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hsnas.search("wmt14.en-de", **SHORT).run_dir is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match="is not empty: name another, or remove it"):
        hsnas.search("wmt14.en-de", run_dir=tmp_path, **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
    with pytest.raises(InputError, match="cannot make the run directory"):
        hsnas.search("wmt14.en-de", run_dir=tmp_path / "note", **SHORT)


def test_a_result_is_ready_for_json(example: SearchResult) -> None:
    content = json.loads(json.dumps(example.to_dict()))
    assert content["status"] == "budget"
    assert content["n_evaluations"] == len(example.to_frame())
    assert content["best"]["architecture"] == example.best.architecture.to_dict() if example.best else False


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


def test_a_baseline_that_was_interrupted_before_it_scored_is_noted() -> None:
    class Interrupted:
        def predict(self, architectures: list[Architecture]) -> list[float]:
            raise KeyboardInterrupt

    result = hsnas.search("wmt14.en-de", baseline=Interrupted(), **SHORT)
    assert result.status == "interrupted"
    assert "`Interrupted` never scored: `best` and the front are by `distilled`" in result.notes


@pytest.mark.parametrize("wrong", [lambda a: a, lambda a: [a.to_dict()]])
def test_a_predictor_wants_a_list_of_architectures(wrong: Any) -> None:
    predictor = load_predictor("distilled", task="wmt14.en-de")
    with pytest.raises(InputError, match="expected"):
        predictor.predict(wrong(llmpp.load_task("wmt14.en-de").figures[0].architecture))
