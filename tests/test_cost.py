"""FLOPs and parameters, and the examples of the docstrings."""

import doctest
import json
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmpp
from llmpp import SPACES, Architecture, InputError, SpaceError, Task

WMT_TASKS = ["wmt14.en-de", "wmt14.en-fr", "wmt19.en-de"]
MODULES = [
    "llmpp." + path.stem for path in Path(llmpp.__file__).parent.glob("*.py") if path.stem != "__main__"
]


def slow_cost(a: Architecture, task: Task) -> llmpp.Cost:
    """The sums of HAT's costs, term by term."""
    q, length, vocabulary = task.space.qkv_dim, task.sentence_length, task.vocabulary
    e, d, m, n = a.encoder_dim, a.decoder_dim, a.encoder_layers, a.decoder_layers
    macs = params = 0
    for f in a.encoder_ffn:
        macs += 4 * length * e * q + 2 * length**2 * q + 2 * length * e * f
        params += 4 * q * e + 3 * q + e + 2 * e * f + f + e + 4 * e
    for f, k in zip(a.decoder_ffn, a.cross_span, strict=True):
        macs += 4 * length * d * q + 2 * length**2 * q
        macs += 2 * length * d * q + 2 * length * k * e * q + 2 * length**2 * k * q
        macs += 2 * length * d * f
        params += 3 * q * d + 3 * q + q * d + d + q * d + 2 * q * e + 3 * q + q * d + d
        params += 2 * d * f + f + d + 6 * d
    macs += length * (2 * m * e + 3 * n * d) + length * (e + d)
    macs += length * q * (m + 2 * n) + 3 * (m + 2 * n) + 2 * length
    head = length * d * vocabulary
    return llmpp.Cost(2 * (macs + head), 2 * macs, params, vocabulary * d)


@pytest.mark.parametrize("name", WMT_TASKS)
def test_costs_equal_the_published_ones_to_the_integer(name: str, data: Path) -> None:
    rows = [json.loads(line) for line in (data / "tfs" / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    for row in rows:
        cost = llmpp.cost(Architecture.from_dict(row["architecture"]), task=name)
        assert (cost.flops, cost.params) == (row["flops"], row["params"])
        assert cost.embedding_params == row["embedding_params"]


@pytest.mark.parametrize("name", WMT_TASKS)
def test_costs_of_the_shipped_figures_equal_the_slow_sums(name: str) -> None:
    task = llmpp.load_task(name)
    assert len(task.figures) == 30
    for figures in task.figures:
        assert llmpp.cost(figures.architecture, task=task) == slow_cost(figures.architecture, task)


@given(st.integers(0, 2**64 - 1), st.sampled_from([*WMT_TASKS, "iwslt14.de-en"]))
def test_costs_of_random_architectures_equal_the_slow_sums(seed: int, name: str) -> None:
    task = llmpp.load_task(name)
    for architecture in task.space.sample(3, seed=seed):
        assert llmpp.cost(architecture, task=task) == slow_cost(architecture, task)


def test_costs_are_plain_integers_that_json_can_hold() -> None:
    cost = llmpp.cost(SPACES["hat-wmt"].sample(1)[0], task="wmt14.en-de")
    assert all(type(value) is int for value in vars(cost).values())


def test_the_head_is_the_output_projection_of_one_sentence() -> None:
    architecture = llmpp.load_task("wmt14.en-de").figures[0].architecture
    cost = llmpp.cost(architecture, task="wmt14.en-de")
    assert cost.flops - cost.flops_without_head == 2 * 30 * architecture.decoder_dim * 32768


def test_tasks_of_one_space_differ_in_the_head_only() -> None:
    architecture = SPACES["hat-wmt"].sample(1, seed=5)[0]
    costs = [llmpp.cost(architecture, task=name) for name in WMT_TASKS]
    assert len({(cost.flops_without_head, cost.params) for cost in costs}) == 1
    assert costs[0].flops < costs[1].flops < costs[2].flops


def test_an_architecture_of_another_space_has_no_cost() -> None:
    architecture = SPACES["hat-iwslt"].sample(1)[0]
    with pytest.raises(SpaceError, match=r"which is not one of \["):
        llmpp.cost(architecture, task="wmt14.en-de")


def test_an_unknown_task_gets_the_list_of_tasks() -> None:
    with pytest.raises(InputError, match=r"unknown task 'wmt14'.*wmt14\.en-de, wmt14\.en-fr, wmt19\.en-de"):
        llmpp.cost(SPACES["hat-wmt"].sample(1)[0], task="wmt14")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.failed == 0


def test_the_public_calls_have_examples() -> None:
    homes = ["llmpp.architecture", "llmpp.task", "llmpp.hsnas"]
    assert all(doctest.testmod(import_module(home)).attempted > 0 for home in homes)
