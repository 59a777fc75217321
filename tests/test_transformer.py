"""The stand-alone Transformer: what it computes, what it costs, and its files."""

import math
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


from llmpp import Architecture, InputError, cost, load_task, network  # noqa: E402
from llmpp.attention import attend  # noqa: E402
from llmpp.dropout import drop  # noqa: E402
from llmpp.network import position_table  # noqa: E402
from llmpp.special_tokens import PAD  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import DEVICES, SOURCE, SPACE, TARGET_IN, TASK, VOCABULARY, apart, sentences, small  # noqa: E402

ONE = Architecture(12, (8, 24), (2, 4), 16, (12, 8), (4, 1), (2, 4), (1, 2))
#: One layer on each side, where the encoder is the wider one.
WIDE_ENCODER = Architecture(20, (8,), (2,), 8, (12,), (2,), (4,), (1,))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("architecture", SPACE.sample(12, seed=1))
def test_a_small_transformer_has_as_many_parameters_as_its_costs_say(architecture: Architecture) -> None:
    model, expected = small(architecture), cost(architecture, task=TASK)
    in_layers = sum(p.numel() for name, p in model.named_parameters() if name != "embedding")
    assert model.n_params == in_layers == expected.params
    width = max(architecture.encoder_dim, architecture.decoder_dim)
    assert model.embedding.shape == (VOCABULARY, width)
    if width == architecture.decoder_dim:
        assert model.embedding.numel() == expected.embedding_params


@pytest.mark.parametrize("name", ["wmt14.en-de", "iwslt14.de-en"])
def test_published_spaces_have_as_many_parameters_as_their_costs_say(name: str) -> None:
    task = load_task(name)
    for architecture in task.space.sample(2, seed=4):
        model = Transformer(architecture, vocabulary=2)
        assert model.n_params == cost(architecture, task=task).params


@pytest.mark.parametrize("device", DEVICES)
def test_logits_do_not_depend_on_the_device_or_on_the_batch(device: str) -> None:
    model = small(ONE)
    expected = model(SOURCE, TARGET_IN)
    assert expected.shape == (3, 8, VOCABULARY)
    logits = model.to(device)(SOURCE.to(device), TARGET_IN.to(device))
    assert apart(logits.cpu(), expected) < 1e-4
    for row, (source, target) in enumerate(zip([9, 5, 3], [6, 8, 2], strict=True)):
        alone = model(SOURCE[row : row + 1, :source].to(device), TARGET_IN[row : row + 1, :target].to(device))
        assert apart(alone[0].cpu(), expected[row, :target]) < 1e-5


def test_padding_may_stand_on_either_side_of_the_source() -> None:
    model = small(ONE)
    left = SOURCE.clone()
    for row in left:
        n_padding = int((row == PAD).sum())
        row.copy_(row.roll(n_padding))
    assert (left[2] != SOURCE[2]).any()
    assert apart(model(left, TARGET_IN), model(SOURCE, TARGET_IN)) < 1e-5


def test_a_target_token_does_not_change_what_is_predicted_before_it() -> None:
    model = small(ONE)
    changed = TARGET_IN.clone()
    changed[1, 4] = changed[1, 4] % 20 + 3
    before, after = model(SOURCE, TARGET_IN), model(SOURCE, changed)
    assert apart(before[1, :4], after[1, :4]) < 1e-6
    assert (before[1, 4:] - after[1, 4:]).abs().amax(1).min() > 1e-3
    assert apart(before[[0, 2]], after[[0, 2]]) < 1e-6


def test_every_source_token_and_its_place_matter_to_every_prediction() -> None:
    model = small(ONE)
    changed, swapped = SOURCE[:1].clone(), SOURCE[:1].clone()
    changed[0, 3] = changed[0, 3] % 20 + 3
    swapped[0, [3, 4]] = swapped[0, [4, 3]]
    target = TARGET_IN[:1, :6]
    for other in (changed, swapped):
        assert (model(SOURCE[:1], target) - model(other, target)).abs().amax(2).min() > 1e-4


def test_embeddings_are_tied_and_each_side_uses_the_leading_columns() -> None:
    model = small(WIDE_ENCODER)
    model.embedding.requires_grad_()
    before = model(SOURCE, TARGET_IN)
    with torch.no_grad():
        model.embedding[7] += 1
    assert model.embedding.shape[1] == 20
    changed = (model(SOURCE, TARGET_IN) - before).abs().amax((0, 1))
    assert changed[7] > 1e-2
    unread = sentences([4], vocabulary=5), sentences([4], vocabulary=5, seed=1)
    assert 7 not in torch.cat(unread)
    before = model(*unread)
    with torch.no_grad():
        model.embedding[7] -= 1
    changed = (model(*unread) - before).abs().amax((0, 1))
    assert changed[7] > 1e-2
    assert changed[torch.arange(VOCABULARY) != 7].max() == 0


def test_a_span_joins_the_outputs_of_the_last_encoder_layers() -> None:
    architecture = Architecture(12, (8, 8, 8), (2, 2, 2), 16, (12,), (4,), (2,), (1,))
    encoded = small(architecture).network().encode(SOURCE)
    first, second, third = encoded.outputs
    for span, outputs in enumerate([[third], [second, third], [first, second, third]], 1):
        joined, mask = encoded.last(span)
        assert torch.equal(joined, torch.cat(outputs, 1))
        assert torch.equal(mask[:, 0, 0], torch.cat([SOURCE != PAD] * span, 1))


def test_layers_that_are_missing_count_as_identities() -> None:
    x1, x2, x3 = small(ONE).network().encode(SOURCE).outputs
    assert torch.equal(x2, x3)
    assert not torch.equal(x1, x2)


def test_seeing_one_output_three_times_is_seeing_it_once() -> None:
    once = small(WIDE_ENCODER)
    thrice = small(replace(WIDE_ENCODER, cross_span=(3,)))
    assert apart(once(SOURCE, TARGET_IN), thrice(SOURCE, TARGET_IN)) < 1e-5


def test_an_identity_weighs_in_where_the_span_reaches_beyond_it() -> None:
    architecture = replace(ONE, cross_span=(2, 2))
    of_two = Transformer(architecture, vocabulary=VOCABULARY, qkv_dim=16).eval()
    of_three = Transformer(architecture, vocabulary=VOCABULARY, qkv_dim=16, n_encoder_slots=3).eval()
    of_three.load_state_dict(of_two.state_dict())
    assert apart(of_two(SOURCE, TARGET_IN), of_three(SOURCE, TARGET_IN)) > 1e-3


def test_positions_are_hats_sinusoids() -> None:
    table = position_table(50, 10, PAD)
    assert table.shape == (51, 10)
    assert (table[0] == 0).all()
    for place in (1, 2, 17, 50):
        angles = [(PAD + place) * 10000 ** (-i / 4) for i in range(5)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert table[place].tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_positions_of_odd_widths_end_in_zeros(dim: int) -> None:
    table = position_table(9, dim, PAD)
    assert table.isfinite().all()
    assert (table[:, dim // 2 * 2 :] == 0).all()


def test_positions_are_made_at_the_supernets_width() -> None:
    model = Transformer(ONE, vocabulary=VOCABULARY, qkv_dim=16, super_dims=(30, 16))
    assert torch.equal(model.encoder_positions, position_table(1024, 30, PAD)[:, :12])
    assert torch.equal(model.decoder_positions, position_table(1024, 16, PAD))


def test_dropout_is_scaled_by_width_and_attention_dropout_is_not() -> None:
    model = Transformer(
        ONE, vocabulary=VOCABULARY, qkv_dim=16, super_dims=(24, 20), dropout=0.3, attention_dropout=0.1
    )
    network = model.network()
    assert (network.encoder.dropout, network.decoder.dropout) == pytest.approx((0.15, 0.24))
    assert network.attention_dropout == 0.1
    for quiet in (network.without_dropout(), model.eval().network()):
        assert (quiet.encoder.dropout, quiet.decoder.dropout, quiet.attention_dropout) == (0, 0, 0)


def test_dropout_follows_embeddings_and_sublayers_and_falls_on_attention_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[float] = []

    def recorded(x: Any, share: float) -> Any:
        shares.append(share)
        return drop(x, share)

    def attend_recorded(*arguments: Any, **settings: Any) -> Any:
        shares.append(settings["dropout"])
        return attend(*arguments, **settings)

    monkeypatch.setattr(network, "drop", recorded)
    monkeypatch.setattr(network, "attend", attend_recorded)
    settings: dict[str, Any] = {"dropout": 0.4, "attention_dropout": 0.05, "super_dims": (24, 64)}
    Transformer(ONE, vocabulary=VOCABULARY, qkv_dim=16, **settings)(SOURCE, TARGET_IN)
    encoder = [0.2, *[0.05, 0.2, 0.2] * 2]
    decoder = [0.1, *[0.05, 0.1, 0.05, 0.1, 0.1] * 2]
    assert shares == pytest.approx(encoder + decoder)


@pytest.mark.parametrize("setting", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_only(setting: str) -> None:
    settings: dict[str, Any] = {setting: 0.5}
    model = Transformer(ONE, vocabulary=VOCABULARY, qkv_dim=16, **settings)
    assert apart(model(SOURCE, TARGET_IN), model(SOURCE, TARGET_IN)) > 1e-3
    model.eval()
    assert torch.equal(model(SOURCE, TARGET_IN), model(SOURCE, TARGET_IN))


@pytest.mark.parametrize("architecture", [ONE, WIDE_ENCODER])
def test_every_parameter_learns(architecture: Architecture) -> None:
    model = small(architecture)
    model(SOURCE, TARGET_IN).square().mean().backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert silent == set()


def test_a_key_bias_learns_nothing_and_all_else_in_its_matrix_does() -> None:
    # A bias on all keys adds the same to all scores of a query, which softmax takes out again.
    model = small(ONE)
    model(SOURCE, TARGET_IN).square().mean().backward()
    bias = model.get_parameter("encoder.0.qkv.bias")
    assert bias.grad is not None
    gradients = bias.grad.view(3, 16).abs().amax(1)
    assert gradients[1] < 1e-6 < gradients[[0, 2]].min()


@pytest.mark.parametrize("is_cast", [False, True])
def test_bfloat16_stays_close_to_float32(is_cast: bool) -> None:
    model = small(ONE)
    expected = model(SOURCE, TARGET_IN).detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=not is_cast):
        logits = (model.bfloat16() if is_cast else model)(SOURCE, TARGET_IN)
    assert logits.dtype == torch.bfloat16
    assert apart(logits, expected) < 0.05 * float(expected.abs().max())


def test_weights_start_as_hats_do() -> None:
    torch.manual_seed(0)
    architecture = Architecture(120, (80,), (2,), 160, (40,), (4,), (2,), (1,))
    model = Transformer(architecture, vocabulary=1000, qkv_dim=64)
    bounds = {
        "encoder.0.qkv": (120, 192),
        "encoder.0.feed_forward.inner": (120, 80),
        "decoder.0.query": (160, 192),
        "decoder.0.key_value": (120, 192),
        "decoder.0.cross_out": (64, 160),
    }
    for name, (n_in, n_out) in bounds.items():
        block: Any = model.get_submodule(name)
        most = math.sqrt(6 / (n_in + n_out))
        assert 0.97 * most < block.weight.abs().max() <= most
        assert (block.bias == 0).all()
    assert (model.embedding[PAD] == 0).all()
    assert float(model.embedding.detach().std()) == pytest.approx(160**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"cross_span": (1, 3)}, {}, "cross_span is 3, but `n_encoder_slots` is 2: make it at least 3"),
        ({}, {"n_encoder_slots": 1}, "encoder_layers is 2, but `n_encoder_slots` is 1"),
        ({}, {"super_dims": (8, 16)}, r"encoder_dim is 12, but `super_dims\[0\]` is 8"),
        ({}, {"super_dims": (12, 15)}, r"decoder_dim is 16, but `super_dims\[1\]` is 15"),
        ({}, {"super_dims": (12,)}, "`super_dims` must be two widths"),
        ({"decoder_heads": (4, 3)}, {}, "decoder_heads has 3, which does not divide qkv_dim 16"),
        ({}, {"vocabulary": 1}, "`vocabulary` must be an integer in 2"),
        ({}, {"vocabulary": "many"}, "`vocabulary` must be .* got 'many'"),
        ({}, {"padding": VOCABULARY}, "`padding` must be an integer in 0..22, got 23"),
        ({}, {"dropout": 1.0}, r"`dropout` must be in \[0, 0.99\], got 1.0"),
        ({}, {"attention_dropout": -0.1}, "`attention_dropout` must be in"),
        ({}, {"max_length": 0}, "`max_length` must be"),
        ({}, {"qkv_dim": 0}, "qkv_dim must be a positive integer"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    changes: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Transformer(replace(ONE, **changes), **{"vocabulary": VOCABULARY, "qkv_dim": 16, **settings})


def test_sentences_beyond_the_table_of_positions_are_refused() -> None:
    model = Transformer(ONE, vocabulary=VOCABULARY, qkv_dim=16, max_length=8)
    model(sentences([8]), sentences([8]))
    words = "sentences of 9 tokens, but this network's positions end at 8: cut .* `max_length`"
    for pair in [(sentences([9]), sentences([3])), (sentences([3]), sentences([9, 2]))]:
        with pytest.raises(InputError, match=words):
            model(*pair)
