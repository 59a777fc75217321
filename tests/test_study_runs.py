"""Runs of studies: nothing is lost and nothing done twice, however runs and workers end."""

import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmpp.study import worker
from llmpp.study.job import Job
from llmpp.study.job_queue import JobQueue
from llmpp.study.local_workers import LocalWorkers
from llmpp.study.place import Place
from study_runs import (
    PATIENCE,
    allow,
    begin,
    begun,
    check_all_done_once,
    lives,
    pid_of,
    run,
    traced,
    wait_for,
)
from toy_study import JOBS, toy_place


def test_jobs_are_done_after_those_that_they_wait_for(tmp_path: Path) -> None:
    allow(tmp_path)
    assert set(run(tmp_path, JOBS).values()) == {"done"}
    check_all_done_once(tmp_path, also=())
    words = [(word, job) for word, job, _ in traced(tmp_path)]
    for job in JOBS:
        assert all(words.index(("end", other)) < words.index(("begin", job.id)) for other in job.after)
    result = JobQueue(tmp_path, JOBS).result("sum")
    assert result["schema"] == "llmpp.study-result/1"
    assert result["job"] == {"id": "sum", "kind": "add", "parameters": {"number": 100}, "after": [
        "b0", "b1", "b2", "b3", "hang"]}  # fmt: skip
    assert {"seconds", "machine", "command", "date", "versions"} <= set(result)
    assert result["command"] == "toy"


def test_an_exclusive_job_is_beside_no_other(tmp_path: Path) -> None:
    allow(tmp_path)
    run(tmp_path, JOBS, 3)
    words = [(word, job) for word, job, _ in traced(tmp_path)]
    place = words.index(("begin", "alone"))
    assert words[place + 1] == ("end", "alone")
    before = Counter(word for word, _ in words[:place])
    assert before["begin"] == before["end"]


def test_a_done_job_is_never_done_again(tmp_path: Path) -> None:
    allow(tmp_path)
    run(tmp_path, JOBS)
    before = (tmp_path / "trace.txt").read_text("utf-8")
    run(tmp_path, JOBS)
    assert (tmp_path / "trace.txt").read_text("utf-8") == before


#: A chain of jobs that read each other's files, and two that hang on it.
CHAIN = (
    Job("a", "leave", {"number": 1}, leaves=("sum",)),
    Job("b", "leave", {"number": 2}, ("a",), leaves=("sum",)),
    Job("c", "leave", {"number": 3}, ("b",)),
    Job("d", "leave", {"number": 4}, ("a",)),
)


def test_results_are_carried_without_files_and_only_needed_files_are_made_again(tmp_path: Path) -> None:
    run(tmp_path / "here", CHAIN, 1)
    shutil.copytree(tmp_path / "here" / "results", tmp_path / "there" / "results")
    assert set(run(tmp_path / "there", CHAIN).values()) == {"done"}
    assert begun(tmp_path / "there") == [], "nothing is left to do, so no file is needed"
    (tmp_path / "there" / "results" / "c.json").unlink()
    queue = JobQueue(tmp_path / "there", CHAIN)
    assert queue.states() == {"a": "waiting", "b": "waiting", "c": "waiting", "d": "done"}
    assert set(run(tmp_path / "there", CHAIN).values()) == {"done"}
    assert begun(tmp_path / "there") == ["a", "b", "c"]
    assert queue.result("c")["outcome"] == {"total": 6}
    (tmp_path / "there" / "results" / "d.json").unlink()
    run(tmp_path / "there", CHAIN)
    assert begun(tmp_path / "there")[3:] == ["d"], "the files are there"


def test_a_job_that_does_not_leave_its_files_fails(tmp_path: Path) -> None:
    job = Job("a", "leave", {"number": 1, "file": "other"}, leaves=("sum",))
    assert run(tmp_path, [job, *CHAIN[1:2]]) == {"a": "failed", "b": "blocked"}
    assert JobQueue(tmp_path, [job]).attempts("a")[0]["message"] == "it did not leave ['sum']"


def test_a_run_may_do_some_jobs_and_what_they_need(tmp_path: Path) -> None:
    states = run(tmp_path, CHAIN, only=["b"])
    assert states == {"a": "done", "b": "done", "c": "waiting", "d": "waiting"}
    assert begun(tmp_path) == ["a", "b"]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to kill")
        allow(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == 0
    check_all_done_once(tmp_path)
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 2


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        process.kill()
    wait_for(lambda: not lives(pid), "its worker to end")
    assert not JobQueue(tmp_path, JOBS).claims(), "those of a dead run do not hold"
    allow(tmp_path)
    assert set(run(tmp_path, JOBS).values()) == {"done"}
    check_all_done_once(tmp_path, also=("hang", "a", "b0", "b1", "b2", "b3"))
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 1, "to be stopped is no failure"


def test_a_run_ends_cleanly_by_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert not lives(pid)
    assert not list((tmp_path / "claims").glob("*.json"))
    allow(tmp_path)
    assert set(run(tmp_path, JOBS).values()) == {"done"}


def test_two_runs_share_the_jobs(tmp_path: Path) -> None:
    allow(tmp_path)
    with begin(tmp_path) as one, begin(tmp_path) as other:
        assert (one.wait(PATIENCE), other.wait(PATIENCE)) == (0, 0)
    check_all_done_once(tmp_path, also=())


def test_of_two_runs_one_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    with begin(tmp_path, 1) as one:
        wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        with begin(tmp_path, 1) as other:
            wait_for(lambda: pid_of(tmp_path, "b0"), "the other run")
            allow(tmp_path)
            one.kill()
            assert other.wait(PATIENCE) == 0
    check_all_done_once(tmp_path)


def test_a_job_that_kills_its_workers_fails_in_the_end(tmp_path: Path) -> None:
    jobs = [Job("die", "die"), Job("next", "add", {"number": 1}, ("die",)), Job("b", "add", {"number": 1})]
    states = run(tmp_path, jobs, n_attempts=2)
    assert states == {"die": "failed", "next": "blocked", "b": "done"}
    assert Counter(job for _, job, _ in traced(tmp_path))["die"] == 2
    record = json.loads((tmp_path / "failures" / "die.json").read_text("utf-8"))
    assert record["attempts"][0]["message"] == "its worker ended by itself, by SIGKILL"
    assert record["is_final"]


def test_a_job_that_fails_says_why_and_is_tried_again_when_asked(tmp_path: Path) -> None:
    jobs = [
        Job("unlucky", "refuse"),
        Job("hopeless", "refuse", {"is_final": True}),
        Job("nan", "refuse", {"is_nan": True}),
        Job("odd", "no-such"),
    ]
    assert set(run(tmp_path, jobs).values()) == {"failed"}
    counts = Counter(job for _, job, _ in traced(tmp_path))
    assert counts == {"unlucky": 3, "hopeless": 1, "nan": 3}
    queue = JobQueue(tmp_path, jobs)
    assert queue.attempts("unlucky")[0]["message"] == "RuntimeError: no luck today"
    assert "toy_study.py" in queue.attempts("unlucky")[0]["details"]
    assert "'no-such'; known: add, leave, hang, die, refuse" in queue.attempts("odd")[0]["message"]
    run(tmp_path, jobs)
    assert Counter(job for _, job, _ in traced(tmp_path)) == counts
    assert sorted(queue.forgive()) == ["hopeless", "nan", "odd", "unlucky"]
    run(tmp_path, jobs[1:2])
    assert Counter(job for _, job, _ in traced(tmp_path))["hopeless"] == 2


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `ray`)")
def test_a_worker_of_a_ray_cluster_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    with begin(tmp_path, 2, "local") as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to kill")
        allow(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == 0
    check_all_done_once(tmp_path)
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 2


def test_the_log_of_a_worker_that_replaces_another_is_its_own(tmp_path: Path) -> None:
    workers = LocalWorkers(toy_place(tmp_path), 2)
    try:
        first, second = workers._hire(), workers._hire()
        first.process.kill()
        wait_for(lambda: workers.wait(0.1) or first not in workers.workers, "its end to be seen")
        assert (second.number, workers._hire().number) == (1, 0)
        assert {path.name for path in (tmp_path / "logs").iterdir()} == {"worker-0.log", "worker-1.log"}
    finally:
        workers.stop()


def test_a_result_names_the_device_that_its_job_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(worker, "describe_machine", lambda device, _: {"device_name": device})
    monkeypatch.setattr("llmpp.device.find_device", lambda name: {"auto": "cuda:0"}[name])
    monkeypatch.setattr("toy_study.ON_CPU", frozenset({"leave"}), raising=False)
    place = replace(toy_place(tmp_path), settings={"device": "auto"})

    def device(job: Job, where: Place) -> str:
        record = json.loads(worker.perform(worker.question_of(job, where)))["record"]
        return str(record["machine"]["device_name"])

    assert device(Job("a", "add", {"number": 1}), place) == "cuda:0"
    assert device(Job("b", "leave", {"number": 1}), place) == "cpu", "whatever it may use"
    assert device(Job("c", "add", {"number": 1}), toy_place(tmp_path)) == "cpu"
