"""The paper's MLPs, 10-400-400-400-400-1, with random weights: the same numbers for every side."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from llmpp import _core, load_task
from llmpp.predictor import MlpPredictor

WIDTHS = (10, 400, 400, 400, 400, 1)
FLOP = 2 * sum(n_in * n_out for n_in, n_out in itertools.pairwise(WIDTHS))

TASK = load_task("wmt14.en-de")


@dataclass(frozen=True)
class PaperMlp:
    """Weights `(out, in)` and biases `(out,)` of each layer, ReLU between layers."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    @classmethod
    def random(cls, seed: int, *, offset: float = 0.0, widths: tuple[int, ...] = WIDTHS) -> "PaperMlp":
        """Draws weights that keep the scale of what passes through; `offset` is added to the output."""
        rng = np.random.default_rng(seed)
        layers = [
            (
                (rng.standard_normal((n_out, n_in)) * np.sqrt(2 / n_in)).astype(np.float32),
                (rng.standard_normal(n_out) * 0.1).astype(np.float32),
            )
            for n_in, n_out in itertools.pairwise(widths)
        ]
        layers[-1][1][:] += np.float32(offset)
        return cls(tuple(layers))

    def as_llmpp(self, name: str) -> MlpPredictor:
        """The predictor whose MLP runs in our core."""
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        tensors = {
            "input.mean": np.zeros(WIDTHS[0], np.float32),
            "input.std": np.ones(WIDTHS[0], np.float32),
            "output.mean": zero,
            "output.std": one,
        }
        for index, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
        return MlpPredictor(name, _core.Mlp(save(tensors)), "averaged", TASK.space)

    def as_torch(self) -> torch.nn.Sequential:
        """The torch module, on one thread."""
        torch.set_num_threads(1)
        modules: list[torch.nn.Module] = []
        for weight, bias in self.layers:
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight))
                linear.bias.copy_(torch.from_numpy(bias))
            modules += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*modules[:-1]).eval().requires_grad_(requires_grad=False)


def pair(seed: int) -> tuple[PaperMlp, PaperMlp]:
    """Random MLPs for the score and for the latency, which is positive."""
    return PaperMlp.random(2 * seed), PaperMlp.random(2 * seed + 1, offset=10.0)


def random_network(widths: tuple[int, ...], seed: int) -> MlpPredictor:
    """A predictor of other widths with random weights."""
    return PaperMlp.random(seed, widths=widths).as_llmpp(f"random {seed}")


def bound_at_median(latency: MlpPredictor, seed: int) -> float:
    """The latency that half of all architectures keep, so that a constraint binds."""
    return float(np.median(latency.predict(TASK.space.sample(2000, seed=seed))))
