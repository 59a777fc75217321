"""Which architectures are measured."""

import numpy as np
import pytest

from llmpp import InputError, SearchSpace, SpaceError, Task, load_task
from llmpp.latency_model import LatencyTable, fit_shape
from llmpp.measuring.design_points import choose, reference_architecture
from llmpp.space import Floats

pytest.importorskip("scipy")

TASK = load_task("wmt14.en-de")
FIXED = {"encoder_dim": (32,), "encoder_layers": (2,), "encoder_ffn": (64,), "encoder_heads": (4,)}


def test_the_choice_is_the_same_every_time_and_another_for_another_seed() -> None:
    assert choose(TASK, 20, seed=3) == choose(TASK, 20, seed=3)
    assert set(choose(TASK, 40, seed=3)).isdisjoint(choose(TASK, 40, seed=4, design="random"))
    assert choose(TASK, 20, seed=3) != choose(TASK, 20, seed=4)


@pytest.mark.parametrize("design", ["informative", "random"])
def test_fewer_are_the_beginning_of_more_so_that_a_campaign_can_go_on(design: str) -> None:
    every = choose(TASK, 60, design=design)  # type: ignore[arg-type]
    assert len(set(every)) == 60
    assert choose(TASK, 25, design=design) == every[:25]  # type: ignore[arg-type]
    assert choose(TASK, 60, design=design, given=every[:25]) == every[25:]  # type: ignore[arg-type]
    assert choose(TASK, 20, design=design, given=every) == []  # type: ignore[arg-type]


def test_every_depth_has_its_turn_and_time_does_not_go_with_depth() -> None:
    depths = [a.decoder_layers for a in choose(TASK, 60)]
    for begin in range(0, 60, 6):
        assert sorted(depths[begin : begin + 6]) == [1, 2, 3, 4, 5, 6]
    assert abs(np.corrcoef(depths, np.arange(60))[0, 1]) < 0.15


def law(features: Floats) -> Floats:
    """A decoder bound by what it reads: matrices of the layers, and the output projection."""
    dim, layers, ffn = features[:, 4], features[:, 5], features[:, 6]
    return 150 * dim + 500 * layers * dim * (0.4 + ffn) + 40 * layers * features[:, 9]


def worst_error(design: str, seed: int) -> float:
    """The largest relative error on many architectures of a model fitted to 30 noisy measurements."""
    features = TASK.space.features(choose(TASK, 30, seed=seed, design=design)).astype(np.float64)  # type: ignore[arg-type]
    noise = np.random.RandomState(seed).normal(1, 0.02, (2, 30))
    table = LatencyTable(features, 60 * features[:, 0] * noise[0], law(features) * noise[1], np.full(10, 0.3))
    others = TASK.space.features(TASK.space.sample(3000, seed=99)).astype(np.float64)
    truth = 60 * others[:, 0] + law(others)
    return float(np.quantile(np.abs(fit_shape(table, "free").predict(others) / truth - 1), 0.95))


def test_chosen_architectures_teach_more_than_random_ones() -> None:
    chosen, random = (
        np.mean([worst_error(design, seed) for seed in range(3)]) for design in ("informative", "random")
    )
    assert chosen < 0.8 * random


def test_the_reference_is_in_the_middle_of_the_space() -> None:
    reference = reference_architecture(TASK)
    assert reference.decoder_layers == 4
    assert (reference.decoder_ffn, reference.cross_span) == ((2048,) * 4, (2,) * 4)
    assert TASK.space.genomes([reference]).shape[0] == 1


def narrow(**options: tuple[int, ...]) -> Task:
    """A task whose architectures differ in few things."""
    decoder = {"decoder_dim": (32,), "decoder_layers": (1,), "decoder_ffn": (64,)}
    rest = {"decoder_heads": (4,), "cross_heads": (4,), "cross_span": (1,)}
    return Task("narrow", SearchSpace("narrow", {**FIXED, **decoder, **rest, **options}, 32), 50, 6)


def test_a_small_space_is_measured_as_a_whole_but_not_more() -> None:
    task = narrow(decoder_dim=(32, 64), decoder_layers=(1, 2, 3))
    assert len(set(choose(task, 6))) == 6
    with pytest.raises(InputError, match="of narrow at most 6 architectures can be chosen, not 7: measure f"):
        choose(task, 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n": 0}, "`n` must be an integer in 1..1000000, got 0"),
        ({"n": 10**5}, "at most [0-9]+ architectures can be chosen, not 100000"),
        ({"n": 5, "design": "best"}, "unknown design 'best'; known: informative, random"),
        ({"n": 5, "seed": -1}, "`seed` must be an integer"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose(TASK, **arguments)  # type: ignore[arg-type]


def test_given_architectures_of_another_space_are_refused() -> None:
    with pytest.raises(SpaceError):
        choose(TASK, 5, given=load_task("iwslt14.de-en").space.sample(2))
