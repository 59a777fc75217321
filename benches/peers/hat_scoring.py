"""Scores of candidates as HAT computes them: one after the other, from logits of whole batches, in fp32.

Nothing is kept between candidates or generations, so parents are scored again. Batches are in memory, and the
network is the same code as ours, so that only the way of scoring is compared.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's users know
from torch import Tensor

from llmpp import Architecture
from llmpp.supernet import SuperTransformer

_SMOOTHING = 0.1

Tensors = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def score(
    net: SuperTransformer, batches: Sequence[Tensors], architectures: Sequence[Architecture]
) -> list[float]:
    """Minus the label-smoothed loss in nats per target token of each architecture."""
    scores = []
    for architecture in architectures:
        network, total, n_tokens = net.network(architecture), 0.0, 0
        for source, target_in, target_out in batches:
            logs = F.log_softmax(network(source, target_in), 2)
            wanted = -logs.gather(2, target_out[..., None])[..., 0]
            evenly = -logs.sum(2)
            losses = (1 - _SMOOTHING) * wanted + _SMOOTHING / logs.shape[2] * evenly
            is_token = target_out != network.padding
            total += float((losses * is_token).sum())
            n_tokens += int(is_token.sum())
        scores.append(-total / n_tokens)
    return scores
