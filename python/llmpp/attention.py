"""Attention by scaled dot products, with dropout that does not cost a CPU its speed."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's users know
from torch import Tensor

from llmpp.dropout import drop


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Attends by scaled dot products.

    Args:
        queries: `(batch, heads, n, width)`.
        keys: `(batch, heads, length, width)`.
        values: The same.
        mask: Where attention may go `(batch, 1, 1, length)`, bool; None for everywhere.
        dropout: The share of attention weights dropped.
        is_causal: Whether a query sees no key after its own place; without a mask.

    Returns:
        What was gathered `(batch, heads, n, width)`.
    """
    if dropout and not queries.is_cuda:
        # torch has no fast kernel for this, and its slow one takes half as long again as the products below.
        return _attend_with_dropout(queries, keys, values, mask, dropout, is_causal=is_causal)
    return F.scaled_dot_product_attention(queries, keys, values, mask, dropout, is_causal=is_causal)


def _attend_with_dropout(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float, *, is_causal: bool
) -> Tensor:
    """Attends with all heads of all sentences side by side."""
    batch, heads, n, width = queries.shape
    length = keys.shape[2]
    q, k, v = (part.reshape(batch * heads, -1, width) for part in (queries, keys, values))
    # What keeps attention from where it may not go.
    if mask is not None:
        bias = q.new_zeros(batch, 1, length).masked_fill_(~mask[:, 0], -torch.inf)
        bias = bias[:, None].expand(batch, heads, 1, length).reshape(batch * heads, 1, length)
    else:
        bias = q.new_full((n, length), -torch.inf).triu_(1) if is_causal else q.new_zeros(n, length)
    weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=width**-0.5).softmax(2)
    return torch.bmm(drop(weights, dropout), v).view(batch, heads, n, width)
