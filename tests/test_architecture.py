"""`Architecture` and its notations: ours, and HAT's three."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpp import Architecture, InputError

HAT_YAML = """
encoder-embed-dim-subtransformer: 640
decoder-embed-dim-subtransformer: 512

encoder-ffn-embed-dim-all-subtransformer: [3072, 1024, 3072, 3072, 3072, 2048]
decoder-ffn-embed-dim-all-subtransformer: [1024, 3072, 1024]

encoder-layer-num-subtransformer: 6
decoder-layer-num-subtransformer: 3

encoder-self-attention-heads-all-subtransformer: [4, 8, 4, 8, 4, 4]
decoder-self-attention-heads-all-subtransformer: [8, 8, 4]
decoder-ende-attention-heads-all-subtransformer: [4, 4, 4]

decoder-arbitrary-ende-attn-all-subtransformer: [-1, 1, 1]
"""
HAT_ARCHITECTURE = Architecture(
    encoder_dim=640,
    encoder_ffn=(3072, 1024, 3072, 3072, 3072, 2048),
    encoder_heads=(4, 8, 4, 8, 4, 4),
    decoder_dim=512,
    decoder_ffn=(1024, 3072, 1024),
    decoder_heads=(8, 8, 4),
    cross_heads=(4, 4, 4),
    cross_span=(1, 2, 2),
)
FIELDS = HAT_ARCHITECTURE.to_dict()
NON_BLANK = [line for line in HAT_YAML.splitlines() if line]
POSITIVE = st.integers(1, 2**32 - 1)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    def layers(n: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(POSITIVE, min_size=n, max_size=n)))

    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    encoder = (draw(POSITIVE), layers(m), layers(m))
    return Architecture(*encoder, draw(POSITIVE), layers(n), layers(n), layers(n), layers(n))


def without(line_start: str) -> str:
    return "\n".join(line for line in NON_BLANK if not line.startswith(line_start))


def with_line(key: str, value: str) -> str:
    return without(key) + f"\n{key}: {value}\n"


@given(architectures())
def test_from_dict_inverts_to_dict_also_through_json(architecture: Architecture) -> None:
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


@given(architectures(), st.sampled_from(["yaml", "lines", "dict"]))
def test_from_hat_inverts_to_hat_in_each_form(architecture: Architecture, form: Any) -> None:
    assert Architecture.from_hat(architecture.to_hat(form)) == architecture


@given(architectures())
def test_from_values_inverts_values(architecture: Architecture) -> None:
    assert Architecture.from_values(architecture.values()) == architecture


@given(architectures(), st.randoms(use_true_random=False))
def test_hat_lines_may_come_in_any_order_with_blanks_between(
    architecture: Architecture, shuffle: random.Random
) -> None:
    lines = [*architecture.to_hat("lines"), "", "  ", "\t"]
    shuffle.shuffle(lines)
    assert Architecture.from_hat("\n".join(lines)) == architecture
    assert Architecture.from_hat(lines) == architecture


def test_hat_example_is_read_with_spans_from_one() -> None:
    assert Architecture.from_hat(HAT_YAML) == HAT_ARCHITECTURE
    assert HAT_ARCHITECTURE.encoder_layers == 6
    assert HAT_ARCHITECTURE.decoder_layers == 3


def test_hat_example_is_written_line_by_line_as_hat_writes_it() -> None:
    assert HAT_ARCHITECTURE.to_hat("lines") == NON_BLANK
    assert HAT_ARCHITECTURE.to_hat() == "\n".join(NON_BLANK) + "\n"


def test_hat_yaml_that_a_yaml_parser_has_read_is_accepted() -> None:
    parsed = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in NON_BLANK)}
    assert Architecture.from_hat(parsed) == HAT_ARCHITECTURE


def test_comments_in_hat_yaml_are_skipped() -> None:
    assert Architecture.from_hat("# found by a search\n" + HAT_YAML + "# end") == HAT_ARCHITECTURE


def test_nested_dicts_of_hat_are_cut_to_their_depth(data: Path) -> None:
    cases = json.loads((data / "hat_golden" / "cases.json").read_text())
    assert any(
        len(case["config"]["decoder"]["decoder_arbitrary_ende_attn"])
        > case["config"]["decoder"]["decoder_layer_num"]
        for case in cases
    )
    for case in cases:
        encoder, decoder = case["config"]["encoder"], case["config"]["decoder"]
        architecture = Architecture.from_hat(case["config"])
        n = decoder["decoder_layer_num"]
        assert architecture.encoder_layers == encoder["encoder_layer_num"]
        assert architecture.decoder_layers == n
        spans = {-1: 1, 1: 2, 2: 3}
        hat_spans = decoder["decoder_arbitrary_ende_attn"][:n]
        assert list(architecture.cross_span) == [spans[span] for span in hat_spans]
        written = architecture.to_hat("dict")
        assert written["encoder"] == encoder
        assert written["decoder"] == {**decoder, "decoder_arbitrary_ende_attn": hat_spans}
        assert Architecture.from_hat(written) == architecture


def test_numpy_integers_and_lists_make_the_same_architecture() -> None:
    fields = {name: np.array(value) if isinstance(value, list) else value for name, value in FIELDS.items()}
    architecture = Architecture.from_dict({**fields, "encoder_dim": np.int64(640)})
    assert architecture == HAT_ARCHITECTURE
    assert hash(architecture) == hash(HAT_ARCHITECTURE)
    assert json.loads(json.dumps(architecture.to_dict())) == FIELDS


def test_an_architecture_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HAT_ARCHITECTURE.encoder_dim = 512  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_dim": 0}, "encoder_dim must be a positive integer, got 0"),
        ({"encoder_dim": -640}, "encoder_dim must be a positive integer, got -640"),
        ({"encoder_dim": True}, "encoder_dim must be a positive integer, got True"),
        ({"encoder_dim": 640.0}, "encoder_dim must be a positive integer, got 640.0"),
        ({"encoder_dim": "640"}, "encoder_dim must be a positive integer, got '640'"),
        ({"decoder_dim": None}, "decoder_dim must be a positive integer, got None"),
        ({"decoder_dim": 1 << 32}, "decoder_dim must be a positive integer"),
        ({"decoder_ffn": 1024}, "decoder_ffn must be a list of positive integers, got 1024"),
        ({"decoder_ffn": "123"}, "decoder_ffn must be a list"),
        ({"decoder_ffn": {"0": 1024}}, "decoder_ffn must be a list"),
        ({"decoder_ffn": []}, "decoder_ffn must have at least one layer"),
        ({"decoder_ffn": [1024, 0, 1024]}, r"decoder_ffn\[1\] must be a positive integer, got 0"),
        ({"cross_span": [1, 2, -1]}, r"cross_span\[2\] must be a positive integer, got -1"),
        ({"decoder_ffn": [1024]}, r"one value per layer.*'decoder_ffn': 1.*'cross_span': 3"),
        ({"encoder_heads": [4] * 7}, r"one value per layer.*'encoder_heads': 7"),
        ({"encoder_layers": 6}, "exactly the fields.*got.*encoder_layers"),
    ],
)
def test_a_bad_field_is_named_with_its_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Architecture.from_dict({**FIELDS, **changes})


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_told_by_the_list_of_all(name: str) -> None:
    with pytest.raises(InputError, match=f"exactly the fields.*{name}"):
        Architecture.from_dict({key: value for key, value in FIELDS.items() if key != name})


@pytest.mark.parametrize("wrong", [None, 5, "text", [1, 2], [], {}])
def test_what_is_no_mapping_of_fields_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="exactly the fields"):
        Architecture.from_dict(wrong)


def test_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError, match="exactly the fields"):
        Architecture.from_dict({1: 2, **FIELDS})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "needs the key `encoder-layer-num-subtransformer`, which is missing"),
        ("no colon here", "not a line of HAT's notation: 'no colon here'"),
        ("encoder-embed-dim-subtransformer: six", "not a line of HAT's notation.*integer or list"),
        ([], "which is missing"),
        ({}, "which is missing"),
        ({"encoder": {}, "decoder": {}}, "which is missing"),
        ({"encoder": 5, "decoder": 6}, "which is missing"),
        (without("decoder-ende"), "needs the key `decoder-ende-attention-heads-all-subtransformer`"),
        (with_line("encoder-embed-dim-subtransformer", "6.5"), "must be an integer, got 6.5"),
        (with_line("encoder-embed-dim-subtransformer", "[640]"), r"must be an integer, got \[640\]"),
        (with_line("encoder-embed-dim-subtransformer", "true"), "must be an integer, got True"),
        (with_line("decoder-layer-num-subtransformer", "4"), r"must list 4 integers.*\[1024, 3072, 1024\]"),
        (with_line("decoder-layer-num-subtransformer", "0"), "at least one layer"),
        (with_line("decoder-ffn-embed-dim-all-subtransformer", "1024"), "must list 3 integers"),
        (with_line("decoder-ffn-embed-dim-all-subtransformer", '"abc"'), "must list 3 integers"),
        (with_line("decoder-ffn-embed-dim-all-subtransformer", "[1, 2, null]"), "must be an integer"),
        (with_line("decoder-arbitrary-ende-attn-all-subtransformer", "[-1, 0, 1]"), "as -1, 1, 2.*got 0"),
        (with_line("decoder-arbitrary-ende-attn-all-subtransformer", "[-2, 1, 1]"), "got -2"),
        (with_line("encoder-embed-dim-subtransformer", "-640"), "positive integer, got -640"),
    ],
)
def test_a_bad_hat_notation_is_refused_with_its_key(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Architecture.from_hat(source)


@pytest.mark.parametrize("wrong", [5, None, 1.5])
def test_what_is_no_hat_notation_at_all_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="notation"):
        Architecture.from_hat(wrong)


def test_a_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(InputError, match="decoder-layer-num-subtransformer"):
        Architecture.from_hat(with_line("decoder-layer-num-subtransformer", "-1"))


def test_an_unknown_hat_form_gets_the_list_of_forms() -> None:
    with pytest.raises(InputError, match="unknown HAT notation 'xml'; known: yaml, lines, dict"):
        HAT_ARCHITECTURE.to_hat("xml")  # type: ignore[arg-type]
