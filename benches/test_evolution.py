"""Evolution with what ships: student and latency model, no run directory."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from benches.paper_mlp import TASK
from benches.peers.hat_loop import HatSettings
from benches.peers.numpy_encoding import NumpyEncoding
from benches.peers.numpy_loop import Forward, NumpyLoop, forward_of
from benches.ratio import compare
from numpy.typing import NDArray
from safetensors.numpy import load_file

import llmpp
from llmpp import SearchResult, hsnas

LATENCY_MS = 150.0
MAX_SECONDS = 0.05
SEED = 0


def ours() -> SearchResult:
    return hsnas.search(TASK.name, "titan-xp", {"latency_ms": LATENCY_MS}, strategy="evolution", seed=SEED)


def shipped(folder: str, name: str) -> Forward:
    """A shipped network as a user of numpy runs it."""
    tensors = load_file(Path(llmpp.__file__).parent / "assets" / folder / name)
    n_layers = sum(key.endswith(".weight") for key in tensors)
    forward = forward_of(
        [(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(n_layers)]
    )
    products = tensors.get("input.products")

    def predict(features: NDArray[np.float32]) -> NDArray[np.float32]:
        if products is not None:
            extended = np.hstack([features, np.ones((len(features), 1), np.float32)])
            features = extended[:, products[:, 0]] * extended[:, products[:, 1]]
        scores = forward((features - tensors["input.mean"]) / tensors["input.std"])
        normal: NDArray[np.float32] = scores * tensors["output.std"] + tensors["output.mean"]
        return normal

    return predict


def test_an_evolution(benchmark: Any) -> None:
    result = benchmark.pedantic(ours, rounds=20, warmup_rounds=1)
    assert result.status == "budget"


def test_an_evolution_takes_less_than_50_ms() -> None:
    settings = HatSettings(latency_ms=LATENCY_MS)
    score = shipped("students", f"{TASK.name}.safetensors")
    latency = shipped("latency", f"titan-xp.{TASK.name}.safetensors")
    encoding = NumpyEncoding(TASK.space)

    def peer() -> float:
        return NumpyLoop(score, latency, encoding, settings, SEED).run()[0]

    comparison = compare(
        "evolution_vs_numpy",
        ours,
        peer,
        required=0.5,
        n=settings.n_iterations * settings.n_population,
        seed=SEED,
        n_rounds=20,
        clock=time.perf_counter,
    )
    best = ours().best
    assert best is not None
    comparison.report(score=round(best.score, 4), peers_score=round(peer(), 4), limit_s=MAX_SECONDS)
    assert comparison.ours.least < MAX_SECONDS
    assert comparison.ratio >= comparison.required
