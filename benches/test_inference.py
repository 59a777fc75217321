"""One forward pass of the paper's MLP: batches against ONNX Runtime, one architecture against torch."""

from typing import Any

import numpy as np
import pytest
import torch
from benches.paper_mlp import FLOP, TASK, PaperMlp
from benches.peers.onnx_mlp import session_of
from benches.peers.torch_predict import predict
from benches.ratio import Times, compare, write

SEED = 0
N = 128
MLP = PaperMlp.random(SEED)
OURS = MLP.as_llmpp("ours")
ARCHITECTURES = TASK.space.sample(N, seed=SEED)
FEATURES = TASK.space.features(ARCHITECTURES)


def test_a_batch_of_128(benchmark: Any) -> None:
    assert benchmark(OURS.mlp.forward, FEATURES).shape == (N,)


def test_one_architecture(benchmark: Any) -> None:
    assert benchmark(OURS.predict, ARCHITECTURES[:1]).shape == (1,)


def test_a_batch_of_128_is_not_slower_than_onnx_runtime() -> None:
    session = session_of(MLP.layers)
    feed = {"features": FEATURES}
    np.testing.assert_allclose(
        session.run(None, feed)[0][:, 0], OURS.mlp.forward(FEATURES), rtol=1e-3, atol=1e-5
    )
    comparison = compare(
        "batch_128_vs_onnxruntime",
        lambda: OURS.mlp.forward(FEATURES),
        lambda: session.run(None, feed),
        required=1,
        n=N,
        seed=SEED,
        n_rounds=25,
        n_calls=(30, 30),
    )
    comparison.report()
    assert comparison.ratio >= comparison.required


def test_one_architecture_takes_a_fifth_of_torch() -> None:
    model = MLP.as_torch()
    one = ARCHITECTURES[:1]
    assert predict(model, one) == pytest.approx(OURS.predict(one), rel=1e-3)
    comparison = compare(
        "batch_1_vs_torch",
        lambda: OURS.predict(one),
        lambda: predict(model, one),
        required=5,
        n=1,
        seed=SEED,
        n_rounds=25,
        n_calls=(500, 150),
    )
    comparison.report()
    assert comparison.ratio >= comparison.required


def test_a_batch_of_128_comes_near_the_peak() -> None:
    """The peak is what a large product reaches on one thread: the better of numpy and torch."""
    torch.set_num_threads(1)
    size = 768
    a = np.random.default_rng(SEED).standard_normal((size, size), np.float32)
    t = torch.from_numpy(a)
    by_numpy = compare(
        "peak",
        lambda: OURS.mlp.forward(FEATURES),
        lambda: a @ a,
        required=0,
        n=N,
        seed=SEED,
        n_rounds=9,
        n_calls=(30, 2),
    )
    by_torch = compare(
        "peak",
        lambda: OURS.mlp.forward(FEATURES),
        lambda: t @ t,
        required=0,
        n=N,
        seed=SEED,
        n_rounds=9,
        n_calls=(30, 2),
    )
    ours = Times(by_numpy.ours.rounds + by_torch.ours.rounds)
    peak = 2 * size**3 / min(by_numpy.peer.least, by_torch.peer.least)
    reached = N * FLOP / ours.least
    print(
        f"\npeak: {peak / 1e9:.0f} GFLOP/s in a product of {size}x{size}; ours {reached / 1e9:.0f} GFLOP/s "
        f"in a batch of {N}, {reached / peak:.0%} of it"
    )
    write(
        "peak",
        {
            "peak_gflops": peak / 1e9,
            "ours_gflops": reached / 1e9,
            "share": reached / peak,
            "n": N,
            "seed": SEED,
        },
    )
    assert reached > 0.6 * peak
