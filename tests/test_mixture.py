"""Mixture-of-Supernets: gates, routers, and the weights that they mix."""

import math
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


from llmpp import Architecture, InputError  # noqa: E402
from llmpp.mixture import Experts, Kind, MixedFeedForward, Mixture, Router  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from small_networks import (  # noqa: E402
    MIXED,
    SAMPLE,
    SMALL,
    SOURCE,
    SPACE,
    TARGET_IN,
    apart,
    supernet,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def features_of(architecture: Architecture) -> Any:
    return torch.from_numpy(SPACE.features([architecture])[0])


def blocks(net: SuperTransformer) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, MixedFeedForward)]


def routers(net: SuperTransformer) -> list[Router]:
    return [module for module in net.modules() if isinstance(module, Router)]


@pytest.mark.parametrize("kind", MIXED)
def test_gates_of_a_row_sum_to_one(kind: Kind) -> None:
    net = supernet(kind, n_experts=3)
    for block in blocks(net):
        inner, outer = block.gates(8, 12, features_of(SMALL))
        assert (inner.shape, outer.shape) == (
            ((12, 3), (8, 3)) if kind == "neuron-wise" else ((1, 3), (1, 3))
        )
        for gates in (inner, outer):
            assert (gates > 0).all()
            assert apart(gates.sum(1), torch.ones(len(gates))) < 1e-6
            assert gates.std() > 0


@pytest.mark.parametrize("kind", MIXED)
def test_one_expert_is_the_plain_supernet(kind: Kind) -> None:
    plain, mixed = supernet(), supernet(kind, n_experts=1, seed=1)
    weights = mixed.state_dict()
    for name, tensor in plain.state_dict().items():
        weights[name] = tensor.view(weights[name].shape)
    mixed.load_state_dict(weights)
    for architecture in SAMPLE:
        assert torch.equal(mixed(architecture, SOURCE, TARGET_IN), plain(architecture, SOURCE, TARGET_IN))


@pytest.mark.parametrize("kind", MIXED)
def test_equal_experts_make_the_gates_irrelevant(kind: Kind) -> None:
    net = supernet(kind)
    other = supernet(kind)
    with torch.no_grad():
        for module in (m for m in [*net.modules(), *other.modules()] if isinstance(m, Experts)):
            module.weight[1], module.bias[1] = module.weight[0].clone(), module.bias[0].clone()
        for router in routers(other):
            router.out.weight.normal_(std=3)
    assert apart(blocks(net)[0].gates(12, 8, features_of(SMALL))[0], torch.tensor([0.5, 0.5])) < 0.4
    assert apart(net(SMALL, SOURCE, TARGET_IN), other(SMALL, SOURCE, TARGET_IN)) < 1e-5


@pytest.mark.parametrize("kind", MIXED)
def test_different_gates_matter_where_experts_differ(kind: Kind) -> None:
    net = supernet(kind)
    before = net(SMALL, SOURCE, TARGET_IN)
    with torch.no_grad():
        for router in routers(net):
            router.out.weight.normal_(std=3)
    assert apart(net(SMALL, SOURCE, TARGET_IN), before) > 0.01


@pytest.mark.parametrize("kind", MIXED)
def test_mixed_weights_are_the_papers_sums(kind: Kind) -> None:
    net = supernet(kind, n_experts=3)
    for block in blocks(net)[:2]:
        mixed = block.cut(8, 12, features_of(SMALL))
        gates = block.gates(8, 12, features_of(SMALL))
        for map_, experts, gate, (rows, columns) in zip(
            mixed, (block.inner, block.outer), gates, ((12, 8), (8, 12)), strict=True
        ):
            weight, bias = experts.weight[:, :rows, :columns], experts.bias[:, :rows]
            for j, row in enumerate(gate.expand(rows, 3)):
                assert (
                    apart(map_.weight[j], torch.stack([row[k] * weight[k, j] for k in range(3)]).sum(0))
                    < 1e-6
                )
                assert apart(map_.bias[j], torch.stack([row[k] * bias[k, j] for k in range(3)]).sum()) < 1e-6


@pytest.mark.parametrize("kind", MIXED)
def test_slicing_and_mixing_commute(kind: Kind) -> None:
    block, features = blocks(supernet(kind))[0], features_of(SMALL)
    whole, part = block.cut(20, 24, features), block.cut(12, 8, features)
    assert torch.equal(whole.inner.weight[:8, :12], part.inner.weight)
    assert torch.equal(whole.outer.weight[:12, :8], part.outer.weight)
    assert torch.equal(whole.inner.bias[:8], part.inner.bias)


def test_the_gates_of_a_neuron_are_the_same_at_every_width() -> None:
    block, features = blocks(supernet("neuron-wise"))[0], features_of(SMALL)
    wide, narrow = block.gates(20, 24, features), block.gates(12, 8, features)
    assert apart(wide[0][:8], narrow[0]) < 1e-6
    assert apart(wide[1][:12], narrow[1]) < 1e-6


@pytest.mark.parametrize("kind", MIXED)
def test_gates_depend_on_the_architecture_only_through_its_averages(kind: Kind) -> None:
    block = blocks(supernet(kind))[0]
    one = replace(SMALL, decoder_ffn=(12, 8))
    gates = block.gates(8, 8, features_of(one))[0]
    assert torch.equal(gates, block.gates(8, 8, features_of(replace(one, decoder_ffn=(8, 12))))[0])
    assert not torch.equal(gates, block.gates(8, 8, features_of(replace(one, decoder_ffn=(8, 8))))[0])


def test_routers_of_rows_that_are_not_there_learn_nothing() -> None:
    net = supernet("neuron-wise")
    net(SMALL, SOURCE, TARGET_IN).square().mean().backward()
    inner, outer = blocks(net)[0].routers
    assert (inner.out.weight.grad[: 8 * 2] != 0).any(1).all()
    assert (inner.out.weight.grad[8 * 2 :] == 0).all()
    assert (outer.out.weight.grad[12 * 2 :] == 0).all()


@pytest.mark.parametrize("kind", MIXED)
def test_routers_drop_out_in_training_only(kind: Kind) -> None:
    net = supernet(kind)
    assert torch.equal(net(SMALL, SOURCE, TARGET_IN), net(SMALL, SOURCE, TARGET_IN))
    net.train()
    assert apart(net(SMALL, SOURCE, TARGET_IN), net(SMALL, SOURCE, TARGET_IN)) > 1e-5
    first, second = net.extract(SMALL), net.extract(SMALL)
    assert torch.equal(first(SOURCE, TARGET_IN), second(SOURCE, TARGET_IN))


@pytest.mark.parametrize("kind", MIXED)
def test_routers_compute_in_float32_under_bfloat16(kind: Kind) -> None:
    block, features = blocks(supernet(kind))[0], features_of(SMALL)
    expected = block.gates(12, 8, features)[0]
    with torch.autocast("cpu", torch.bfloat16):
        gates = block.gates(12, 8, features)[0]
        mixed = block.cut(12, 8, features).inner.weight
    assert torch.equal(gates, expected)
    assert mixed.dtype == torch.float32
    gates = block.bfloat16().gates(12, 8, features)[0]
    assert gates.dtype == torch.float32
    assert apart(gates, gates.bfloat16()) > 0
    assert block.cut(12, 8, features).inner.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("n_experts", [1, 2, 4])
def test_mixed_weights_start_as_wide_as_plain_ones(n_experts: int) -> None:
    torch.manual_seed(0)
    block = MixedFeedForward(300, 500, Mixture(kind="layer-wise", n_experts=n_experts))
    features = torch.rand(10)
    expected = math.sqrt(2 / 800)
    assert float(block.cut(300, 500, features).inner.weight.detach().std()) == pytest.approx(
        expected, rel=0.25
    )
    even = block.inner.mix(torch.full((1, n_experts), 1 / n_experts), 500, 300)
    assert float(even.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    if n_experts > 1:
        assert not torch.equal(block.inner.weight[0], block.inner.weight[1])


@pytest.mark.parametrize("kind", MIXED)
def test_a_router_starts_with_xavier_weights_without_bias(kind: Kind) -> None:
    torch.manual_seed(0)
    block: Any = MixedFeedForward(40, 60, Mixture(kind=kind))
    n_rows = [60, 40] if kind == "neuron-wise" else [1]
    assert [router.out.weight.shape for router in block.routers] == [(2 * n, 128) for n in n_rows]
    for router in block.routers:
        most = math.sqrt(6 / sum(router.out.weight.shape))
        assert 0.9 * most < router.out.weight.abs().max() <= most
        assert (router.out.bias == 0).all()
        assert router.hidden.weight.shape == (128, 10)


def test_mixed_weights_without_features_are_refused() -> None:
    with pytest.raises(InputError, match="need the architecture's features, got None"):
        supernet("layer-wise").cut(SMALL)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "token-wise"}, "unknown mixture 'token-wise'; known: plain, layer-wise, neuron-wise"),
        ({"n_experts": 0}, "`n_experts` must be"),
        ({"router_width": 0}, "`router_width` must be"),
        ({"router_dropout": 1.5}, "`router_dropout` must be in"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Mixture(**settings)
