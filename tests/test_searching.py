"""The verbs `search` and `cost`: what they print and write, and how they exit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import llmpp
from command import SHORT, Command, last_line
from llmpp import Architecture, hsnas, load_latency, load_task

TASK = load_task("wmt14.en-de")
ARCHITECTURE = TASK.figures[0].architecture


def test_search_prints_the_result_of_the_call_as_the_last_line(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command(
        "search", "--task", "wmt14.en-de", "--hardware", "titan-xp", "--latency-ms", "150",
        "--gflops", "3.5", "--params-m", "45", "--seed", "3", "--run-dir", "run", "--json",
    )  # fmt: skip
    content = last_line(out)
    bounds = {"latency_ms": 150, "gflops": 3.5, "params_m": 45}
    result = hsnas.search("wmt14.en-de", "titan-xp", bounds, seed=3)
    assert code == 0
    assert result.best is not None
    assert (content["status"], content["strategy"]) == ("optimal", "exact")
    assert content["best"] == result.best.to_dict()
    assert content["n_evaluations"] == sum(iteration.n_evaluations for iteration in result.history)
    assert content["notes"] == list(result.notes)
    assert content["run_dir"] == "run"


def test_search_without_json_prints_the_figures_and_the_run_directory(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("search", "--task", "wmt19.en-de", "--hardware", "titan-xp", *SHORT)
    (run_dir,) = Path("runs").iterdir()
    best = json.loads((run_dir / "result.json").read_text())["best"]
    assert code == 0
    assert f"run directory: {run_dir}" in out
    assert f"{best['score']:.3f}" in out
    assert f"{best['latency_ms']:.3f}" in out
    assert str(best["architecture"]["encoder_ffn"]) in out
    assert "note: titan-xp: a latency model made for wmt14.en-fr stands in for wmt19.en-de" in out


def test_two_searches_in_one_second_get_a_run_directory_each(llmpp_command: Command) -> None:
    for _ in range(3):
        assert llmpp_command("search", "--task", "wmt14.en-de", *SHORT)[0] == 0
    assert len(list(Path("runs").iterdir())) == 3


def test_every_setting_of_the_evolution_reaches_the_search(llmpp_command: Command) -> None:
    student = Path(llmpp.__file__).parent / "assets" / "students" / "wmt14.en-de.safetensors"
    code, _, _ = llmpp_command(
        "search", "--task", "wmt14.en-de", "--initial", student, "--baseline", student, "--switch", "0.25",
        "--n-iterations", "4", "--n-population", "11", "--n-parents", "7", "--n-mutants", "5",
        "--n-children", "6", "--mutation-prob", "0.2", "--n-threads", "2", "--run-dir", "run", "--json",
    )  # fmt: skip
    settings = json.loads(Path("run/settings.json").read_text())
    assert code == 0
    assert settings["predictors"] == [str(student), f"{student} (baseline)"]
    assert (settings["switch"], settings["n_threads"]) == (0.25, 2)
    assert settings["evolution"] == {
        "n_iterations": 4,
        "n_population": 11,
        "n_parents": 7,
        "n_mutants": 5,
        "n_children": 6,
        "mutation_prob": 0.2,
        "max_draws": 20,
    }


@pytest.mark.parametrize(
    ("arguments", "strategy", "words"),
    [
        ([], "exact", "exact search"),
        (["--strategy", "exact"], "exact", ""),
        (["--strategy", "evolution"], "evolution", ""),
        (["--max-vectors", "1000"], "evolution", "more than `max_vectors=1,000`"),
        (["--n-parents", "25"], "evolution", "settings of the evolution were given"),
        (["--mutation-prob", "0"], "evolution", "settings of the evolution were given"),
    ],
)
def test_the_strategy_is_chosen_by_flags(
    arguments: list[str], strategy: str, words: str, llmpp_command: Command
) -> None:
    code, out, _ = llmpp_command("search", "--task", "wmt14.en-de", *arguments, "--json")
    content = last_line(out)
    assert (code, content["strategy"]) == (0, strategy)
    assert words in " ".join(content["notes"])


def test_keep_makes_the_next_search_score_nothing(llmpp_command: Command) -> None:
    arguments = ["search", "--task", "wmt14.en-de", "--hardware", "titan-xp", "--keep", "--json"]
    one, two = (last_line(llmpp_command(*arguments)[1]) for _ in range(2))
    assert one["n_evaluations"] > 0
    assert two["n_evaluations"] == 0
    assert one["best"] == two["best"]


def test_a_baseline_of_an_exact_search_is_asked_about_as_many_as_flagged(llmpp_command: Command) -> None:
    student = Path(llmpp.__file__).parent / "assets" / "students" / "wmt14.en-fr.safetensors"
    code, out, _ = llmpp_command(
        "search", "--task", "wmt14.en-de", "--baseline", student, "--strategy", "exact",
        "--n-proposals", "30", "--run-dir", "run", "--json",
    )  # fmt: skip
    frame = pl.read_parquet("run/candidates.parquet")
    assert (code, last_line(out)["status"]) == (0, "budget")
    assert len(frame.filter(pl.col("predictor") == str(student))) == 30


def test_max_draws_has_a_flag_like_the_other_settings(llmpp_command: Command) -> None:
    assert llmpp_command("search", "--task", "wmt14.en-de", "--max-draws", "30", *SHORT)[0] == 0


@pytest.mark.parametrize("flag", [["--json"], []])
def test_an_infeasible_search_exits_with_three_and_tells_what_is_reachable(
    flag: list[str], llmpp_command: Command
) -> None:
    code, out, _ = llmpp_command("search", "--task", "wmt14.en-de", "--gflops", "0.5", *flag)
    assert code == 3
    if flag:
        content = last_line(out)
        assert (content["status"], content["best"]) == ("infeasible", None)
        assert set(content["reachable"]) == {"gflops", "params_m"}
    else:
        assert "infeasible" in out
        assert re.search(r"gflops 1\.\d+", out)


@pytest.mark.parametrize("name", ["best.json", "best.yml"])
def test_what_search_found_feeds_back_into_cost(name: str, llmpp_command: Command) -> None:
    _, out, _ = llmpp_command("search", "--task", "wmt14.en-de", "--run-dir", "run", "--json", *SHORT)
    best = last_line(out)["best"]
    code, out, _ = llmpp_command("cost", f"run/{name}", "--task", "wmt14.en-de", "--json")
    content = last_line(out)
    assert code == 0
    assert (content["flops"] / 1e9, content["params"] / 1e6) == (best["gflops"], best["params_m"])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ARCHITECTURE.to_dict()),
        ARCHITECTURE.to_hat(),
        "\n" + ARCHITECTURE.to_hat().replace("\n", "\n\n"),
        json.dumps(ARCHITECTURE.to_hat("dict")),
        json.dumps(ARCHITECTURE.to_hat("lines")),
    ],
)
def test_cost_reads_every_notation(text: str, llmpp_command: Command) -> None:
    Path("architecture").write_text(text)
    code, out, _ = llmpp_command(
        "cost", "architecture", "--task", "wmt14.en-de", "--hardware", "titan-xp", "--json"
    )
    content = last_line(out)
    assert code == 0
    assert content.pop("latency_ms") == load_latency("titan-xp", task=TASK).predict([ARCHITECTURE])[0]
    assert llmpp.Cost(**content) == llmpp.cost(ARCHITECTURE, task=TASK)


def test_cost_without_json_prints_every_figure(llmpp_command: Command) -> None:
    Path("architecture").write_text(ARCHITECTURE.to_hat())
    code, out, _ = llmpp_command("cost", "architecture", "--task", "wmt14.en-de")
    assert code == 0
    assert re.findall(r"(\w+) ([\d,]+)\n", out) == [
        ("flops", "3,479,416,512"),
        ("flops_without_head", "2,472,783,552"),
        ("params", "39,528,448"),
        ("embedding_params", "16,777,216"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "architecture holds no architectures"),
        ("{", "not a line of HAT's notation"),
        ("[]", "architecture holds no architectures"),
        ("{}", "needs exactly the fields"),
        ('{"encoder_dim": 5}', "needs exactly the fields"),
        (
            json.dumps({**ARCHITECTURE.to_dict(), "encoder_dim": 600}),
            r"is 600, which is not one of [512, 640]",
        ),
    ],
)
def test_cost_of_what_is_no_architecture_of_the_task_is_wrong_use(
    text: str, words: str, llmpp_command: Command
) -> None:
    Path("architecture").write_text(text)
    code, out, err = llmpp_command("cost", "architecture", "--task", "wmt14.en-de", "--json")
    assert code == 2
    assert words in err.replace("\n", " ")
    assert out == ""


@pytest.mark.parametrize("text", ["5", "null"])
def test_cost_of_a_lone_number_is_wrong_use(text: str, llmpp_command: Command) -> None:
    Path("architecture").write_text(text)
    assert llmpp_command("cost", "architecture", "--task", "wmt14.en-de")[0] == 2


def test_ctrl_c_ends_a_search_with_what_it_found(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    few = ["--n-population", "5", "--n-parents", "3", "--n-mutants", "2", "--n-children", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llmpp", "search", "--task", "wmt14.en-de", "--n-iterations", "1000000",
         "--run-dir", str(run_dir), "--json", *few],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (run_dir / "settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    content = last_line(out)
    assert content["status"] == "interrupted"
    assert content["best"]["score"] > 20
    assert json.loads((run_dir / "result.json").read_text())["status"] == "interrupted"
    candidates = pl.read_parquet(run_dir / "candidates.parquet")
    assert len(candidates) == content["n_evaluations"] > 5
    assert candidates["score"].max() == content["best"]["score"]
    assert (
        Architecture.from_hat((run_dir / "best.yml").read_text()).to_dict() == content["best"]["architecture"]
    )
