"""Small tasks whose architectures are all listed, and the answers that a search must then give."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
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


def task_of(name: str = "small.de-en", **options: Sequence[int]) -> Task:
    """A task with the options of `PAIR`, but for those given."""
    space = SearchSpace(name, {key: tuple(values) for key, values in {**PAIR, **options}.items()}, 64)
    return Task(name, space, vocabulary=100, sentence_length=10)


def tiny_task() -> Task:
    """12 architectures."""
    one = {name: PAIR[name][:1] for name in PAIR if not name.endswith(("ffn", "layers"))}
    return task_of("tiny.de-en", **one)


def small_task() -> Task:
    """9,712 feature vectors of 230,784 architectures: enough for several calls of a predictor."""
    return task_of(decoder_layers=(1, 2, 3), cross_heads=(2, 4), cross_span=(1, 2, 3))


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
    task = task_of("drawn.de-en", **options)
    while task.space.n_architectures > most:
        longest = max(options, key=lambda name: (len(options[name]), not name.endswith("layers")))
        options[longest] = options[longest][:-1]
        task = task_of("drawn.de-en", **options)
    return task


def every_architecture(space: SearchSpace) -> Iterator[Architecture]:
    """Lists a space by its definition."""

    def layers(depth: str, *names: str) -> list[tuple[tuple[int, ...], ...]]:
        choices = [space.options[name] for name in names]
        return [
            stack
            for n in space.options[depth]
            for stack in product(*(tuple(product(options, repeat=n)) for options in choices))
        ]

    encoders = layers("encoder_layers", "encoder_ffn", "encoder_heads")
    decoders = layers("decoder_layers", "decoder_ffn", "decoder_heads", "cross_heads", "cross_span")
    dims = (space.options["encoder_dim"], space.options["decoder_dim"])
    for (encoder_dim, decoder_dim), encoder, decoder in product(tuple(product(*dims)), encoders, decoders):
        yield Architecture(encoder_dim, *encoder, decoder_dim, *decoder)  # type: ignore[arg-type]


class Everything:
    """Every architecture of a task with its figures: what exact search must agree with.

    Attributes:
        architectures: All of them, `n`.
        features: Their averaged features, `(n, 10)`.
        scores: `(n,)`, float32.
        measures: By name, `(n,)`.
    """

    def __init__(self, task: Task, score: Predictor, latency: Predictor | None = None) -> None:
        self.architectures = list(every_architecture(task.space))
        self.features = task.space.features(self.architectures)
        self.scores = np.asarray(score.predict(self.architectures), np.float32)
        cost = costs(task.space.genomes(self.architectures), task).astype(np.float64)
        self.measures = {"gflops": cost[:, 0] / 1e9, "params_m": cost[:, 2] / 1e6}
        if latency is not None:
            latencies = np.asarray(latency.predict(self.architectures), np.float32)
            self.measures = {"latency_ms": latencies.astype(np.float64), **self.measures}

    def quantiles(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Bounds that these shares of the architectures keep; none if the share is negative."""
        known = {name: share for name, share in shares.items() if name in self.measures}
        return {
            name: float(np.quantile(self.measures[name], max(share, 0), method="lower"))
            * (0.999 if share < 0 else 1)
            for name, share in known.items()
        }

    def feasible(self, bounds: Mapping[str, float]) -> NDArray[np.bool_]:
        keeps = [self.measures[name] <= bound for name, bound in bounds.items()]
        return np.all([np.ones(len(self.scores), np.bool_), *keeps], axis=0)

    def n_vectors(self, which: NDArray[np.bool_]) -> int:
        return len(np.unique(self.features[which], axis=0))

    def best(self, bounds: Mapping[str, float], n: int) -> list[float]:
        """The `n` best scores of distinct feature vectors."""
        which = np.flatnonzero(self.feasible(bounds))
        _, first = np.unique(self.features[which], axis=0, return_index=True)
        return np.sort(self.scores[which[first]])[::-1][:n].tolist()

    def front(self, bounds: Mapping[str, float], *names: str) -> list[tuple[float, ...]]:
        """What nothing beats in score and measures, as (measures, score), sorted."""
        which = self.feasible(bounds)
        columns = [*(self.measures[name][which] for name in names), -self.scores[which].astype(np.float64)]
        points = np.unique(np.stack(columns, axis=1), axis=0)
        no_worse = np.all(points[:, None] <= points[None], axis=2)
        is_beaten = no_worse.sum(axis=0) > 1
        return [(*map(float, point[:-1]), -float(point[-1])) for point in points[~is_beaten]]


def figures(candidates: Sequence[Any], *names: str) -> list[tuple[float, ...]]:
    """Candidates in the form of `Everything.front`."""
    return sorted(
        (*(getattr(candidate, name) for name in names), candidate.score) for candidate in candidates
    )
