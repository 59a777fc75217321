"""Mixture-of-Supernets: feed-forward weights that depend on the architecture (arXiv 2306.04845).

Each feed-forward matrix has experts of full size. A router turns an architecture's averaged features into
gates, and the architecture's weights are the sum of the experts' slices, weighted by the gates. The sum is a
plain matrix: once mixed, a network costs what its architecture costs.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's users know
from torch import Tensor, nn

from llmpp.blocks import FeedForwardBlock, PlainFeedForward, leading
from llmpp.errors import InputError, unknown
from llmpp.network import Affine, FeedForward
from llmpp.ranges import between, integer
from llmpp.space import HYPERPARAMETERS

#: One matrix; gates for each layer; gates for each neuron.
Kind: TypeAlias = Literal["plain", "layer-wise", "neuron-wise"]
KINDS: tuple[Kind, ...] = ("plain", "layer-wise", "neuron-wise")


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How a supernet's feed-forward weights come about.

    Attributes:
        kind: 'plain' is HAT's supernet, without experts. 'layer-wise' weighs whole experts, both maps of a
            layer alike. 'neuron-wise' weighs the experts of each output neuron apart.
        n_experts: Experts of each matrix; of no concern to 'plain'.
        router_width: Hidden neurons of a router.
        router_dropout: The share of them dropped in training, in [0, 1).

    Raises:
        InputError: If a setting is out of its range.
    """

    kind: Kind = "plain"
    n_experts: int = 2
    router_width: int = 128
    router_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("mixture", self.kind, list(KINDS))
        object.__setattr__(self, "n_experts", integer("n_experts", self.n_experts, 1, 64))
        object.__setattr__(self, "router_width", integer("router_width", self.router_width, 1, 2**16))
        object.__setattr__(self, "router_dropout", between("router_dropout", self.router_dropout, 0, 0.99))

    def block(self, dim: int, width: int) -> FeedForwardBlock:
        """Makes the feed-forward parameters of a layer."""
        return PlainFeedForward(dim, width) if self.kind == "plain" else MixedFeedForward(dim, width, self)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> "Mixture":
        """Builds a mixture from the mapping that `to_dict` writes.

        Raises:
            InputError: If a field is missing, unknown, or not what it should be.
        """
        names = set(asdict(cls()))
        if not isinstance(data, dict) or set(data) != names:
            raise InputError(f"a mixture needs exactly the fields {sorted(names)}, got {data!r:.200}")
        return cls(**data)


class Experts(nn.Module):
    """The experts of one map: weights `(experts, out, in)` and biases `(experts, out)`.

    Experts are drawn apart, each as Xavier but wider by the root of their number: gates begin near
    1 / n_experts, and the mean of so many draws then varies as one plain matrix does.
    """

    def __init__(self, n_experts: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = (6.0 * n_experts / (n_in + n_out)) ** 0.5
        self.weight = nn.Parameter(torch.empty(n_experts, n_out, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_experts, n_out))

    def mix(self, gates: Tensor, rows: int, columns: int) -> Affine:
        """Weighs the slices of the experts by gates `(rows or 1, experts)`, and adds them up."""
        gates = gates.to(self.weight.dtype)
        slices = leading(leading(self.weight, rows, 1), columns, 2)
        biases = leading(self.bias, rows, 1)
        weight, bias = slices[0] * gates[:, :1], biases[0] * gates[:, 0]
        for k in range(1, gates.shape[1]):
            weight = torch.addcmul(weight, slices[k], gates[:, k : k + 1])
            bias = torch.addcmul(bias, biases[k], gates[:, k])
        return Affine(weight, bias)


class Router(nn.Module):
    """Turns an architecture's features into gates, for each of `n_rows` rows."""

    def __init__(self, n_rows: int, mixture: Mixture) -> None:
        super().__init__()
        self.n_experts, self.dropout = mixture.n_experts, mixture.router_dropout
        self.hidden = nn.Linear(len(HYPERPARAMETERS), mixture.router_width)
        self.out = nn.Linear(mixture.router_width, n_rows * mixture.n_experts)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, rows: int) -> Tensor:
        """Computes the gates of the first rows, in float32 also where the network is not.

        Args:
            features: The architecture's averaged features `(10,)`.
            rows: How many rows need gates. A row's gates do not depend on this number.

        Returns:
            Gates `(rows, experts)`; those of a row sum to 1.
        """
        n = rows * self.n_experts
        weight, bias = leading(self.out.weight, n).float(), leading(self.out.bias, n).float()
        with torch.autocast(features.device.type, enabled=False):
            hidden = F.relu(F.linear(features.float(), self.hidden.weight.float(), self.hidden.bias.float()))
            hidden = F.dropout(hidden, self.dropout, self.training)
            return F.linear(hidden, weight, bias).view(rows, self.n_experts).softmax(1)


class MixedFeedForward(FeedForwardBlock):
    """Experts for each of the two maps, and the routers that weigh them."""

    def __init__(self, dim: int, width: int, mixture: Mixture) -> None:
        super().__init__()
        self.inner = Experts(mixture.n_experts, dim, width)
        self.outer = Experts(mixture.n_experts, width, dim)
        self.is_neuron_wise = mixture.kind == "neuron-wise"
        rows = (width, dim) if self.is_neuron_wise else (1,)
        self.routers = nn.ModuleList(Router(n, mixture) for n in rows)

    def cut(self, dim: int, width: int, features: Tensor | None) -> FeedForward:
        """Mixes the leading rows and columns by the gates of the architecture.

        Raises:
            InputError: If there are no features.
        """
        if features is None:
            raise InputError("mixed feed-forward weights need the architecture's features, got None")
        inner_gates, outer_gates = self.gates(dim, width, features)
        inner, outer = self.inner.mix(inner_gates, width, dim), self.outer.mix(outer_gates, dim, width)
        return FeedForward(inner, outer)

    def gates(self, dim: int, width: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the gates of both maps: `(width, experts)` and `(dim, experts)`, or one row for all."""
        if self.is_neuron_wise:
            return self.routers[0](features, width), self.routers[1](features, dim)
        gates = self.routers[0](features, 1)
        return gates, gates
