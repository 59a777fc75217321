"""Studies: nothing is lost and nothing done twice, however runs and workers end; expansion; status."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from command import Command, last_line
from llmpp import InputError
from llmpp.study.claim import Claim, Owner
from llmpp.study.dispatcher import dispatch
from llmpp.study.job import Job, check_jobs
from llmpp.study.job_queue import JobQueue, State
from llmpp.study.local_workers import LocalWorkers
from llmpp.study.status import status_of
from small_study import write_small_study
from toy_study import JOBS, TOTALS, toy_place

TESTS = Path(__file__).parent
#: Seconds to wait for what takes moments: machines may be busy.
_PATIENCE = 120.0


@pytest.fixture(autouse=True)
def _workers_find_the_toy_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def begin(directory: Path, n: int = 2, *more: str) -> "subprocess.Popen[bytes]":
    """Begins a run of the toy jobs as a process of its own."""
    command = [sys.executable, str(TESTS / "toy_study.py"), str(directory), str(n), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def traced(directory: Path) -> list[tuple[str, str, int]]:
    path = directory / "trace.txt"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [(word, job, int(pid)) for word, job, pid in map(str.split, lines)]


def pid_of(directory: Path, job: str) -> int | None:
    """The process that last began a job."""
    return next(
        (pid for word, name, pid in reversed(traced(directory)) if (word, name) == ("begin", job)), None
    )


def allow(directory: Path) -> None:
    (directory / "killed").touch()


def run(directory: Path, jobs: Sequence[Job], n: int = 2, **settings: Any) -> dict[str, State]:
    return dispatch(JobQueue(directory, jobs, **settings), LocalWorkers(toy_place(directory), n))


def check_all_done_once(directory: Path, *, also: Sequence[str] = ("hang",)) -> None:
    """Checks every result; jobs were begun and ended once, but for those that were killed."""
    jobs = JobQueue(directory, JOBS)
    assert {name: jobs.result(name)["outcome"]["total"] for name in jobs.jobs} == TOTALS
    counts = Counter((job, word) for word, job, _ in traced(directory))
    assert all(counts[job, word] == 1 for job in TOTALS if job not in also for word in ("begin", "end"))
    assert all(counts[job, "end"] >= 1 for job in also)
    left = {path.name for path in directory.rglob("*") if path.suffix == ".part"}
    assert not left
    assert not list((directory / "claims").glob("*.json"))
    assert not list(directory.glob("failures/*.json"))


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


def begun(directory: Path) -> list[str]:
    return [job for word, job, _ in traced(directory) if word == "begin"]


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
    states = dispatch(JobQueue(tmp_path, CHAIN, only=["b"]), LocalWorkers(toy_place(tmp_path), 2))
    assert states == {"a": "done", "b": "done", "c": "waiting", "d": "waiting"}
    assert begun(tmp_path) == ["a", "b"]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to kill")
        allow(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(_PATIENCE) == 0
    check_all_done_once(tmp_path)
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 2


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        process.kill()
    wait_for(lambda: not _lives(pid), "its worker to end")
    assert not JobQueue(tmp_path, JOBS).claims(), "those of a dead run do not hold"
    allow(tmp_path)
    assert set(run(tmp_path, JOBS).values()) == {"done"}
    check_all_done_once(tmp_path, also=("hang", "a", "b0", "b1", "b2", "b3"))
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 1, "to be stopped is no failure"


def test_a_run_ends_cleanly_by_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE)
    assert not _lives(pid)
    assert not list((tmp_path / "claims").glob("*.json"))
    allow(tmp_path)
    assert set(run(tmp_path, JOBS).values()) == {"done"}


def test_two_runs_share_the_jobs(tmp_path: Path) -> None:
    allow(tmp_path)
    with begin(tmp_path) as one, begin(tmp_path) as other:
        assert (one.wait(_PATIENCE), other.wait(_PATIENCE)) == (0, 0)
    check_all_done_once(tmp_path, also=())


def test_of_two_runs_one_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    with begin(tmp_path, 1) as one:
        wait_for(lambda: pid_of(tmp_path, "hang"), "the job to hang")
        with begin(tmp_path, 1) as other:
            wait_for(lambda: pid_of(tmp_path, "b0"), "the other run")
            allow(tmp_path)
            one.kill()
            assert other.wait(_PATIENCE) == 0
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


def test_the_command_does_a_small_study(tmp_path: Path, llmpp_command: Command) -> None:
    for package in ("torch", "safetensors", "tokenizers", "sacrebleu"):
        pytest.importorskip(package)
    write_small_study(tmp_path)
    given = (str(tmp_path / "small.toml"), "-o", str(tmp_path / "out"))
    status = last_line(llmpp_command("study", "status", *given, "--json").out)
    assert {job["state"] for job in status["jobs"].values()} == {"waiting"}
    ended = llmpp_command("study", "run", *given, "--workers", "1", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "[9/9]" in ended.err
    check_small_study(tmp_path / "out")
    again = llmpp_command("study", "run", *given, "--json")
    assert again.code == 0
    assert "begun" not in again.err
    shown = llmpp_command("study", "status", *given)
    assert "time left: 0 s with 2 workers" in " ".join(shown.out.split())
    refused = llmpp_command("study", "status", str(tmp_path / "none.toml"))
    assert refused.code == 2
    assert "cannot read the study" in refused.err


def test_the_command_does_only_what_is_asked_for(tmp_path: Path, llmpp_command: Command) -> None:
    for package in ("torch", "tokenizers"):
        pytest.importorskip(package)
    write_small_study(tmp_path)
    given = (str(tmp_path / "small.toml"), "-o", str(tmp_path / "out"), "--workers", "1", "--json")
    done = llmpp_command("study", "run", *given, "--only", "prepare", "--only", "latency-0[12]")
    assert done.code == 0, done.err
    jobs = last_line(done.out)["jobs"]
    assert {name for name, job in jobs.items() if job["state"] == "done"} == {
        "prepare",
        "latency-01",
        "latency-02",
    }
    refused = llmpp_command("study", "run", *given, "--only", "trane")
    assert refused.code == 2
    assert "'trane'; known: prepare, supernet, train, score, latency" in " ".join(refused.err.split())


def test_the_command_is_ended_politely(tmp_path: Path) -> None:
    write_small_study(tmp_path)
    command = [
        sys.executable,
        "-m",
        "llmpp",
        "study",
        "run",
        str(tmp_path / "small.toml"),
        "-o",
        str(tmp_path / "o"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert process.stderr.readline() == b"[0/9] prepare: begun\n"
        process.terminate()
        assert b"stopped: go on by the same command" in process.stderr.read()
    assert process.returncode == 130
    assert not list((tmp_path / "o" / "claims").glob("*.json"))


def check_small_study(directory: Path) -> None:
    def outcome(name: str) -> dict[str, Any]:
        return dict(json.loads((directory / "results" / f"{name}.json").read_text("utf-8"))["outcome"])

    first, second = outcome("train-02-seed-1"), outcome("train-02-seed-2")
    assert first["corpus"] == outcome("prepare")["hash"]
    assert first["flops"] == second["flops"] > 0
    assert first["valid_loss"] != second["valid_loss"]
    assert {"bleu", "bleu_signature"} <= set(first["valid_greedy"]) & set(first["test"])
    assert (directory / "work" / "train-02-seed-1" / "model.safetensors").is_file()
    losses, bleu = outcome("score-plain-loss")["scores"], outcome("score-plain-bleu")["scores"]
    assert list(losses) == list(bleu) == ["1", "2"]
    assert all(value < 0 for value in losses.values())
    assert outcome("latency-01")["latency_ms"] > 0
    record = json.loads((directory / "results" / "train-01-seed-1.json").read_text("utf-8"))
    assert record["versions"]["torch"]
    assert record["job"]["parameters"]["recipe"]["seed"] == 1


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra `ray`)")
def test_a_worker_of_a_ray_cluster_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    with begin(tmp_path, 2, "local") as process:
        pid = wait_for(lambda: pid_of(tmp_path, "hang"), "the job to kill")
        allow(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(_PATIENCE) == 0
    check_all_done_once(tmp_path)
    assert JobQueue(tmp_path, JOBS).result("hang")["n_attempts"] == 2


def _lives(pid: int) -> bool:
    from llmpp.study.claim import birth_of

    return birth_of(pid) is not None
