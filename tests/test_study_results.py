"""What becomes of a study's results: searches, their table, a task, a page, questions to a language model."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from command import Command, last_line
from llmpp import InputError, load_task
from llmpp.assets import asset
from llmpp.study.comparison_table import COLUMNS, compare
from llmpp.study.description import Study
from llmpp.study.expansion import expand
from llmpp.study.job import Job
from llmpp.study.place import Place
from llmpp.study.results import Results
from llmpp.study.task_file import SPLITS, source, split, task_dict
from llmpp.task import write_task
from small_study import run_here, write_small_study

EXAMPLE = Path(__file__).parent.parent / "studies" / "multi30k.toml"
N = 6


@pytest.fixture
def results(done_study: tuple[Path, Path]) -> Results:
    return Results(Study.load(done_study[0]), done_study[1])


def given(done_study: tuple[Path, Path]) -> tuple[str, ...]:
    return str(done_study[0]), "-o", str(done_study[1])


def test_a_search_brings_its_find_and_its_cost(results: Results) -> None:
    hybrid = results.outcome("search-hybrid-60pct-seed-1")
    drawn = results.outcome("search-random-60pct-seed-1")
    assert hybrid
    assert drawn
    assert hybrid["bound_ms"] == drawn["bound_ms"] >= hybrid["predicted_ms"] > 0
    assert hybrid["supernet_loss"] == pytest.approx(-hybrid["score"]), "the supernet scored last"
    assert 0 < hybrid["n_supernet_evaluations"] <= 6
    assert 6 <= drawn["n_supernet_evaluations"] <= 10, "as many as an evolution has places for"
    assert drawn["supernet_seconds"] <= drawn["search_seconds"]
    assert set(hybrid["n_evaluations"]) == {"student", "supernet-plain"}
    assert sum(hybrid["n_evaluations"].values()) <= 12
    training = results.outcome("train-hybrid-60pct-seed-1")
    assert training
    assert training["architecture"] == hybrid["architecture"]
    assert training["recipe"]["seed"] == 1
    assert results.job("latency-hybrid-60pct-seed-1").is_exclusive


def test_the_student_learns_from_what_misses_least(results: Results) -> None:
    outcome = results.outcome("student")
    assert outcome
    errors = outcome["left_out_mae"]
    assert outcome["teacher"] == min(errors, key=errors.__getitem__)
    assert {"ridge", "line in FLOPs", "ridge on log depth, log FLOPs"} <= set(errors)


def test_searches_go_on_from_results_alone(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(done_study[1] / "results", tmp_path / "results")
    (tmp_path / "results" / "search-random-60pct-seed-2.json").unlink()
    before = json.loads((tmp_path / "results" / "latency-model.json").read_text("utf-8"))
    assert set(run_here(done_study[0], tmp_path).values()) == {"done"}
    made = {path.name for path in (tmp_path / "work").iterdir()}
    assert made == {"prepare", "supernet-plain", "latency-model", "search-random-60pct-seed-2"}
    assert json.loads((tmp_path / "results" / "latency-model.json").read_text("utf-8")) == before
    old, new = (Results(Study.load(done_study[0]), path) for path in (done_study[1], tmp_path))
    name = "search-random-60pct-seed-2"
    assert (old.outcome(name) or {})["architecture"] == (new.outcome(name) or {})["architecture"]


def test_another_corpus_is_no_substitute(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(done_study[1] / "results", tmp_path / "results")
    (tmp_path / "results" / "train-01-seed-1.json").unlink()
    record = json.loads((tmp_path / "results" / "prepare.json").read_text("utf-8"))
    record["outcome"]["hash"] = "0" * 64
    (tmp_path / "results" / "prepare.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(AssertionError, match="is another one .* give the same raw text by --corpus"):
        run_here(done_study[0], tmp_path)


def test_what_was_trained_is_not_trained_again(done_study: tuple[Path, Path], results: Results) -> None:
    from llmpp.study.kinds import train

    known = results.job("train-02-seed-2")
    place = Place(done_study[1], "llmpp.study.kinds", "x", {"device": "cpu"})
    outcome = train(Job("train-of-a-search", "train", known.parameters), place)
    assert outcome["same_as"] == "train-02-seed-2"
    assert outcome["valid"] == (results.outcome(known.id) or {})["valid"]
    assert outcome["seconds"] == 0
    assert not place.work("train-of-a-search").exists()


def test_a_method_may_begin_on_a_file(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    from llmpp.study.search_kinds import search

    file, directory = done_study
    (tmp_path / "folder").mkdir()
    shutil.copy(
        directory / "work" / "student" / "student.safetensors", tmp_path / "folder" / "llm.safetensors"
    )
    shutil.copytree(directory, tmp_path / "out")
    known = Results(Study.load(file), directory).job("search-hybrid-60pct-seed-1")
    method = {**known.parameters["method"], "initial": "llm.safetensors"}
    settings = {"device": "cpu", "folder": str(tmp_path / "folder")}
    job = Job("search-llm", "search", {**known.parameters, "method": method})
    outcome = search(job, Place(tmp_path / "out", "llmpp.study.kinds", "x", settings))
    assert (
        outcome["architecture"]
        == (Results(Study.load(file), directory).outcome(known.id) or {})["architecture"]
    )


def test_the_table_has_a_row_for_each_method_and_bound(results: Results) -> None:
    rows = compare(results)
    assert [(row.method, row.quantile, sorted(row.seeds)) for row in rows] == [
        ("hybrid", 0.6, [1, 2]),
        ("random", 0.6, [1, 2]),
    ]
    for name in COLUMNS:
        spread = rows[0].spread(name)
        assert spread
        values = [figures[name] for figures in rows[0].seeds.values()]
        assert spread.mean == pytest.approx(sum(values) / 2)
        assert spread.n == 2
        assert spread.std is not None


def test_what_is_not_known_yet_is_left_out(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(done_study[1] / "results", tmp_path / "results")
    (tmp_path / "results" / "train-hybrid-60pct-seed-1.json").unlink()
    (tmp_path / "results" / "search-random-60pct-seed-1.json").unlink()
    hybrid, drawn = compare(Results(Study.load(done_study[0]), tmp_path))
    spread = hybrid.spread("valid_bleu")
    assert spread
    assert (spread.n, spread.std) == (1, None)
    assert list(drawn.seeds) == [2]


def test_the_command_shows_and_writes_the_table(
    done_study: tuple[Path, Path], tmp_path: Path, llmpp_command: Command
) -> None:
    shown = llmpp_command("study", "compare", *given(done_study), "--table", str(tmp_path / "t.md"))
    assert shown.code == 0, shown.err
    assert "hybrid" in shown.out
    assert (tmp_path / "t.md").read_text("utf-8").count("\n| ") == 3
    rows = last_line(llmpp_command("study", "compare", *given(done_study), "--json").out)["rows"]
    assert [row["method"] for row in rows] == ["hybrid", "random"]
    assert rows[0]["latency_ms"]["n"] == 2
    small = write_small_study(tmp_path)
    refused = llmpp_command("study", "compare", str(small))
    assert refused.code == 2
    assert "give it [comparison.methods.NAME]" in " ".join(refused.err.split())


def test_the_task_has_the_figures_and_where_they_come_from(
    done_study: tuple[Path, Path], results: Results, tmp_path: Path, llmpp_command: Command
) -> None:
    path = tmp_path / "small.json"
    made = llmpp_command("study", "task", str(done_study[0]), str(path), "-o", str(done_study[1]), "--json")
    assert made.code == 0, made.err
    assert last_line(made.out)["n_figures"] == N
    task = load_task(path)
    assert [figures.id for figures in task.figures] == list(range(1, N + 1))
    assert set(task.figures[0].supernet_scores) == {"hat", "hat_loss"}
    assert all(figures.supernet_scores["hat_loss"] < 0 for figures in task.figures)
    training = results.training(3)
    assert training
    assert task.figures[2].valid_score == round(training["valid"]["bleu"], 2)
    for words in ("llmpp study run small.toml", "300 train", "seed 1", "torch", "BLEU by 1 beams"):
        assert words in task.source
    assert str(done_study[1]) not in path.read_text("utf-8"), "no path of this machine"
    assert {name: len(ids) for name, ids in (task.splits or {}).items()} == dict.fromkeys(map(str, SPLITS), 2)
    evaluated = llmpp_command("evaluate", "--task", str(path), "--n-bootstrap", "20", "--json")
    assert evaluated.code == 0, evaluated.err
    rows = {row["predictor"] for row in last_line(evaluated.out)["rows"]}
    assert {"supernet hat", "supernet hat_loss + line", "line in FLOPs"} <= rows


def test_splits_are_drawn_by_their_seeds() -> None:
    numbers = list(range(1, 31))
    drawn = {seed: split(numbers, seed) for seed in SPLITS}
    assert all(len(ids) == 10 and ids == sorted(set(ids)) for ids in drawn.values())
    assert len({tuple(ids) for ids in drawn.values()}) == 3
    assert drawn[123] == split(numbers, 123)


def test_a_task_needs_every_training_and_measurement(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(done_study[1] / "results", tmp_path / "results")
    for name in ("train-04-seed-1", "latency-02"):
        (tmp_path / "results" / f"{name}.json").unlink()
    missing = r"lacks 1 trainings and 1 latencies of 6 \(train-04-seed-1, latency-02\): go on with"
    with pytest.raises(InputError, match=missing):
        task_dict(Results(Study.load(done_study[0]), tmp_path), command="x")


def test_the_source_names_the_machine_that_trained_and_the_one_that_was_timed(
    done_study: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(done_study[1] / "results", tmp_path / "results")
    for path in (tmp_path / "results").glob("train-*.json"):
        record = json.loads(path.read_text("utf-8"))
        record["outcome"]["machine"] |= {"device_name": "A Large GPU", "device": "cuda"}
        path.write_text(json.dumps(record), "utf-8")
    words = source(Results(Study.load(done_study[0]), tmp_path), "x")
    assert "; A Large GPU and " in words or " and A Large GPU; " in words
    timed = json.loads((tmp_path / "results" / "latency-01.json").read_text("utf-8"))["machine"]
    assert f"latency of 1 thread of {timed['device_name']}, 5 beams" in words


def test_the_task_that_ships_is_what_the_results_say() -> None:
    results = Results(Study.load(EXAMPLE), EXAMPLE.with_suffix(""))
    command = "llmpp study run studies/multi30k.toml -o studies/multi30k"
    shipped = json.loads(asset("tasks", "multi30k.en-de.json").read_text("utf-8"))
    assert task_dict(results, command=command) == shipped


def test_a_task_can_be_written_over(results: Results, tmp_path: Path) -> None:
    content = task_dict(results, command="x")
    for _ in range(2):
        write_task(tmp_path / "deep" / "t.json", content)
    assert json.loads((tmp_path / "deep" / "t.json").read_text("utf-8")) == json.loads(json.dumps(content))
    with pytest.raises(InputError, match="cannot write"):
        write_task(Path("/proc/none/t.json"), content)


def test_questions_of_all_splits_are_written_as_the_recorded_ones(
    results: Results, tmp_path: Path, llmpp_command: Command
) -> None:
    write_task(tmp_path / "small.json", task_dict(results, command="x"))
    ask = ("label", "--task", str(tmp_path / "small.json"), "--model", "m")
    made = llmpp_command(*ask, "--export", str(tmp_path / "all"), "--json")
    assert made.code == 0, made.err
    index = [json.loads(line) for line in (tmp_path / "all" / "index.jsonl").read_text("utf-8").splitlines()]
    names = [f"small_seed{seed}_{number}" for seed in SPLITS for number in range(2)]
    names += [f"small_all{N}_{number}" for number in range(3)]
    assert [row["name"] for row in index] == names
    assert [row["split"] for row in index] == [123, 123, 456, 456, 789, 789, None, None, None]
    check_questions(index, load_task(tmp_path / "small.json").splits or {})
    one = llmpp_command(*ask, "--split", "456", "--export", str(tmp_path / "one"), "--json")
    assert last_line(one.out)["n_questions"] == 2
    for name in ("small_seed456_0", "small_seed456_1"):
        texts = [(tmp_path / folder / "prompts" / f"{name}.txt").read_bytes() for folder in ("all", "one")]
        assert texts[0] == texts[1]


def check_questions(index: list[dict[str, Any]], splits: Any) -> None:
    """Checks that a split asks about what it holds out among 280 others, and 'all' about 450 further ones."""
    pool = [query["pool"] for row in index[-3:] for query in row["queries"]]
    assert pool == list(range(280, 730))
    for seed in SPLITS:
        rows = [row for row in index if row["split"] == seed]
        queries = [query for row in rows for query in row["queries"]]
        assert Counter(next(iter(query)) for query in queries) == {"pool": 280, "tfs": N - N // 3}
        assert {query["tfs"] for query in queries if "tfs" in query} == set(range(1, N + 1)) - set(
            splits[str(seed)]
        )
        assert {query["pool"] for query in queries if "pool" in query} == set(range(280))
        assert all(sum("tfs" in query for query in row["queries"]) == 2 for row in rows)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("latency", {f"latency-{number:02}" for number in range(1, N + 1)}),
        ("latency-[0-9]*", {f"latency-{number:02}" for number in range(1, N + 1)}),
        ("train", {"prepare", "train-02-seed-2", *(f"train-{n:02}-seed-1" for n in range(1, N + 1))}),
        ("latency-model", {"latency-model"}),
        ("search-random-*", {"prepare", "latency-model", "supernet-plain", "search-random-60pct-seed-1",
                             "search-random-60pct-seed-2"}),
    ],
)  # fmt: skip
def test_a_kind_stands_for_the_jobs_that_wait_for_no_search(
    done_study: tuple[Path, Path], tmp_path: Path, chosen: str, expected: set[str]
) -> None:
    from llmpp.cli.studying import _queue

    assert _queue(Study.load(done_study[0]), tmp_path, 3, [chosen]).wanted == expected


def test_raw_text_is_wanted_only_where_it_is_to_be_prepared(
    done_study: tuple[Path, Path], tmp_path: Path, llmpp_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMPP_NO_TEXT", raising=False)
    text = done_study[0].read_text("utf-8")
    assert 'path = "."' in text
    (tmp_path / "small.toml").write_text(text.replace('path = "."', 'path = "${LLMPP_NO_TEXT}"'), "utf-8")
    (tmp_path / "out" / "results").mkdir(parents=True)
    given = ("study", "run", str(tmp_path / "small.toml"), "-o", str(tmp_path / "out"), "--workers", "1")
    timed = llmpp_command(*given, "--only", "latency-01")
    assert timed.code == 0, timed.err
    refused = llmpp_command(*given, "--only", "train-01-*")
    assert refused.code == 2
    assert "that variable is not set" in refused.err
    refused = llmpp_command(*given, "--corpus", str(tmp_path / "none"))
    assert "of raw text: give it by --corpus" in " ".join(refused.err.split())
    refused = llmpp_command(*given, "--n-attempts", "0")
    assert refused.code == 2
    assert "`n_attempts` must be an integer in 1..1000, got 0" in refused.err
    shutil.copytree(done_study[1] / "results", tmp_path / "out" / "results", dirs_exist_ok=True)
    again = llmpp_command(*given)
    assert again.code == 0, "all is done"
    assert "begun" not in again.err


def test_a_run_names_the_weights_that_its_searches_lack(
    done_study: tuple[Path, Path], tmp_path: Path, llmpp_command: Command
) -> None:
    text = done_study[0].read_text("utf-8")
    (tmp_path / "small.toml").write_text(text.replace('initial = "student"', 'initial = "llm.st"'), "utf-8")
    given = ("study", "run", str(tmp_path / "small.toml"), "-o", str(tmp_path / "out"), "--workers", "1")
    refused = llmpp_command(*given, "--corpus", str(done_study[0].parent))
    assert refused.code == 2
    assert "method 'hybrid' names the weights file llm.st" in " ".join(refused.err.split())
    assert llmpp_command(*given, "--only", "latency-01").code == 0


def test_the_searches_of_the_example_are_all_methods_bounds_and_seeds() -> None:
    jobs = {job.id: job for job in expand(Study.load(EXAMPLE))}
    kinds = Counter(job.kind for job in jobs.values())
    assert kinds["search"] == 27
    shared = ("prepare", "latency-model", "supernet-plain")
    assert jobs["search-hybrid-25pct-seed-1"].after == (*shared, "student")
    assert jobs["search-random-25pct-seed-1"].after == shared
    assert len(jobs["student"].after) == 30
    assert jobs["train-hybrid-25pct-seed-1"].after == ("prepare", "search-hybrid-25pct-seed-1")
    of_finds = [job.kind for job in jobs.values() if "search" in job.parameters]
    assert Counter(of_finds) == {"train": 9, "latency": 9}, "what searches of one seed find"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("quantiles = [0.25", "quantiles = [0", "`quantiles` must be"),
        ('baseline = "supernet-plain"', 'baseline = "supernet-odd"', "unknown supernet of the comparison"),
        ("n_iterations = 20", "n_iteration = 20", r"unknown key of \[comparison.evolution\] 'n_iteration'"),
        ("n_parents = 10", "n_parents = 0", "`n_parents` must be"),
        ("is_random = true", "random = true", "unknown key of the method 'random' 'random'"),
    ],
)
def test_a_comparison_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = EXAMPLE.read_text("utf-8")
    assert old in text
    (tmp_path / "s.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=message):
        Study.load(tmp_path / "s.toml")
