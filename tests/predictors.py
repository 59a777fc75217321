"""Predictors for tests: plain objects, ones that go wrong, and random networks of the core."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llmpp import Architecture, MlpPredictor, SearchSpace, Task
from llmpp._core import Mlp
from llmpp.weights import write_mlp


class Plain:
    """A predictor of the core as any user's object, which only Python can ask."""

    def __init__(self, inner: MlpPredictor) -> None:
        self.inner, self.name, self.encoding = inner, inner.name, inner.encoding

    def predict(self, architectures: list[Architecture]) -> NDArray[np.float32]:
        return self.inner.predict(architectures)


class Shallow:
    """Likes wide and shallow decoders; its scores lie far from BLEU."""

    encoding = "averaged"

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    def predict(self, architectures: list[Architecture]) -> list[float]:
        self.asked += architectures
        return [-a.decoder_layers + a.decoder_dim / 1e4 + sum(a.cross_span) / 1e5 for a in architectures]


class Board:
    """A device that takes 10 ms for each decoder layer."""

    name = "my-board"
    encoding = "averaged"

    def predict(self, architectures: Sequence[Architecture]) -> list[float]:
        return [10.0 * a.decoder_layers for a in architectures]


class Ordered:
    """Looks at the order of layers."""

    def predict(self, architectures: Sequence[Architecture]) -> list[float]:
        return [float(a.encoder_ffn[0] - a.encoder_ffn[-1] + a.cross_span[0]) for a in architectures]


class Faulty:
    """Answers well for some calls, then goes wrong in one way or another."""

    encoding = "averaged"

    def __init__(self, n_good: int, fault: Callable[[list[Architecture]], Any]) -> None:
        self.n_good, self.fault, self.n_calls = n_good, fault, 0

    def predict(self, architectures: list[Architecture]) -> Any:
        self.n_calls += 1
        if self.n_calls > self.n_good:
            return self.fault(architectures)
        return [float(a.decoder_layers) for a in architectures]


def raise_(error: BaseException) -> Callable[..., Any]:
    def fault(*_: Any) -> Any:
        raise error

    return fault


#: What predictors do wrong, and what the error says about it.
FAULTS: list[tuple[Callable[[list[Architecture]], Any], str]] = [
    (raise_(ZeroDivisionError("oh no")), "raised ZeroDivisionError: oh no"),
    (lambda a: [1.0] * (len(a) - 1), r"returned scores of shape \(\d+,\) for \d+ architectures"),
    (lambda a: [1.0] * (len(a) + 1), "returned scores of shape"),
    (lambda a: [[1.0]] * len(a), r"returned scores of shape \(\d+, 1\)"),
    (lambda _: 1.0, "returned scores of shape"),
    (lambda _: [], "returned scores of shape"),
    (lambda a: [math.nan] + [1.0] * (len(a) - 1), r"returned nan for Architecture\("),
    (lambda a: [1.0] * (len(a) - 1) + [math.inf], r"returned inf for Architecture\("),
    (lambda a: ["high"] * len(a), "raised ValueError"),
    (lambda _: {"score": 1}, "raised TypeError"),
]


def network(
    space: SearchSpace,
    hidden: Sequence[int] = (5,),
    *,
    seed: int = 0,
    is_rough: bool = False,
    mean: float = 0,
) -> MlpPredictor:
    """Draws a network of averaged features; a rough one has few different weights, so that scores tie."""
    save = pytest.importorskip("safetensors.numpy").save
    tensors = _tensors(hidden, seed=seed, is_rough=is_rough, mean=mean)
    return MlpPredictor(f"network-{seed}", Mlp(save(tensors)), "averaged", space)


def network_file(path: Path, task: Task) -> Path:
    """Writes the weights file of such a network as a predictor of quality for a task."""
    record = {"kind": "score", "encoding": "averaged", "largest": task.space.largest, "task": task.name}
    write_mlp(path, _tensors((5,)), record)
    return path


def _tensors(
    hidden: Sequence[int], *, seed: int = 0, is_rough: bool = False, mean: float = 0
) -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(seed)

    def numbers(*shape: int) -> NDArray[np.float32]:
        drawn = draw.integers(-1, 2, shape) if is_rough else draw.normal(size=shape)
        return drawn.astype(np.float32)

    tensors = {
        "input.mean": np.zeros(10, np.float32),
        "input.std": np.ones(10, np.float32),
        "output.mean": np.array([mean], np.float32),
        "output.std": np.ones(1, np.float32),
    }
    for index, (n_in, n_out) in enumerate(pairwise([10, *hidden, 1])):
        tensors[f"layers.{index}.weight"] = numbers(n_out, n_in)
        tensors[f"layers.{index}.bias"] = numbers(n_out)
    return tensors
