"""Translation tasks as data: space, sizes, metric, words for a prompt, figures of trained architectures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.assets import asset
from llmpp.errors import InputError, unknown, writing
from llmpp.ranges import integer
from llmpp.space import SPACES, SearchSpace
from llmpp.text import replace_text

TASK_SCHEMA = "llmpp.task/1"
#: How names of supernet scores end that are minus nats per token, not in the task's metric.
LOSS_SUFFIX = "_loss"


@dataclass(frozen=True)
class Figures:
    """What is known of one architecture that was trained from scratch.

    Attributes:
        id: Its number within the task.
        architecture: The architecture.
        valid_score: Quality on the validation set, in the task's metric.
        test_score: Quality on the test set.
        latency_ms: Measured latency in ms, on the hardware that the task's source names (or does not).
        supernet_scores: Validation quality that weight-sharing supernets predict for it, by supernet; in the
            task's metric, or minus nats per token where the name ends in `LOSS_SUFFIX`.
    """

    id: int
    architecture: Architecture
    valid_score: float
    test_score: float
    latency_ms: float
    supernet_scores: Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """A translation task.

    Attributes:
        name: Such as `wmt14.en-de`.
        space: The architectures to choose from.
        vocabulary: Rows of the output embedding.
        sentence_length: Tokens of source and of target that costs and latencies refer to.
        metric: The quality metric; higher is better.
        words: The task in the words of a prompt, such as 'WMT 2014 English-German translation'.
        source: Where the figures come from.
        figures: Architectures trained from scratch.
        splits: Ids of the demonstrations of each split, in the order in which a prompt shows them.

    Raises:
        InputError: If a size is not in 1..2^24, or a split names figures that do not exist.
    """

    name: str
    space: SearchSpace
    vocabulary: int
    sentence_length: int
    metric: str = "BLEU"
    words: str = ""
    source: str = ""
    figures: tuple[Figures, ...] = ()
    splits: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "sentence_length"):
            object.__setattr__(self, name, integer(name, getattr(self, name), 1, 2**24))
        known = {figures.id for figures in self.figures}
        for split, ids in (self.splits or {}).items():
            if not set(ids) <= known:
                raise InputError(
                    f"split {split!r} names figures that do not exist: {sorted(set(ids) - known)}"
                )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """What costs depend on beside the architecture: qkv dim, sentence length, vocabulary."""
        return self.space.qkv_dim, self.sentence_length, self.vocabulary

    def demonstrations(self, split: str) -> list[Figures]:
        """Lists the figures that prompts of a split may show; 'all' shows every one.

        Raises:
            InputError: If there is no such split.
        """
        by_id = {figures.id: figures for figures in self.figures}
        return [by_id[number] for number in self._ids(split)]

    def held_out(self, split: str) -> list[Figures]:
        """Lists the figures that a split keeps for testing: those it does not demonstrate.

        Raises:
            InputError: If there is no such split.
        """
        shown = set(self._ids(split))
        return [figures for figures in self.figures if figures.id not in shown]

    def _ids(self, split: str) -> tuple[int, ...]:
        if split == "all":
            return tuple(figures.id for figures in self.figures)
        splits = self.splits or {}
        if split not in splits:
            raise unknown(f"split of {self.name}", split, [*splits, "all"])
        return splits[split]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Task":
        """Builds a task from parsed JSON; `space` is a name of `SPACES` or a space's own description.

        Raises:
            InputError: If a key is missing or unknown, or the schema is another.
        """
        required = {"schema", "name", "space", "vocabulary", "sentence_length"}
        optional = {"metric", "words", "source", "figures", "splits"}
        if not required <= set(data) <= required | optional:
            raise InputError(
                f"a task needs the keys {sorted(required)} and may have {sorted(optional)}; "
                f"got {sorted(data)}"
            )
        if data["schema"] != TASK_SCHEMA:
            raise InputError(f"expected a task of schema {TASK_SCHEMA!r}, got {data['schema']!r}")
        rest = {key: data[key] for key in set(data) - {"schema", "space", "figures", "splits"}}
        figures = tuple(
            Figures(**{**row, "architecture": Architecture.from_dict(row["architecture"])})
            for row in data.get("figures", [])
        )
        splits = {name: tuple(ids) for name, ids in data.get("splits", {}).items()}
        return cls(space=_space(data["space"]), figures=figures, splits=splits, **rest)


def _space(description: str | Mapping[str, Any]) -> SearchSpace:
    if isinstance(description, Mapping):
        return SearchSpace.from_dict(description)
    if description not in SPACES:
        raise unknown("space", description, sorted(SPACES))
    return SPACES[description]


def is_file(path: object) -> bool:
    """Whether something is the path of a file; false also for what cannot be a path."""
    try:
        return isinstance(path, (str, Path)) and Path(path).is_file()
    except (OSError, ValueError):
        return False


def task_names() -> list[str]:
    """Lists the built-in tasks."""
    return sorted(path.stem for path in asset("tasks").glob("*.json"))


def load_task(task: "str | Path | Task") -> Task:
    """Finds a built-in task by name, or reads one from a JSON file; passes a `Task` through.

    Raises:
        InputError: If there is neither such a task nor such a file, or the file is no task.
    """
    if isinstance(task, Task):
        return task
    names = task_names()
    if str(task) not in names and not is_file(task):
        raise unknown("task", task, [*names, "or the path of a task's JSON file"])
    return _built_in(str(task)) if str(task) in names else _read(Path(task))


@cache
def _built_in(name: str) -> Task:
    return _read(asset("tasks", f"{name}.json"))


def _read(path: Path) -> Task:
    try:
        return Task.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is not a task: {error}") from error


def write_task(path: Path, content: Mapping[str, Any]) -> None:
    """Writes what `Task.from_dict` reads, one line for each split and each trained architecture.

    Raises:
        InputError: If the file cannot be written.
    """
    splits = [f"{json.dumps(name)}: {json.dumps(ids)}" for name, ids in content["splits"].items()]
    text = json.dumps({**content, "splits": {}, "figures": []}, indent=2)
    text = _filled(text, '"splits": {}', splits)
    text = _filled(text, '"figures": []', [json.dumps(row) for row in content["figures"]])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text + "\n")


def _filled(text: str, entry: str, lines: Sequence[str]) -> str:
    """Puts lines between the brackets that an empty entry of indented JSON ends with."""
    inner = "".join(f"\n    {line}," for line in lines).removesuffix(",")
    return text.replace(entry, f"{entry[:-1]}{inner}\n  {entry[-1]}", 1) if lines else text


@dataclass(frozen=True)
class Cost:
    """What one architecture costs.

    Attributes:
        flops: FLOPs of one teacher-forced pass over one sentence pair of the task's length, a multiply-add as
            two, output projection included.
        flops_without_head: The same without the output projection.
        params: Parameters without embeddings.
        embedding_params: Parameters of one embedding matrix at the decoder's width.
    """

    flops: int
    flops_without_head: int
    params: int
    embedding_params: int


def cost(architecture: Architecture, *, task: str | Path | Task) -> Cost:
    """Computes FLOPs and parameters in closed form, exact to the integer.

    Args:
        architecture: An architecture of the task's space.
        task: A task, its name, or its file; it gives vocabulary and sentence length.

    Raises:
        InputError: If there is no such task.
        SpaceError: If the architecture lies outside the space.

    Example:
        >>> a = load_task("wmt14.en-de").figures[0].architecture
        >>> cost(a, task="wmt14.en-de").flops
        3479416512
    """
    task = load_task(task)
    return Cost(*(int(value) for value in costs(task.space.genomes([architecture]), task)[0]))


def cost_measures(genomes: NDArray[np.uint8], task: Task) -> dict[str, NDArray[np.float64]]:
    """Computes `gflops` (FLOPs / 1e9) and `params_m` (parameters / 1e6) of genomes: `(n,)` each."""
    cost = costs(genomes, task)
    return {"gflops": cost[:, 0] / 1e9, "params_m": cost[:, 2] / 1e6}


def costs(genomes: NDArray[np.uint8], task: Task) -> NDArray[np.uint64]:
    """Computes the four costs of `Cost`, in its order, for genomes `(n, n_genes)`: `(n, 4)`."""
    return task.space.core.cost(genomes, task.sizes)
