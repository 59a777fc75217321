"""Predictors: what gives an architecture a score or a latency without training or running it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.assets import asset
from llmpp.errors import InputError, unknown
from llmpp.space import Encoding, SearchSpace
from llmpp.spread import Spread
from llmpp.task import Task, is_file, load_task
from llmpp.weights import read_mlp


@runtime_checkable
class Predictor(Protocol):
    """Anything that scores architectures; higher is better.

    Attributes that it may have beside: `name`, what results call it; `encoding`, what it can tell apart:
    'averaged' if architectures with equal averaged features always get equal scores, 'per-layer' (assumed
    where it is missing) if not; `notes`, what a user should know; `usage`, whose `to_dict` says what it has
    spent; `identity`, what scores depend on beside the architecture: a search is not resumed with another;
    `space`, the architectures that it can score; `vocabulary`, how many subwords its models have, if a task
    that says otherwise is to be noted; `keeps_scores`, true if asking it again costs nothing;
    `begin_search`, called when a search begins, with how many of the best scores must be right (None: all).
    """

    def predict(self, architectures: list[Architecture], /) -> ArrayLike:
        """Returns one finite score per architecture, `(n,)`."""


@dataclass(frozen=True)
class MlpPredictor:
    """A predictor whose MLP runs in the Rust core.

    Attributes:
        name: What it is called in results.
        mlp: The network.
        encoding: The features that the network reads, 'averaged' or 'per-layer'.
        space: The architectures that it can score.
        record: Where it came from: data, held-out error, date, versions, command.
        notes: What a user should know before trusting it here.
        spread: How far what it predicts may be off, if it knows: latency models do.
        path: The weights file that it was read from, if it was.
    """

    name: str
    mlp: _core.Mlp
    encoding: Encoding
    space: SearchSpace
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    spread: Spread | None = None
    path: Path | None = None

    @property
    def identity(self) -> str:
        """What its scores depend on: a digest of the network."""
        return hashlib.sha256(self.mlp.safetensors).hexdigest()

    @overload
    def predict(
        self, architectures: Sequence[Architecture], *, return_std: Literal[False] = False
    ) -> NDArray[np.float32]: ...

    @overload
    def predict(
        self, architectures: Sequence[Architecture], *, return_std: Literal[True]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...

    def predict(
        self, architectures: Sequence[Architecture], *, return_std: bool = False
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores architectures, `(n,)`, in the unit of the predictor: the task's metric, or ms.

        Args:
            architectures: The architectures to score.
            return_std: Also return the standard deviation of what would be measured, `(n,)`: 90% of
                measurements are expected within 1.645 of them.

        Raises:
            SpaceError: If an architecture lies outside the space.
            InputError: If the standard deviation is wanted of a predictor that does not know it.
        """
        features = self.space.features(architectures, self.encoding)
        predicted = self.mlp.forward(features)
        if not return_std:
            return predicted
        if self.spread is None:
            raise InputError(
                f"{self.name} does not know how far it may be off: fit it again, `llmpp fit-latency`"
            )
        std = self.spread.std(features.astype(np.float64), predicted.astype(np.float64))
        return predicted, std.astype(np.float32)


def load_predictor(name_or_path: str | Path, *, task: str | Path | Task) -> MlpPredictor:
    """Loads a predictor of quality: 'distilled' for the student that ships with a task, or a weights file.

    Raises:
        InputError: If the task ships no student, or the file is no predictor of quality for its space.
    """
    task = load_task(task)
    if str(name_or_path) != "distilled":
        return _load_file(Path(name_or_path), task, "score", ["distilled"])
    path = asset("students", f"{task.name}.safetensors")
    if not path.is_file():
        raise InputError(
            f"no student ships for the task {task.name!r}. Make one from a model's answers, "
            f"`llmpp distill ANSWERS --task {task.name} -o FILE`, and pass FILE as `initial`"
        )
    return _load(path, "distilled", task, "score")


def load_latency(name_or_path: str | Path, *, task: str | Path | Task) -> MlpPredictor:
    """Loads a latency model, in ms: that of a hardware by name, or a weights file.

    Where a hardware has no model for the task, that of the task with the nearest vocabulary is used, and
    `notes` says so.

    Raises:
        InputError: If there is no such hardware or file, or the model does not fit the task's space.
    """
    task = load_task(task)
    models = _latency_models()
    if str(name_or_path) not in models:
        return _load_file(Path(name_or_path), task, "latency", sorted(models))
    measured = [load_task(name) for name in models[str(name_or_path)]]
    fitting = [other for other in measured if other.space.largest == task.space.largest]
    if not fitting:
        raise InputError(
            f"{name_or_path} was measured on {[other.name for other in measured]} only, whose spaces are not "
            f"that of {task.name}. Measure yours, `llmpp measure --task {task.name} -o mine.parquet`, "
            "fit it, `llmpp fit-latency mine.parquet -o FILE`, and pass FILE as `hardware`"
        )
    nearest = min(
        fitting, key=lambda other: (other.name != task.name, abs(other.vocabulary - task.vocabulary))
    )
    path = asset("latency", f"{name_or_path}.{nearest.name}.safetensors")
    return _load(path, str(name_or_path), task, "latency")


def hardware_names() -> list[str]:
    """Lists the hardware that latency models ship for."""
    return sorted(_latency_models())


def latency_records(files: Sequence[Path] = ()) -> list[tuple[str, Mapping[str, Any]]]:
    """Lists the latency models that ship, by hardware and task, and then those of files, with their records.

    Raises:
        InputError: If a file is no latency model.
    """
    shipped: list[tuple[str, Mapping[str, Any]]] = [
        (hardware, read_mlp(asset("latency", f"{hardware}.{task}.safetensors"))[1])
        for hardware, tasks in sorted(_latency_models().items())
        for task in tasks
    ]
    found: list[tuple[str, Mapping[str, Any]]] = [(str(path), read_mlp(path)[1]) for path in files]
    for name, record in found:
        if record.get("kind") != "latency":
            raise InputError(
                f"{name} holds a model of kind {record.get('kind')!r}, but one of kind 'latency' is needed"
            )
    return shipped + found


def _latency_models() -> dict[str, list[str]]:
    """The tasks measured on each hardware, from the names of the asset files."""
    models: dict[str, list[str]] = {}
    for path in sorted(asset("latency").glob("*.safetensors")):
        hardware, _, task = path.name.removesuffix(".safetensors").partition(".")
        models.setdefault(hardware, []).append(task)
    return models


def _load_file(path: Path, task: Task, kind: str, names: list[str]) -> MlpPredictor:
    if path.is_dir():
        raise InputError(
            f"{path} is a directory: for the supernet in it, pass `SupernetPredictor({str(path)!r}, corpus)`"
        )
    if not is_file(path):
        if path.suffix or path.parent != Path():
            raise InputError(f"there is no weights file {path}")
        what = {"score": "predictor", "latency": "hardware"}[kind]
        raise unknown(what, str(path), [*names, "or the path of a weights file"])
    return _load(path, str(path), task, kind)


def _load(path: Path, name: str, task: Task, kind: str) -> MlpPredictor:
    mlp, record = read_mlp(path)
    if record.get("kind") != kind:
        raise InputError(
            f"{path} holds a model of kind {record.get('kind')!r}, but one of kind {kind!r} is needed"
        )
    if record.get("largest") != task.space.largest:
        raise InputError(
            f"{path} belongs to another space: it divides features by {record.get('largest')}, but those of "
            f"{task.name} are divided by {task.space.largest}"
        )
    encoding = record.get("encoding")
    if encoding not in ("averaged", "per-layer") or mlp.n_features != task.space.core.n_features(encoding):
        raise InputError(
            f"{path} reads {mlp.n_features} features of the encoding {encoding!r}, which {task.name} lacks"
        )
    notes: tuple[str, ...] = ()
    if record.get("task") != task.name:
        notes = (f"{name}: a {kind} model made for {record.get('task')} stands in for {task.name}",)
    return MlpPredictor(name, mlp, encoding, task.space, record, notes, Spread.read(path), path)
