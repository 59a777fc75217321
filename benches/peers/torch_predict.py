"""The prediction for one architecture as a user of torch writes it: features in Python, then the network."""

import torch

from llmpp import Architecture

_DIVISORS = (640, 6, 3072, 8, 640, 6, 3072, 8, 8, 3)


def features_of(architecture: Architecture) -> list[float]:
    """The 10 features: values, or their means over layers, divided by the largest option."""
    means = [sum(values) / len(values) for values in architecture.values()]
    return [mean / divisor for mean, divisor in zip(means, _DIVISORS, strict=True)]


def predict(model: torch.nn.Module, architectures: list[Architecture]) -> list[float]:
    """Scores architectures."""
    with torch.no_grad():
        scores: list[float] = model(torch.tensor([features_of(a) for a in architectures]))[:, 0].tolist()
        return scores
