"""Searches that were stopped go on from their run directory."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from enumeration import small_task
from llmpp import Architecture, InputError, Iteration, PredictorError, hsnas
from llmpp.run import RunDirectory
from predictors import Shallow, network
from trial import BOUNDS, SHORT, TASK, same

SETTINGS: dict[str, Any] = {"hardware": "titan-xp", "constraints": BOUNDS, "strategy": "evolution", **SHORT}


class Dying(Shallow):
    """A baseline that is killed, as far as a search can tell, after so many calls."""

    name = "dying"
    identity: str | None = None

    def __init__(self, n_calls: int = 10**9) -> None:
        super().__init__()
        self.n_calls = n_calls

    def predict(self, architectures: list[Architecture]) -> list[float]:
        if self.n_calls == 0:
            raise RuntimeError("killed")
        self.n_calls -= 1
        return super().predict(architectures)


class Keeping(Dying):
    """One that keeps its scores itself."""

    name = "keeping"
    keeps_scores = True

    def __init__(self, n_calls: int = 10**9) -> None:
        super().__init__(n_calls)
        self.n_searches = 0

    def begin_search(self, n_best: int | None) -> None:
        self.n_searches += 1


@dataclass
class Spending:
    """A baseline that counts what it spends."""

    n: int

    @property
    def usage(self) -> "Spending":
        return self

    def to_dict(self) -> dict[str, int]:
        return {"n": self.n}

    def predict(self, architectures: list[Architecture]) -> list[float]:
        return Shallow().predict(architectures)


def test_a_search_killed_under_its_baseline_goes_on_and_asks_nothing_again(tmp_path: Path) -> None:
    whole = Dying()
    undisturbed = hsnas.search(TASK, baseline=whole, **SETTINGS)
    first, second = Dying(1), Dying()
    with pytest.raises(PredictorError, match="killed; what was scored before is in"):
        hsnas.search(TASK, baseline=first, run_dir=tmp_path, **SETTINGS)
    resumed = hsnas.search(TASK, baseline=second, run_dir=tmp_path, resume=True, **SETTINGS)
    assert same(resumed, undisturbed)
    assert first.asked
    assert second.asked
    assert not set(first.asked) & set(second.asked)
    assert first.asked + second.asked == whole.asked


def test_a_search_stopped_twice_loses_nothing(tmp_path: Path) -> None:
    done = hsnas.search(TASK, baseline=Dying(), run_dir=tmp_path, **SETTINGS)

    def stop(iteration: Iteration) -> None:
        raise KeyboardInterrupt

    stopped = hsnas.search(
        TASK, baseline=Dying(0), run_dir=tmp_path, resume=True, callbacks=[stop], **SETTINGS
    )
    assert stopped.status == "interrupted"
    idle = Dying(0)
    assert same(hsnas.search(TASK, baseline=idle, run_dir=tmp_path, resume=True, **SETTINGS), done)
    assert idle.asked == []


def test_an_exact_search_goes_on_with_its_proposals(tmp_path: Path) -> None:
    task = small_task()
    settings: dict[str, Any] = {"strategy": "exact", "initial": Shallow(), "n_proposals": 60}
    whole = Dying()
    undisturbed = hsnas.search(task, baseline=whole, **settings)
    first, second = Dying(1), Dying()
    with pytest.raises(PredictorError):
        hsnas.search(task, baseline=first, run_dir=tmp_path, **settings)
    resumed = hsnas.search(task, baseline=second, run_dir=tmp_path, resume=True, **settings)
    assert same(resumed, undisturbed)
    assert first.asked + second.asked == whole.asked


def test_a_search_that_was_done_asks_nothing(tmp_path: Path) -> None:
    done = hsnas.search(TASK, baseline=Dying(), run_dir=tmp_path, resume=True, **SETTINGS)
    idle = Dying(0)
    assert same(hsnas.search(TASK, baseline=idle, run_dir=tmp_path, resume=True, **SETTINGS), done)
    assert idle.asked == []


def test_another_search_is_not_resumed(tmp_path: Path) -> None:
    hsnas.search(TASK, run_dir=tmp_path, **SETTINGS)
    with pytest.raises(InputError, match="was asked `seed` 0, not 1: resume it with the same, or name"):
        hsnas.search(TASK, run_dir=tmp_path, resume=True, **{**SETTINGS, "seed": 1})
    with pytest.raises(InputError, match="was asked `constraints`"):
        hsnas.search(TASK, run_dir=tmp_path, resume=True, **{**SETTINGS, "constraints": {"gflops": 3}})
    with pytest.raises(InputError, match="is not empty: name another, remove it, or resume"):
        hsnas.search(TASK, run_dir=tmp_path, **SETTINGS)
    hsnas.search(TASK, run_dir=tmp_path, resume=True, n_threads=2, **SETTINGS)


def test_a_search_by_another_predictor_of_the_same_name_is_not_resumed(tmp_path: Path) -> None:
    first, second = Dying(), Dying()
    first.identity, second.identity = "one", "another"
    hsnas.search(TASK, baseline=first, run_dir=tmp_path, **SETTINGS)
    with pytest.raises(InputError, match=r"was asked `identities` \[.*'one'\], not \[.*'another'\]"):
        hsnas.search(TASK, baseline=second, run_dir=tmp_path, resume=True, **SETTINGS)
    student, other = network(TASK.space, seed=1), replace(network(TASK.space, seed=2), name="network-1")
    hsnas.search(TASK, initial=student, run_dir=tmp_path / "student", **SETTINGS)
    with pytest.raises(InputError, match="was asked `identities`"):
        hsnas.search(TASK, initial=other, run_dir=tmp_path / "student", resume=True, **SETTINGS)


def test_one_that_keeps_its_scores_hears_of_all_again_and_that_a_search_begins(tmp_path: Path) -> None:
    whole, first, second = Keeping(), Keeping(1), Keeping()
    undisturbed = hsnas.search(TASK, baseline=whole, **SETTINGS)
    with pytest.raises(PredictorError):
        hsnas.search(TASK, baseline=first, run_dir=tmp_path, **SETTINGS)
    assert same(hsnas.search(TASK, baseline=second, run_dir=tmp_path, resume=True, **SETTINGS), undisturbed)
    assert second.asked == whole.asked
    assert (whole.n_searches, first.n_searches, second.n_searches) == (1, 1, 1)


@pytest.mark.parametrize("strategy", ["evolution", "exact"])
def test_what_earlier_starts_took_is_kept(strategy: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**SETTINGS, "strategy": strategy}
    if strategy == "exact":
        settings = {"hardware": "titan-xp", "constraints": BOUNDS, "strategy": strategy, "n_proposals": 60}
    seconds, content = [], {}
    for n in (1, 2, 3):
        result = hsnas.search(TASK, baseline=Spending(n), run_dir=tmp_path, resume=True, **settings)
        seconds.append(sum(iteration.seconds for iteration in result.history))
        content = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("history", "usage")}
        assert [Iteration(**row) for row in content["history"]["iterations"]] == result.history
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[2]
    assert content["usage"]["predictors"] == {"Spending": {"n": 3}}
    assert content["usage"]["earlier"] == [{"Spending": {"n": 1}}, {"Spending": {"n": 2}}]


def test_a_start_that_is_stopped_early_keeps_the_history_of_the_one_before(tmp_path: Path) -> None:
    def stop(iteration: Iteration) -> None:
        if iteration.iteration == 1:
            raise KeyboardInterrupt

    done = hsnas.search(TASK, run_dir=tmp_path, **SETTINGS)
    hsnas.search(TASK, run_dir=tmp_path, resume=True, callbacks=[stop], **SETTINGS)
    rows = json.loads((tmp_path / "history.json").read_text())["iterations"]
    assert [row["iteration"] for row in rows] == [iteration.iteration for iteration in done.history]
    (tmp_path / "history.json").write_text('{"iterations": [{"number": 1}]}')
    with pytest.raises(InputError, match="is damaged, so the run cannot be resumed"):
        hsnas.search(TASK, run_dir=tmp_path, resume=True, **SETTINGS)


def test_a_directory_that_holds_no_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        hsnas.search(TASK, run_dir=other, resume=True, **SETTINGS)
    run = tmp_path / "run"
    with pytest.raises(PredictorError):
        hsnas.search(TASK, baseline=Dying(1), run_dir=run, **SETTINGS)
    whole = (run / "candidates.parquet").read_bytes()
    (run / "candidates.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"candidates.parquet is damaged, so the run cannot be resumed"):
        hsnas.search(TASK, baseline=Dying(), run_dir=run, resume=True, **SETTINGS)
    (run / "settings.json").write_text('{"schema": ')
    with pytest.raises(InputError, match=r"settings.json is damaged"):
        hsnas.search(TASK, baseline=Dying(), run_dir=run, resume=True, **SETTINGS)
    with pytest.raises(InputError, match="`resume` goes on in a run directory"):
        hsnas.search(TASK, resume=True, **SETTINGS)


def test_an_empty_run_directory_knows_no_scores(tmp_path: Path) -> None:
    assert RunDirectory.create(tmp_path, resume=True).known_scores() == {}
