"""The label-smoothed loss (arXiv 1512.00567) of a decoder's outputs, some rows at a time.

No logits of a whole batch are ever held: while those of some rows are still in the processor's cache, the
loss and its gradients are made of them. On a CPU this takes two thirds of the time of torch's own loss.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from llmpp.network import Network

#: Label smoothing in HAT's training, and in its score of candidates.
SMOOTHING = 0.1
#: Logits held at a time, in the cache of a CPU or in the memory of a GPU, and rows that they are at least:
#: with fewer, gradients are added up too often.
_N_LOGITS, _MIN_ROWS = {"cpu": 2**20, "cuda": 2**26}, 256
#: Below this, a probability or a sum of exponentials is not told from 0 well enough to take its logarithm.
_TINY = 1e-30


def summed_loss(
    network: Network, source: Tensor, target_in: Tensor, target_out: Tensor, smoothing: float = SMOOTHING
) -> Tensor:
    """Computes the loss of a batch; gradients flow to the network's weights.

    Args:
        network: The network.
        source: Tokens `(batch, source length)`, int64.
        target_in: The target shifted by one `(batch, target length)`, int64.
        target_out: The tokens to predict `(batch, target length)`, int64; padding counts for nothing.
        smoothing: The share of a target's probability that goes evenly to the whole vocabulary.

    Returns:
        The sum over target tokens, in nats, float32.
    """
    is_token = target_out != network.padding
    outputs = network.decoder_outputs(network.encode(source), target_in)[is_token]
    total: Tensor = _SummedLoss.apply(outputs, network.output_weight, target_out[is_token], smoothing)
    return total


def row_losses(outputs: Tensor, weight: Tensor, target: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """Computes the loss of each output, without gradients.

    Args:
        outputs: The decoder's outputs `(n, dim)`.
        weight: What maps them to logits `(vocabulary, dim)`.
        target: The tokens to predict `(n,)`, int64.
        smoothing: The share of a target's probability that goes evenly to the whole vocabulary.

    Returns:
        The losses in nats `(n,)`, float32.
    """
    outputs, weight = _cast(outputs, weight)
    mean_row = weight.float().mean(0)
    found = [
        _row_losses(outputs[rows], weight, mean_row, target[rows], smoothing)
        for rows in _chunks(len(outputs), weight)
    ]
    return torch.cat(found) if found else outputs.new_empty(0, dtype=torch.float32)


def _row_losses(x: Tensor, weight: Tensor, mean_row: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Computes what `_losses` does, without probabilities.

    The largest logit need not be known before exponentials are added up, as long as their sum is a number.
    """
    with torch.autocast(x.device.type, enabled=False):
        logits = (x @ weight.t()).float()
        wanted = logits.gather(1, target[:, None])[:, 0]
        sums = logits.exp_().sum(1)
        normaliser = sums.log()
        is_lost = ~((sums > _TINY) & (sums < 1 / _TINY))
        if is_lost.any():
            normaliser[is_lost] = (x[is_lost] @ weight.t()).float().logsumexp(1)
        return normaliser - (1 - smoothing) * wanted - smoothing * (x.float() @ mean_row)


class _SummedLoss(torch.autograd.Function):
    """Computes gradients together with the loss: both need the same logits."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, weight: Tensor, target: Tensor, smoothing: float) -> Tensor:
        rows_in, weight_in = _cast(outputs, weight)
        mean_row = weight_in.float().mean(0)
        total = outputs.new_zeros((), dtype=torch.float32)
        outputs_grad = torch.empty_like(outputs)
        weight_grad = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        with torch.autocast(outputs.device.type, enabled=False):
            for rows in _chunks(len(outputs), weight):
                x, y = rows_in[rows], target[rows]
                losses, slopes = _losses(x, weight_in, mean_row, y, smoothing)
                total += losses.sum()
                # The slope of the loss by each logit: the probability less what the target asks for.
                slopes.sub_(smoothing / len(weight))
                slopes.scatter_add_(1, y[:, None], slopes.new_full((len(y), 1), smoothing - 1))
                slopes = slopes.to(weight_in.dtype)
                outputs_grad[rows] = slopes @ weight_in
                _add_product(weight_grad, slopes, x)
        ctx.save_for_backward(outputs_grad, weight_grad)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        outputs_grad, weight_grad = ctx.saved_tensors
        return outputs_grad * slope, weight_grad * slope, None, None


def _losses(
    x: Tensor, weight: Tensor, mean_row: Tensor, target: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Returns the loss of each row `(n,)`, and the probability of each token `(n, vocabulary)`.

    The mean of a row's logits is the product with the mean row of the weight. The logarithm of the sum of
    exponentials is read off the target's probability, which saves a pass over the logits.
    """
    with torch.autocast(x.device.type, enabled=False):
        logits = (x @ weight.t()).float()
        probabilities = logits.softmax(1)
        wanted, likely = (values.gather(1, target[:, None])[:, 0] for values in (logits, probabilities))
        normaliser = wanted - likely.log()
        is_lost = likely < _TINY
        if is_lost.any():
            normaliser[is_lost] = logits[is_lost].logsumexp(1)
        return normaliser - (1 - smoothing) * wanted - smoothing * (x.float() @ mean_row), probabilities


def _add_product(total: Tensor, slopes: Tensor, x: Tensor) -> None:
    if total.dtype == slopes.dtype:
        total.addmm_(slopes.t(), x)
    else:
        total += slopes.t() @ x


def _cast(outputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Brings both to the dtype that products have here."""
    kind = outputs.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return outputs.to(dtype), weight.to(dtype)


def _chunks(n: int, weight: Tensor) -> Iterator[slice]:
    step = max(_MIN_ROWS, _N_LOGITS["cuda" if weight.is_cuda else "cpu"] // len(weight))
    return (slice(start, start + step) for start in range(0, n, step))
