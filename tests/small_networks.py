"""A space of tiny Transformers, and sentences for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmpp import Architecture, SearchSpace, Task
from llmpp.mixture import Kind, Mixture
from llmpp.special_tokens import EOS, PAD
from llmpp.supernet import SuperTransformer
from llmpp.transformer import Transformer

VOCABULARY = 23
SPACE = SearchSpace(
    "small",
    {
        "encoder_dim": (12, 20),
        "encoder_layers": (1, 2, 3),
        "encoder_ffn": (8, 24),
        "encoder_heads": (2, 4),
        "decoder_dim": (8, 16),
        "decoder_layers": (1, 2, 3),
        "decoder_ffn": (8, 12, 24),
        "decoder_heads": (1, 2, 4),
        "cross_heads": (2, 4),
        "cross_span": (1, 2, 3),
    },
    16,
)
TASK = Task("small", SPACE, VOCABULARY, sentence_length=7)
SAMPLE = SPACE.sample(8, seed=2)
#: Two decoder layers of three, and neither side at its full width.
SMALL = Architecture(12, (8, 8), (2, 4), 8, (12, 8), (4, 1), (2, 4), (3, 1))
LARGEST = Architecture(20, (24,) * 3, (4,) * 3, 16, (24,) * 3, (4,) * 3, (4,) * 3, (3,) * 3)
MIXED: tuple[Kind, ...] = ("layer-wise", "neuron-wise")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def small(architecture: Architecture, *, seed: int = 0, vocabulary: int = VOCABULARY) -> Transformer:
    """A Transformer in evaluation mode with random biases and norms, and logits that are not all alike."""
    torch.manual_seed(seed)
    model = Transformer(architecture, vocabulary=vocabulary, qkv_dim=16, n_encoder_slots=3, max_length=40)
    shake(model)
    return model.eval()


def supernet(kind: Kind = "plain", *, seed: int = 0, **settings: Any) -> SuperTransformer:
    """A supernet in evaluation mode, shaken as `small` is."""
    torch.manual_seed(seed)
    mixture = Mixture(kind=kind, n_experts=settings.pop("n_experts", 2), router_width=16)
    net = SuperTransformer(SPACE, vocabulary=VOCABULARY, mixture=mixture, **{"max_length": 40, **settings})
    shake(net)
    return net.eval()


def shake(model: torch.nn.Module) -> None:
    """Moves all biases and norms away from where they start, and spreads the embedding."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "embedding":
                parameter.mul_(3)
            elif "bias" in name or "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))


def sentences(lengths: Sequence[int], *, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Random sentences of the given lengths `(n, longest)` that end as sentences do, padded at the end."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(EOS + 1, vocabulary, (length,), generator=draw)
        row[length - 1] = EOS
    return rows


#: A batch: sentences to read, and what the decoder sees.
SOURCE, TARGET_IN = sentences([9, 5, 3]), sentences([6, 8, 2], seed=1)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference between two tensors."""
    return float((one.detach().cpu().double() - other.detach().cpu().double()).abs().max())


def slow_loss(logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """The label-smoothed loss as its definition says, summed over tokens."""
    logs = torch.log_softmax(logits, 1)
    wanted = torch.full_like(logs, smoothing / logits.shape[1])
    wanted[torch.arange(len(target)), target] += 1 - smoothing
    return -(wanted * logs).sum(1)[target != PAD].sum()
