"""`llmpp study run` and `status`, on a study of seconds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command import Command, last_line
from small_study import write_small_study


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
