"""`Study`: what a study trains and measures, read from TOML."""

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmpp.errors import InputError, require, unknown
from llmpp.measuring.measurement import MeasurementSettings
from llmpp.measuring.timing import Workload
from llmpp.ranges import LARGEST_SEED, between, different, integer
from llmpp.recipe import Recipe
from llmpp.space import SearchSpace
from llmpp.study.comparison import Comparison
from llmpp.study.section import build_section
from llmpp.task import TASK_SCHEMA, Task
from llmpp.text import read_text

STUDY_SCHEMA = "llmpp.study/1"
METRICS = ("loss", "bleu")
#: Those of `mixture.py`, which needs torch.
KINDS = ("plain", "layer-wise", "neuron-wise")
#: What can be the name of a directory everywhere.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class RawCorpus:
    """Parallel text as its owner has it.

    Attributes:
        path: Its directory; `${NAME}` stands for a variable of the environment, and a relative path counts
            from the study's file.
        train: One TSV in it, or the files of source and target.
        valid: The same to choose by.
        test: The same to report on.
        vocabulary: Subwords that source and target share.
        max_tokens: Subwords of the longest sentence that is used, its end included.

    Raises:
        InputError: If a set is not of one or two files, or a number is out of its range.
    """

    path: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    vocabulary: int = 3000
    max_tokens: int = 256

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            files = getattr(self, name)
            if len(files) not in {1, 2} or not all(files):
                raise InputError(
                    f"`{name}` must be one TSV, or the files of source and target, got {list(files)}"
                )
        integer("vocabulary", self.vocabulary, 1, 2**24)
        integer("max_tokens", self.max_tokens, 2, 2**20)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Which architectures are trained from scratch.

    Attributes:
        n: How many; they are numbered from 1.
        seed: Seed of their choice.
        seeds: Seeds of trainings; every architecture is trained with the first.
        replicated: Numbers of the architectures that are trained with each of the seeds.

    Raises:
        InputError: If a number is out of its range.
    """

    n: int = 30
    seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    replicated: tuple[int, ...] = (1, 2, 3)

    def __post_init__(self) -> None:
        integer("n", self.n, 1, 10**6)
        integer("seed", self.seed, 0, LARGEST_SEED)
        different("seeds", self.seeds)
        for seed in self.seeds:
            integer("seeds", seed, 0, LARGEST_SEED)
        for number in self.replicated:
            integer("replicated", number, 1, self.n)
        different("replicated", self.replicated, 0)


@dataclass(frozen=True, kw_only=True)
class Supernets:
    """Which supernets are trained, and what they score.

    Attributes:
        kinds: 'plain', 'layer-wise', 'neuron-wise'.
        n_experts: Experts of each mixed matrix.
        metrics: What they score the architectures by: 'loss', 'bleu'.

    Raises:
        InputError: If a name is unknown or given twice, or the number of experts is out of its range.
    """

    kinds: tuple[str, ...] = KINDS
    n_experts: int = 2
    metrics: tuple[str, ...] = ("loss",)

    def __post_init__(self) -> None:
        for what, known in (("kinds", KINDS), ("metrics", METRICS)):
            for name in getattr(self, what):
                if name not in known:
                    raise unknown(f"name in `{what}`", name, list(known))
            different(what, getattr(self, what), 0)
        integer("n_experts", self.n_experts, 1, 64)


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How latencies are measured, on the CPU.

    Attributes:
        threads: Threads of the CPU.
        n_beams: Beams.
        precision: Half the 95% interval of a median that is good enough, as a share of it.
        max_seconds: No repeat is begun later than this.

    Raises:
        InputError: If a number is out of its range.
    """

    threads: int = 1
    n_beams: int = 5
    precision: float = 0.02
    max_seconds: float = 8.0

    def __post_init__(self) -> None:
        integer("threads", self.threads, 1, 1024)
        integer("n_beams", self.n_beams, 1, 1024)
        _ = self.settings

    @property
    def settings(self) -> MeasurementSettings:
        """The same as the measuring part takes it."""
        return MeasurementSettings(precision=self.precision, max_seconds=self.max_seconds)

    def workload(self, task: Task) -> Workload:
        """What is timed: a sentence of the task's length, on the CPU."""
        return Workload(
            source_length=task.sentence_length,
            target_length=task.sentence_length,
            n_beams=self.n_beams,
            threads=self.threads,
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study trains and measures.

    Attributes:
        name: Its name, which its directory has by default.
        words: The task in the words of a prompt.
        sentence_length: Tokens of source and of target that costs and latencies refer to.
        space: The architectures.
        corpus: The text.
        training: How architectures are trained.
        supernet_training: How supernets are trained.
        architectures: Which are trained.
        supernets: Which supernets.
        measuring: How latencies are measured.
        comparison: Searches, if there are to be any.
        wanted_bleu: Test BLEU that the best architecture is to reach, for the page to say; 0 for none.
        folder: Where its file lies, from which paths count; not said in the file.

    Raises:
        InputError: If the name cannot be that of a directory, a size is out of its range, or the comparison
            names a supernet that is not trained.
    """

    name: str
    sentence_length: int
    space: SearchSpace
    corpus: RawCorpus
    words: str = ""
    training: Recipe = Recipe()  # noqa: RUF009 - frozen
    supernet_training: Recipe = Recipe()  # noqa: RUF009 - frozen
    architectures: Drawing = Drawing()
    supernets: Supernets = Supernets()
    measuring: Measuring = Measuring()
    comparison: Comparison = Comparison()  # noqa: RUF009 - frozen
    wanted_bleu: float = 0.0
    folder: Path = Path()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                "`name` must be of at most 100 letters, digits, '.', '_' and '-', and begin with a letter or "
                f"digit, got {self.name!r}"
            )
        _ = self.task
        between("wanted_bleu", self.wanted_bleu, 0, 100)
        known = [f"supernet-{kind}" for kind in self.supernets.kinds]
        if self.comparison.methods and self.comparison.judge not in known:
            raise unknown("judge of the comparison", self.comparison.judge, known)
        for name in sorted(self.comparison.needs):
            if name.startswith("supernet") and name not in known:
                raise unknown("supernet of the comparison", name, known)

    @property
    def task_dict(self) -> dict[str, Any]:
        """The task without figures, as `Task.from_dict` reads it."""
        sizes = {"vocabulary": self.corpus.vocabulary, "sentence_length": self.sentence_length}
        named = {"schema": TASK_SCHEMA, "name": self.name, "words": self.words}
        return {**named, "space": self.space.to_dict(), **sizes}

    @property
    def task(self) -> Task:
        """The task without figures."""
        return Task.from_dict(self.task_dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Study":
        """Builds a study from parsed TOML.

        Raises:
            InputError: If a key is missing or unknown, or a value is not what it should be.
        """
        if data.get("schema") != STUDY_SCHEMA:
            raise InputError(f"expected a study of schema {STUDY_SCHEMA!r}, got {data.get('schema')!r}")
        if "folder" in data:
            raise InputError("`folder` is no key of a study: name paths from where its file lies")
        parts = {name: value for name, value in data.items() if name != "schema"}
        sections = {"corpus": RawCorpus, "architectures": Drawing, "supernets": Supernets}
        sections |= {"measuring": Measuring, "comparison": Comparison}
        for name, kind in sections.items():
            if name in parts:
                parts[name] = build_section(kind, parts[name], f"[{name}]")
        if "space" in parts:
            parts["space"] = SearchSpace.from_dict({"name": data.get("name"), **parts["space"]})
        recipe = dict(parts.get("training", {}))
        parts["training"] = Recipe.from_dict(recipe)
        parts["supernet_training"] = Recipe.from_dict(recipe | dict(parts.get("supernet_training", {})))
        return build_section(cls, parts, "a study")

    @classmethod
    def load(cls, path: Path) -> "Study":
        """Reads a study's file.

        Raises:
            InputError: If it cannot be used.
        """
        try:
            return replace(cls.from_dict(_parse(path)), folder=path.absolute().parent)
        except (TypeError, AttributeError) as error:
            raise InputError(f"{path} is not a study: {error}") from error

    def check_weights(self, methods: Collection[str]) -> None:
        """Checks that the weights files are there that some methods of the comparison name.

        Raises:
            InputError: If one is not there.
        """
        for method in methods:
            for name in self.comparison.methods[method].files:
                if not (self.folder / name).is_file():
                    raise InputError(
                        f"the method {method!r} names the weights file {name}, and there is no "
                        f"{self.folder / name}: make it by `llmpp distill`, or do other jobs by --only"
                    )

    @property
    def raw_text(self) -> Path:
        """The directory of the raw text.

        Raises:
            InputError: If a variable of the environment is not set.
        """
        path = os.path.expandvars(self.corpus.path)
        if "$" in path:
            raise InputError(
                f"the corpus's path is {self.corpus.path!r}, but that variable is not set: set it, or give "
                "the directory by --corpus"
            )
        return (self.folder / path).resolve()


def _parse(path: Path) -> dict[str, Any]:
    # By name, for type checkers that go by Python 3.10, whose library does not read TOML.
    tomllib = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "train")
    try:
        return dict(tomllib.loads(read_text(path, "the study")))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from error
