"""Every feature vector of HAT's WMT space and a network's scores for them, in plain numpy."""

import itertools

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from llmpp.space import SearchSpace


class NumpySweep:
    """The features of all vectors, `(n, 10)`, found by listing which sums layers can have."""

    def __init__(self, space: SearchSpace) -> None:
        self.largest = np.array(list(space.largest.values()), np.float64)
        self.encoders = _vectors(space, "encoder", ("encoder_ffn", "encoder_heads"))
        self.decoders = _vectors(
            space, "decoder", ("decoder_ffn", "decoder_heads", "cross_heads", "cross_span")
        )

    def predict(self, safetensors: bytes) -> NDArray[np.float32]:
        """Scores all vectors, encoders varying slowest."""
        tensors = load(safetensors)
        n_layers = sum(key.endswith(".weight") for key in tensors)
        return np.concatenate([self._scores(tensors, n_layers, encoder) for encoder in self.encoders])

    def _scores(
        self, tensors: dict[str, NDArray[np.float32]], n_layers: int, encoder: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        left = np.broadcast_to(encoder, (len(self.decoders), len(encoder)))
        x = (np.hstack([left, self.decoders]) / self.largest).astype(np.float32)
        if "input.products" in tensors:
            extended = np.hstack([x, np.ones((len(x), 1), np.float32)])
            x = extended[:, tensors["input.products"][:, 0]] * extended[:, tensors["input.products"][:, 1]]
        x = (x - tensors["input.mean"]) / tensors["input.std"]
        for layer in range(n_layers):
            x = x @ tensors[f"layers.{layer}.weight"].T + tensors[f"layers.{layer}.bias"]
            x = x if layer == n_layers - 1 else np.maximum(x, 0)
        scores: NDArray[np.float32] = x[:, 0] * tensors["output.std"] + tensors["output.mean"]
        return scores


def _vectors(space: SearchSpace, side: str, layered: tuple[str, ...]) -> NDArray[np.float64]:
    """The distinct vectors of one side: width, depth, and means over the layers."""
    vectors = []
    for dim, n in itertools.product(space.options[f"{side}_dim"], space.options[f"{side}_layers"]):
        means = [_means(space.options[name], n) for name in layered]
        vectors += [(dim, n, *vector) for vector in itertools.product(*means)]
    return np.array(vectors, np.float64)


def _means(options: tuple[int, ...], n_layers: int) -> list[float]:
    """The distinct means of `n_layers` choices."""
    sums = {sum(choice) for choice in itertools.combinations_with_replacement(options, n_layers)}
    return [total / n_layers for total in sorted(sums)]
