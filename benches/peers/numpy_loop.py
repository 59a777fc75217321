"""The same evolution with numpy: operators, encoding and predictors work on whole populations at once."""

from collections.abc import Callable
from functools import partial

import numpy as np
from benches.peers.hat_loop import HatSettings
from benches.peers.numpy_encoding import NumpyEncoding
from numpy.typing import NDArray

Genomes = NDArray[np.int64]
Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def forward_of(layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Forward:
    """The forward pass of an MLP with weights `(out, in)` and biases `(out,)`."""

    def forward(x: NDArray[np.float32]) -> NDArray[np.float32]:
        for weight, bias in layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0)
        weight, bias = layers[-1]
        scores: NDArray[np.float32] = (x @ weight.T + bias)[:, 0]
        return scores

    return forward


class NumpyLoop:
    """One search for the highest score under a bound on latency."""

    def __init__(
        self, score: Forward, latency: Forward, encoding: NumpyEncoding, settings: HatSettings, seed: int
    ) -> None:
        self.score = score
        self.latency = latency
        self.encoding = encoding
        self.settings = settings
        self.rng = np.random.default_rng(seed)

    def run(self) -> tuple[float, Genomes]:
        """Returns the best score found and its genome."""
        population = self._feasible(self._sample, self.settings.n_population)
        scores = self.score(self.encoding.features(population))
        for iteration in range(self.settings.n_iterations):
            order = np.argsort(-scores)[: self.settings.n_parents]
            parents, parent_scores = population[order], scores[order]
            if iteration + 1 == self.settings.n_iterations:
                break
            mutants = self._feasible(partial(self._mutate, parents), self.settings.n_mutants)
            children = self._feasible(partial(self._cross, parents), self.settings.n_children)
            fresh = np.concatenate([mutants, children])
            population = np.concatenate([parents, fresh])
            scores = np.concatenate([parent_scores, self.score(self.encoding.features(fresh))])
        return float(parent_scores[0]), parents[0]

    def _feasible(self, draw: Callable[[int], Genomes], n: int) -> Genomes:
        """Draws until `n` genomes keep the bound."""
        kept: list[Genomes] = []
        n_missing = n
        while n_missing > 0:
            drawn = draw(n_missing)
            is_feasible = self.latency(self.encoding.features(drawn)) <= self.settings.latency_ms
            kept.append(drawn[is_feasible])
            n_missing -= len(kept[-1])
        return np.concatenate(kept)

    def _sample(self, n: int) -> Genomes:
        return self.rng.integers(0, self.encoding.n_options, (n, len(self.encoding.n_options)))

    def _mutate(self, parents: Genomes, n: int) -> Genomes:
        chosen = parents[self.rng.integers(0, len(parents), n)]
        is_redrawn = self.rng.random(chosen.shape) < self.settings.mutation_prob
        return np.where(is_redrawn, self._sample(n), chosen)

    def _cross(self, parents: Genomes, n: int) -> Genomes:
        first = self.rng.integers(0, len(parents), n)
        second = (first + self.rng.integers(1, len(parents), n)) % len(parents)
        is_first = self.rng.random((n, parents.shape[1])) < 0.5
        return np.where(is_first, parents[first], parents[second])
