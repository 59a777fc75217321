"""Supernets: networks as slices of shared weights, what they learn, and their files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from llmpp import Architecture, InputError, SearchSpace, SpaceError, cost  # noqa: E402
from llmpp.mixture import KINDS, Kind, Mixture  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import (  # noqa: E402
    DEVICES,
    LARGEST,
    SAMPLE,
    SMALL,
    SOURCE,
    SPACE,
    TARGET_IN,
    TASK,
    VOCABULARY,
    apart,
    supernet,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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
