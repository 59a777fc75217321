"""From end to end over HTTP: a server replays what was recorded to label, distil, search and evaluate."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from command import Command, last_line
from llmpp import distill, load_predictor, load_task
from llmpp.answers import Answers, read_answers
from llmpp.assets import asset
from llmpp.prompt import describe
from stand_in import StandIn, prompt_of, sections_of

TASK = load_task("wmt14.en-de")
CLAUDE = "claude (version not recorded)"


def recorded() -> Answers:
    return read_answers(asset("answers", f"{TASK.name}.jsonl"))


class Replay:
    """Says about each architecture what was recorded under the demonstrations that the prompt shows."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, float]] = {}
        for split in ("123", "456", "789", "all"):
            rows = recorded().of_split(split)
            lines = describe(TASK, rows.architectures)
            shown = describe(TASK, [figures.architecture for figures in TASK.demonstrations(split)])
            self.answers["\n".join(shown)] = dict(zip(lines, rows.values.tolist(), strict=True))

    def __call__(self, body: dict[str, Any]) -> str:
        sections = sections_of(prompt_of(body))
        shown = "\n".join(line.rpartition(" ")[0] for line in sections["Demonstrations"])
        known = self.answers[shown]
        asked = (line.split(" ", 1) for line in sections["Architectures to score"])
        return "\n".join(f"{number} {known[line]:.2f}" for number, line in asked)


@pytest.fixture
def replay(stand_in: StandIn) -> list[str]:
    """The options that ask the replaying server for the recorded model."""
    stand_in.answer = Replay()
    return ["--task", TASK.name, "--model", CLAUDE, "--base-url", stand_in.url]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short lessons for one small student instead of a choice of size."""
    monkeypatch.setattr(distill, "N_STEPS", 200)
    monkeypatch.setattr(distill, "N_FOLDS", 2)
    monkeypatch.setattr(distill, "N_SEEDS", 1)
    monkeypatch.setattr(distill, "choose", partial(distill.choose, sizes=((16,),)))


@pytest.mark.usefixtures("quick")
def test_labels_are_distilled_searched_with_and_evaluated(
    replay: list[str], stand_in: StandIn, llmpp_command: Command, tmp_path: Path
) -> None:
    rows = recorded().of_split("all")
    Path("asked.json").write_text(json.dumps([a.to_dict() for a in rows.architectures]))
    labelled = llmpp_command(
        "label", *replay, "--architectures", "asked.json", "-o", "answers.jsonl", "--json"
    )
    assert last_line(labelled.out)["n_answers"] == 450
    assert len(stand_in.bodies) == 3
    answers = read_answers(Path("answers.jsonl"))
    assert (answers.architectures, answers.values.tolist()) == (rows.architectures, rows.values.tolist())
    assert answers.header["model"] == CLAUDE

    distilled = llmpp_command("distill", "answers.jsonl", "--task", TASK.name, "-o", "student.safetensors")
    assert distilled.code == 0
    sample = TASK.space.sample(200, seed=4)
    ours, shipped = (
        load_predictor(name, task=TASK).predict(sample) for name in ("student.safetensors", "distilled")
    )
    assert abs(ours - shipped).mean() < 0.1

    found = llmpp_command(
        *("search", "--task", TASK.name, "--hardware", "titan-xp", "--latency-ms", 150),
        *("--initial", "student.safetensors", "--json"),
    )
    assert last_line(found.out)["best"]["latency_ms"] <= 150
    assert Path("runs").is_dir()


@pytest.mark.usefixtures("quick")
def test_a_live_model_has_a_row_of_its_own_and_equals_what_was_recorded(
    replay: list[str], stand_in: StandIn, llmpp_command: Command
) -> None:
    options = ("--n-seeds", 1, "--n-bootstrap", 20, "--json")
    card = last_line(llmpp_command("evaluate", *replay, *options).out)
    rows = {row["predictor"]: row for row in card["rows"]}
    live, kept = rows[f"LLM-PP live: {CLAUDE}"], rows[f"LLM-PP: {CLAUDE}"]
    assert (live["mae"], live["kendall_tau"]) == (kept["mae"], kept["kendall_tau"])
    assert "fusion: LLM-PP live, every supernet" in rows
    assert len(stand_in.bodies) == card["usage"]["n_calls"] == 3
    for prompt in stand_in.prompts:
        shown = sections_of(prompt)["Demonstrations"]
        assert len(shown) == 10


def test_probes_tell_a_model_that_reads_the_demonstrations(stand_in: StandIn, llmpp_command: Command) -> None:
    asked = ("evaluate", "--task", TASK.name, "--base-url", stand_in.url, "--model", "stand-in")
    options = (*asked, "--probe")
    dry = last_line(llmpp_command(*options, "--dry-run", "--json").out)
    assert (dry["n_calls"], stand_in.bodies) == (15, [])
    card = last_line(llmpp_command(*options, "--n-bootstrap", 50, "--json").out)
    rows = {row["predictor"]: row for row in card["rows"]}
    plain = rows["as asked"]
    assert plain["kendall_tau"]["mean"] > 0.7
    for name in ("another scale", "opaque names", "another order"):
        assert rows[name]["kendall_tau"]["mean"] == pytest.approx(plain["kendall_tau"]["mean"], abs=0.05)
        assert rows[name]["mae"]["mean"] == pytest.approx(plain["mae"]["mean"], abs=0.02)
    assert rows["shuffled labels"]["kendall_tau"]["mean"] < 0.4
    assert rows["shuffled labels"]["difference"]["mae"]["mean"] > 0.2
    opaque = next(prompt for prompt in stand_in.prompts if "part1_a" in prompt)
    assert not any(word in opaque.lower() for word in ("bleu", "encoder", "layer", "wmt", "gflops", "role"))


@pytest.mark.parametrize(
    "option", [["--probe"], ["--dry-run"], ["--temperature", "1"], ["--without", "role"]]
)
def test_options_of_a_live_model_need_one(option: list[str], llmpp_command: Command) -> None:
    ended = llmpp_command("evaluate", "--task", TASK.name, *option)
    assert ended.code == 2
    assert "--model or --base-url" in ended.err
