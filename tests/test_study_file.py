"""A study's file: what is refused, and the jobs that it expands into."""

import json
from collections import Counter
from pathlib import Path

import pytest

from llmpp import InputError, SearchSpace
from llmpp.study.description import Study
from llmpp.study.expansion import draw, expand, trained_architectures
from llmpp.study.job import check_jobs

EXAMPLE = Path(__file__).parent.parent / "studies" / "multi30k.toml"


def test_the_example_expands_into_the_same_jobs_always() -> None:
    study = Study.load(EXAMPLE)
    assert expand(study) == expand(Study.load(EXAMPLE))
    check_jobs(expand(study))
    of_searches = {"search", "quantile", "n", "trainings"}
    jobs = [job for job in expand(study) if not of_searches & set(job.parameters)]
    counts = {"prepare": 1, "supernet": 3, "train": 36, "score": 6, "latency": 30}
    assert Counter(job.kind for job in jobs) == counts
    assert [job.id for job in jobs if job.is_exclusive] == [f"latency-{n:02}" for n in range(1, 31)]
    seeds = Counter(
        (job.parameters["number"], job.parameters["recipe"]["seed"]) for job in jobs if job.kind == "train"
    )
    expected = {(number, 1) for number in range(1, 31)} | {(n, seed) for n in (1, 2, 4) for seed in (2, 3)}
    assert set(seeds) == expected
    assert json.loads(json.dumps([job.to_dict() for job in jobs])) == [job.to_dict() for job in jobs]


def test_what_tells_the_most_comes_first() -> None:
    names = [job.id for job in expand(Study.load(EXAMPLE))]
    assert names[:3] == ["prepare", "supernet-plain", "train-01-seed-1"]
    order = ["train-12-seed-1", "score-plain-loss", "train-01-seed-2", "train-04-seed-3", "train-13-seed-1"]
    order += ["train-30-seed-1", "supernet-layer-wise", "score-neuron-wise-loss", "score-plain-bleu"]
    order += ["latency-01", "latency-30", "latency-model", "search-hybrid-25pct-seed-1"]
    places = [names.index(name) for name in order]
    assert places == sorted(places)


def test_a_setting_at_its_default_makes_no_other_job() -> None:
    jobs = {job.id: job for job in expand(Study.load(EXAMPLE))}
    recipe = jobs["train-01-seed-1"].parameters["recipe"]
    assert recipe["seed"] == 1
    assert "dropout" not in recipe


def test_drawn_architectures_are_different_with_balanced_depths() -> None:
    study = Study.load(EXAMPLE)
    drawn = trained_architectures(study)
    assert len(set(drawn.values())) == 30
    assert Counter(a.decoder_layers for a in drawn.values()) == {1: 8, 2: 8, 3: 7, 4: 7}
    assert [drawn[number].decoder_layers for number in range(1, 6)] == [1, 2, 3, 4, 1]
    study.space.genomes(list(drawn.values()))
    few = draw(study.space, 10, seed=study.architectures.seed)
    assert few == list(drawn.values())[:10], "with fewer, they are the first ones"
    assert draw(study.space, 10, seed=9) != few


def test_a_space_without_so_many_architectures_is_refused() -> None:
    options = {name: (values[0],) for name, values in Study.load(EXAMPLE).space.options.items()}
    space = SearchSpace("one", options, 128)
    assert len(draw(space, 1, seed=0)) == 1
    with pytest.raises(InputError, match="space 'one' has too few architectures of some depth to draw 2"):
        draw(space, 2, seed=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('schema = "llmpp.study/1"', 'schema = "x"', "expected a study of schema 'llmpp.study/1', got 'x'"),
        ("[measuring]", "[measuring]\nthread = 2", r"unknown key of \[measuring\] 'thread'; known: threads"),
        ("n_updates = 2000", "n_updates = 0", "`n_updates` must be an integer in"),
        ("n_updates = 2000", "updates = 2000", "unknown setting of a recipe 'updates'"),
        ("replicated = [1, 2, 4]", "replicated = [31]", "`replicated` must be an integer in 1..30, got 31"),
        ("seeds = [1, 2, 3]", "seeds = [1, 1]", r"`seeds` must be different numbers.*got \[1, 1\]"),
        ('metrics = ["loss", "bleu"]', 'metrics = ["rouge"]', "unknown name in `metrics` 'rouge'"),
        ("qkv_dim = 128", "", "a space needs exactly the keys"),
        ("sentence_length = 18", "", "a study is not complete: .*'sentence_length'"),
        ("[corpus]", "[corpus", "is not TOML"),
    ],
)
def test_a_description_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = EXAMPLE.read_text("utf-8")
    assert old in text
    (tmp_path / "s.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=message):
        Study.load(tmp_path / "s.toml")


def test_supernets_are_trained_as_the_others_but_for_what_is_said() -> None:
    study = Study.load(EXAMPLE)
    assert study.supernet_training.n_updates == 4000
    assert study.supernet_training.peak_rate == study.training.peak_rate


def test_the_corpus_is_where_its_path_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study.load(EXAMPLE)
    monkeypatch.setenv("LLMPP_DATA", "/data")
    assert study.raw_text(EXAMPLE) == Path("/data/multi30k")
    monkeypatch.setenv("LLMPP_DATA", "near")
    assert study.raw_text(tmp_path / "s.toml") == tmp_path / "near" / "multi30k"
    monkeypatch.delenv("LLMPP_DATA")
    with pytest.raises(InputError, match="variable is not set: set it, or give the directory by --corpus"):
        study.raw_text(EXAMPLE)
