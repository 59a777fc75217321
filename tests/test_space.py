"""Search spaces: counts, features, sampling, descriptions."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmpp import SPACES, Architecture, InputError, SearchSpace, ShapeError, SpaceError

WMT, IWSLT = SPACES["hat-wmt"], SPACES["hat-iwslt"]
NAMES = sorted(SPACES)
TINY: dict[str, Any] = {
    "name": "tiny",
    "qkv_dim": 64,
    "options": {
        "encoder_dim": [32, 48],
        "encoder_layers": [1, 2],
        "encoder_ffn": [64],
        "encoder_heads": [1],
        "decoder_dim": [32],
        "decoder_layers": [1, 3],
        "decoder_ffn": [64, 128],
        "decoder_heads": [2],
        "cross_heads": [2],
        "cross_span": [1],
    },
}


def slow_features(a: Architecture, largest: dict[str, int]) -> NDArray[np.float64]:
    """The ten features as the paper spells them out: value or mean over layers / the largest option."""
    return np.array(
        [
            a.encoder_dim / largest["encoder_dim"],
            len(a.encoder_ffn) / largest["encoder_layers"],
            np.mean(a.encoder_ffn) / largest["encoder_ffn"],
            np.mean(a.encoder_heads) / largest["encoder_heads"],
            a.decoder_dim / largest["decoder_dim"],
            len(a.decoder_ffn) / largest["decoder_layers"],
            np.mean(a.decoder_ffn) / largest["decoder_ffn"],
            np.mean(a.decoder_heads) / largest["decoder_heads"],
            np.mean(a.cross_heads) / largest["cross_heads"],
            np.mean(a.cross_span) / largest["cross_span"],
        ]
    )


def slow_per_layer(a: Architecture, space: SearchSpace) -> list[float]:
    """One feature per gene, 0 where a layer is not there."""
    features: list[float] = []
    for (name, largest), values in zip(space.largest.items(), a.values(), strict=True):
        side = name.split("_")[0].replace("cross", "decoder")
        is_scalar = name.endswith(("_dim", "_layers"))
        n_slots = 1 if is_scalar else space.largest[f"{side}_layers"]
        features += [value / largest for value in values] + [0.0] * (n_slots - len(values))
    return features


def described(**options: Any) -> SearchSpace:
    return SearchSpace.from_dict({**TINY, "options": {**TINY["options"], **options}})


def test_wmt_space_has_as_many_architectures_as_its_choices_allow() -> None:
    per_decoder_layer = 3 * 2 * 2 * 3
    by_hand = 2 * (3 * 2) ** 6 * 2 * sum(per_decoder_layer**n for n in range(1, 7))
    assert by_hand == WMT.n_architectures == IWSLT.n_architectures
    assert f"{by_hand:.3g}" == "4.18e+14"


def test_a_small_space_counts_what_sampling_finds() -> None:
    space = SearchSpace.from_dict(TINY)
    assert space.n_architectures == 2 * 2 * (2 + 2**3)
    assert len(set(space.sample(4000))) == space.n_architectures


def test_a_space_beyond_the_counter_says_so() -> None:
    with pytest.raises(SpaceError, match="beyond the counter"):
        _ = described(decoder_layers=[1024]).n_architectures


@pytest.mark.parametrize("name", NAMES)
def test_averaged_features_equal_the_slow_ones(name: str) -> None:
    space = SPACES[name]
    sample = space.sample(500, seed=1)
    features = space.features(sample)
    assert features.dtype == np.float32
    assert features.shape == (500, 10)
    slow = np.array([slow_features(a, space.largest) for a in sample])
    np.testing.assert_allclose(features, slow, rtol=3e-7)


def test_wmt_features_are_divided_by_the_numbers_of_the_paper() -> None:
    largest = [640, 6, 3072, 8, 640, 6, 3072, 8, 8, 3]
    assert list(WMT.largest.values()) == largest
    a = Architecture(512, (1024,) * 6, (4,) * 6, 640, (1024, 3072), (4, 8), (8, 8), (1, 2))
    expected = [512 / 640, 1, 1 / 3, 0.5, 1, 2 / 6, 2 / 3, 0.75, 1, 0.5]
    np.testing.assert_allclose(WMT.features([a])[0], expected, rtol=1e-7)


@pytest.mark.parametrize("space", [WMT, IWSLT, SearchSpace.from_dict(TINY)])
def test_per_layer_features_equal_the_slow_ones(space: SearchSpace) -> None:
    sample = space.sample(200, seed=2)
    features = space.features(sample, "per-layer")
    assert features.shape == (200, space.core.n_genes)
    np.testing.assert_allclose(features, [slow_per_layer(a, space) for a in sample], rtol=3e-7)


def test_features_do_not_depend_on_the_order_of_layers_but_per_layer_ones_do() -> None:
    one = Architecture(512, (1024,) * 6, (4,) * 6, 512, (1024, 3072), (4, 8), (8, 4), (1, 3))
    other = Architecture(512, (1024,) * 6, (4,) * 6, 512, (3072, 1024), (8, 4), (4, 8), (3, 1))
    averaged, per_layer = WMT.features([one, other]), WMT.features([one, other], "per-layer")
    assert (averaged[0] == averaged[1]).all()
    assert (per_layer[0] != per_layer[1]).any()


def test_genomes_in_fortran_order_are_read_alike_or_refused() -> None:
    genomes = WMT.genomes(WMT.sample(30))
    try:
        architectures = WMT.architectures(np.asfortranarray(genomes))
    except ShapeError:
        return
    assert architectures == WMT.architectures(genomes)


def test_features_of_no_architectures_are_an_empty_table() -> None:
    assert WMT.features([]).shape == (0, 10)


def test_an_unknown_encoding_gets_the_list_of_encodings() -> None:
    with pytest.raises(ValueError, match="'averaged' or 'per-layer', got 'onehot'"):
        WMT.features(WMT.sample(1), "onehot")  # type: ignore[arg-type]


@given(st.integers(0, 2**64 - 1), st.sampled_from(NAMES))
def test_genomes_and_architectures_are_inverse(seed: int, name: str) -> None:
    space = SPACES[name]
    sample = space.sample(5, seed=seed)
    genomes = space.genomes(sample)
    assert genomes.dtype == np.uint8
    assert space.architectures(genomes) == sample
    assert (space.genomes(space.architectures(genomes)) == genomes).all()


def test_sampling_repeats_with_its_seed_and_changes_with_another() -> None:
    assert WMT.sample(50, seed=7) == WMT.sample(50, seed=7)
    assert WMT.sample(50, seed=7) != WMT.sample(50, seed=8)
    assert WMT.sample(0) == []


def test_sampling_is_uniform_per_gene_so_that_depth_is_uniform() -> None:
    n = 12000
    sample = WMT.sample(n, seed=3)
    layers = [span for a in sample for span in a.cross_span]
    columns = {
        "decoder_layers": [a.decoder_layers for a in sample],
        "encoder_dim": [a.encoder_dim for a in sample],
        "encoder_ffn": [a.encoder_ffn[5] for a in sample],
        "cross_span": layers,
    }
    for name, values in columns.items():
        options = WMT.options[name]
        for option in options:
            share = values.count(option) / len(values)
            spread = math.sqrt((1 / len(options)) / len(values))
            assert abs(share - 1 / len(options)) < 5 * spread, (name, option, share)


@pytest.mark.parametrize("name", NAMES)
def test_a_space_survives_its_description_in_json(name: str) -> None:
    space = SPACES[name]
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.sample(20, seed=4) == space.sample(20, seed=4)


def test_options_may_come_in_any_order_of_names() -> None:
    reordered = {**TINY, "options": dict(reversed(TINY["options"].items()))}
    assert SearchSpace.from_dict(reordered) == SearchSpace.from_dict(TINY)
    assert list(SearchSpace.from_dict(reordered).options) == list(WMT.options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_dim": 600}, r"`encoder_dim` is 600, which is not one of \[512, 640\]"),
        ({"decoder_ffn": (1024, 4096)}, r"`decoder_ffn` of layer 1 is 4096.*\[1024, 2048, 3072\]"),
        ({"cross_span": (4, 1)}, r"`cross_span` of layer 0 is 4.*\[1, 2, 3\]"),
        ({"decoder_heads": (8, 2)}, r"`decoder_heads` of layer 1 is 2.*\[4, 8\]"),
        ({"encoder_ffn": (1024,), "encoder_heads": (4,)}, r"`encoder_layers` is 1.*\[6\]"),
    ],
)
def test_an_architecture_outside_the_space_is_told_by_gene_and_options(
    changes: dict[str, Any], words: str
) -> None:
    fields: dict[str, Any] = {
        "encoder_dim": 512,
        "encoder_ffn": (1024,) * 6,
        "encoder_heads": (4,) * 6,
        "decoder_dim": 512,
        "decoder_ffn": (1024, 1024),
        "decoder_heads": (4, 4),
        "cross_heads": (4, 4),
        "cross_span": (1, 1),
    }
    assert len(WMT.features([Architecture(**fields)])) == 1
    with pytest.raises(SpaceError, match=words):
        WMT.features([Architecture(**fields), Architecture(**{**fields, **changes})])


@pytest.mark.parametrize("key", TINY)
def test_a_description_with_a_missing_key_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="exactly the keys name, qkv_dim, options"):
        SearchSpace.from_dict({name: value for name, value in TINY.items() if name != key})


@pytest.mark.parametrize("options", [{}, {"encoder_dim": [1]}, {**TINY["options"], "dropout": [1]}])
def test_options_need_exactly_the_ten_hyperparameters(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="options for exactly.*encoder_dim.*cross_span"):
        SearchSpace.from_dict({**TINY, "options": options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder_ffn": []}, "`encoder_ffn` needs 1 to 256 distinct options"),
        ({"encoder_ffn": [64, 64]}, "`encoder_ffn` needs 1 to 256 distinct options"),
        ({"encoder_ffn": list(range(1, 300))}, "`encoder_ffn` needs 1 to 256 distinct options"),
        ({"encoder_ffn": [0]}, r"encoder_ffn\[0\] must be a positive integer"),
        ({"decoder_layers": [1, 1025]}, "`decoder_layers` counts layers"),
        ({"decoder_layers": [2000]}, "`decoder_layers` counts layers"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises((SpaceError, InputError), match=words):
        described(**options)


@pytest.mark.parametrize(
    "values", [[0, 512], [-1, 512], [1.5, 512], ["a"], "512", 512, [True], [None], [2**33]]
)
def test_options_that_are_no_positive_integers_are_refused(values: Any) -> None:
    with pytest.raises((SpaceError, InputError), match="encoder_dim"):
        described(encoder_dim=values)


@pytest.mark.parametrize("width", [0, -3, "abc", 1.5, None])
def test_a_bad_qkv_dim_is_refused(width: Any) -> None:
    with pytest.raises((SpaceError, InputError), match="qkv_dim"):
        SearchSpace.from_dict({**TINY, "qkv_dim": width})
