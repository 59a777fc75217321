"""The choice between exact search and evolution, and the reason that is given for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from enumeration import small_task, task_of
from llmpp import InputError, SearchResult, hsnas, load_latency, load_predictor
from predictors import Board, Ordered, Plain, Shallow, network
from trial import SHORT, TASK

N_VECTORS = 5_717_348


class PerLayerBoard(Board):
    name = "per-layer-board"
    encoding = "per-layer"


def reasons(result: SearchResult) -> list[str]:
    return [note for note in result.notes if "exact search" in note]


@pytest.mark.parametrize("hardware", ["titan-xp", None])
def test_a_shipped_student_is_searched_exactly(hardware: str | None) -> None:
    result = hsnas.search(TASK, hardware, {"gflops": 2.5})
    (reason,) = reasons(result)
    assert (result.strategy, result.status) == ("exact", "optimal")
    assert reason.startswith("exact search:")
    assert f"{N_VECTORS:,} feature vectors" in reason


def test_a_predictor_in_python_is_asked_about_every_vector_of_a_small_space() -> None:
    shallow = Shallow()
    result = hsnas.search(small_task(), initial=shallow)
    (reason,) = reasons(result)
    assert result.strategy == "exact"
    assert len(shallow.asked) == 9712
    assert "9,712 feature vectors" in reason


def test_a_latency_in_python_does_not_hinder_in_a_small_space() -> None:
    assert hsnas.search(small_task(), Board(), initial=network(small_task().space)).strategy == "exact"


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"initial": Ordered()}, "`Ordered` can tell apart architectures with equal averaged features"),
    ({"hardware": PerLayerBoard()}, "`per-layer-board` can tell apart architectures with equal averaged"),
    (
        {"max_vectors": N_VECTORS - 1},
        f"the space has {N_VECTORS:,} feature vectors, more than `max_vectors={N_VECTORS - 1:,}`",
    ),
    (SHORT, "settings of the evolution were given"),
    ({"n_iterations": 30}, "settings of the evolution were given"),
    ({"baseline": Shallow()}, "there is a baseline"),
    ({"initial": Shallow()}, f"`Shallow` would be asked about {N_VECTORS:,} architectures"),
    ({"hardware": Board()}, f"`my-board` would be asked about {N_VECTORS:,} architectures"),
    (
        {"initial": network(TASK.space, (400, 400, 400))},
        f"scoring all {N_VECTORS:,} feature vectors would take 3.7e+12 FLOPs",
    ),
]


@pytest.mark.parametrize(("arguments", "words"), REASONS)
def test_auto_says_why_it_is_evolution(arguments: dict[str, Any], words: str) -> None:
    result = hsnas.search(TASK, **{"constraints": {"gflops": 2.5}, **arguments})
    (reason,) = reasons(result)
    assert (result.strategy, result.status) == ("evolution", "budget")
    assert reason.startswith("evolution, not exact search: ")
    assert words in reason


def test_the_reason_is_in_the_run_directory_too(tmp_path: Path) -> None:
    result = hsnas.search(TASK, run_dir=tmp_path / "run", **SHORT)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert settings["strategy"] == written["strategy"] == "evolution"
    assert reasons(result)[0] in settings["notes"]
    assert reasons(result)[0] in written["notes"]


def test_the_number_of_vectors_may_be_as_large_as_the_limit() -> None:
    assert hsnas.search(TASK, max_vectors=N_VECTORS, strategy="exact").status == "optimal"


@pytest.mark.parametrize("strategy", ["exact", "evolution"])
def test_who_names_a_strategy_is_told_no_reason(strategy: str) -> None:
    result = hsnas.search(TASK, strategy=strategy)
    assert result.strategy == strategy
    assert reasons(result) == []


@pytest.mark.parametrize("arguments", [SHORT, {"baseline": "student"}, {"initial": "plain"}])
def test_what_auto_leaves_to_evolution_can_be_searched_exactly(arguments: dict[str, Any]) -> None:
    task = task_of()
    student: dict[str, Any] = {
        "student": network(task.space),
        "plain": Plain(network(task.space, seed=1)),
    }
    given = {name: student.get(value, value) for name, value in arguments.items()}
    result = hsnas.search(task, **{"initial": network(task.space, seed=2), **given, "strategy": "exact"})
    assert result.strategy == "exact"


def test_a_baseline_that_sees_single_layers_does_not_hinder_exact_search() -> None:
    task = task_of()
    result = hsnas.search(task, initial=network(task.space), baseline=Ordered(), strategy="exact")
    assert (result.strategy, result.status) == ("exact", "budget")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"initial": Ordered()}, "`Ordered` can tell apart"),
        ({"hardware": PerLayerBoard()}, "`per-layer-board` can tell apart"),
        ({"max_vectors": 1000}, "more than `max_vectors=1,000`"),
    ],
)
def test_exact_search_that_is_not_possible_is_refused_with_the_reason(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"strategy='exact' is not possible: .*{words}"):
        hsnas.search(TASK, strategy="exact", run_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_space_of_more_vectors_than_can_be_numbered_goes_to_evolution() -> None:
    many = tuple(range(64, 64 + 200))
    task = task_of({**task_of().space.options, "encoder_ffn": many, "decoder_ffn": many, "encoder_dim": many,
                    "decoder_dim": many})  # fmt: skip
    assert task.space.n_feature_vectors >= 2**32
    result = hsnas.search(task, initial=network(task.space), max_vectors=2**32 - 1)
    assert result.strategy == "evolution"
    with pytest.raises(InputError, match="is not possible: the space has"):
        hsnas.search(task, initial=network(task.space), strategy="exact")


def test_a_space_whose_vectors_cannot_be_counted_goes_to_evolution() -> None:
    sizes = tuple(3**power % (2**32 - 5) for power in range(1, 40))
    task = task_of({**task_of().space.options, "decoder_layers": (1, 40), "decoder_ffn": sizes})
    result = hsnas.search(task, initial=network(task.space))
    assert result.strategy == "evolution"
    with pytest.raises(InputError, match="strategy='exact' is not possible"):
        hsnas.search(task, initial=network(task.space), strategy="exact")


@pytest.mark.parametrize("strategy", ["Exact", "", None, 5, ["exact"]])
def test_an_unknown_strategy_gets_the_list(strategy: Any) -> None:
    with pytest.raises(InputError, match="unknown strategy .*; known: auto, exact, evolution"):
        hsnas.search(TASK, strategy=strategy)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, 2**32, "many"])
def test_the_limit_of_vectors_is_a_positive_integer(wrong: Any) -> None:
    with pytest.raises(InputError, match="`max_vectors` must be an integer in 1..4294967295"):
        hsnas.search(TASK, max_vectors=wrong)


def test_settings_of_the_evolution_are_checked_also_where_search_is_exact() -> None:
    with pytest.raises(InputError, match="`n_iterations` must be"):
        hsnas.search(TASK, strategy="exact", n_iterations=0)


def test_names_and_objects_are_chosen_alike() -> None:
    named = hsnas.search(TASK, "titan-xp", {"gflops": 2.5})
    latency, student = load_latency("titan-xp", task=TASK), load_predictor("distilled", task=TASK)
    assert reasons(named) == reasons(hsnas.search(TASK, latency, {"gflops": 2.5}, initial=student))
