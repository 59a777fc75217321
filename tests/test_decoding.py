"""Translating: steps on the cache, and beam search against readable twins."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from llmpp import Architecture, InputError, decoding  # noqa: E402
from llmpp.decoding import beam_search, start, step  # noqa: E402
from llmpp.special_tokens import EOS, PAD  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import DEVICES, SPACE, VOCABULARY, apart, sentences, small  # noqa: E402

ONE = Architecture(12, (8, 24), (2, 4), 16, (12, 8), (4, 1), (2, 4), (3, 2))
SOURCE = sentences([9, 5, 3])

#: What a readable search finds: the tokens with their end, and the score.
Found = list[tuple[tuple[int, ...], float]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def n_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of sentences in each step that is made."""
    counts: list[int] = []

    def counted(network: Any, tokens: Any, cache: Any) -> Any:
        counts.append(len(tokens))
        return step(network, tokens, cache)

    monkeypatch.setattr(decoding, "step", counted)
    return counts


def last_norm(model: Transformer) -> Any:
    """The norm whose output the logits are made of."""
    return model.get_submodule("decoder.1.feed_forward_norm")


def teacher_forced(model: Transformer, source: Any, prefixes: Any) -> Any:
    """Logits after each token of prefixes `(sentences, beams, length)`, all at once."""
    n, beams, length = prefixes.shape
    repeated = source.repeat_interleave(beams, 0)
    return model(repeated, prefixes.view(n * beams, length)).view(n, beams, length, -1)


def log_probabilities(model: Transformer, source: Any, prefix: tuple[int, ...]) -> list[float]:
    """Of the token after a prefix, for one sentence `(1, length)`; never padding."""
    logits = model(source, torch.tensor([[EOS, *prefix]]))[0, -1]
    values: list[float] = torch.log_softmax(logits.detach(), 0).tolist()
    values[PAD] = -math.inf
    return values


def all_translations(model: Transformer, source: Any, max_length: int, penalty: float) -> Found:
    """Every translation up to a length, best first."""
    found: Found = []
    words = [word for word in range(model.sizes.vocabulary) if word not in (PAD, EOS)]
    for length in range(max_length):
        for prefix in itertools.product(words, repeat=length):
            target = torch.tensor([[EOS, *prefix]])
            table = torch.log_softmax(model(source, target)[0].detach(), 1)
            total = sum(float(table[i, word]) for i, word in enumerate((*prefix, EOS)))
            found.append(((*prefix, EOS), total / (length + 1) ** penalty))
    return sorted(found, key=lambda one: -one[1])


def slow_beam_search(
    model: Transformer,
    source: Any,
    n_beams: int,
    *,
    min_length: int = 1,
    max_length: int,
    penalty: float,
) -> Found:
    """Beam search as one would write it down, with the whole prefix decoded again at each step."""
    ended: Found = []
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for length in range(1, max_length + 1):
        candidates = []
        for prefix, total in beams:
            for word, value in enumerate(log_probabilities(model, source, prefix)):
                is_allowed = length >= min_length if word == EOS else length < max_length and word != PAD
                if is_allowed:
                    candidates.append(((*prefix, word), total + value))
        candidates.sort(key=lambda one: -one[1])
        ended += [(t, s / length**penalty) for t, s in candidates[:n_beams] if t[-1] == EOS]
        if len(ended) >= n_beams:
            break
        beams = [one for one in candidates if one[0][-1] != EOS][:n_beams]
    return sorted(ended, key=lambda one: -one[1])


def of_sentence(translations: Any, row: int) -> Found:
    """What beam search found for a sentence, without the places where it found nothing."""
    found: Found = []
    for tokens, score in zip(
        translations.tokens[row].tolist(), translations.scores[row].tolist(), strict=True
    ):
        if score == -math.inf:
            assert set(tokens) <= {PAD}
            continue
        n = tokens.index(EOS) + 1
        assert set(tokens[n:]) <= {PAD}
        assert PAD not in tokens[:n]
        found.append((tuple(tokens[:n]), score))
    return found


def assert_alike(found: Found, expected: Found) -> None:
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("architecture", SPACE.sample(12, seed=3))
@pytest.mark.parametrize("device", DEVICES)
def test_step_by_step_logits_are_those_of_all_steps_at_once(architecture: Architecture, device: str) -> None:
    model, source = small(architecture).to(device), SOURCE.to(device)
    prefixes = sentences([7] * 6, seed=5).view(3, 2, 7).to(device)
    expected, network = teacher_forced(model, source, prefixes), model.network()
    cache = start(network, network.encode(source), n_beams=2)
    for place in range(7):
        logits, cache = step(network, prefixes[:, :, place], cache)
        assert logits.shape == (3, 2, VOCABULARY)
        assert apart(logits, expected[:, :, place]) < 1e-5
        assert cache.length == place + 1


def test_beams_that_change_places_take_their_past_along() -> None:
    model = small(ONE)
    network = model.network()
    prefixes, order = (
        sentences([6] * 9, seed=5).view(3, 3, 6),
        torch.tensor([[2, 2, 0], [1, 0, 2], [0, 0, 0]]),
    )
    cache = start(network, network.encode(SOURCE), n_beams=3)
    for place in range(4):
        _, cache = step(network, prefixes[:, :, place], cache)
    cache = cache.reorder((order + torch.tensor([[0], [3], [6]])).flatten())
    moved = prefixes.gather(1, order[..., None].expand(-1, -1, 6))
    logits, _ = step(network, moved[:, :, 4], cache)
    assert apart(logits, teacher_forced(model, SOURCE, moved)[:, :, 4]) < 1e-5


def test_a_step_leaves_the_cache_before_it_as_it_was() -> None:
    network = small(ONE).network()
    tokens = torch.tensor([[EOS], [EOS], [EOS]])
    cache = start(network, network.encode(SOURCE))
    _, once = step(network, tokens, cache)
    first, _ = step(network, tokens + 5, once)
    again, _ = step(network, tokens + 5, once)
    assert (cache.length, once.length) == (0, 1)
    assert torch.equal(first, again)


def test_sentences_that_are_kept_do_not_notice_the_others_leave() -> None:
    network = small(ONE).network()
    cache, kept = start(network, network.encode(SOURCE), n_beams=2), torch.tensor([2, 0])
    tokens = torch.tensor([[4, 5], [6, 7], [8, 9]])
    _, cache = step(network, tokens, cache)
    fewer = cache.keep(kept).reorder(torch.tensor([4, 5, 0, 1]))
    all_of_them, _ = step(network, tokens, cache)
    some, _ = step(network, tokens[kept], fewer)
    assert apart(some, all_of_them[kept]) < 1e-5


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_room_for_all_beams_the_search_finds_the_best_translations_there_are(
    penalty: float, seed: int
) -> None:
    model = small(ONE, seed=seed, vocabulary=6)
    source = sentences([4, 2], seed=seed, vocabulary=6)
    found = beam_search(model, source, n_beams=100, n_best=5, max_length=4, length_penalty=penalty)
    for row, length in enumerate([4, 2]):
        assert_alike(
            of_sentence(found, row), all_translations(model, source[row : row + 1, :length], 4, penalty)[:5]
        )


@pytest.mark.parametrize("n_beams", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_what_a_slow_one_finds(n_beams: int, seed: int) -> None:
    vocabulary, min_length, max_length = 8 + seed, 1 + seed % 3, 7
    model = small(ONE, seed=seed, vocabulary=vocabulary)
    source = sentences([5, 3, 4], seed=seed, vocabulary=vocabulary)
    settings: dict[str, Any] = {"min_length": min_length, "max_length": max_length}
    found = beam_search(model, source, n_beams=n_beams, length_penalty=0.6, **settings)
    for row, length in enumerate([5, 3, 4]):
        alone = source[row : row + 1, :length]
        assert_alike(
            of_sentence(found, row), slow_beam_search(model, alone, n_beams, penalty=0.6, **settings)[:1]
        )


@pytest.mark.parametrize("seed", range(4))
def test_all_that_a_slow_search_collects_is_found_in_its_order(seed: int) -> None:
    # A penalty this high makes the longest promising, so that the search never ends before the slow one.
    model, source = small(ONE, seed=seed, vocabulary=9), sentences([4], seed=seed, vocabulary=9)
    found = beam_search(model, source, n_beams=3, n_best=3, max_length=6, length_penalty=9)
    assert_alike(of_sentence(found, 0), slow_beam_search(model, source, 3, max_length=6, penalty=9)[:3])


def test_one_beam_is_greedy() -> None:
    model = small(ONE, seed=2)
    found = beam_search(model, SOURCE, n_beams=1, max_length=12)
    for row, length in enumerate([9, 5, 3]):
        prefix: tuple[int, ...] = ()
        while prefix[-1:] != (EOS,) and len(prefix) < 11:
            values = log_probabilities(model, SOURCE[row : row + 1, :length], prefix)
            prefix += (values.index(max(values)),)
        (tokens, _) = of_sentence(found, row)[0]
        assert tokens == (prefix if prefix[-1] == EOS else (*prefix, EOS))


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_translated_as_its_sentences_are_one_by_one(device: str) -> None:
    lengths = [3, 12, 7, 1, 9, 2]
    source = sentences(lengths, seed=3)
    model = small(ONE, seed=1)
    together = beam_search(model.to(device), source.to(device), n_beams=3, n_best=2)
    assert together.tokens.device.type == device
    n_tokens = set()
    for row, length in enumerate(lengths):
        alone = beam_search(model, source[row : row + 1, :length].to(device), n_beams=3, n_best=2)
        assert_alike(of_sentence(together, row), of_sentence(alone, 0))
        n_tokens.add(len(of_sentence(alone, 0)[0][0]))
    assert len(n_tokens) > 1


def test_a_translation_ends_once_and_only_padding_follows() -> None:
    found = beam_search(small(ONE, seed=1), sentences([8, 2, 5, 11], seed=4), n_beams=4, n_best=4)
    assert found.tokens.dtype == torch.int64
    lengths = [len(tokens) for row in range(4) for tokens, _ in of_sentence(found, row)]
    assert max(lengths) == found.tokens.shape[2]
    scores = found.scores
    assert (scores[:, :-1] >= scores[:, 1:]).all()


def test_by_default_a_translation_has_up_to_twice_its_sources_tokens_and_ten_more() -> None:
    model = small(ONE)
    with torch.no_grad():
        model.embedding[EOS] = 0
        model.embedding[7] *= 20
        last_norm(model).bias.copy_(model.embedding[7, :16].sign())
    lengths = [6, 2]
    found = beam_search(model, sentences(lengths, vocabulary=7), n_beams=1)
    assert [len(of_sentence(found, row)[0][0]) for row in (0, 1)] == [2 * n + 10 for n in lengths]


@pytest.mark.parametrize("n_beams", [1, 5])
def test_equal_bounds_make_exactly_so_many_steps(n_beams: int, n_steps: list[int]) -> None:
    found = beam_search(small(ONE), SOURCE[:1], n_beams=n_beams, min_length=30, max_length=30)
    assert n_steps == [1] * 30
    assert found.tokens.shape == (1, 1, 30)
    assert (found.tokens == EOS).sum() == 1


def test_sentences_that_are_done_cost_no_further_steps(n_steps: list[int]) -> None:
    source = sentences([3, 12, 7, 1, 9, 2], seed=3)
    found = beam_search(small(ONE, seed=1), source, n_beams=1)
    lengths = [len(of_sentence(found, row)[0][0]) for row in range(6)]
    assert n_steps == [sum(n > place for n in lengths) for place in range(max(lengths))]


def test_a_search_ends_when_nothing_that_goes_on_can_get_better(n_steps: list[int]) -> None:
    model = small(ONE)
    with torch.no_grad():
        last_norm(model).weight.zero_()
        last_norm(model).bias.copy_(2 * model.embedding[EOS])
    found = beam_search(model, SOURCE, n_beams=4, max_length=30, length_penalty=0)
    assert [tokens for row in range(3) for tokens, _ in of_sentence(found, row)] == [(EOS,)] * 3
    assert n_steps == [3]


def test_the_second_best_is_waited_for_when_the_best_is_certain() -> None:
    model, source = small(ONE, vocabulary=6), sentences([4], vocabulary=6)
    with torch.no_grad():
        last_norm(model).weight.mul_(0.3)
        last_norm(model).bias.copy_(0.3 * model.embedding[EOS])
    expected = all_translations(model, source, 4, 0)[:3]
    assert expected[0][0] == (EOS,)
    assert expected[0][1] > math.log(0.5)
    found = beam_search(model, source, n_beams=100, n_best=3, max_length=4, length_penalty=0)
    assert_alike(of_sentence(found, 0), expected)


def test_fewer_translations_than_asked_for_leave_padding() -> None:
    found = beam_search(small(ONE), SOURCE, n_beams=3, n_best=3, max_length=1)
    assert found.tokens.tolist() == [[[EOS], [PAD], [PAD]]] * 3
    assert (found.scores[:, 0] < 0).all()
    assert (found.scores[:, 1:] == -math.inf).all()


def test_no_sentences_have_no_translations() -> None:
    found = beam_search(small(ONE), SOURCE[:0], n_beams=3, n_best=2)
    assert found.tokens.shape[:2] == found.scores.shape == (0, 2)


def test_the_end_may_be_another_token() -> None:
    found = beam_search(small(ONE), SOURCE[:1], n_beams=2, max_length=5, end=9)
    tokens = found.tokens[0, 0].tolist()
    assert tokens.index(9) == len([token for token in tokens if token != PAD]) - 1


def test_translating_is_repeatable_and_leaves_dropout_off() -> None:
    model = Transformer(ONE, vocabulary=VOCABULARY, qkv_dim=16, n_encoder_slots=3, dropout=0.5)
    found = [beam_search(model, SOURCE, max_length=8) for _ in range(2)]
    assert torch.equal(found[0].tokens, found[1].tokens)
    assert torch.equal(found[0].scores, found[1].scores)
    assert model.training


def test_bfloat16_translates_too() -> None:
    found = beam_search(small(ONE).bfloat16(), SOURCE, n_beams=3, max_length=9)
    assert found.scores.dtype == torch.float32
    assert all(of_sentence(found, row) for row in range(3))


def test_a_network_that_diverged_ends() -> None:
    model = small(ONE)
    with torch.no_grad():
        model.embedding.fill_(math.nan)
    assert beam_search(model, SOURCE, max_length=6).tokens.shape[:2] == (3, 1)


def spare_position(model: Transformer) -> None:
    network = model.network()
    cache = start(network, network.encode(SOURCE))
    for _ in range(41):
        _, cache = step(network, torch.full((3, 1), 5), cache)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_beams": 0}, "`n_beams` must be an integer in 1..1024, got 0"),
        ({"n_beams": 2, "n_best": 3}, "`n_best` must be an integer in 1..2, got 3"),
        ({"min_length": 5, "max_length": 4}, "`max_length` must be an integer in 5..40, got 4"),
        ({"max_length": 41}, "`max_length` must be an integer in 1..40, got 41"),
        ({"length_penalty": -1}, r"`length_penalty` must be in \[0, 10\], got -1"),
        ({"end": VOCABULARY}, "`end` must be an integer in 0..22, got 23"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        beam_search(small(ONE), SOURCE, **settings)


@pytest.mark.parametrize(
    "decode", [spare_position, lambda model: beam_search(model, sentences([41]))], ids=["step", "source"]
)
def test_more_tokens_than_positions_are_refused(decode: Callable[[Transformer], object]) -> None:
    with pytest.raises(InputError, match="41.*positions end at 40"):
        decode(small(ONE))
