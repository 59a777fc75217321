"""Races: the best are kept, whatever was kept before, and a race that is killed goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from llmpp import Architecture, InputError, supernet_predictor  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.scoring_race import Race, run_race  # noqa: E402
from llmpp.supernet_predictor import SupernetPredictor  # noqa: E402
from llmpp.validation import sentence_losses  # noqa: E402
from toy_training import SPACE  # noqa: E402

SAMPLE = SPACE.sample(24, seed=5)


pytestmark = pytest.mark.usefixtures("one_thread")


def made_up(n: int, n_sentences: int, seed: int, spread: float = 0.03) -> tuple[Any, Any]:
    """Losses of candidates whose differences are small against those of sentences."""
    draw = np.random.default_rng(seed)
    n_tokens = draw.integers(5, 40, n_sentences).astype(np.float64)
    hard = draw.gamma(9, 1 / 3, n_sentences)
    quality = np.sort(draw.normal(0, spread, n))
    noise = draw.normal(0, 0.15, (n, n_sentences))
    return (hard + quality[:, None] + noise) * n_tokens, n_tokens


@pytest.mark.parametrize("seed", range(20))
def test_a_race_keeps_the_parents_and_scores_far_fewer_tokens(seed: int) -> None:
    losses, n_tokens = made_up(100, 800, seed)
    race = Race(n_parents=25, seed=seed)
    blocks = race.blocks(800)
    n_scored = 0.0

    def evaluate(alive: NDArray[np.int64], number: int) -> Any:
        nonlocal n_scored
        n_scored += len(alive) * n_tokens[blocks[number]].sum()
        return losses[np.ix_(alive, blocks[number])]

    finish = run_race(evaluate, 100, blocks, n_tokens, race)
    exact = losses.sum(axis=1) / n_tokens.sum()
    true, found = (set(np.argsort(values)[:25].tolist()) for values in (exact, finish.losses))
    assert len(true & found) >= 24
    assert finish.is_exact.sum() >= 25
    np.testing.assert_allclose(finish.losses[finish.is_exact], exact[finish.is_exact], rtol=1e-12)
    dropped = ~finish.is_exact
    last = np.sort(finish.losses[finish.is_exact])[24]
    assert (finish.losses[dropped] > last).all()
    assert np.abs(finish.losses[dropped] - exact[dropped]).max() < 0.1
    assert n_scored < 0.7 * 100 * n_tokens.sum()


def test_blocks_hold_every_sentence_once() -> None:
    blocks = Race(n_blocks=8, seed=3).blocks(1014)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(1014))
    assert {len(block) for block in blocks} == {126, 127}
    assert [len(block) for block in Race(n_blocks=8).blocks(3)] == [1, 1, 1]


def test_few_candidates_are_all_scored_in_full() -> None:
    losses, n_tokens = made_up(5, 40, 0)
    race = Race(n_parents=5, n_blocks=4)
    blocks = race.blocks(40)
    finish = run_race(lambda alive, k: losses[np.ix_(alive, blocks[k])], 5, blocks, n_tokens, race)
    assert finish.is_exact.all()


def test_nobody_drops_out_after_one_sentence() -> None:
    losses, n_tokens = made_up(20, 40, 0)
    race = Race(n_parents=3, n_blocks=40, confidence=0.5)
    blocks = race.blocks(40)
    alive_at: list[int] = []

    def evaluate(alive: NDArray[np.int64], number: int) -> Any:
        alive_at.append(len(alive))
        return losses[np.ix_(alive, blocks[number])]

    finish = run_race(evaluate, 20, blocks, n_tokens, race)
    assert alive_at[:2] == [20, 20]
    assert 3 <= finish.is_exact.sum() < 20


def test_a_predictor_that_races_keeps_the_best_and_remembers_the_others(
    corpus: Corpus, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = list(dict.fromkeys(SAMPLE))
    exact = SupernetPredictor(checkpoint, corpus, cache=tmp_path / "exact.sqlite").predict(sample)
    race = Race(n_parents=4, n_blocks=6)
    racing = SupernetPredictor(checkpoint, corpus, race=race, cache=tmp_path / "raced.sqlite")
    scores = racing.predict(sample)
    best = np.argsort(-exact)[:4]
    assert set(np.argsort(-scores)[:4]) == set(best)
    np.testing.assert_allclose(scores[best], exact[best], rtol=1e-6)
    assert 0 < racing.usage.n_dropped <= len(sample) - 4
    n_tokens = int(corpus.pairs["valid"].lengths[:, 1].sum())
    assert racing.usage.n_target_tokens < len(sample) * n_tokens
    # The best of before are the rivals of the next, who are all worse and drop out early.
    n_before, others = racing.usage.n_target_tokens, _neighbours_of_the_worst(sample, exact)
    later = racing.predict(others)
    assert later.max() < np.sort(scores)[-4]
    assert racing.usage.n_target_tokens - n_before < 0.7 * len(others) * n_tokens
    monkeypatch.setattr(supernet_predictor, "sentence_losses", lambda *_: pytest.fail("it scores again"))
    again = SupernetPredictor(checkpoint, corpus, race=race, cache=tmp_path / "raced.sqlite")
    assert again.predict(sample).tolist() == scores.tolist()
    assert again.predict(others).tolist() == later.tolist()
    assert again.usage.n_evaluations == 0
    # In another search, they race among themselves.
    again.begin_search(4)
    with pytest.raises(pytest.fail.Exception, match="it scores again"):
        again.predict(others)


def test_what_a_race_answers_does_not_depend_on_what_is_kept(
    corpus: Corpus, checkpoint: Path, tmp_path: Path
) -> None:
    sample, race = list(dict.fromkeys(SAMPLE)), Race(n_parents=4, n_blocks=6)
    cold, warm = (
        SupernetPredictor(checkpoint, corpus, race=race, cache=tmp_path / name) for name in ("cold", "warm")
    )
    exact = SupernetPredictor(checkpoint, corpus).predict(sample).tolist()
    # Where all are wanted, all are scored in full.
    warm.begin_search(len(sample))
    assert warm.predict(sample[::2]).tolist() == pytest.approx(exact[::2], rel=1e-6)
    assert warm.usage.n_dropped == 0
    warm.begin_search(4)
    first = warm.predict(sample).tolist()
    assert first == cold.predict(sample).tolist()
    warm.begin_search(4)
    assert warm.predict(sample).tolist() == first
    assert warm.usage.n_dropped <= warm.usage.n_evaluations == len(sample)
    warm.begin_search(None)  # an exact search asks about a front, of which the best are only an end
    assert warm.predict(sample).tolist() == exact


def test_a_race_that_is_killed_loses_one_block(
    corpus: Corpus, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, race = list(dict.fromkeys(SAMPLE)), Race(n_parents=4, n_blocks=6)
    whole, killed, resumed = (
        SupernetPredictor(checkpoint, corpus, race=race, cache=tmp_path / name)
        for name in ("whole", "killed", "killed")
    )
    scores, calls, losses = whole.predict(sample), [], sentence_losses

    def killing(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return losses(*given)

    with monkeypatch.context() as patch:
        patch.setattr(supernet_predictor, "sentence_losses", killing)
        with pytest.raises(KeyboardInterrupt):
            killed.predict(sample)
    assert resumed.predict(sample).tolist() == scores.tolist()
    spent = [one.usage.n_target_tokens for one in (killed, resumed, whole)]
    assert spent[0] + spent[1] == spent[2]
    assert resumed.usage.n_cached == len(sample)
    assert resumed.usage.seconds_cached > 0


def _neighbours_of_the_worst(sample: list[Architecture], scores: Any) -> list[Architecture]:
    """Architectures that differ from the worst ones in a number of heads."""
    worst = [sample[i] for i in np.argsort(scores)[:8]]
    found = [replace(a, encoder_heads=tuple(3 - heads for heads in a.encoder_heads)) for a in worst]
    return [a for a in dict.fromkeys(found) if a not in sample]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_parents": 0}, "`n_parents`"), ({"confidence": 1}, "`confidence`"), ({"n_blocks": 0}, "`n_blocks`")],
)
def test_a_race_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Race(**settings)
