"""The page of a study, whole and while the study still runs; what its trainings say of noise."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command import Command
from llmpp import InputError
from llmpp.study.description import Study
from llmpp.study.noise import Noise, Variation
from llmpp.study.page import write_page
from llmpp.study.ranks import rank
from llmpp.study.results import Results
from llmpp.study.task_file import task_dict
from llmpp.task import cost

N = 6


@pytest.fixture
def results(done_study: tuple[Path, Path]) -> Results:
    return Results(Study.load(done_study[0]), done_study[1])


def test_the_page_has_tables_figures_and_notes(
    done_study: tuple[Path, Path], tmp_path: Path, llmpp_command: Command
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "notes.md").write_text("## What was tried\n\nNothing else.\n", "utf-8")
    page = tmp_path / "small.md"
    arguments = (
        str(done_study[0]),
        str(page),
        "-o",
        str(done_study[1]),
        "--notes",
        str(tmp_path / "notes.md"),
    )
    made = llmpp_command("study", "page", *arguments, "--n-bootstrap", "20")
    assert made.code == 0, made.err
    text = page.read_text("utf-8")
    for words in ("# small talk", "## The report card", "supernet hat_loss", "## Hours", "## Searches",
                  "Nothing else.", "hybrid", "than the third that it may be", "llmpp study page",
                  "cpu with ", "Random search evaluates 10 architectures",
                  "best predictor that needs no language model"):  # fmt: skip
        assert words in text
    assert "Not done yet" not in text
    assert (" | - " in text) == ("all are equal" in text), "all is known"
    table = text.partition("## The architectures")[2].partition("##")[0]
    assert sum(line.startswith("| ") for line in table.splitlines()) == N + 2
    assert str(done_study[1]) not in text
    for name in ("scatter", "curves"):
        assert (tmp_path / "small" / f"{name}.png").stat().st_size > 1000
        assert f"small/{name}.png" in text


def partial(done_study: tuple[Path, Path], folder: Path, *patterns: str) -> Results:
    """The results whose names match, as a study that is not done yet."""
    (folder / "results").mkdir(parents=True)
    for pattern in patterns:
        for path in (done_study[1] / "results").glob(pattern):
            shutil.copy(path, folder / "results")
    return Results(Study.load(done_study[0]), folder)


def page_of(results: Results, path: Path) -> str:
    write_page(results, path, command="x", how="y", n_bootstrap=10)
    return path.read_text("utf-8")


@pytest.mark.parametrize(
    ("patterns", "n_trained"),
    [((), 0), (("prepare.json", "supernet-*.json"), 0), (("train-0[12]-*.json", "latency-01.json"), 2)],
)
def test_a_page_of_a_study_that_is_not_done_says_what_is_missing(
    done_study: tuple[Path, Path], tmp_path: Path, patterns: tuple[str, ...], n_trained: int
) -> None:
    pytest.importorskip("matplotlib")
    text = page_of(partial(done_study, tmp_path / "out", *patterns), tmp_path / "p.md")
    assert f"{n_trained} of {N} architectures are trained so far" in text
    assert f"Ranks are compared when all architectures are trained: {N - n_trained} are missing" in text
    assert f"Predictors are compared when all architectures are trained: {N - n_trained} are missing" in text
    table = text.partition("## The architectures")[2].partition("##")[0]
    assert sum(line.startswith("| ") for line in table.splitlines()) == N + 2
    assert table.count("| - | - | - |") == N - n_trained
    assert "the third" not in text, "the criterion waits for all trainings"
    assert "## Searches" not in text
    assert (tmp_path / "p" / "curves.png").is_file()
    assert not (tmp_path / "p" / "scatter.png").exists()


def test_a_page_of_few_architectures_has_no_report_card(
    done_study: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    results = partial(done_study, tmp_path / "out", "train-0[1-5]-*.json", "latency-0[1-5].json")
    architectures = replace(results.study.architectures, n=5)
    text = page_of(
        replace(results, study=replace(results.study, architectures=architectures)), tmp_path / "p.md"
    )
    assert "Predictors are compared from 6 architectures on." in text
    assert "over all 5 architectures" in text


def test_a_page_without_latencies_has_all_else(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = partial(done_study, tmp_path / "out", "prepare.json", "supernet-*", "score-*", "train-0*")
    text = page_of(results, tmp_path / "p.md")
    assert f"{N} of {N} architectures are trained so far, and 0 of {N} measured; 0 trainings" in text
    assert "| supernet hat + line |" in text
    assert "than the third that it may be" in text
    assert (tmp_path / "p" / "scatter.png").is_file()
    with pytest.raises(InputError, match=f"lacks {N} latencies of {N}"):
        task_dict(results, command="x")


def test_a_latency_that_is_not_precise_is_marked(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = partial(done_study, tmp_path / "out", "latency-0[12].json")
    for number, is_precise in ((1, True), (2, False)):
        path = tmp_path / "out" / "results" / f"latency-0{number}.json"
        record = json.loads(path.read_text("utf-8"))
        record["outcome"] |= {"latency_ms": 10.0 + number, "is_precise": is_precise}
        path.write_text(json.dumps(record), "utf-8")
    text = page_of(results, tmp_path / "p.md")
    assert "| 12.0* |" in text
    assert "| 11.0 |" in text
    assert "`*`: half the 95% interval of this median is more than 2% of it." in text


def test_costs_on_the_page_are_those_of_the_trainings(results: Results) -> None:
    for number, architecture in results.architectures.items():
        costs = cost(architecture, task=results.study.task)
        training = results.training(number) or {}
        assert (costs.params, costs.flops) == (training["params"], training["flops"])


def test_a_page_says_which_finds_are_trained(done_study: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = partial(done_study, tmp_path / "out", "search-*.json")
    assert "Only what searches" not in page_of(results, tmp_path / "p.md")
    comparison = replace(results.study.comparison, trained_seeds=(2,))
    fewer = replace(results, study=replace(results.study, comparison=comparison))
    assert "Only what searches with these seeds found is trained: 2." in page_of(fewer, tmp_path / "p.md")


def test_ranks_are_told_over_all_and_among_equal_depths(results: Results) -> None:
    kendalltau = pytest.importorskip("scipy.stats").kendalltau
    by_name = {one.name: one for one in rank(results, n_bootstrap=20)}
    assert {"decoder layers alone", "validation loss of the same trainings", "`hat_loss`"} <= set(by_name)
    assert np.isnan(by_name["decoder layers alone"].within.mean)
    test = by_name["test BLEU of the same trainings"]
    assert -1 <= test.whole.low <= test.whole.high <= 1
    found = {number: results.training(number) for number in results.architectures}
    taus = []
    for depth in {one.decoder_layers for one in results.architectures.values()}:
        alike = [found[n] for n, one in results.architectures.items() if one.decoder_layers == depth]
        both = [[one["valid"]["bleu"], one["test"]["bleu"]] for one in alike if one]
        taus.append(kendalltau(*np.transpose(both)).statistic)
    assert test.within.mean == pytest.approx(np.nanmean(taus))


def test_noise_is_told_from_signal(results: Results) -> None:
    noise = Noise.of(results)
    assert (noise.n, [(number, seed) for number, seed, _ in noise.replicated]) == (N, [(2, 1), (2, 2)])
    assert noise.bleu.seeds is not None
    assert "over seeds of one" in noise.describe()
    assert "Validation loss varies" in noise.describe()
    none = Variation(0.0, None)
    assert Noise(0, 6, 0.0, none, none).describe() == "No architecture is trained yet."
    assert Noise(1, 5, 31.0, none, none).describe() == (
        "The best of 1 by validation BLEU reaches 31.00 on the test set so far. How far seeds and "
        "architectures differ is said when all trainings are done: 5 are missing."
    )
    unknown = "No architecture was trained with several seeds, so nothing is known of noise."
    for wanted, verdict in (
        (0, "."),
        (30, "; 30 were wanted."),
        (32, "; 32 were wanted, so that is NOT enough."),
    ):
        best = f"The best of 2 by validation BLEU reaches 31.00 on the test set{verdict}"
        assert Noise(2, 0, 31.0, Variation(0.5, None), none, (), wanted).describe() == f"{best} {unknown}"
    noisy = Noise(2, 0, 31.0, Variation(0.5, 0.4), Variation(0.1, 0.01))
    assert "NOT less than the third" in noisy.describe()


def test_a_variation_pools_the_variances_of_repeated_trainings() -> None:
    variation = Variation.of([1.0, 3.0, 5.0], [[1.0, 2.0, 3.0], [4.0], [10.0, 14.0]])
    assert variation.architectures == 2
    assert variation.seeds == pytest.approx((pooled := (1 + 8) / 2) ** 0.5)
    assert variation.share == pytest.approx(pooled**0.5 / 2)
    assert Variation.of([1.0], []) == Variation(0.0, None)
