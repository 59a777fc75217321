"""The comparison of a study: its settings, the jobs that these make, and the table of what searches found."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from llmpp import InputError
from llmpp.study.comparison import Comparison, Method
from llmpp.study.comparison_table import cells, compare, headings
from llmpp.study.description import Measuring, Study
from llmpp.study.expansion import expand
from llmpp.study.job import Job
from llmpp.study.job_queue import RESULT_SCHEMA
from llmpp.study.results import Results
from llmpp.study.section import said
from small_study import COMPARISON, write_small_study


def small(folder: Path, **more: Any) -> Study:
    """A study of two seeds and two methods; `more` are further settings of its comparison."""
    tables = {**COMPARISON, "comparison": {**COMPARISON["comparison"], **more}}
    return Study.load(write_small_study(folder, **tables))


def by_id(study: Study) -> dict[str, Job]:
    return {job.id: job for job in expand(study)}


def test_only_finds_of_some_seeds_may_be_trained_and_measured(tmp_path: Path) -> None:
    counts = Counter(job.kind for job in expand(small(tmp_path)))
    few = by_id(small(tmp_path, trained_seeds=[1]))
    assert Counter(job.kind for job in few.values()) == counts - Counter(train=2, latency=2)
    assert {"search-random-60pct-seed-2", "train-random-60pct-seed-1"} <= set(few)
    assert not {"train-random-60pct-seed-2", "latency-random-60pct-seed-2"} & set(few)
    none = by_id(small(tmp_path, trained_seeds=[]))
    assert not [name for name in none if name.startswith("train-random")]
    with pytest.raises(InputError, match=r"`trained_seeds` must be among `seeds` \[1, 2\], got 3"):
        small(tmp_path, trained_seeds=[3])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"switch": "a"}, "`switch` must be in"),
        ({"switch": 1.5}, r"`switch` must be in \[0, 1\], got 1.5"),
        ({"is_random": "no"}, "`is_random` must be true or false, got 'no'"),
        ({"baseline": 1}, "`baseline` must be the name of a predictor, got 1"),
        ({"baseline": "student"}, "`baseline` is 'student', as `initial` is"),
    ],
)
def test_a_method_that_is_wrong_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Method(**{"initial": "student", **wrong})


def test_a_field_at_its_default_makes_no_other_job() -> None:
    assert said(Measuring(), ["threads"]) == {"threads": 1}
    assert said(Measuring(threads=2, n_beams=4), []) == {"threads": 2, "n_beams": 4}
    assert said(Method(initial="student"), []) == {"initial": "student"}


def test_jobs_name_what_they_always_did(tmp_path: Path) -> None:
    study = small(tmp_path)
    jobs = by_id(study)
    assert jobs["latency-01"].parameters["measuring"] == asdict(study.measuring)
    method = jobs["search-random-60pct-seed-1"].parameters["method"]
    assert method == {"name": "random", **asdict(study.comparison.methods["random"])}
    assert "files" not in jobs["search-random-60pct-seed-1"].parameters


def test_a_search_from_another_weights_file_is_another_job(tmp_path: Path) -> None:
    study = replace(small(tmp_path), comparison=Comparison(methods={"llm": Method(initial="llm.bin")}))

    def files() -> dict[str, Any]:
        return dict(by_id(study)["search-llm-50pct-seed-1"].parameters["files"])

    assert files() == {"llm.bin": None}, "other jobs can be done before it is there"
    for content in (b"one", b"other"):
        (tmp_path / "llm.bin").write_bytes(content)
        assert files() == {"llm.bin": hashlib.sha256(content).hexdigest()}


def write_result(directory: Path, job: Job, outcome: dict[str, Any]) -> None:
    (directory / "results").mkdir(exist_ok=True)
    record = {"schema": RESULT_SCHEMA, "job": job.to_dict(), "outcome": outcome, "seconds": 1}
    (directory / "results" / f"{job.id}.json").write_text(json.dumps(record), "utf-8")


def test_the_table_says_for_how_many_seeds_figures_stand_and_who_was_asked(tmp_path: Path) -> None:
    study = small(tmp_path, trained_seeds=[1])
    jobs, search = by_id(study), {"bound_ms": 7.0, "gflops": 1.0, "supernet_seconds": 36.0}
    for seed, n in ((1, 10), (2, 12)):
        costs = {"n_evaluations": {"student": 100 * n, "supernet-plain": n}, "search_seconds": 72.0 * seed}
        seconds = {"seconds_by_predictor": {"student": 1.0, "supernet-plain": 72.0 * seed - 1.0}}
        job = jobs[f"search-hybrid-60pct-seed-{seed}"]
        write_result(tmp_path, job, {**search, **costs, **seconds, "n_supernet_evaluations": n})
    bleu = {"valid": {"bleu": 30.0}, "test": {"bleu": 31.0}}
    write_result(tmp_path, jobs["train-hybrid-60pct-seed-1"], bleu)
    hybrid, drawn = compare(Results(study, tmp_path))
    row = dict(zip(headings(), cells(hybrid), strict=True))
    assert (row["seeds"], row["GFLOPs"]) == ("2", "1.0000 ± 0.0000")
    assert (row["BLEU, test"], row["latency, ms"]) == ("31.00 (1 seed)", "-")
    assert row["evaluations"] == "student 1100 ± 141, supernet-plain 11 ± 1"
    assert row["seconds"] == "student 1.0 ± 0.0, supernet-plain 107.0 ± 50.9"
    written = hybrid.to_dict()
    assert written["test_bleu"] == {"mean": 31.0, "std": None, "n": 1}
    assert written["n_evaluations"]["student"]["n"] == 2
    assert dict(zip(headings(), cells(drawn), strict=True))["evaluations"] == "-"


def test_a_result_of_another_job_says_in_what_it_differs(tmp_path: Path) -> None:
    study = small(tmp_path)
    job = by_id(study)["search-random-60pct-seed-1"]
    write_result(tmp_path, replace(job, parameters={**job.parameters, "seed": 9, "files": {}}), {})
    with pytest.raises(InputError, match=r"another job of that name \(it differs in files, seed\)"):
        _ = Results(study, tmp_path).queue
