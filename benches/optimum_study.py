"""Prints the table of docs/exact_search.md: what evolution finds against the optimum."""

import argparse
from dataclasses import dataclass

import numpy as np
from benches.paper_mlp import random_network

from llmpp import MlpPredictor, SearchResult, hsnas

TASKS = ("wmt14.en-de", "wmt14.en-fr", "wmt19.en-de")
HARDWARE = "titan-xp"
BOUNDS_MS = (80, 100, 150, 200)
WIDTHS = (10, 64, 64, 1)


@dataclass(frozen=True)
class Row:
    """Evolution under one bound.

    Attributes:
        hits: Share of seeds that reach the optimum's score.
        lost: For each seed, by how much its best falls short.
        n_evaluations: For each seed, how many architectures were scored.
        n_to_best: For each seed, how many of them until the best was first scored.
    """

    hits: float
    lost: list[float]
    n_evaluations: list[int]
    n_to_best: list[int]


def best_score(result: SearchResult) -> float:
    if result.best is None:
        raise SystemExit(f"nothing is feasible: {result.notes}")
    return result.best.score


def study(
    task: str, latency_ms: float, seeds: range, initial: str | MlpPredictor = "distilled"
) -> tuple[float, int, Row]:
    """The optimum's score, the architectures behind it, and how evolution compares."""
    bounds = {"latency_ms": latency_ms}
    exact = hsnas.search(task, HARDWARE, bounds, strategy="exact", initial=initial)
    optimum = best_score(exact)
    lost, n_evaluations, n_to_best = [], [], []
    for seed in seeds:
        result = hsnas.search(task, HARDWARE, bounds, strategy="evolution", seed=seed, initial=initial)
        best = best_score(result)
        lost.append(optimum - best)
        n_evaluations.append(sum(iteration.n_evaluations for iteration in result.history))
        reached = next(i for i, it in enumerate(result.history) if it.best_score >= best)
        n_to_best.append(sum(it.n_evaluations for it in result.history[: reached + 1]))
    hits = float(np.mean(np.array(lost) == 0))
    return optimum, exact.n_architectures or 0, Row(hits, lost, n_evaluations, n_to_best)


def hard(n_networks: int, n_seeds: int) -> None:
    """Prints the same for networks with random weights, whose scores have a standard deviation of about 1."""
    rows = []
    for number in range(n_networks):
        network = random_network(WIDTHS, number)
        rows.append(study(TASKS[0], 150, range(n_seeds), network)[2])
    lost = np.array([row.lost for row in rows])
    print(
        f"\n{n_networks} networks {WIDTHS} with random weights, {TASKS[0]}, 150 ms, {n_seeds} seeds each: "
        f"evolution reaches the optimum in {np.mean(lost == 0):.0%} of {lost.size} runs; it falls short by "
        f"{lost.mean():.3f} in the mean, by {lost.max():.3f} at most, on scores that span "
        f"{np.mean([span(random_network(WIDTHS, number)) for number in range(n_networks)]):.2f}"
    )


def span(network: MlpPredictor) -> float:
    """The range of a network's scores over 2,000 architectures."""
    scores = network.predict(network.space.sample(2000, seed=0))
    return float(np.ptp(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    n_seeds = parser.parse_args().seeds
    print(
        "| task | bound, ms | optimum | architectures | hit rate | lost, mean (largest) "
        "| evaluations | until the best |\n|---|---|---|---|---|---|---|---|"
    )
    for task in TASKS:
        for latency_ms in BOUNDS_MS:
            optimum, n_architectures, row = study(task, latency_ms, range(n_seeds))
            print(
                f"| {task} | {latency_ms} | {optimum:.3f} | {n_architectures:,} | {row.hits:.0%} "
                f"| {np.mean(row.lost):.4f} ({np.max(row.lost):.4f}) | {np.mean(row.n_evaluations):.0f} "
                f"| {np.mean(row.n_to_best):.0f} |"
            )
    hard(20, max(1, n_seeds // 20))


if __name__ == "__main__":
    main()
