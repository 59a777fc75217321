"""Columns kept between searches: when they are read, and what happens to broken ones."""

import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from enumeration import task_of
from llmpp import SearchResult, hsnas
from llmpp.kept import folder
from predictors import Plain, Shallow, network
from trial import TASK, same_found

SMALL = task_of()
N_VECTORS = SMALL.space.n_feature_vectors
SCORE = network(SMALL.space, seed=1)
LATENCY = network(SMALL.space, (), seed=2, mean=100)
BOUNDS = {"latency_ms": 100, "gflops": 0.005}


def search(bounds: dict[str, float] | None = None, **arguments: Any) -> SearchResult:
    given = {"hardware": LATENCY, "initial": SCORE, "keep": True, **arguments}
    return hsnas.search(SMALL, constraints=BOUNDS if bounds is None else bounds, **given)


def counts(result: SearchResult) -> tuple[int, bool]:
    """How many vectors were scored, and whether any were read."""
    (iteration,) = result.history
    return iteration.n_evaluations, iteration.n_cache_hits > 0


def kept() -> list[Path]:
    return sorted(folder().iterdir()) if folder().exists() else []


def saved(array: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_the_first_search_keeps_columns_and_the_second_reads_them() -> None:
    one = search()
    assert counts(one) == (N_VECTORS, False)
    assert len(kept()) == 2
    for path in kept():
        assert path.suffix == ".f32"
        assert path.stat().st_size == 4 * N_VECTORS
    changed = [path.stat().st_mtime_ns for path in kept()]
    two = search()
    assert counts(two) == (0, True)
    assert same_found(one, two)
    assert [path.stat().st_mtime_ns for path in kept()] == changed


def test_what_is_kept_answers_other_questions_as_a_search_without_it() -> None:
    search()
    questions: list[dict[str, float]] = [{}, {"latency_ms": 99}, {"params_m": 0.2}, {"gflops": 1e-6}]
    for bounds in questions:
        fresh, read = search(bounds, keep=False), search(bounds)
        assert same_found(fresh, read)
        assert all(counts(read) == (0, True) for _ in read.history)
        wide = [result.pareto_front("latency_ms", "gflops") for result in (fresh, read)]
        assert wide[0] == wide[1]


def test_nothing_is_kept_unless_asked_for() -> None:
    search(keep=False)
    hsnas.search(SMALL, LATENCY, BOUNDS, initial=SCORE)
    search(initial=Plain(SCORE), hardware=Plain(LATENCY))
    search(initial=Shallow(), hardware=None, bounds={})
    search(strategy="evolution")
    assert kept() == []


def test_only_networks_are_kept() -> None:
    one = search(initial=Plain(SCORE))
    assert len(kept()) == 1
    assert same_found(one, search(initial=Plain(SCORE)))
    assert counts(search())[0] == N_VECTORS
    assert len(kept()) == 2


def test_an_infeasible_search_keeps_its_columns_too() -> None:
    assert search({"gflops": 1e-6}).status == "infeasible"
    assert counts(search()) == (0, True)


def test_another_predictor_and_another_space_have_other_columns() -> None:
    search()
    assert counts(search(initial=network(SMALL.space, seed=3)))[0] == N_VECTORS
    assert len(kept()) == 3
    assert counts(search(hardware=None, bounds={})) == (0, True)
    assert len(kept()) == 3
    other = task_of({**SMALL.space.options, "decoder_dim": (128, 64)})
    score, latency = network(other.space, seed=1), network(other.space, (), seed=2, mean=100)
    assert score.mlp.safetensors == SCORE.mlp.safetensors
    result = hsnas.search(other, latency, BOUNDS, initial=score, keep=True)
    assert counts(result) == (N_VECTORS, False)
    assert len(kept()) == 5


def test_a_name_is_not_part_of_what_a_column_depends_on() -> None:
    search()
    renamed = type(SCORE)("another name", SCORE.mlp, "averaged", SMALL.space)
    assert counts(search(initial=renamed)) == (0, True)


def test_a_baseline_is_asked_although_columns_are_kept() -> None:
    search()
    baseline = Shallow()
    result = search(baseline=baseline, strategy="exact", n_proposals=30)
    assert len(baseline.asked) == 30
    assert (result.history[0].n_evaluations, result.history[0].predictor) == (0, SCORE.name)


def numbers(good: bytes) -> NDArray[np.float32]:
    return np.frombuffer(good, np.float32)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda good: good[: len(good) // 2],
    "one byte short": lambda good: good[:-1],
    "one number too many": lambda good: good + bytes(4),
    "text": lambda _: b"not an array",
    "zeros": lambda good: bytes(len(good)),
    "wrong second half": lambda good: good[: len(good) // 2] + bytes(len(good) - len(good) // 2),
    "not finite": lambda good: np.full(len(good) // 4, np.nan, np.float32).tobytes(),
    "turned": lambda good: numbers(good).reshape(SMALL.space.grid.shape).T.tobytes(),
    "float64": lambda good: numbers(good).astype(np.float64).tobytes(),
    "the other byte order": lambda good: numbers(good).byteswap().tobytes(),
    "of an array file": lambda good: saved(numbers(good)),
}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_column_is_ignored_and_replaced(how: str, which: str) -> None:
    one = search()
    good = {path: path.read_bytes() for path in kept()}
    for path in kept()[: 2 if which == "all" else 1]:
        path.write_bytes(BROKEN[how](good[path]))
    two = search()
    assert same_found(one, two)
    assert {path: path.read_bytes() for path in kept()} == good
    assert counts(search()) == (0, True)


def test_a_folder_in_the_place_of_a_column_is_noted() -> None:
    one = search()
    path = kept()[0]
    path.unlink()
    (path / "inside").mkdir(parents=True)
    two = search()
    assert same_found(one, two)
    assert [note for note in two.notes if "could not be kept" in note]
    assert not [path for path in kept() if path.suffix == ".part"]


@pytest.mark.parametrize("place", ["columns", "llmpp", "cache"])
def test_a_folder_that_cannot_be_written_gives_a_note(place: str) -> None:
    fresh = search(keep=False)
    blocked = {"columns": folder(), "llmpp": folder().parent, "cache": folder().parent.parent}[place]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("in the way")
    result = search()
    assert same_found(fresh, result)
    notes = [note for note in result.notes if "could not be kept" in note]
    assert [name in note for name, note in zip((LATENCY.name, SCORE.name), notes, strict=True)] == [True] * 2
    assert all(str(folder()) in note for note in notes)
    assert blocked.read_text() == "in the way"


def test_a_disk_that_fills_up_gives_a_note_and_leaves_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    fresh = search(keep=False)
    monkeypatch.setattr(Path, "write_bytes", full)
    result = search()
    assert same_found(fresh, result)
    assert len([note for note in result.notes if "No space left on device" in note]) == 2
    assert kept() == []


def test_no_part_is_left_and_the_part_of_another_process_is_not_touched() -> None:
    search()
    part = kept()[0].with_name(f"{kept()[0].name}.12345.part")
    part.write_bytes(b"another's")
    kept()[0].unlink()
    search()
    assert [path for path in kept() if path.suffix == ".part"] == [part]
    assert part.read_bytes() == b"another's"


def test_an_interrupted_search_keeps_nothing_that_is_not_whole() -> None:
    class Interrupted(Plain):
        def predict(self, architectures: Any) -> Any:
            raise KeyboardInterrupt

    assert search(hardware=Interrupted(LATENCY)).status == "interrupted"
    assert kept() == []


def test_a_new_process_reads_what_was_kept() -> None:
    one = hsnas.search(TASK, "titan-xp", {"latency_ms": 120}, keep=True)
    assert len(kept()) == 2
    script = (
        "from llmpp import hsnas\n"
        "r = hsnas.search('wmt14.en-de', 'titan-xp', {'latency_ms': 120}, keep=True)\n"
        "print([(i.n_evaluations, i.n_cache_hits > 0) for i in r.history], r.best.score, r.best.latency_ms)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert one.best is not None
    assert done.stdout.strip() == f"[(0, True)] {one.best.score} {one.best.latency_ms}"
