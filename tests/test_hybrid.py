"""The whole hybrid search, from parallel text to a network that translates: a toy language, small budgets."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from command import Command  # noqa: E402
from llmpp import InputError, SearchResult, cost, hsnas  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.export import export  # noqa: E402
from llmpp.recipe import Recipe  # noqa: E402
from llmpp.scoring_race import Race  # noqa: E402
from llmpp.supernet_predictor import SupernetPredictor  # noqa: E402
from llmpp.train import train_architecture, train_supernet  # noqa: E402
from llmpp.translation import Quality, Translator  # noqa: E402
from predictors import network, network_file  # noqa: E402
from toy_training import SPACE, TASK, task_file  # noqa: E402

RECIPE = Recipe(
    n_updates=240,
    n_warm_up=40,
    peak_rate=5e-3,
    max_tokens=512,
    valid_every=120,
    dropout=0,
    attention_dropout=0,
    n_judged=2,
    n_beams=1,
)
BOUNDS = {"params_m": 0.8 * cost(SPACE.largest_architecture, task=TASK).params / 1e6}
EVOLUTION: dict[str, Any] = {
    "n_iterations": 6,
    "n_population": 16,
    "n_parents": 5,
    "n_mutants": 6,
    "n_children": 6,
}
RACES = {"without a race": None, "with a race": Race(n_parents=5, n_blocks=4)}
each_race = pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def supernet(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet that has learned the toy language."""
    path = tmp_path_factory.mktemp("hybrid") / "supernet"
    result = train_supernet(SPACE, corpus, path, recipe=RECIPE, n_threads=1)
    assert result["seconds"] < 120
    losses = result["valid_losses"]
    assert losses["largest"] < losses["smallest"] < 0.8 * math.log(corpus.vocabulary)
    return path


def search(
    supernet: Path, corpus: Corpus, folder: Path, race: Race | None
) -> tuple[SearchResult, SupernetPredictor]:
    """Searches, first by a random network, then by the supernet; goes on where there is a run already."""
    baseline = SupernetPredictor(supernet, corpus, race=race, cache=folder / "scores.sqlite")
    result = hsnas.search(
        TASK,
        None,
        BOUNDS,
        initial=network(SPACE, seed=3),
        baseline=baseline,
        run_dir=folder / "run",
        resume=True,
        **EVOLUTION,
    )
    return result, baseline


def test_the_command_ends_on_a_supernet(
    supernet: Path, corpus: Corpus, tmp_path: Path, llmpp_command: Command
) -> None:
    task_file(Path("task.json"))
    student = network_file(Path("student.safetensors"), TASK)
    search_it = ["search", "--task", "task.json", "--initial", student, "--baseline", supernet]
    search_it += ["--params-m", BOUNDS["params_m"], "--n-population", 16, "--n-iterations", 4, "--json"]
    scored_on = ["--corpus", corpus.path, "--race", "--n-parents", 5, "--device", "cpu"]
    ended = llmpp_command(*search_it, *scored_on, "--run-dir", "run")
    assert ended.code == 0, ended.err
    history = json.loads(Path("run/history.json").read_text())["iterations"]
    assert [row["predictor"] for row in history] == [str(student)] * 2 + ["supernet"] * 2
    assert json.loads(Path("run/usage.json").read_text())["predictors"]["supernet"]["n_evaluations"] > 5
    for wrong, message in {
        (): "needs --corpus: a supernet scores by its loss on a corpus",
        ("--race",): "it needs --corpus",
        ("--corpus", tmp_path): "corpus",
    }.items():
        ended = llmpp_command(*search_it, *wrong)
        assert (ended.code, message in ended.err) == (2, True), ended.err
    ended = llmpp_command(*search_it[:5], "--corpus", corpus.path)
    assert (ended.code, "needs the directory of a supernet" in ended.err) == (2, True)
    wider = replace(TASK, space=replace(SPACE, options={**SPACE.options, "encoder_ffn": (16, 64)}))
    with pytest.raises(InputError, match=r"`baseline` cannot score all of toy: its space is \{'name'"):
        hsnas.search(wider, initial=network(wider.space), baseline=SupernetPredictor(supernet, corpus))
    with pytest.raises(InputError, match=r"pass `SupernetPredictor\('.*supernet', corpus\)`"):
        hsnas.search(TASK, initial=network(SPACE), baseline=supernet)


@each_race
def test_a_hybrid_search_ends_on_the_supernet(
    race: Race | None, supernet: Path, corpus: Corpus, tmp_path: Path
) -> None:
    result, baseline = search(supernet, corpus, tmp_path, race)
    assert result.status == "budget"
    assert [iteration.predictor for iteration in result.history] == ["network-3"] * 3 + ["supernet"] * 3
    assert sum(i.n_evaluations for i in result.history[3:]) == baseline.usage.n_evaluations > 20
    assert result.best is not None
    assert result.best.params_m <= BOUNDS["params_m"]
    exact = SupernetPredictor(supernet, corpus, cache=tmp_path / "exact.sqlite")
    assert result.best.score == pytest.approx(exact.predict([result.best.architecture])[0], rel=1e-6)
    sample = [a for a in SPACE.sample(40, seed=1) if cost(a, task=TASK).params <= 1e6 * BOUNDS["params_m"]]
    assert result.best.score > sorted(exact.predict(sample))[len(sample) // 2]
    assert '"n_target_tokens"' in (tmp_path / "run" / "usage.json").read_text()


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from llmpp import supernet_predictor
from llmpp.corpus import Corpus
from test_hybrid import RACES, search

calls, losses = [], supernet_predictor.sentence_losses
def killed(*given):
    calls.append(given)
    if len(calls) == {n_calls}:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses(*given)
supernet_predictor.sentence_losses = killed
search(Path({supernet!r}), Corpus.load({corpus!r}), Path({folder!r}), RACES[{race!r}])
"""


@pytest.mark.parametrize("name", RACES)
def test_a_search_that_is_killed_under_the_supernet_goes_on_and_scores_nothing_again(
    name: str, supernet: Path, corpus: Corpus, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed, first = search(supernet, corpus, whole, RACES[name])
    code = KILLED.format(
        tests=str(Path(__file__).parent),
        n_calls=2 if RACES[name] is None else 5,  # in the second of three iterations
        supernet=str(supernet),
        corpus=str(corpus.path),
        folder=str(killed),
        race=name,
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed, second = search(supernet, corpus, killed, RACES[name])
    assert resumed.best == undisturbed.best
    assert [i.best_score for i in resumed.history] == [i.best_score for i in undisturbed.history]
    n_before = undisturbed.history[3].n_evaluations
    assert second.usage.n_evaluations == first.usage.n_evaluations - n_before > 0


def test_what_was_found_is_trained_translates_and_is_exported(
    supernet: Path, corpus: Corpus, tmp_path: Path
) -> None:
    result, _ = search(supernet, corpus, tmp_path, None)
    assert result.best is not None
    trained = train_architecture(
        result.best.architecture, corpus, tmp_path / "trained", recipe=RECIPE, space=SPACE, n_threads=1
    )
    assert trained["test"]["bleu"] > 40
    assert -trained["valid_loss"] > result.best.score - 0.3
    export(tmp_path / "trained", tmp_path / "alone")
    texts = Translator.load(tmp_path / "alone").translate(corpus.sources("test"), n_beams=1)
    assert Quality.of(texts, corpus.references("test")).bleu == trained["test"]["bleu"]
    export(supernet, tmp_path / "inherited", result.best.architecture)
    assert Translator.load(tmp_path / "inherited").translate(["a dog sees a cat."])
