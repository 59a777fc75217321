"""The queue of a study: claims, results of other jobs, jobs that cannot be, and how far a study is."""

import json
import time
from pathlib import Path

import pytest

from llmpp import InputError
from llmpp.study.claim import Claim, Owner
from llmpp.study.job import Job, check_jobs
from llmpp.study.job_queue import JobQueue
from llmpp.study.status import seconds_of, status_of
from study_runs import run


def test_claims_elsewhere_hold_as_long_as_they_beat(tmp_path: Path) -> None:
    job, now = Job("a", "add", {"number": 1}), time.time()
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "a.json"
    for silence, is_free in ((10, False), (1000, True)):
        claim = Claim("a", Owner(host="elsewhere", pid=1, birth=""), False, now - 2000, now - silence)
        path.write_text(json.dumps(claim.to_dict()), "utf-8")
        assert (JobQueue(tmp_path, [job]).take() is not None) == is_free


def test_a_claim_of_another_process_with_the_same_id_does_not_hold(tmp_path: Path) -> None:
    now = time.time()
    assert Claim("a", Owner(), False, now, now - 9999).holds(now, 1)
    if Path("/proc/self/stat").exists():
        assert not Claim("a", Owner(birth="last/1"), False, now, now).holds(now, 1)


def test_what_a_run_brings_whose_job_was_taken_over_is_not_written(tmp_path: Path) -> None:
    one, other = (JobQueue(tmp_path, [Job("a", "add", {"number": 1})]) for _ in range(2))
    job = one.take()
    assert job
    assert other.take() is None
    (tmp_path / "claims" / "a.json").unlink()
    assert other.take()
    assert not one.succeed(job, {"outcome": {"total": 0}})
    assert other.succeed(job, {"outcome": {"total": 1}})
    assert not other.succeed(job, {"outcome": {"total": 2}})
    assert one.result("a")["outcome"] == {"total": 1}


def test_a_run_says_that_it_is_there(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path, [Job("a", "add", {"number": 1})])
    queue.take()
    before = queue.claims()["a"]
    time.sleep(0.01)
    queue.beat()
    after = queue.claims()["a"]
    assert after.heartbeat > before.heartbeat
    assert after.started == before.started


def test_results_of_other_jobs_are_not_taken_for_these(tmp_path: Path) -> None:
    run(tmp_path, [Job("a", "add", {"number": 1})])
    with pytest.raises(InputError, match="result of another job"):
        JobQueue(tmp_path, [Job("a", "add", {"number": 2})])
    (tmp_path / "results" / "a.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match="is not JSON"):
        JobQueue(tmp_path, [Job("a", "add", {"number": 1})])


def test_jobs_that_cannot_be_are_refused() -> None:
    a = Job("a", "add")
    with pytest.raises(InputError, match="two jobs are called 'a'"):
        check_jobs([a, a])
    with pytest.raises(InputError, match="waits for \\['c'\\], which must be listed before it"):
        check_jobs([a, Job("b", "add", after=("a", "c"))])
    with pytest.raises(InputError, match=r"got '\.\./x'"):
        Job("../x", "add")
    with pytest.raises(InputError, match="must be a positive number, got 0"):
        Job("x", "add", estimate=0)


def test_status_counts_and_estimates_the_time_left(tmp_path: Path) -> None:
    jobs = [
        *(Job(f"t{i}", "add", {"number": i}, estimate=100) for i in range(4)),
        Job("l", "measure", {}, estimate=30, is_exclusive=True),
    ]
    queue = JobQueue(tmp_path, jobs)
    assert status_of(queue, n_workers=2).seconds_left == 400 / 2 + 30
    first = queue.take()
    assert first
    queue.succeed(first, {"outcome": {"seconds": 180, "seconds_to_finish": 20}, "seconds": 50})
    assert status_of(queue, n_workers=2).seconds_left == 600 / 2 + 60, "twice as slow as estimated"
    second = queue.take()
    assert second
    status = status_of(queue, n_workers=1)
    assert status.counts()["add"] == {"done": 1, "running": 1, "waiting": 2, "failed": 0, "blocked": 0}
    assert status.seconds_left == pytest.approx(660, abs=2)
    queue.fail(second, "no", is_final=True)
    assert status_of(queue).errors == {"t1": "no"}
    assert status_of(queue, n_workers=1).seconds_left == 460


def test_seconds_of_a_job_are_those_of_all_its_starts() -> None:
    def seconds(**outcome: object) -> float:
        return seconds_of({"seconds": 50, "outcome": outcome})

    assert seconds() == 50
    assert seconds(seconds=180, seconds_to_finish=20) == 200
    assert seconds(usage={"seconds": 40, "seconds_cached": 60}) == 100
    assert seconds(search_seconds=300.0, supernet_seconds=200.0) == 300
    assert seconds(seconds=0.0, same_as="train-1") == 0, "though it may have waited for the other"


def test_trainings_that_were_known_tell_nothing_of_the_time_left(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path, [Job(f"t{i}", "train", estimate=100) for i in range(4)])
    for outcome in ({"seconds": 200}, {"seconds": 0, "same_as": "t0"}):
        job = queue.take()
        assert job
        queue.succeed(job, {"outcome": outcome, "seconds": 1})
    assert status_of(queue, n_workers=1).seconds_left == 400
