"""Weights of HAT: its supernet gives HAT's own figures, and what does not fit is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from llmpp import Architecture, InputError  # noqa: E402
from llmpp.decoding import start, step  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from small_networks import (  # noqa: E402
    apart,
)

#: Where tests take HAT's supernet apart: its tensors, and its description.
Parts = tuple[dict[str, Any], dict[str, Any]]

pytestmark = pytest.mark.usefixtures("one_thread")


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
