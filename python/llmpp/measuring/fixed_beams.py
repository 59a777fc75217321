"""Beam search of a fixed number of steps, as it is measured: nothing ends, and nothing waits for the host."""

from typing import NamedTuple

import torch
from torch import Tensor

from llmpp.decoding import Cache, step
from llmpp.network import Network
from llmpp.special_tokens import EOS


class Beams(NamedTuple):
    """The beams of each sentence.

    Attributes:
        tokens: Their newest tokens `(sentences, beams)`, int64.
        sums: Their sums of log-probabilities `(sentences, beams)`, float32.
    """

    tokens: Tensor
    sums: Tensor


def first_beams(n_sentences: int, n_beams: int, device: torch.device | str = "cpu") -> Beams:
    """Begins a search: all beams are alike, and only the first of each sentence counts."""
    sums = torch.full((n_sentences, n_beams), -torch.inf, device=device)
    sums[:, 0] = 0
    return Beams(torch.full((n_sentences, n_beams), EOS, device=device), sums)


def advance(network: Network, beams: Beams, cache: Cache) -> tuple[Tensor, Beams, Cache]:
    """Makes one step: computes logits, chooses the best continuations, and brings the cache to them.

    Returns:
        The logits `(sentences, beams, vocabulary)`, the new beams, and their cache.
    """
    logits, cache = step(network, beams.tokens, cache)
    n, k, v = logits.shape
    scores = torch.log_softmax(logits.float(), 2) + beams.sums[..., None]
    sums, places = scores.view(n, k * v).topk(k)
    chosen = torch.div(places, v, rounding_mode="floor")
    rows = chosen + torch.arange(0, n * k, k, device=chosen.device)[:, None]
    return logits, Beams(places - v * chosen, sums), cache.reorder(rows.flatten())
