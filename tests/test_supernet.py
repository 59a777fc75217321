"""Supernets: HAT's weight sharing to HAT's own figures, Mixture-of-Supernets, and their files."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from llmpp import Architecture, InputError, SearchSpace, SpaceError, cost  # noqa: E402
from llmpp.decoding import start, step  # noqa: E402
from llmpp.mixture import KINDS, Experts, Kind, MixedFeedForward, Mixture, Router  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import DEVICES, SPACE, TASK, VOCABULARY, apart, sentences, shake  # noqa: E402

SOURCE, TARGET_IN = sentences([9, 5, 3]), sentences([6, 8, 2], seed=1)
SAMPLE = SPACE.sample(8, seed=2)
#: Two decoder layers of three, and neither side at its full width.
SMALL = Architecture(12, (8, 8), (2, 4), 8, (12, 8), (4, 1), (2, 4), (3, 1))
LARGEST = Architecture(20, (24,) * 3, (4,) * 3, 16, (24,) * 3, (4,) * 3, (4,) * 3, (3,) * 3)
MIXED: tuple[Kind, ...] = ("layer-wise", "neuron-wise")
#: Where tests take HAT's supernet apart: its tensors, and its description.
Parts = tuple[dict[str, Any], dict[str, Any]]


pytestmark = pytest.mark.usefixtures("one_thread")


def supernet(kind: Kind = "plain", *, seed: int = 0, **settings: Any) -> SuperTransformer:
    torch.manual_seed(seed)
    mixture = Mixture(kind=kind, n_experts=settings.pop("n_experts", 2), router_width=16)
    net = SuperTransformer(SPACE, vocabulary=VOCABULARY, mixture=mixture, **{"max_length": 40, **settings})
    shake(net)
    return net.eval()


def features_of(architecture: Architecture) -> Any:
    return torch.from_numpy(SPACE.features([architecture])[0])


def blocks(net: SuperTransformer) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, MixedFeedForward)]


def routers(net: SuperTransformer) -> list[Router]:
    return [module for module in net.modules() if isinstance(module, Router)]


def hat(data: Path) -> tuple[Path, dict[str, Any]]:
    folder = data / "hat_golden"
    return folder / "weights.safetensors", json.loads((folder / "meta.json").read_text())


@pytest.fixture(scope="module")
def golden(data: Path) -> tuple[SuperTransformer, dict[str, Any], list[dict[str, Any]], Any]:
    """HAT's supernet, the inputs, the cases, and HAT's logits of each."""
    folder = data / "hat_golden"
    net = SuperTransformer.from_hat(*hat(data)).eval()
    inputs = json.loads((folder / "inputs.json").read_text())
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    return net, tensors, json.loads((folder / "cases.json").read_text()), np.load(folder / "logits.npz")


@pytest.mark.parametrize("side", ["source", "source_left_padded"])
@pytest.mark.parametrize("is_extracted", [False, True])
def test_logits_losses_and_parameters_are_hats(golden: Any, side: str, is_extracted: bool) -> None:
    net, inputs, cases, logits = golden
    assert len(cases) == 16
    for case in cases:
        architecture = Architecture.from_hat(case["config"])
        network = net.extract(architecture) if is_extracted else net.network(architecture)
        assert network.n_params == case["params"]
        found = network(inputs[side], inputs["target_in"]).detach()
        assert apart(found, torch.from_numpy(logits[case["key"]])) < 1e-5
        loss = torch.nn.functional.cross_entropy(
            found.flatten(0, 1), inputs["target_out"].flatten(), ignore_index=1, reduction="sum"
        )
        assert abs(float(loss) - case["cross_entropy_sum"]) < 1e-4


def test_decoding_step_by_step_gives_hats_logits(golden: Any) -> None:
    net, inputs, cases, logits = golden
    for case in cases:
        network, expected = net.network(Architecture.from_hat(case["config"])), logits[case["key"]]
        cache = start(network, network.encode(inputs["source"]))
        for place in range(8):
            found, cache = step(network, inputs["target_in"][:, place : place + 1], cache)
            is_token = inputs["target_in"][:, place] != 1
            there = torch.from_numpy(expected[:, place])[is_token]
            assert apart(found[:, 0][is_token], there) < 1e-5


def test_an_architecture_of_hats_gives_the_same_whatever_came_before(golden: Any) -> None:
    net, inputs, cases, _ = golden
    architectures = [Architecture.from_hat(case["config"]) for case in cases]
    forth = [net(a, inputs["source"], inputs["target_in"]) for a in architectures]
    back = [net(a, inputs["source"], inputs["target_in"]) for a in reversed(architectures)]
    assert all(torch.equal(one, other) for one, other in zip(forth, reversed(back), strict=True))


def part_embeddings(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    tensors["encoder.embed_tokens.weight"] = tensors["encoder.embed_tokens.weight"] + 1


def drop_embedding(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    del tensors["decoder.embed_tokens.weight"]


def add_final_norm(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    tensors["encoder.layer_norm.weight"] = torch.ones(32)


def drop_layer(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("decoder.layers.2.")]:
        del tensors[name]


def shrink_vocabulary(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    meta["vocab"] = 60


def drop_vocabulary(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    del meta["vocab"]


def drop_choices(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    del meta["choices"]["decoder"]["decoder_arbitrary_ende_attn"]


def widen(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    meta["super"]["decoder_ffn_embed_dim"] = 128


def mix_choices(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    meta["choices"]["encoder"]["encoder_embed_dim"] = [32, None]


def shrink_weight(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    tensors["decoder.layers.0.encoder_attn.in_proj_weight"] = torch.zeros(())


def spoil_choices(tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    meta["choices"] = 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (part_embeddings, "encoder and decoder have different embeddings"),
        (drop_embedding, "'decoder.embed_tokens.weight' is missing: is this a HAT supernet"),
        (add_final_norm, "'encoder.layer_norm.weight' has no place in HAT's Transformer"),
        (drop_layer, r"lacks the tensor 'decoder.2.* \(20 names differ\)"),
        (shrink_vocabulary, r"'embedding' has the shape \(61, 32\), not \(60, 32\)"),
        (drop_vocabulary, "lacks 'vocab'"),
        (drop_choices, "lacks or misstates 'decoder_arbitrary_ende_attn'"),
        (widen, "the supernet's decoder_ffn is 128, but its largest choice is 64: add 128"),
        (spoil_choices, "lacks or misstates"),
        (mix_choices, "lacks or misstates"),
        (shrink_weight, "'decoder.layers.0.encoder_attn.in_proj_weight' is a single number"),
    ],
)
def test_weights_and_a_description_that_do_not_fit_are_refused(
    spoil: Callable[[dict[str, Any], dict[str, Any]], None], words: str, data: Path, tmp_path: Path
) -> None:
    weights, meta = hat(data)
    tensors = load_file(weights)
    spoil(tensors, meta)
    save_file(tensors, tmp_path / "weights")
    with pytest.raises(InputError, match=words):
        SuperTransformer.from_hat(tmp_path / "weights", meta)


def test_missing_weights_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the model .*missing"):
        SuperTransformer.from_hat(tmp_path / "missing", hat(data)[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", [*SAMPLE, SMALL, LARGEST])
def test_an_extracted_network_is_the_slice(kind: Kind, architecture: Architecture) -> None:
    net = supernet(kind).train()
    extracted = net.extract(architecture)
    assert net.training
    assert extracted.sizes.n_encoder_slots == 3
    assert extracted.n_params == cost(architecture, task=TASK).params
    assert net.eval().network(architecture).n_params == extracted.n_params
    assert apart(extracted(SOURCE, TARGET_IN), net(architecture, SOURCE, TARGET_IN)) < 1e-6


def test_an_extracted_network_is_a_copy() -> None:
    net = supernet()
    extracted = net.extract(SMALL)
    before = extracted(SOURCE, TARGET_IN)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(extracted(SOURCE, TARGET_IN), before)
    assert all(parameter.requires_grad for parameter in extracted.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_an_extracted_network_keeps_device_and_dtype(device: str) -> None:
    extracted = supernet("layer-wise", dropout=0.2).to(device, torch.bfloat16).extract(SMALL)
    assert {(p.device.type, p.dtype) for p in extracted.parameters()} == {(device, torch.bfloat16)}
    assert (extracted.sizes.dropout, extracted.sizes.super_dims) == (0.2, (20, 16))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_supernet_computes_on_any_device(kind: Kind, device: str) -> None:
    net = supernet(kind)
    expected = net(SMALL, SOURCE, TARGET_IN)
    found = net.to(device)(SMALL, SOURCE.to(device), TARGET_IN.to(device))
    assert found.device.type == device
    assert apart(found, expected) < 1e-4


def test_the_largest_architecture_is_a_transformer_under_the_same_names() -> None:
    net = supernet()
    model = Transformer(LARGEST, vocabulary=VOCABULARY, qkv_dim=16, max_length=40).eval()
    model.load_state_dict(net.state_dict())
    assert torch.equal(model(SOURCE, TARGET_IN), net(LARGEST, SOURCE, TARGET_IN))


def test_a_plain_network_is_views_of_the_supernets_weights() -> None:
    net = supernet()
    storages = {p.untyped_storage().data_ptr() for p in net.parameters()}
    for tensor in net.network(SMALL).layer_tensors():
        assert tensor.untyped_storage().data_ptr() in storages
    assert net.network(SMALL).embedding is net.embedding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", [SMALL, *SAMPLE[:3], LARGEST])
def test_a_gradient_reaches_the_slice_and_nothing_else(kind: Kind, architecture: Architecture) -> None:
    net = supernet(kind)
    reached: dict[str, Any] = {}
    # A sum over the weights that the network has shows which entries those are.
    torch.stack([tensor.sum() for tensor in net.network(architecture).layer_tensors()]).sum().backward()
    for name, parameter in net.named_parameters():
        reached[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad != 0
    reached["embedding"][:, : max(architecture.encoder_dim, architecture.decoder_dim)] = 1
    net.zero_grad()
    net(architecture, SOURCE, TARGET_IN).square().mean().backward()
    for name, parameter in net.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if "routers" not in name:
            assert (gradient[reached[name] == 0] == 0).all(), name
        layer = int(name.split(".")[1]) if name != "embedding" else 0
        is_there = layer < (architecture.encoder_layers if "encoder" in name else architecture.decoder_layers)
        assert bool(gradient.abs().max() > 0) == is_there, name


def test_routers_of_rows_that_are_not_there_learn_nothing() -> None:
    net = supernet("neuron-wise")
    net(SMALL, SOURCE, TARGET_IN).square().mean().backward()
    inner, outer = blocks(net)[0].routers
    assert (inner.out.weight.grad[: 8 * 2] != 0).any(1).all()
    assert (inner.out.weight.grad[8 * 2 :] == 0).all()
    assert (outer.out.weight.grad[12 * 2 :] == 0).all()


def test_dropout_is_scaled_by_the_sampled_width_and_attention_dropout_is_not() -> None:
    net = supernet(dropout=0.4, attention_dropout=0.1).train()
    network = net.network(SMALL)
    assert (network.encoder.dropout, network.decoder.dropout) == pytest.approx((0.4 * 12 / 20, 0.4 * 8 / 16))
    assert network.attention_dropout == 0.1
    network = net.eval().network(SMALL)
    assert (network.encoder.dropout, network.decoder.dropout, network.attention_dropout) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_outside_the_space_is_refused(kind: Kind) -> None:
    outside = replace(SMALL, encoder_dim=16)
    for use in (supernet(kind).network, supernet(kind).extract):
        with pytest.raises(SpaceError, match=r"`encoder_dim` is 16, which is not one of \[12, 20\]"):
            use(outside)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder_layers": (1, 2)}, "cross_span is 3, but `n_encoder_slots` is 2"),
        ({"decoder_heads": (3, 4)}, "decoder_heads may be 3, which does not divide qkv_dim 16"),
    ],
)
def test_a_space_without_a_supernet_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SuperTransformer(SearchSpace("odd", {**SPACE.options, **options}, 16), vocabulary=9)


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_supernet_comes_back_as_it_was(kind: Kind, tmp_path: Path) -> None:
    net = supernet(kind, dropout=0.2, attention_dropout=0.1, padding=4)
    net.save(tmp_path / "net")
    again = SuperTransformer.load(tmp_path / "net").eval()
    assert (again.space, again.sizes, again.mixture) == (net.space, net.sizes, net.mixture)
    for architecture in SAMPLE:
        assert torch.equal(again(architecture, SOURCE, TARGET_IN), net(architecture, SOURCE, TARGET_IN))


def test_an_extracted_network_is_usable_without_its_supernet(tmp_path: Path) -> None:
    net = supernet("neuron-wise")
    net.extract(SMALL).save(tmp_path / "model")
    model = Transformer.load(tmp_path / "model").eval()
    assert apart(model(SOURCE, TARGET_IN), net(SMALL, SOURCE, TARGET_IN)) < 1e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mixture": None}, "cannot be used: a mixture needs exactly the fields"),
        ({"space": {}}, "cannot be used: a space needs exactly the keys"),
        (
            {"space": {**SPACE.to_dict(), "name": "other", "qkv_dim": 32}},
            "contradicts itself: .*'qkv_dim': 16",
        ),
        ({"space": {**SPACE.to_dict(), "options": 3}}, "cannot be used"),
        ({"sizes": {}}, "cannot be used: sizes need exactly the fields"),
        ({"mixture": Mixture(kind="layer-wise").to_dict()}, "lacks the tensor"),
        ({"schema": "llmpp.transformer/1"}, "is of schema 'llmpp.transformer/1', not 'llmpp.supernet/1'"),
    ],
)
def test_a_supernets_file_that_contradicts_itself_is_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "net"
    supernet().save(path)
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["llmpp"])
    save_file(load_file(path), path, {"llmpp": json.dumps({**record, **change})})
    with pytest.raises(InputError, match=words) as raised:
        SuperTransformer.load(path)
    assert str(path) in str(raised.value)
