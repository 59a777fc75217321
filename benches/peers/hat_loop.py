"""HAT's evolutionary search (arXiv 2005.14187) as a loop in Python with torch at batch 1.

Every candidate is a list of genes that is turned into an architecture and then into features each time it is
looked at; the constraint is kept by drawing again; parents are scored again in every iteration.
"""

import random
from dataclasses import dataclass

import torch

Config = dict[str, int | list[int]]

_DIMS = (512, 640)
_DECODER_LAYERS = (1, 2, 3, 4, 5, 6)
_FFN = (1024, 2048, 3072)
_HEADS = (4, 8)
_SPAN = (1, 2, 3)
_N_LAYERS = 6

#: The options of each gene: dims, depth, then six layers of each choice.
OPTIONS: list[tuple[int, ...]] = [_DIMS, _DIMS, _DECODER_LAYERS] + [
    options for options in (_FFN, _HEADS, _FFN, _HEADS, _HEADS, _SPAN) for _ in range(_N_LAYERS)
]


@dataclass(frozen=True)
class HatSettings:
    """HAT's parameters, and the bound on latency."""

    latency_ms: float
    n_iterations: int = 30
    n_population: int = 125
    n_parents: int = 25
    n_mutants: int = 50
    n_children: int = 50
    mutation_prob: float = 0.3


def to_config(genes: list[int]) -> Config:
    """Reads an architecture off its genes."""
    depth = genes[2]
    per_layer = [genes[3 + _N_LAYERS * i : 3 + _N_LAYERS * (i + 1)] for i in range(6)]
    return {
        "encoder_dim": genes[0],
        "encoder_ffn": per_layer[0],
        "encoder_heads": per_layer[1],
        "decoder_dim": genes[1],
        "decoder_layers": depth,
        "decoder_ffn": per_layer[2][:depth],
        "decoder_heads": per_layer[3][:depth],
        "cross_heads": per_layer[4][:depth],
        "cross_span": per_layer[5][:depth],
    }


def features_of(config: Config) -> list[float]:
    """The 10 features: each value, or its mean over layers, divided by the largest option."""

    def mean(name: str) -> float:
        values = config[name]
        return sum(values) / len(values) if isinstance(values, list) else float(values)

    return [
        mean("encoder_dim") / 640,
        _N_LAYERS / 6,
        mean("encoder_ffn") / 3072,
        mean("encoder_heads") / 8,
        mean("decoder_dim") / 640,
        mean("decoder_layers") / 6,
        mean("decoder_ffn") / 3072,
        mean("decoder_heads") / 8,
        mean("cross_heads") / 8,
        mean("cross_span") / 3,
    ]


class HatLoop:
    """One search for the highest score under a bound on latency."""

    def __init__(
        self, score: torch.nn.Module, latency: torch.nn.Module, settings: HatSettings, seed: int
    ) -> None:
        self.score = score
        self.latency = latency
        self.settings = settings
        self.random = random.Random(seed)  # noqa: S311  # no secret depends on it

    def run(self) -> tuple[float, list[int]]:
        """Returns the best score found and its genes."""
        population = [self._feasible_sample() for _ in range(self.settings.n_population)]
        best = (-float("inf"), population[0])
        for _ in range(self.settings.n_iterations):
            scores = [self._predict(self.score, genes) for genes in population]
            ranked = sorted(zip(scores, population, strict=True), key=lambda pair: pair[0], reverse=True)
            best = max(best, ranked[0], key=lambda pair: pair[0])
            parents = [genes for _, genes in ranked[: self.settings.n_parents]]
            mutants = [self._feasible_mutant(parents) for _ in range(self.settings.n_mutants)]
            children = [self._feasible_child(parents) for _ in range(self.settings.n_children)]
            population = parents + mutants + children
        return best

    def _predict(self, model: torch.nn.Module, genes: list[int]) -> float:
        with torch.no_grad():
            return float(model(torch.tensor([features_of(to_config(genes))])))

    def _is_feasible(self, genes: list[int]) -> bool:
        return self._predict(self.latency, genes) <= self.settings.latency_ms

    def _feasible_sample(self) -> list[int]:
        while True:
            genes = [self.random.choice(options) for options in OPTIONS]
            if self._is_feasible(genes):
                return genes

    def _feasible_mutant(self, parents: list[list[int]]) -> list[int]:
        while True:
            genes = list(self.random.choice(parents))
            for index, options in enumerate(OPTIONS):
                if self.random.random() < self.settings.mutation_prob:
                    genes[index] = self.random.choice(options)
            if self._is_feasible(genes):
                return genes

    def _feasible_child(self, parents: list[list[int]]) -> list[int]:
        while True:
            first, second = self.random.sample(parents, 2)
            genes = [self.random.choice(pair) for pair in zip(first, second, strict=True)]
            if self._is_feasible(genes):
                return genes
