"""The command `llmpp`: what it prints, how it exits, and what it writes."""

import json
import re
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import llmpp
from command import SHORT, Command, last_line
from llmpp import distill, load_latency, load_predictor, load_task
from llmpp.answers import Answer, Answers, write_answers
from llmpp.latency import FEATURE_COLUMNS, LATENCY_COLUMNS

TASK = load_task("wmt14.en-de")
ARCHITECTURE = TASK.figures[0].architecture
VERBS = ["search", "frontier", "cost", "distill", "fit-latency", "tasks"]


def answers_file(path: Path, n: int = 30) -> Path:
    rows = tuple(Answer(a, 20.0 + a.decoder_layers) for a in TASK.space.sample(n))
    write_answers(path, Answers({"task": TASK.name}, rows))
    return path


def latency_csv(path: Path, n: int = 100) -> Path:
    features = TASK.space.features(TASK.space.sample(n)).astype(np.float64)
    raw = features * np.array(list(TASK.space.largest.values()))
    columns = dict(zip(FEATURE_COLUMNS, raw.T, strict=True))
    parts = {LATENCY_COLUMNS[0]: np.full(n, 5.0), LATENCY_COLUMNS[1]: 100 * features[:, 5]}
    pl.DataFrame({**columns, **parts}).write_csv(path)
    return path


@pytest.fixture
def is_quick(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes training short, the sizes small, and torch use one thread."""
    monkeypatch.setattr(distill, "N_STEPS", 20)
    monkeypatch.setattr(distill, "choose", partial(distill.choose, sizes=((2,),)))


@pytest.mark.usefixtures("is_quick")
def test_evaluate_prints_a_card_per_task_and_their_mean(llmpp_command: Command) -> None:
    arguments = ["evaluate", "--task", "wmt14.en-de", "--task", "wmt19.en-de", "--n-seeds", "1"]
    arguments += ["--n-bootstrap", "10", "--against", "supernet hat + line"]
    code, out, err = llmpp_command(*arguments, "--json", "--plot", "cards/card")
    content = last_line(out)
    rows = {row["predictor"]: row for row in content["rows"]}
    of_tasks = [{row["predictor"]: row for row in card["rows"]} for card in content["cards"]]
    assert code == 0
    assert [card["task"] for card in content["cards"]] == ["wmt14.en-de", "wmt19.en-de"]
    for name in ("line in FLOPs", "LLM-PP: claude (version not recorded)"):
        expected = sum(card[name]["mae"]["mean"] for card in of_tasks) / 2
        assert rows[name]["mae"]["mean"] == pytest.approx(expected)
    assert rows["supernet hat + line"]["difference"]["mae"]["mean"] == 0
    assert rows["mean of the demonstrations"]["kendall_tau"]["mean"] is None
    assert Path("cards/card.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in Path("cards/card.svg").read_bytes()
    assert "cards/card.png" in err


@pytest.mark.usefixtures("is_quick")
def test_evaluate_without_json_prints_a_table_with_intervals(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("evaluate", "--task", "wmt14.en-de", "--n-seeds", 1, "--n-bootstrap", 200)
    assert code == 0
    assert re.search(r"supernet neuron_wise_mos \+ line +0\.148 \(0\.\d+ to 0\.\d+\) +0\.794 ", out)
    assert re.search(r"mean of the demonstrations +0\.568 \(.*?\) +- ", out)
    assert "noise ceiling, validation against test score: tau-b 0.720" in out


@pytest.mark.usefixtures("is_quick")
def test_distill_reports_and_writes_a_student_that_search_takes(llmpp_command: Command) -> None:
    answers = answers_file(Path("answers.jsonl"))
    arguments = ["distill", answers, "--task", "wmt14.en-de", "-o", "my/student", "--seed", "4"]
    code, out, _ = llmpp_command(*arguments, "--date", "2026-01-02", "--json")
    content = last_line(out)
    record = load_predictor("my/student", task=TASK).record
    assert code == 0
    assert content == {
        "hidden": [2],
        "held_out_mae": record["held_out_mae"],
        "n_answers": 30,
        "output": "my/student",
    }
    assert (record["seed"], record["date"]) == (4, "2026-01-02")
    assert record["command"].startswith("llmpp distill answers.jsonl --task wmt14.en-de -o my/student")
    code, out, _ = llmpp_command("search", "--task", "wmt14.en-de", "--initial", "my/student", *SHORT)
    assert code == 0
    code, out, _ = llmpp_command(*arguments)
    assert code == 0
    assert "written: my/student" in out


def test_fit_latency_reports_errors_and_writes_a_model_that_search_takes(llmpp_command: Command) -> None:
    csv = latency_csv(Path("my-board.csv"))
    arguments = ["fit-latency", csv, "-o", "model", "--seed", "1"]
    code, out, _ = llmpp_command(*arguments, "--json")
    content = last_line(out)
    assert code == 0
    errors = {"rmse_ms", "mae_ms", "mape_pct", "median_ape_pct"}
    assert set(content) == errors | {"n_rows", "shape", "std_pct", "tested_on", "task", "note", "output"}
    assert "name another task by --task" in content["note"]
    assert content["mape_pct"] < 0.1
    assert load_latency("model", task=TASK).record["hardware"] == "my-board"
    search = ["search", "--task", "wmt14.en-de", "--hardware", "model", "--latency-ms", "40", "--json"]
    code, out, _ = llmpp_command(*search, *SHORT)
    assert code == 0
    assert last_line(out)["best"]["architecture"]["decoder_ffn"].__len__() <= 2
    code, out, _ = llmpp_command(*arguments, "--hardware", "a board", "--task", "wmt14.en-fr")
    assert code == 0
    assert "mape_pct" in out
    assert load_latency("model", task="wmt14.en-fr").record["hardware"] == "a board"


def test_tasks_lists_tasks_and_hardware(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("tasks", "--json")
    content = last_line(out)
    tasks = {row["name"]: row for row in content["tasks"]}
    assert code == 0
    assert list(tasks) == llmpp.task_names()
    assert content["hardware"] == llmpp.hardware_names()
    assert tasks["wmt14.en-de"]["n_architectures"] == TASK.space.n_architectures
    assert tasks["iwslt14.de-en"]["student"] is None
    assert "claude" in tasks["wmt14.en-fr"]["student"]
    assert "titan-xp (wmt14.en-fr)" in tasks["wmt19.en-de"]["hardware"]
    code, out, _ = llmpp_command("tasks")
    assert code == 0
    assert all(name in out for name in tasks)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--task", "wmt15"], "unknown task 'wmt15'; known: iwslt14.de-en, multi30k.en-de, wmt14"),
        (["search", "--task", "wmt14.en-de", "--hardware", "h100"], "known: raspberry-pi-4, titan-xp, xeon"),
        (
            ["search", "--task", "wmt14.en-de", "--initial", "best"],
            "unknown predictor 'best'; known: distilled",
        ),
        (
            ["search", "--task", "wmt14.en-de", "--baseline", "hat"],
            "unknown predictor 'hat'; known: distilled",
        ),
        (["search", "--task", "wmt14.en-de", "--latency-ms", "9"], "`latency_ms` needs `hardware`"),
        (
            ["search", "--task", "wmt14.en-de", "--gflops", "-1"],
            "`gflops` must be a positive number, got -1.0",
        ),
        (["search", "--task", "wmt14.en-de", "--params-m", "nan"], "must be a positive number, got nan"),
        (
            ["search", "--task", "wmt14.en-de", "--seed", "-1"],
            "`seed` must be an integer in 0..2^64-1, got -1",
        ),
        (["search", "--task", "wmt14.en-de", "--switch", "2"], "`switch` must be in [0, 1], got 2.0"),
        (["search", "--task", "wmt14.en-de", "--mutation-prob", "7"], "`mutation_prob` must be in [0, 1]"),
        (["search", "--task", "wmt14.en-de", "--n-population", "0"], "`n_population` must be"),
        (["search", "--task", "wmt14.en-de", "--strategy", "best"], "known: auto, exact, evolution"),
        (
            ["search", "--task", "wmt14.en-de", "--strategy", "exact", "--max-vectors", "9"],
            "strategy='exact' is not possible: the space has 5,717,348 feature vectors",
        ),
        (["frontier", "--task", "wmt15"], "unknown task 'wmt15'; known"),
        (["frontier", "--task", "wmt14.en-de", "--max-vectors", "9"], "more than `max_vectors=9`"),
        (["frontier", "--task", "wmt14.en-de", "-o", "curve.txt"], "written as .parquet or .json"),
        (["search", "--task", "iwslt14.de-en"], "llmpp distill ANSWERS --task iwslt14.de-en -o FILE"),
        (["search", "--task", "wmt14.en-de", "--gflops", "much"], "for '--gflops'"),
        (["search"], "Missing option '--task'"),
        (["find"], "No such command 'find'"),
        (["cost", "missing.json", "--task", "wmt14.en-de"], "cannot read the architectures missing.json"),
        (["cost", "here", "--task", "wmt15"], "unknown task 'wmt15'; known"),
        (["cost", "here", "--task", "wmt14.en-de", "--hardware", "h100"], "unknown hardware 'h100'; known"),
        (["distill", "missing", "--task", "wmt14.en-de", "-o", "x"], "cannot read the answers missing"),
        (["distill", "here", "--task", "wmt15", "-o", "x"], "unknown task 'wmt15'; known"),
        (["distill", "here", "--task", "wmt14.en-de"], "Missing option"),
        (["fit-latency", "missing", "-o", "x"], "missing is not a CSV of latencies"),
        (["fit-latency", "here", "-o", "x", "--task", "wmt15"], "unknown task 'wmt15'; known"),
    ],
)
def test_wrong_use_exits_with_two_and_says_what_would_be_right(
    arguments: list[str], words: str, llmpp_command: Command
) -> None:
    Path("here").write_text(json.dumps(ARCHITECTURE.to_dict()))
    code, out, err = llmpp_command(*arguments)
    assert code == 2
    assert words in re.sub(r"[\s│]+", " ", err)
    assert "Traceback" not in err
    assert out == ""
    assert sorted(path.name for path in Path().iterdir()) == ["here"]


def test_a_run_directory_in_use_is_wrong_use(llmpp_command: Command) -> None:
    Path("run").mkdir()
    Path("run/note").write_text("mine")
    code, _, err = llmpp_command("search", "--task", "wmt14.en-de", "--run-dir", "run", *SHORT)
    assert code == 2
    assert "is not empty" in err


def test_a_broken_weights_file_is_wrong_use(llmpp_command: Command) -> None:
    student = Path(llmpp.__file__).parent / "assets" / "students" / "wmt14.en-de.safetensors"
    Path("broken").write_bytes(student.read_bytes()[:500])
    code, _, err = llmpp_command("search", "--task", "wmt14.en-de", "--initial", "broken", *SHORT)
    assert code == 2
    assert "cannot use the weights file broken" in err


def test_a_missing_extra_says_how_to_install_it(
    llmpp_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_file(Path("answers.jsonl"))
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = llmpp_command("distill", answers, "--task", "wmt14.en-de", "-o", "student")
    assert code == 1
    assert "pip install 'llmpp[train]'" in err


@pytest.mark.usefixtures("is_quick")
def test_a_bad_seed_of_distill_is_wrong_use(llmpp_command: Command) -> None:
    answers = answers_file(Path("answers.jsonl"))
    arguments = ["distill", answers, "--task", "wmt14.en-de", "-o", "student", "--seed", "-1"]
    assert llmpp_command(*arguments)[0] == 2


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, llmpp_command: Command) -> None:
    code, out, _ = llmpp_command(verb, "--help")
    assert code == 0
    assert "--json" in out
    assert f"Usage: llmpp {verb}" in out


@pytest.mark.parametrize("verb", ["cost", "tasks"])
def test_every_verb_takes_a_seed(verb: str, llmpp_command: Command) -> None:
    assert "--seed" in llmpp_command(verb, "--help")[1]


@pytest.mark.parametrize(
    "flag", ["--latency-ms", "--gflops", "--params-m", "--initial", "--run-dir", "--seed"]
)
def test_the_help_of_search_lists_the_flags_of_the_arguments(flag: str, llmpp_command: Command) -> None:
    assert flag in llmpp_command("search", "--help")[1]


def test_the_help_of_the_command_lists_the_verbs(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_the_version_is_that_of_the_distribution(llmpp_command: Command) -> None:
    code, out, _ = llmpp_command("--version")
    assert (code, out.strip()) == (0, version("llmpp"))


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmpp", "search", "--task", "wmt14.en-de", "--json", *SHORT],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert last_line(done.stdout)["status"] == "budget"
    assert (tmp_path / last_line(done.stdout)["run_dir"] / "best.json").is_file()


def test_ctrl_c_elsewhere_exits_with_130(llmpp_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(distill, "distill_file", interrupted)
    code, _, _ = llmpp_command("distill", "answers", "--task", "wmt14.en-de", "-o", "student")
    assert code == 130
