"""Prompts: byte for byte those that were recorded, part by part, for any task."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpp import SPACES, Architecture, InputError, Task, load_task
from llmpp.answers import Answer, read_answers
from llmpp.assets import asset
from llmpp.prompt import (
    PARTS,
    PromptParts,
    build_prompt,
    decimals,
    ladder,
    read_sentence_pairs,
    read_shape,
)
from llmpp.task import Figures

TASK = load_task("wmt14.en-de")
#: SHA-256 of the prompts whose replies were recorded.
RECORDED = {
    "wmt14.en-de_all30_0": "46da9987d850c06489ff3e1ff54c1fda5438906fcb52f236962cc865b9dbf411",
    "wmt14.en-de_all30_1": "fa50c3f20d654939cf7337719f59ed2058a13448f03503de8886b4a8b0949c45",
    "wmt14.en-de_all30_2": "ee31631216f9cfb02b7de83e8d91396aefd77d645a69376b3f5ca9d3bcfc20b0",
    "wmt14.en-de_seed123_0": "df90b742a6702dac44df2fafc9428c2e01d47b4da7c53f57770b313884f6720f",
    "wmt14.en-de_seed123_1": "6e26a7f7519eee4589c97ad0937689d8c37af798c9f4878a398b8f681d2b9bc5",
    "wmt14.en-de_seed456_0": "dafab44949238a12fccaf50b1ec7efd30ccecc415f67d644979fdab546f7539f",
    "wmt14.en-de_seed456_1": "7092260ad9da830d34716cacad714ff604fe563807ef6760b85f29bda60a365f",
    "wmt14.en-de_seed789_0": "d0c5be63a2a73c967ac3be11ad8d8f6e4a1b7ed13c943cbea4bb30431ffd9162",
    "wmt14.en-de_seed789_1": "85f821abec826b13263dd5e429f4d6573ae5fc9b7737b011f084794e92d67115",
    "wmt14.en-fr_all30_0": "aac94eaff5b7ae2a4566c47fa7fe2a057f01c98c55d2e213eb2af7e79281e5df",
    "wmt14.en-fr_all30_1": "b3c108c835fc127e86d71792f53e5b7c5e887cce134b20026d8767c1f0c291c6",
    "wmt14.en-fr_all30_2": "b7fc7acecea19b64c28fed15a1e107f631e0443aa75b89ee79e62ef51760d483",
    "wmt14.en-fr_seed123_0": "33f0eaedce424cc35fab36175aee428fa94cd6b475cb2cb2cd055e654133f68d",
    "wmt14.en-fr_seed123_1": "8bf4cda07e2793402d7e83a5c38312e5e3a3f7a14eff2c6e794ca635ceea924f",
    "wmt14.en-fr_seed456_0": "4ae34de96f2f207d8e25f461e7a2550fa5da3db9702570015e35b0920e43f4f3",
    "wmt14.en-fr_seed456_1": "9316f1dceca8a213a75cbff639ed3f8de91be02384d585f750e6f1b487dd4ecd",
    "wmt14.en-fr_seed789_0": "7583d2b8a9c49270310c703a9c5611fd9216de1c03ee962ef354d92e8102c970",
    "wmt14.en-fr_seed789_1": "2ce934567be63681ce84d37ca6de0dee19bac4a90818a7dcd00d9f128d27c2a3",
    "wmt19.en-de_all30_0": "d9d5bfe742a3f3d5a887f131cf216ff62c764ba30070dd029b6aba3abb8db644",
    "wmt19.en-de_all30_1": "85a735303f5d3f73145dd936b035f0f35a0b3d8c79595ec77cbf8f1dbc9c2725",
    "wmt19.en-de_all30_2": "f8229abb08a62d607f544068a63e710dd62ed7cf6fce02eedd9ca6c30bcca830",
    "wmt19.en-de_seed123_0": "8227ecd41e75393f5b9b73ad383547fc9c98f2c407b87f8f841f2527276c77ec",
    "wmt19.en-de_seed123_1": "283fc2ea2e2007c7f69150d1c326d2c12805faaca792f52a587d091a8fe1aebe",
    "wmt19.en-de_seed456_0": "ea09e5898a1805208afcbd47c8368e36c9c40f5fc7429632a74e9b26e6ea7fa7",
    "wmt19.en-de_seed456_1": "b225888cc0569f23f95cb6155764f294ee08a83a0a5474ad3f7e0e100e0986ce",
    "wmt19.en-de_seed789_0": "087afdf3616c8bac42ed83ecc20ded40e14f58967cb9b0ad818af5f742e12a44",
    "wmt19.en-de_seed789_1": "f797725e4c427d8a73154b7cc3c0d3cd542013e19810af8bb2295873b5382627",
}


def prompts_of_shipped_answers(task: Task) -> dict[str, str]:
    """Builds again the prompts that the shipped answers came from, by name."""
    by_prompt: dict[str, list[Answer]] = {}
    for row in read_answers(asset("answers", f"{task.name}.jsonl")).rows:
        by_prompt.setdefault(str(row.prompt), []).append(row)
    return {
        name: build_prompt(task, task.demonstrations(rows[0].split), [row.architecture for row in rows])
        for name, rows in by_prompt.items()
    }


def figures(score: float, architecture: Architecture) -> Figures:
    return Figures(0, architecture, score, score, 1.0, {})


@pytest.mark.parametrize("name", ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"])
def test_the_recorded_prompts_come_out_byte_for_byte(name: str) -> None:
    built = prompts_of_shipped_answers(load_task(name))
    hashes = {key: hashlib.sha256(text.encode()).hexdigest() for key, text in built.items()}
    assert hashes == {key: value for key, value in RECORDED.items() if key.startswith(name)}


def test_the_hashes_are_those_of_the_recorded_files(data: Path) -> None:
    files = sorted((data / "llm_answers" / "prompts").glob("*.txt"))
    assert {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == RECORDED


def test_the_ladder_grows_part_by_part_from_the_demonstrations_to_the_whole_prompt() -> None:
    asked, pairs = TASK.space.sample(2), (("Good day", "Guten Tag"),)
    built = [build_prompt(TASK, TASK.demonstrations("123"), asked, parts=p) for p in ladder(pairs).values()]
    added = ["# Role", "WMT 2014", "source: Good day\ntarget: Guten Tag", "Vaswani", "gflops is", "Work from"]
    assert len(built) == 7
    for rung, words in enumerate(added, 1):
        assert words not in built[rung - 1]
        assert words in built[rung]
    assert "# Hyperparameters" in built[1]
    assert "# Demonstrations" in built[0]
    last = build_prompt(TASK, TASK.demonstrations("123"), asked, parts=PromptParts().showing(pairs))
    assert built[-1] == last


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_switched_off_alone(part: str) -> None:
    asked = TASK.space.sample(2)
    whole = build_prompt(TASK, TASK.figures, asked)
    without = build_prompt(TASK, TASK.figures, asked, parts=PromptParts().without([part]))
    assert len(without) < len(whole)
    numbers = [line.split(".")[0] for line in without.splitlines() if line[:2] in {f"{n}." for n in range(9)}]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]


def test_unknown_parts_are_named() -> None:
    with pytest.raises(InputError, match="unknown part of the prompt 'roll'; known: role"):
        PromptParts().without(["roll"])


def test_another_task_describes_itself() -> None:
    space = SPACES["hat-iwslt"]
    shown = [figures(0.5 + n / 10, a) for n, a in enumerate(space.sample(3))]
    task = Task("mine", space, 1000, 17, metric="chrF", words="Upper Sorbian to German translation")
    prompt = build_prompt(task, shown, space.sample(2, seed=1))
    assert "Upper Sorbian to German" in prompt
    assert "17 source and 17 target tokens" in prompt
    assert " chrf=0.500\n" in prompt
    assert "three decimals" in prompt
    assert "BLEU" not in prompt
    assert "WMT" not in prompt


def test_a_task_without_words_is_called_by_its_name() -> None:
    prompt = build_prompt(replace(TASK, words=""), TASK.figures, TASK.space.sample(1))
    assert "The task is wmt14.en-de." in prompt


@pytest.mark.parametrize(
    ("scores", "digits"),
    [
        ([25.0, 27.0], 2),
        ([25.0], 2),
        ([0.25, 0.35], 3),
        ([0.5, 0.501], 5),
        ([1.0, 1.0 + 1e-12], 8),
        ([0.0, 5e-324], 8),
    ],
)
def test_decimals_tell_the_demonstrations_apart(scores: list[float], digits: int) -> None:
    assert decimals(scores) == digits


def test_a_structured_prompt_asks_for_json_and_nothing_else_changes() -> None:
    lines = build_prompt(TASK, TASK.figures, TASK.space.sample(1)).splitlines()
    structured = build_prompt(TASK, TASK.figures, TASK.space.sample(1), structured=True).splitlines()
    changed = [new for old, new in zip(lines, structured, strict=True) if old != new]
    assert len(changed) == 1
    assert '{"estimates": [{"number": 1' in changed[0]


@pytest.mark.parametrize(("n_shown", "n_asked"), [(0, 1), (1, 0)])
def test_nothing_to_show_or_to_ask_is_wrong(n_shown: int, n_asked: int) -> None:
    with pytest.raises(InputError, match=f"got {n_shown} and {n_asked}"):
        build_prompt(TASK, TASK.figures[:n_shown], TASK.space.sample(2)[:n_asked])


@given(
    n_shown=st.integers(1, 5),
    n_asked=st.integers(1, 30),
    scores=st.lists(st.floats(-100, 100), min_size=5, max_size=5),
    off=st.sets(st.sampled_from(PARTS)),
    structured=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_shape_of_any_prompt_can_be_read_back(
    n_shown: int, n_asked: int, scores: list[float], off: set[str], structured: bool
) -> None:
    space = SPACES["hat-wmt"]
    shown = [figures(score, a) for score, a in zip(scores, space.sample(n_shown), strict=False)]
    parts = PromptParts().without(off).showing([("# Demonstrations", "1 a=b")])
    prompt = build_prompt(TASK, shown, space.sample(n_asked), parts=parts, structured=structured)
    shape = read_shape(prompt)
    digits = decimals(f.valid_score for f in shown)
    assert shape.n == n_asked
    assert shape.shown == tuple(float(f"{f.valid_score:.{digits}f}") for f in shown)


@pytest.mark.parametrize("text", ["", "hello", "# Demonstrations\na=1 b=2.00\n"])
def test_other_texts_have_no_shape(text: str) -> None:
    with pytest.raises(InputError, match="no prompt of llmpp"):
        read_shape(text)


def test_sentence_pairs_are_read_from_tabs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("A dog.\tEin Hund.\n\nA cat.\tEine Katze.\n")
    assert read_sentence_pairs(path) == [("A dog.", "Ein Hund."), ("A cat.", "Eine Katze.")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("one sentence\n", "line 1: expected two"),
        ("a\tb\tc\n", "line 1"),
        ("a\t \n", "line 1"),
        ("", "holds no"),
    ],
)
def test_what_is_no_sentence_pair_is_wrong(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_sentence_pairs(path)
