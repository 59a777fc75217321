"""Losses on a validation set: batches made once, and what networks have in common computed once for all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmpp.batches import Batch, Pairs, plan
from llmpp.device import for_each
from llmpp.network import Network
from llmpp.smoothed_loss import SMOOTHING, row_losses
from llmpp.special_tokens import PAD
from llmpp.walk import Walk, stages

#: Budget of a batch without gradients, in tokens. On a CPU, what a layer computes then stays in its cache; a
#: GPU is kept busy by larger ones.
_MAX_TOKENS = {"cpu": 1024, "cuda": 16384}


@dataclass(frozen=True, eq=False)
class ScoringBatch:
    """Sentence pairs, ready for losses.

    Attributes:
        source: Tokens `(b, s)`, int64.
        target_in: The target shifted by one `(b, t)`, int64.
        is_token: Where there is a token to predict `(b, t)`.
        target: The tokens to predict, one after the other `(n_tokens,)`, int64.
        sentences: Which sentence of the set each of them belongs to `(n_tokens,)`, int64.
    """

    source: Tensor
    target_in: Tensor
    is_token: Tensor
    target: Tensor
    sentences: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> "ScoringBatch":
        """Brings a batch to a device."""
        source, target_in, target_out = batch.tensors(device)
        is_token = target_out != PAD
        sentences = torch.from_numpy(batch.indices).to(device)[:, None].expand(target_out.shape)
        return cls(source, target_in, is_token, target_out[is_token], sentences[is_token])


@dataclass(frozen=True, eq=False)
class ScoringSet:
    """The batches of a set in memory.

    Attributes:
        pairs: The set.
        max_tokens: Budget of a batch.
        batches: All pairs of the set once, similar lengths together.
        n_tokens: Target tokens of each sentence `(n_sentences,)`, float64, ends included.
    """

    pairs: Pairs
    max_tokens: int
    batches: tuple[ScoringBatch, ...]
    n_tokens: Tensor

    @classmethod
    def of(cls, pairs: Pairs, device: torch.device, max_tokens: int | None = None) -> "ScoringSet":
        """Makes the batches of a set.

        Args:
            pairs: The set.
            device: Where to compute.
            max_tokens: Budget of a batch, which the longest sentence may exceed; None for what suits it.
        """
        budget = max(max_tokens or _MAX_TOKENS[device.type], int(pairs.lengths.max()))
        n_tokens = torch.from_numpy(pairs.lengths[:, 1].astype("float64")).to(device)
        batches = tuple(ScoringBatch.of(batch, device) for batch in plan(pairs, max_tokens=budget))
        return cls(pairs, budget, batches, n_tokens)

    def batches_of(self, sentences: NDArray[np.int64]) -> tuple[ScoringBatch, ...]:
        """Makes batches of some sentences `(n,)` of the set."""
        batches = plan(self.pairs, max_tokens=self.max_tokens, chosen=sentences)
        return tuple(ScoringBatch.of(batch, self.n_tokens.device) for batch in batches)

    def losses(self, networks: Sequence[Network], smoothing: float = SMOOTHING) -> Tensor:
        """Computes the loss of each network in nats per target token `(n_networks,)`, float64."""
        sums = sentence_losses(networks, self.batches, len(self.n_tokens), smoothing)
        return sums.sum(1) / self.n_tokens.sum()


@torch.inference_mode()
def sentence_losses(
    networks: Sequence[Network],
    batches: Sequence[ScoringBatch],
    n_sentences: int,
    smoothing: float = SMOOTHING,
) -> Tensor:
    """Computes label-smoothed losses, without dropout.

    On a CPU, batches are computed side by side, each on one thread: small products gain little from more. So
    the numbers do not depend on how many threads there are.

    Args:
        networks: Networks; those that are cut from one supernet share what is the same.
        batches: The sentences.
        n_sentences: How many sentences the whole set has.
        smoothing: The share of a target's probability that goes evenly to the whole vocabulary.

    Returns:
        The loss of each sentence in nats, summed over its target tokens `(n_networks, n_sentences)`, float64;
        0 where a sentence is in no batch.
    """
    quiet = [network.without_dropout() for network in networks]
    device = quiet[0].embedding.device if quiet else torch.device("cpu")
    sums = torch.zeros(len(quiet), n_sentences, dtype=torch.float64, device=device)
    paths = [stages(network) for network in quiet]
    order = sorted(range(len(quiet)), key=lambda number: paths[number])

    def score(batch: ScoringBatch) -> None:
        walk = Walk(batch.source, batch.target_in)
        for number in order:
            network = quiet[number]
            outputs = walk.outputs(network, paths[number])[batch.is_token]
            losses = row_losses(outputs, network.output_weight, batch.target, smoothing)
            # No other batch has these sentences.
            sums[number].index_add_(0, batch.sentences, losses.double())

    for_each(score, batches, device)
    return sums
