"""Searches of a study: what they cost, however often they were begun; models and finds that they share."""

import json
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmpp import Architecture, InputError
from llmpp.study.description import Study
from llmpp.study.expansion import expand
from llmpp.study.finds import train_find
from llmpp.study.job import Job
from llmpp.study.job_queue import RESULT_SCHEMA
from llmpp.study.made_with import check_made_again, check_model
from llmpp.study.place import Place
from llmpp.study.results import Results
from small_study import COMPARISON, run_here, small_place, write_small_study
from toy_training import ONE

#: On one supernet and then another; the last seed is left to the tests.
BOTH = {
    "comparison": COMPARISON["comparison"],
    "comparison.evolution": {**COMPARISON["comparison.evolution"], "n_iterations": 4},
    "comparison.methods.both": {"initial": "supernet-plain", "baseline": "supernet-layer-wise"},
    "supernets": {"kinds": ["plain", "layer-wise"], "metrics": ["loss"]},
}
FIRST, SECOND = "search-both-60pct-seed-1", "search-both-60pct-seed-2"
SUPERNETS = ("supernet-plain", "supernet-layer-wise")
#: Seconds that scoring a population takes: much longer than all else.
_LONG = 1000.0


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file and the directory of a small study of which one search was run."""
    for package in ("torch", "safetensors", "tokenizers", "sacrebleu"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("study")
    file = write_small_study(folder, **BOTH)
    run_here(file, folder / "out", only=[FIRST, "score-plain-loss"])
    return file, folder / "out"


@pytest.fixture
def copied(done: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same in a directory of the test's own."""
    shutil.copytree(done[1], tmp_path / "out")
    return done[0], tmp_path / "out"


def outcome_of(given: tuple[Path, Path], name: str) -> dict[str, Any]:
    found = Results(Study.load(given[0]), given[1]).outcome(name)
    assert found
    return found


def search(given: tuple[Path, Path], name: str) -> dict[str, Any]:
    """Does a search, also where its result is there."""
    from llmpp.study import search_kinds

    job = {job.id: job for job in expand(Study.load(given[0]))}[name]
    return search_kinds.search(job, small_place(*given))


def scoring_takes_long(patch: pytest.MonkeyPatch, fails_on: str = "") -> list[str]:
    """Puts the clock forward whenever a supernet scores in a search, has one kind fail, lists who scored."""
    from llmpp.study import search_kinds
    from llmpp.supernet_predictor import SupernetPredictor

    scored, evaluate, clock = list[str](), SupernetPredictor._evaluate, time.perf_counter
    describe = search_kinds._found

    def judged(*given: Any) -> Any:
        n_scored, found = len(scored), describe(*given)
        del scored[n_scored:]  # what a find is worth to the judge is no part of the search
        return found

    def slow(self: SupernetPredictor, architectures: list[Architecture]) -> Any:
        if self.net.mixture.kind == fails_on:
            raise RuntimeError("the power went")
        scored.append(f"supernet-{self.net.mixture.kind}")
        return evaluate(self, architectures)

    patch.setattr(SupernetPredictor, "_evaluate", slow)
    patch.setattr(search_kinds, "_found", judged)
    patch.setattr(time, "perf_counter", lambda: clock() + _LONG * len(scored))
    return scored


def test_costs_are_counted_by_predictor(done: tuple[Path, Path]) -> None:
    found = outcome_of(done, FIRST)
    assert list(found["n_evaluations"]) == list(found["seconds_by_predictor"]) == list(SUPERNETS)
    assert sum(found["n_evaluations"].values()) == found["n_supernet_evaluations"]
    assert sum(found["seconds_by_predictor"].values()) == pytest.approx(found["search_seconds"], abs=1e-3)
    assert 0 < found["supernet_seconds"] <= found["search_seconds"]


def test_a_search_that_goes_on_elsewhere_counts_earlier_starts_once(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmpp import PredictorError

    with monkeypatch.context() as patch:
        before = scoring_takes_long(patch, fails_on="layer-wise")
        with pytest.raises(PredictorError, match="the power went"):
            search(copied, SECOND)
    moved = copied[0], copied[1].rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        after = scoring_takes_long(patch)
        found = search(moved, SECOND)
    scored = before + after
    assert len(found["best_scores"]) == 4
    assert set(scored) == set(found["seconds_by_predictor"])
    for one in (found, search(moved, SECOND)):
        counts = [round(one[name] / _LONG, 1) for name in ("supernet_seconds", "search_seconds")]
        assert counts == [len(scored)] * 2
        for name, seconds in one["seconds_by_predictor"].items():
            assert round(seconds / _LONG, 1) == scored.count(name)
    again = search(moved, SECOND)
    for name in ("architecture", "n_evaluations", "n_supernet_evaluations", "best_scores", "made_with"):
        assert again[name] == found[name]


def test_results_say_which_models_they_were_made_with(done: tuple[Path, Path]) -> None:
    plain = outcome_of(done, "supernet-plain")["sha256"]
    assert outcome_of(done, "score-plain-loss")["made_with"] == {"supernet-plain": plain}
    made_with = outcome_of(done, FIRST)["made_with"]
    assert set(made_with) == {"latency-model", *SUPERNETS}
    assert made_with["supernet-plain"] == plain != made_with["supernet-layer-wise"]


def test_a_supernet_that_comes_out_as_another_is_no_substitute(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmpp import train

    shutil.rmtree(copied[1] / "work" / "supernet-plain")
    trained = train.train_supernet

    def otherwise(*given: Any, recipe: Any, **more: Any) -> Any:
        return trained(*given, recipe=replace(recipe, seed=7), **more)

    monkeypatch.setattr(train, "train_supernet", otherwise)
    message = f"came out as another model .* made with: score-plain-loss, {FIRST}. Copy .* --retry-failed"
    with pytest.raises(AssertionError, match=message):
        run_here(*copied, only=[SECOND])
    shutil.rmtree(copied[1] / "failures")
    for name in (FIRST, "score-plain-loss", "supernet-plain"):
        (copied[1] / "results" / f"{name}.json").unlink()
    run_here(*copied, only=[SECOND])
    made_with = outcome_of(copied, SECOND)["made_with"]
    assert made_with["supernet-plain"] == outcome_of(copied, "supernet-plain")["sha256"]


def test_a_supernet_that_is_exchanged_is_seen(copied: tuple[Path, Path]) -> None:
    work = copied[1] / "work"
    shutil.copy(
        work / "supernet-layer-wise" / "model.safetensors", work / "supernet-plain" / "model.safetensors"
    )
    with pytest.raises(AssertionError, match="the model in .*supernet-plain is another one .* than the job"):
        run_here(*copied, only=[SECOND])


def test_results_of_older_versions_are_taken_as_they_are(tmp_path: Path) -> None:
    place = Place(tmp_path, "x")
    (tmp_path / "results").mkdir()
    for name in ("supernet-plain", "score-plain-loss"):
        record = {"schema": RESULT_SCHEMA, "job": {}, "outcome": {}}
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(record), "utf-8")
    check_model(place, "supernet-plain", "0")
    check_made_again(place, "supernet-plain", "0")


def test_a_weights_file_that_changes_after_the_run_began_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from llmpp.study.search_kinds import _check_file

    (tmp_path / "llm.bin").write_bytes(b"other")
    with pytest.raises(InputError, match="is another file .* than when the run began"):
        _check_file(tmp_path / "llm.bin", "0" * 64)


def test_the_latency_model_is_made_of_its_result_by_several_workers(copied: tuple[Path, Path]) -> None:
    from llmpp.study.search_kinds import _latency

    place, task = small_place(*copied), Study.load(copied[0]).task
    path = copied[1] / "work" / "latency-model" / "latency.safetensors"
    known = path.read_bytes()
    path.write_bytes(b"of another study")
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda _: _latency(place, task), range(8)))
    assert {model.name for model in models} == {"latency-model"}
    assert path.read_bytes() == known
    assert not list(path.parent.glob("*.part"))


def find_jobs(n: int) -> Sequence[Job]:
    """Trainings of one find of several searches."""
    shared = {"recipe": {"seed": 1}, "task": {}}
    return [Job(f"train-{number}", "train", {"search": f"search-{number}", **shared}) for number in range(n)]


class Trainings:
    """Trains by counting, and keeps what came of it as a training does."""

    def __init__(self) -> None:
        self.n, self.n_now = 0, threading.Semaphore(1)

    def __call__(self, folder: Path) -> dict[str, Any]:
        assert self.n_now.acquire(blocking=False), "two train side by side"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "result.json").is_file():
            self.n += 1
            time.sleep(0.1)
            (folder / "result.json").touch()
        self.n_now.release()
        return {"architecture": ONE.to_dict(), "seconds": 9.0, "seconds_to_finish": 1.0}


def test_a_find_of_two_searches_is_trained_once(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    place, train = Place(tmp_path, "x"), Trainings()
    one, other, later = find_jobs(3)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda job: train_find(job, place, ONE, train), (one, other)))
    assert train.n == 1, "though neither had a result yet"
    assert sorted(outcome["seconds"] for outcome in found) == [0.0, 9.0]
    (same,) = (outcome["same_as"] for outcome in found if "same_as" in outcome)
    assert same in {one.id, other.id}
    assert train_find(later, place, ONE, train)["same_as"] == same
    assert train_find(Job(same, "train", one.parameters), place, ONE, train)["seconds"] == 9.0


def test_a_training_counts_for_the_job_that_ended_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    place, train = Place(tmp_path, "x"), Trainings()
    one, other = find_jobs(2)

    def killed(folder: Path) -> dict[str, Any]:
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        train_find(one, place, ONE, killed)
    assert "same_as" not in train_find(other, place, ONE, train)
    assert train_find(one, place, ONE, train)["same_as"] == other.id
