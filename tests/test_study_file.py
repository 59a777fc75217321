"""A study's file: what is refused, and the jobs that it expands into."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llmpp import SPACES, InputError, SearchSpace
from llmpp.errors import MissingExtraError
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


def test_the_space_of_the_example_is_the_one_that_ships() -> None:
    study, shipped = Study.load(EXAMPLE).space, SPACES["multi30k"]
    assert (study.options, study.qkv_dim) == (shipped.options, shipped.qkv_dim)


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
        ("seeds = [1, 2, 3]", "seeds = [1, 1]", r"`seeds` must be 1 or more different values.*got \[1, 1\]"),
        ('metrics = ["loss", "bleu"]', 'metrics = ["rouge"]', "unknown name in `metrics` 'rouge'"),
        ("qkv_dim = 128", "", "a space needs exactly the keys"),
        ("sentence_length = 18", "", "a study is not complete: .*'sentence_length'"),
        (
            "sentence_length = 18",
            "sentence_length = 0",
            "`sentence_length` must be an integer in 1..16777216",
        ),
        ("sentence_length = 18", "sentence_length = true", "`sentence_length` of a study must be an integer"),
        ("[corpus]", "[corpus", "is not TOML"),
        ("sentence_length", 'folder = "x"\nsentence_length', "`folder` is no key of a study"),
        ('name = "multi30k.en-de"', 'name = "../../x"', r"`name` must be of at most 100 letters.*got '\.\./"),
        ('name = "multi30k.en-de"', 'name = ""', "`name` must be of at most 100 letters"),
        ("wanted_bleu = 30", "wanted_bleu = 101", r"`wanted_bleu` must be in \[0, 100\], got 101"),
        ("threads = 1", "threads = 0", "`threads` must be an integer in 1..1024, got 0"),
        ("n_beams = 5", "n_beams = 0", "`n_beams` must be an integer in 1..1024, got 0"),
        ("n_beams = 5", "max_seconds = -1", "`max_seconds` must be a positive number, got -1"),
        ("n_beams = 5", 'precision = "x"', r"`precision` of \[measuring\] must be a number, got 'x'"),
        ("n_beams = 5", "precision = 2", r"`precision` must be in \[0.0001, 1\], got 2"),
        ("[supernets]", "[supernets]\nn_experts = 0", "`n_experts` must be an integer in 1..64, got 0"),
        (
            "[supernets]\nkinds = [",
            '[supernets]\nkinds = ["plain", ',
            "`kinds` must be 0 or more different values",
        ),
        ("replicated = [1, 2, 4]", "replicated = [1, 1]", "`replicated` must be 0 or more different values"),
        ("seeds = [1, 2, 3]", "seeds = []", "`seeds` must be 1 or more different values"),
        ("seeds = [1, 2, 3]", "seeds = 1", r"`seeds` of \[architectures\] must be a list, got 1"),
        ('path = "${LLMPP_DATA}/multi30k"', "path = 5", r"`path` of \[corpus\] must be text, got 5"),
        ('train = ["train.en.gz", "train.de.gz"]', "train = []", r"`train` must be one TSV.*got \[\]"),
        ('train = ["train.en.gz", "train.de.gz"]', "train = [1, 2]", r"`train` of \[corpus\] must be text"),
        ("vocabulary = 3000", "vocabulary = 0", "`vocabulary` must be an integer in 1.."),
        ("max_tokens = 256", "max_tokens = 1", "`max_tokens` must be an integer in 2.."),
        ('judge = "supernet-plain"', 'judge = "student"', "unknown judge of the comparison 'student'; known"),
        (
            "is_random = true",
            'is_random = "false"',
            "`is_random` of the method 'random' must be true or false",
        ),
    ],
)
def test_a_description_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = EXAMPLE.read_text("utf-8")
    assert old in text
    (tmp_path / "s.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError, match=message):
        Study.load(tmp_path / "s.toml")


def test_the_study_of_the_docs_can_be_run_but_for_its_text(tmp_path: Path) -> None:
    text = (EXAMPLE.parent.parent / "docs" / "studies.md").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(text.partition("```toml\n")[2].partition("```")[0], "utf-8")
    study = Study.load(tmp_path / "mine.toml")
    kinds = Counter(job.kind for job in expand(study))
    assert kinds == {"prepare": 1, "supernet": 3, "train": 36 + 6, "score": 6, "latency": 30 + 6,
                     "latency-model": 1, "student": 1, "search": 18}  # fmt: skip
    assert study.corpus.test == ("test.tsv",)


def test_one_file_may_be_written_without_brackets(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8").replace('["train.en.gz", "train.de.gz"]', '"train.tsv"', 1)
    (tmp_path / "s.toml").write_text(text, "utf-8")
    study = Study.load(tmp_path / "s.toml")
    assert study.corpus.train == ("train.tsv",)
    assert expand(study)[0].parameters["files"]["train"] == ["train.tsv"]


def test_numbers_stay_as_they_are_written_so_that_jobs_stay_the_same() -> None:
    measuring = {job.id: job for job in expand(Study.load(EXAMPLE))}["latency-01"].parameters["measuring"]
    assert json.dumps(measuring) == '{"threads": 1, "n_beams": 5, "precision": 0.02, "max_seconds": 8.0}'


def test_weights_that_a_method_names_must_be_there(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    assert 'initial = "student"' in text
    (tmp_path / "s.toml").write_text(
        text.replace('initial = "student"', 'initial = "llm.safetensors"'), "utf-8"
    )
    study = Study.load(tmp_path / "s.toml")
    study.check_weights(["supernet", "random"])
    with pytest.raises(InputError, match="method 'hybrid' names the weights file llm.safetensors, and there"):
        study.check_weights(["hybrid"])
    (tmp_path / "llm.safetensors").touch()
    study.check_weights(["hybrid"])


def test_python_without_toml_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10))
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(MissingExtraError, match=r"tomli.*llmpp\[train\]"):
        Study.load(EXAMPLE)


def test_supernets_are_trained_as_the_others_but_for_what_is_said() -> None:
    study = Study.load(EXAMPLE)
    assert study.supernet_training.n_updates == 4000
    assert study.supernet_training.peak_rate == study.training.peak_rate


def test_the_corpus_is_where_its_path_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study.load(EXAMPLE)
    assert study.folder == EXAMPLE.parent
    monkeypatch.setenv("LLMPP_DATA", "/data")
    assert study.raw_text == Path("/data/multi30k")
    monkeypatch.setenv("LLMPP_DATA", "near")
    assert replace(study, folder=tmp_path).raw_text == tmp_path / "near" / "multi30k"
    monkeypatch.delenv("LLMPP_DATA")
    with pytest.raises(InputError, match="variable is not set: set it, or give the directory by --corpus"):
        _ = study.raw_text
