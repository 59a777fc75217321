"""Exact search over the whole WMT space: its arithmetic beside what the processor can do, and its peers."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import moocore
import numpy as np
import pytest
from benches.fma_peak import peak_flops
from benches.paper_mlp import TASK, pair
from benches.peers.hat_loop import HatLoop, HatSettings
from benches.peers.numpy_sweep import NumpySweep
from benches.ratio import Times, compare, write
from benches.test_search import networks
from numpy.typing import NDArray

from llmpp import MlpPredictor, SearchResult, Task, hsnas, load_latency, load_predictor, load_task
from llmpp.phase import Phase
from llmpp.record import Record
from llmpp.table import Table, flop_of

TASKS = ("wmt14.en-de", "wmt14.en-fr", "wmt19.en-de")
HARDWARE = "titan-xp"
N_VECTORS = TASK.space.n_feature_vectors
MAX_MEMORY_MB = 600
MAX_QUERY_MS = 20


def whole_space(task: str, n_threads: int = 1) -> SearchResult:
    """Finds the best, and the front, of the whole space."""
    return hsnas.search(task, HARDWARE, strategy="exact", n_threads=n_threads)


def whole_table(task: str | Task, score: MlpPredictor, latency: MlpPredictor, n_threads: int = 1) -> Table:
    """Scores every feature vector, skipping none, and finds the best and the front."""
    phase = Phase("score", score, "averaged", 1)
    table = Table(Record(load_task(task), [phase], None), {}, n_threads=n_threads, keep=False)
    table.measure(latency)
    table.score(score, whole=True)
    table.optimum()
    return table


@cache
def pair_of(task: str) -> tuple[MlpPredictor, MlpPredictor]:
    return load_predictor("distilled", task=task), load_latency(HARDWARE, task=task)


def floor_of(*predictors: MlpPredictor, peak: float) -> float:
    """Seconds that the networks' arithmetic takes at the peak."""
    return sum(flop_of(predictor) for predictor in predictors) * N_VECTORS / peak


def times_of(call: Callable[[], object], n_rounds: int, clock: Callable[[], float]) -> Times:
    rounds: list[float] = []
    for _ in range(n_rounds):
        start = clock()
        call()
        rounds.append(clock() - start)
    return Times(tuple(rounds))


@pytest.mark.parametrize("task", TASKS)
def test_a_search_of_the_whole_space_takes_half_the_time_of_hats_loop(task: str) -> None:
    settings = HatSettings(latency_ms=networks(0).latency_ms)
    loop = HatLoop(networks(0).torch_score, networks(0).torch_latency, settings, 0)
    comparison = compare(
        f"exact_vs_hat_loop.{task}",
        lambda: whole_space(task),
        loop.run,
        required=2,
        n=N_VECTORS,
        seed=0,
        n_rounds=5,
        n_calls=(3, 1),
    )
    comparison.report()
    assert comparison.ratio >= comparison.required


@pytest.mark.parametrize("task", TASKS)
def test_the_whole_space_takes_little_more_than_its_arithmetic(task: str) -> None:
    """A search skips what cannot matter; a table skips nothing, so its fixed costs weigh more."""
    score, latency = pair_of(task)
    ways: dict[str, tuple[Callable[[], object], float]] = {
        "search": (lambda: whole_space(task), 1.5),
        "table": (lambda: whole_table(task, score, latency), 2.0),
    }
    for way, (call, most) in ways.items():
        call()
        peaks: list[float] = []
        rounds: list[float] = []
        for _ in range(5):
            peaks.append(peak_flops(n_rounds=3))
            rounds += times_of(call, 5, time.process_time).rounds
        name = f"exact_floor.{task}.{way}"
        report_floor(name, Times(tuple(rounds)), (score, latency), max(peaks), most=most)


def test_the_papers_networks_take_little_more_than_their_arithmetic() -> None:
    score, latency = (mlp.as_llmpp(name) for mlp, name in zip(pair(0), ("score", "latency"), strict=True))
    before = peak_flops()
    times = times_of(lambda: whole_table(TASK, score, latency), 1, time.process_time)
    peak = max(before, peak_flops())
    report_floor("exact_floor.paper", times, (score, latency), peak, most=1.25)


def report_floor(
    name: str, times: Times, predictors: tuple[MlpPredictor, ...], peak: float, *, most: float
) -> None:
    floor = floor_of(*predictors, peak=peak)
    ratio = times.least / floor
    print(f"\n{name}: {ratio:.2f} of the floor of {floor * 1e3:.1f} ms at {peak / 1e9:.0f} GFLOP/s: {times}")
    record = {"ratio": ratio, "floor_s": floor, "peak_flops": peak, "rounds_s": times.rounds, "most": most}
    write(name, record)
    assert ratio <= most


def test_two_threads_give_equal_results_in_less_time() -> None:
    task = TASKS[0]
    one, two = (whole_space(task, n_threads).to_frame() for n_threads in (1, 2))
    assert one.equals(two)
    speed_ups = []
    peaks = []
    score, latency = pair_of(task)
    for _ in range(9):
        alone = times_of(lambda: whole_table(task, score, latency), 2, time.perf_counter).least
        together = times_of(lambda: whole_table(task, score, latency, 2), 2, time.perf_counter).least
        speed_ups.append(alone / together)
        alone, together = (peak_flops(n, 1, time.perf_counter) for n in (1, 2))
        peaks.append(together / alone)
    speed_up, peak = statistics.median(speed_ups), statistics.median(peaks)
    print(f"\nexact_threads: {speed_up:.2f}x on two threads, the FMA peak {peak:.2f}x (medians of 9)")
    write("exact_threads", {"speed_up": speed_up, "peak": peak, "speed_ups": speed_ups, "peaks": peaks})


_QUERY = """
import json, time
from llmpp import hsnas
seconds = []
for latency_ms in (150, 150, 140, 130, 120, 110):
    start = time.perf_counter()
    result = hsnas.search("wmt14.en-de", "titan-xp", {"latency_ms": latency_ms}, strategy="exact", keep=True)
    seconds.append(time.perf_counter() - start)
assert result.status == "optimal"
print(json.dumps({"seconds": seconds, "n_evaluations": result.history[0].n_evaluations}))
"""


def in_new_process(code: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read


def test_a_query_on_a_kept_table_takes_milliseconds(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    in_new_process(_QUERY)
    runs = [in_new_process(_QUERY) for _ in range(7)]
    assert all(run["n_evaluations"] == 0 for run in runs)
    first = [run["seconds"][0] * 1e3 for run in runs]
    later = [second * 1e3 for run in runs for second in run["seconds"][1:]]
    print(
        f"\nexact_query: the first query of a new process {statistics.median(first):.1f} ms "
        f"({min(first):.1f} to {max(first):.1f}, 7 processes), the next {statistics.median(later):.1f} ms "
        f"({min(later):.1f} to {max(later):.1f}), wall-clock time"
    )
    write("exact_query", {"first_ms": first, "later_ms": later})
    assert statistics.median(first) < MAX_QUERY_MS
    assert statistics.median(later) < MAX_QUERY_MS


_MEMORY = """
import json, re
from pathlib import Path
from llmpp import hsnas
result = hsnas.search("wmt14.en-de", "titan-xp", strategy="exact")
n_wide = len(result.pareto_front("latency_ms", "gflops"))
result.to_frame()
peak_kb = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"peak_mb": peak_kb / 1024, "n_wide": n_wide}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_below_600_mb() -> None:
    run = in_new_process(_MEMORY)
    print(
        f"\nexact_memory: {run['peak_mb']:.0f} MB at most, a wide front of {run['n_wide']:,} points included"
    )
    write("exact_memory", run)
    assert run["peak_mb"] < MAX_MEMORY_MB


@pytest.mark.parametrize("task", TASKS)
def test_an_independent_sweep_in_numpy_finds_the_same(task: str) -> None:
    sweep = NumpySweep(load_task(task).space)
    score, latency = (sweep.predict(predictor.mlp.safetensors) for predictor in pair_of(task))
    result = whole_space(task)
    assert (len(score), result.best is None) == (N_VECTORS, False)
    assert result.best is not None
    assert result.best.score == pytest.approx(score.max(), abs=1e-4)
    kept = moocore.is_nondominated(np.stack([-score, latency], axis=1).astype(np.float64))
    expected = np.stack([latency[kept], score[kept]], axis=1)[np.argsort(latency[kept])]
    found = np.array([(candidate.latency_ms, candidate.score) for candidate in result.pareto_front()])
    print(f"\nexact_vs_numpy.{task}: fronts of {len(found)} and {len(expected)} points")
    assert covers(found, expected)
    assert covers(expected, found)


def covers(front: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether a front has for each point of another one as good; the order of additions moves last digits."""
    at_or_before = np.searchsorted(front[:, 0], other[:, 0] + 1e-3, side="right") - 1
    return bool(np.all(at_or_before >= 0) and np.all(front[at_or_before, 1] >= other[:, 1] - 1e-3))
