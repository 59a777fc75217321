"""The verbs that ask a language model: what they print, write, keep and survive."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from command import Command, last_line
from llmpp import load_task
from llmpp.answers import read_answers
from llmpp.cache import ReplyCache
from stand_in import StandIn, in_context

TASK = load_task("wmt14.en-de")


def environment(folder: Path, **extra: str) -> dict[str, str]:
    hidden = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "CI"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "COLUMNS": "200", "XDG_CACHE_HOME": str(folder / "cache"), **extra}


def to(stand: StandIn) -> list[str]:
    return ["--base-url", stand.url, "--model", "gpt-4.1", "--task", "wmt14.en-de", "--max-retries", "0"]


def test_predict_prints_an_estimate_for_each_architecture(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    (tmp_path / "two.json").write_text(json.dumps([a.to_dict() for a in TASK.space.sample(2)]))
    (tmp_path / "one.yml").write_text(TASK.space.sample(1, seed=9)[0].to_hat())
    result = llmpp_command("predict", "two.json", "one.yml", *to(stand_in), "--json")
    content = last_line(result.out)
    assert result.code == 0
    assert [row["estimate"] for row in content["predictions"]] == [
        float(line.split()[1]) for line in in_context(stand_in.bodies[0]).splitlines()
    ]
    assert content["usage"]["n_calls"] == 1
    again = llmpp_command("predict", "two.json", "one.yml", *to(stand_in))
    assert "calls: 0" in again.out
    assert "from the cache: 1" in again.out
    assert len(stand_in.bodies) == 1


def test_predict_gives_what_there_is_and_says_what_is_missing(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    stand_in.answer = lambda _body: "1 25.5"
    (tmp_path / "two.json").write_text(json.dumps([a.to_dict() for a in TASK.space.sample(2)]))
    result = llmpp_command("predict", "two.json", *to(stand_in), "--max-attempts", 1, "--json")
    content = last_line(result.out)
    assert result.code == 1
    assert [row["estimate"] for row in content["predictions"]] == [25.5, None]
    assert "1 of 2 architectures have no answer (numbers 2)" in content["problem"]
    assert "no answer (numbers 2)" in result.err


def test_a_dry_run_sends_nothing_and_prints_the_price(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments = ["label", *to(stand_in), "--n", 300, "--dry-run", "--json"]
    unknown = last_line(llmpp_command(*arguments).out)
    assert unknown["usd"] is None
    assert "the price of gpt-4.1 is unknown" in unknown["note"]
    given = last_line(llmpp_command(*arguments, "--usd-per-mtok", 2, 8).out)
    assert given["n_calls"] == 2
    assert given["usd"] == pytest.approx((2 * given["input_tokens"] + 8 * given["output_tokens"]) / 1e6)
    at_openai = last_line(llmpp_command("label", "--task", "wmt14.en-de", "--dry-run", "--json").out)
    assert 0.05 < at_openai["usd"] < 0.5
    assert stand_in.bodies == []


def test_a_dry_run_knows_what_is_cached(stand_in: StandIn, tmp_path: Path, llmpp_command: Command) -> None:
    llmpp_command("label", *to(stand_in), "--n", 4, "--batch-size", 2, "-o", "a.jsonl")
    result = llmpp_command("label", *to(stand_in), "--n", 6, "--batch-size", 2, "--dry-run", "--json")
    content = last_line(result.out)
    assert (content["n_cached"], content["n_calls"]) == (2, 1)


def test_a_dry_run_prices_what_the_same_command_would_ask(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    def priced(*arguments: str) -> tuple[int, int]:
        content = last_line(llmpp_command("label", *to(stand_in), *arguments, "--dry-run", "--json").out)
        return content["n_architectures"], content["n_calls"]

    assert priced() == priced("-o", "a.jsonl") == (450, 3)
    assert priced("--split", "123") == priced("--split", "123", "--export", "out") == (300, 2)
    assert priced("--export", "out") == (3 * 300 + 450, 9), "all splits, and all figures"
    assert not list(tmp_path.glob("*.jsonl"))
    assert not (tmp_path / "out").exists()
    made = llmpp_command("label", *to(stand_in), "--export", "out", "--json")
    assert last_line(made.out)["n_questions"] == 9
    assert stand_in.bodies == []


def test_answers_of_exported_questions_are_found_split_by_split_and_what_is_held_out_is_not_learnt_from(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from llmpp import distill

    llmpp_command("label", *to(stand_in), "--export", "out")
    for path in (tmp_path / "out" / "prompts").iterdir():
        (tmp_path / "out" / "replies" / path.name).write_text(in_context({"input": path.read_text()}))
    assert (
        last_line(llmpp_command("cache", "import", "out", "--model", "gpt-4.1", "--json").out)["n_new"] == 9
    )
    pools = {}
    for split, n in (("123", 300), ("456", 300), ("all", 450)):
        ask = ("label", *to(stand_in), "--split", split, "--max-calls", "0", "-o", f"{split}.jsonl", "--json")
        assert last_line(llmpp_command(*ask).out)["n_answers"] == n
        held_out = {figures.architecture for figures in TASK.held_out(split)}
        asked = set(read_answers(tmp_path / f"{split}.jsonl").architectures)
        assert held_out <= asked
        pools[split] = asked - held_out
    assert pools["123"] == pools["456"]
    assert not pools["123"] & pools["all"]
    monkeypatch.setattr(distill, "N_STEPS", 5)
    monkeypatch.setattr(distill, "N_FOLDS", 2)
    for split, n in (("123", 280), ("all", 450)):
        learn = (
            "distill",
            f"{split}.jsonl",
            "--task",
            "wmt14.en-de",
            "--split",
            split,
            "-o",
            "s.safetensors",
        )
        assert last_line(llmpp_command(*learn, "--json").out)["n_answers"] == n
    assert stand_in.bodies == []


def test_label_writes_answers_and_a_record_of_the_run(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments = ["label", *to(stand_in), "--n", 10, "--split", "456", "-o", "answers.jsonl", "--json"]
    content = last_line(llmpp_command(*arguments, "--usd-per-mtok", 1, 1).out)
    assert (content["status"], content["n_answers"], content["n_missing"]) == ("done", 10, 0)
    answers = read_answers(tmp_path / "answers.jsonl")
    known = {figures.architecture for figures in TASK.figures}
    assert len(set(answers.architectures)) == 10
    assert not known & set(answers.architectures)
    assert {row.split for row in answers.rows} == {"456"}
    assert answers.header["model"] == "gpt-4.1"
    llmpp_command(*arguments)
    records = [json.loads(line) for line in (tmp_path / "answers.jsonl.runs.jsonl").read_text().splitlines()]
    assert [(row["usage"]["n_calls"], row["usage"]["n_cached"]) for row in records] == [(1, 0), (0, 1)]
    assert records[0]["usage"]["usd"] > 0
    assert records[1]["usage"]["usd"] is None
    assert "llmpp label" in records[0]["command"]


def test_label_stops_at_its_budget_and_goes_on_later(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments = ["label", *to(stand_in), "--n", 6, "--batch-size", 2, "-o", "answers.jsonl", "--json"]
    result = llmpp_command(*arguments, "--max-calls", 2)
    assert result.code == 1
    assert (last_line(result.out)["status"], last_line(result.out)["n_answers"]) == ("budget", 4)
    assert "could pass the budget; raise it" in result.err
    assert len(read_answers(tmp_path / "answers.jsonl").rows) == 4
    result = llmpp_command(*arguments)
    assert (result.code, last_line(result.out)["n_answers"]) == (0, 6)
    assert len(stand_in.bodies) == 3


@pytest.mark.parametrize(
    "other", [["--split", "456"], ["--without", "role"], ["--n", "3"], ["--n-samples", "2"], ["--seed", "5"]]
)
def test_label_does_not_lose_answers_that_were_asked_for_otherwise(
    other: list[str], stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments = ["label", *to(stand_in), "--n", 4, "--split", "123", "-o", "answers.jsonl"]
    llmpp_command(*arguments)
    before = (tmp_path / "answers.jsonl").read_bytes()
    ended = llmpp_command(*arguments, *other)
    assert ended.code == 2
    assert "name another output, or remove it" in " ".join(ended.err.split())
    assert (tmp_path / "answers.jsonl").read_bytes() == before
    assert len(stand_in.bodies) == 1
    assert llmpp_command(*arguments, "--n", 6).code == 0


def test_no_file_of_answers_is_claimed_where_there_are_none(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    stand_in.answer = lambda _body: "no idea"
    ended = llmpp_command("label", *to(stand_in), "--n", 2, "-o", "answers.jsonl")
    assert ended.code == 1
    assert "written" not in ended.out
    assert not (tmp_path / "answers.jsonl").exists()
    stand_in.answer = lambda _body: Response("{}", 401)
    assert llmpp_command("label", *to(stand_in), "--n", 3, "-o", "answers.jsonl").code == 1
    lines = (tmp_path / "answers.jsonl.runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["incomplete", "rejected"]


def test_label_does_not_replace_the_answers_of_another_model(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments = ["label", *to(stand_in), "--n", 2, "-o", "answers.jsonl"]
    llmpp_command(*arguments)
    result = llmpp_command(*arguments, "--model", "other")
    assert result.code == 2
    assert "name another output, or remove it" in result.err
    assert len(stand_in.bodies) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of --output FILE and --export DIR, or --dry-run"),
        (["-o", "a", "--export", "b"], "one of --output FILE"),
        (["-o", "a", "--n", "0"], "`n` must be an integer in 1..1000000, got 0"),
        (["-o", "a", "--split", "12"], "unknown split of wmt14.en-de '12'"),
        (["-o", "a", "--without", "roll"], "unknown part of the prompt 'roll'"),
        (["-o", "a", "--sentence-pairs", "none"], "cannot read the sentence pairs none"),
        (["-o", "a", "--architectures", "none"], "cannot read the architectures none"),
        (["-o", "a", "--temperature", "9"], "`temperature` must be in [0, 2]"),
        (["-o", "a", "--batch-size", "0"], "`batch_size` must be an integer in 1"),
        (["-o", "no/where/a"], "cannot write no/where/a"),
        (["-o", "/proc/a"], "cannot write /proc/a"),
        (["-o", "a", "--shuffle-demonstrations"], "needs `n_samples` of at least 2"),
        (["-o", "a", "--max-usd", "1"], "`max_usd` needs a price"),
    ],
)
def test_wrong_use_of_label_exits_with_two(
    arguments: list[str], words: str, stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    result = llmpp_command("label", *to(stand_in), *arguments)
    assert result.code == 2
    assert words in result.err
    assert stand_in.bodies == []


def test_questions_go_out_and_replies_come_in_by_files(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    ask = ["label", *to(stand_in), "--split", "all", "--n", 4, "--batch-size", 2]
    assert last_line(llmpp_command(*ask, "--export", "out", "--json").out)["n_questions"] == 2
    for path in (tmp_path / "out" / "prompts").iterdir():
        (tmp_path / "out" / "replies" / path.name).write_text(in_context({"input": path.read_text()}))
    (tmp_path / "out" / "replies" / "wmt14.en-de_all30_1.txt").unlink()
    result = llmpp_command("cache", "import", "out", "--model", "gpt-4.1")
    assert "wmt14.en-de_all30_1: there is no reply" in result.out
    assert result.code == 0
    result = llmpp_command(*ask, "-o", "a.jsonl", "--max-calls", 0, "--json")
    assert (last_line(result.out)["n_answers"], last_line(result.out)["n_missing"]) == (2, 2)
    listed = last_line(llmpp_command("cache", "list", "--json").out)
    assert [(row["model"], row["n_replies"]) for row in listed["rows"]] == [("gpt-4.1", 1)]
    llmpp_command("cache", "export", "replies.jsonl")
    result = llmpp_command("cache", "import", "replies.jsonl", "--cache", "other.sqlite", "--json")
    assert last_line(result.out)["n_new"] == 1
    assert stand_in.bodies == []


def test_check_says_that_all_is_well(stand_in: StandIn, tmp_path: Path, llmpp_command: Command) -> None:
    result = llmpp_command("check", *to(stand_in), "--usd-per-mtok", 2, 8, "--context-tokens", 8000)
    assert result.code == 0
    for words in (
        "unknown       key",
        "ok  endpoint",
        "gpt-4.1:",
        "2 USD per million",
        "8000 tokens",
        "2 of 2 answers",
    ):
        assert words in result.out
    assert len(stand_in.bodies) == 1


FAULTS = {
    "no server": (["--base-url", "http://127.0.0.1:9/v1"], None, "is the server running"),
    "no key": ([], None, "OPENAI_API_KEY"),
    "wrong key": ([], Response('{"error": {"message": "bad"}}', 401), "check OPENAI_API_KEY"),
    "no such model": ([], Response('{"error": {"message": "no"}}', 404), "check `model`"),
    "too long": ([], Response('{"error": {"message": "context length"}}', 400), "context"),
    "a web page": ([], Response("<html>", content_type="text/html"), "it often ends in /v1"),
    "prose": (
        [],
        "What a lovely Transformer!",
        "0 of 2 answers (1 is absent, 2 is absent) in 'What a lovely",
    ),
    "out of range": ([], "1 2.5\n2 25.1", "1 of 2 answers (1 is out of range)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_names_the_remedy_of_each_failure(
    fault: str, stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    arguments, answer, words = FAULTS[fault]
    if answer is not None:
        stand_in.answer = lambda _body: answer
    address = [] if fault == "no key" else ["--base-url", stand_in.url]
    result = llmpp_command("check", *address, "--max-retries", 0, "--model", "gpt-4.1", *arguments, "--json")
    content = last_line(result.out)
    assert result.code == 1
    assert content["ok"] is False
    failed = [finding for finding in content["findings"] if finding["state"] == "failed"]
    assert any(words in finding["text"] for finding in failed)


def test_keys_are_in_nothing_that_is_printed_or_written(
    stand_in: StandIn, tmp_path: Path, llmpp_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret-key"
    address = stand_in.url.replace("://", "://user:hidden-password@")
    ask = ["--task", "wmt14.en-de", "--model", "gpt-4.1", "--base-url", address, "--n", 2, "-o", "a.jsonl"]
    monkeypatch.setenv("OPENAI_API_KEY", key)
    good = llmpp_command("label", *ask)
    stand_in.answer = lambda _body: Response(json.dumps({"error": {"message": f"bad {key}"}}), 401)
    bad = llmpp_command("label", *ask, "--temperature", 1, "-o", "b.jsonl")
    assert (good.code, bad.code) == (0, 1)
    files = [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    everything = "".join([good.out, bad.out, bad.err, *files])
    assert "a.jsonl.runs.jsonl" in {path.name for path in tmp_path.iterdir()}
    assert key not in everything + good.err
    assert "hidden-password" not in everything


@pytest.mark.parametrize("n_answered", [0, 1, 3, 7])
def test_label_that_was_killed_asks_again_only_for_what_had_not_arrived(
    n_answered: int, stand_in: StandIn, tmp_path: Path, llmpp_command: Command
) -> None:
    def hang_after(body: dict[str, Any]) -> str:
        if len(stand_in.bodies) > n_answered:
            time.sleep(2)
        return in_context(body)

    stand_in.answer = hang_after
    command = ["label", *to(stand_in), "--n", "20", "--batch-size", "2", "-o", "answers.jsonl"]
    command += ["--max-concurrency", "2", "--temperature", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmpp", *command], cwd=tmp_path, env=environment(tmp_path)
    )
    cache = tmp_path / "cache" / "llmpp" / "replies.sqlite"
    wait_for(lambda: len(stand_in.bodies) > n_answered and n_kept(cache) >= n_answered)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {row["prompt"] for row in ReplyCache(cache).rows()}
    assert len(kept) >= n_answered
    stand_in.answer = in_context
    stand_in.bodies.clear()
    result = llmpp_command(*command, "--json")
    assert last_line(result.out)["status"] == "done"
    assert len(stand_in.bodies) == 10 - len(kept)
    assert not kept & set(stand_in.prompts)
    llmpp_command(*command, "--cache", "undisturbed.sqlite", "-o", "undisturbed.jsonl")
    disturbed, undisturbed = (
        (tmp_path / name).read_bytes() for name in ("answers.jsonl", "undisturbed.jsonl")
    )
    assert disturbed == undisturbed


def n_kept(cache: Path) -> int:
    return sum(1 for _ in ReplyCache(cache).rows()) if cache.exists() else 0


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_labellings_on_one_cache_at_once_lose_nothing(stand_in: StandIn, tmp_path: Path) -> None:
    command = ["label", *to(stand_in), "--n", "12", "--batch-size", "1"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "llmpp", *command, "-o", f"{name}.jsonl"],
            cwd=tmp_path,
            env=environment(tmp_path),
        )
        for name in "ab"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert n_kept(tmp_path / "cache" / "llmpp" / "replies.sqlite") == 12


def test_ctrl_c_keeps_what_had_arrived(stand_in: StandIn, tmp_path: Path) -> None:
    def hang_after_two(body: dict[str, Any]) -> str:
        if len(stand_in.bodies) > 2:
            time.sleep(2)
        return in_context(body)

    stand_in.answer = hang_after_two
    command = ["label", *to(stand_in), "--n", "8", "--batch-size", "2", "--max-concurrency", "1", "-o", "a"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmpp", *command],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    cache = tmp_path / "cache" / "llmpp" / "replies.sqlite"
    wait_for(lambda: len(stand_in.bodies) > 2 and n_kept(cache) == 2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "replies that had arrived are kept" in error
    record = json.loads((tmp_path / "a.runs.jsonl").read_text())
    assert (record["status"], record["usage"]["n_calls"]) == ("interrupted", 2)
    assert n_kept(cache) == 2
