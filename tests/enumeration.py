"""Small tasks whose architectures are all listed, and the answers that a search must then give."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmpp import Architecture, SearchSpace, Task
from llmpp.predictor import Predictor
from llmpp.task import costs

#: Two options each; with so few, random networks make few ties and fronts of some points.
PAIR = {
    "encoder_dim": (64, 128),
    "encoder_layers": (1,),
    "encoder_ffn": (64, 128),
    "encoder_heads": (2, 4),
    "decoder_dim": (64, 128),
    "decoder_layers": (1, 2),
    "decoder_ffn": (64, 128),
    "decoder_heads": (2, 4),
    "cross_heads": (2,),
    "cross_span": (1, 2),
}


def task_of(options: Mapping[str, Sequence[int]] = PAIR, name: str = "small.de-en") -> Task:
    """A task with the options of `PAIR`, but for those given."""
    space = SearchSpace(name, {key: tuple(values) for key, values in {**PAIR, **options}.items()}, 64)
    return Task(name, space, vocabulary=100, sentence_length=10)


def tiny_task() -> Task:
    """12 architectures."""
    one = {name: PAIR[name][:1] for name in PAIR if not name.endswith(("ffn", "layers"))}
    return task_of(one, "tiny.de-en")


def small_task() -> Task:
    """9,712 feature vectors of 230,784 architectures: enough for several calls of a predictor."""
    return task_of({"decoder_layers": (1, 2, 3), "cross_heads": (2, 4), "cross_span": (1, 2, 3)})


@st.composite
def tasks(draw: st.DrawFn, most: int = 3000) -> Task:
    """Draws a task of at most `most` architectures."""

    def some(values: tuple[int, ...], n: int = 2) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=n, unique=True)))

    options = {
        "encoder_dim": some((64, 128, 192)),
        "encoder_layers": draw(st.sampled_from([(1,), (1,), (2,), (1, 2)])),
        "encoder_ffn": some((64, 100, 128, 256)),
        "encoder_heads": some((2, 4)),
        "decoder_dim": some((64, 128, 192)),
        "decoder_layers": draw(st.sampled_from([(1,), (2,), (1, 2), (2, 1)])),
        "decoder_ffn": some((64, 100, 128, 256), 3),
        "decoder_heads": some((2, 4)),
        "cross_heads": some((1, 2, 4)),
        "cross_span": some((1, 2, 3), 3),
    }
    task = task_of(options, "drawn.de-en")
    while task.space.n_architectures > most:
        longest = max(options, key=lambda name: (len(options[name]), not name.endswith("layers")))
        options[longest] = options[longest][:-1]
        task = task_of(options, "drawn.de-en")
    return task


def every_architecture(space: SearchSpace, *, is_ordered: bool = True) -> Iterator[Architecture]:
    """Lists a space by its definition; if not ordered, without those that differ in the order of layers."""

    def choices(options: tuple[int, ...], n: int) -> tuple[tuple[int, ...], ...]:
        return tuple(product(options, repeat=n) if is_ordered else combinations_with_replacement(options, n))

    def stacks(depth: str, *names: str) -> list[tuple[tuple[int, ...], ...]]:
        options = [space.options[name] for name in names]
        return [
            stack
            for n in space.options[depth]
            for stack in product(*(choices(values, n) for values in options))
        ]

    dims = tuple(product(space.options["encoder_dim"], space.options["decoder_dim"]))
    encoders = stacks("encoder_layers", "encoder_ffn", "encoder_heads")
    decoders = stacks("decoder_layers", "decoder_ffn", "decoder_heads", "cross_heads", "cross_span")
    for (encoder_dim, decoder_dim), (ffn, heads), decoder in product(dims, encoders, decoders):
        yield Architecture(encoder_dim, ffn, heads, decoder_dim, *decoder)


@lru_cache(maxsize=2)
def _listed(
    space: str, is_ordered: bool
) -> tuple[list[Architecture], NDArray[np.float32], NDArray[np.float64]]:
    description = json.loads(space)
    task = task_of(description["options"])
    architectures = list(every_architecture(task.space, is_ordered=is_ordered))
    cost = costs(task.space.genomes(architectures), task).astype(np.float64)
    return architectures, task.space.features(architectures), cost


class Everything:
    """Every architecture of a task with its figures: what exact search must agree with.

    Attributes:
        space: The task's space.
        is_ordered: Whether architectures that differ only in the order of layers are all listed.
        architectures: Those listed, `n`.
        features: Their averaged features, `(n, 10)`.
        scores: `(n,)`, float32.
        measures: By name, `(n,)`; the one that scores are weighed against comes first.
    """

    def __init__(
        self, task: Task, score: Predictor, latency: Predictor | None = None, *, is_ordered: bool = True
    ) -> None:
        self.space, self.is_ordered = task.space, is_ordered
        self.architectures, self.features, cost = _listed(json.dumps(task.space.to_dict()), is_ordered)
        self.scores = np.asarray(score.predict(self.architectures), np.float32)
        self.measures = {"gflops": cost[:, 0] / 1e9, "params_m": cost[:, 2] / 1e6}
        if latency is not None:
            latencies = np.asarray(latency.predict(self.architectures), np.float32)
            self.measures = {"latency_ms": latencies.astype(np.float64), **self.measures}

    def quantiles(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Bounds that these shares of the architectures keep; none if the share is negative."""
        bounds = {}
        for name in set(shares) & set(self.measures):
            bound = np.quantile(self.measures[name], max(shares[name], 0), method="lower")
            bounds[name] = float(bound) * (0.999 if shares[name] < 0 else 1)
        return bounds

    def feasible(self, bounds: Mapping[str, float]) -> NDArray[np.bool_]:
        keeps = [self.measures[name] <= bound for name, bound in bounds.items()]
        is_feasible: NDArray[np.bool_] = np.all([np.ones(len(self.scores), np.bool_), *keeps], axis=0)
        return is_feasible

    def index(self, architecture: Architecture) -> int:
        """The first architecture with the features of another one."""
        return int(np.argmax((self.features == self.space.features([architecture])).all(axis=1)))

    def n_vectors(self, which: NDArray[np.bool_]) -> int:
        return len(np.unique(self.features[which], axis=0))

    def best(self, bounds: Mapping[str, float], n: int) -> list[float]:
        """The `n` best scores of distinct feature vectors."""
        which = np.flatnonzero(self.feasible(bounds))
        _, first = np.unique(self.features[which], axis=0, return_index=True)
        return sorted(self.scores[which[first]].tolist(), reverse=True)[:n]

    def front(self, bounds: Mapping[str, float], *names: str) -> list[tuple[float, ...]]:
        """What nothing beats in score and measures, as (measures, score), sorted."""
        which = self.feasible(bounds)
        columns = [*(self.measures[name][which] for name in names), -self.scores[which].astype(np.float64)]
        front = np.empty((0, len(columns)))
        # In this order only what came before can beat a point.
        for point in np.unique(np.stack(columns, axis=1), axis=0):
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front, point])
        return [(*map(float, point[:-1]), -float(point[-1])) for point in front]


def figures(candidates: Sequence[Any], *names: str) -> list[tuple[float, ...]]:
    """Candidates in the form of `Everything.front`."""
    return sorted(
        (*(getattr(candidate, name) for name in names), candidate.score) for candidate in candidates
    )
