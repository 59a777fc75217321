"""One search with the paper's MLPs, against the loop in Python with torch, and against pymoo."""

import functools
import warnings
from typing import Any

import pytest
from benches.paper_mlp import TASK, bound_at_median, pair
from benches.peers.hat_loop import HatLoop, HatSettings
from benches.peers.numpy_encoding import NumpyEncoding
from benches.ratio import compare

from llmpp import SearchResult, hsnas

SEEDS = range(5)
SETTINGS = HatSettings(latency_ms=0)
N_SCORED = SETTINGS.n_iterations * SETTINGS.n_population


class Networks:
    """A random pair of the paper's MLPs with its bound, ready for every side."""

    def __init__(self, seed: int) -> None:
        score, latency = pair(seed)
        self.score, self.latency = score.as_llmpp("score"), latency.as_llmpp("latency")
        self.torch_score, self.torch_latency = score.as_torch(), latency.as_torch()
        self.latency_ms = bound_at_median(self.latency, seed)

    def ours(self, seed: int) -> SearchResult:
        return hsnas.search(
            TASK, self.latency, {"latency_ms": self.latency_ms}, initial=self.score, seed=seed
        )

    def hat(self, seed: int) -> float:
        settings = HatSettings(latency_ms=self.latency_ms)
        return HatLoop(self.torch_score, self.torch_latency, settings, seed).run()[0]

    def pymoo(self, seed: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymoo's own, with newer versions of numpy
            from benches.peers import pymoo_ga

            problem = pymoo_ga.BestUnderLatency(
                self.torch_score, self.torch_latency, NumpyEncoding(TASK.space), self.latency_ms
            )
            return pymoo_ga.search(
                problem, n_population=SETTINGS.n_population, n_evaluations=N_SCORED, seed=seed
            )


@functools.cache
def networks(seed: int) -> Networks:
    return Networks(seed)


def best_score(result: SearchResult) -> float:
    assert result.best is not None
    return result.best.score


def compare_scores(peer: str) -> dict[str, Any]:
    """Best scores of both sides, on pairs of networks other than the one that is timed too."""
    ours = [best_score(networks(seed).ours(seed)) for seed in SEEDS]
    theirs = [getattr(networks(seed), peer)(seed) for seed in SEEDS]
    gains = [round(a - b, 4) for a, b in zip(ours, theirs, strict=True)]
    return {"score_minus_peers": gains, "mean_gain": round(sum(gains) / len(gains), 4)}


def test_a_search_with_the_papers_mlps(benchmark: Any) -> None:
    result = benchmark.pedantic(lambda: networks(0).ours(0), rounds=10, warmup_rounds=1)
    assert result.status == "budget"
    assert result.best.latency_ms <= networks(0).latency_ms


@pytest.mark.parametrize(("peer", "required", "n_rounds"), [("hat", 15, 5), ("pymoo", 3, 9)])
def test_a_search_takes_a_fraction_of_the_peers_time(peer: str, required: float, n_rounds: int) -> None:
    sides = networks(0)
    comparison = compare(
        f"search_vs_{peer}",
        lambda: sides.ours(0),
        lambda: getattr(sides, peer)(0),
        required=required,
        n=N_SCORED,
        seed=0,
        n_rounds=n_rounds,
        n_calls=(3, 1),
    )
    scores = compare_scores(peer)
    comparison.report(**scores)
    assert comparison.ratio >= required
    assert scores["mean_gain"] >= -0.02
