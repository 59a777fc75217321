"""Scores by a supernet: those of a slow twin, and kept on disk."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from llmpp import Architecture, InputError, PredictorError, SpaceError, supernet_predictor, walk  # noqa: E402
from llmpp.calibration import Calibrated, Line, calibrate  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.mixture import KINDS, Kind, Mixture  # noqa: E402
from llmpp.network import affine  # noqa: E402
from llmpp.score_store import Score, ScoreStore, Setting  # noqa: E402
from llmpp.scoring_race import Race  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.supernet_predictor import SupernetPredictor  # noqa: E402
from llmpp.translation import Quality, Translator  # noqa: E402
from llmpp.validation import ScoringSet, sentence_losses  # noqa: E402
from small_networks import DEVICES, slow_loss  # noqa: E402
from toy_training import ONE, SPACE, prepare_short, toy_supernet  # noqa: E402

SAMPLE = SPACE.sample(24, seed=5)


pytestmark = pytest.mark.usefixtures("one_thread")


def slow_score(net: SuperTransformer, corpus: Corpus, architecture: Architecture) -> float:
    """One sentence pair after the other, by the definition of the loss."""
    loss, n_tokens, model = 0.0, 0, net.extract(architecture)
    for batch in corpus.batches("valid", max_tokens=30):
        source, target_in, target_out = batch.tensors()
        for row in range(len(source)):
            with torch.no_grad():
                logits = model(source[row : row + 1], target_in[row : row + 1])[0]
            loss += float(slow_loss(logits.double(), target_out[row]))
        n_tokens += batch.n_target_tokens
    return -loss / n_tokens


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_a_slow_twin(kind: Kind, device: str, corpus: Corpus, tmp_path: Path) -> None:
    net = toy_supernet(tmp_path / "net.safetensors", corpus, mixture=Mixture(kind=kind, router_width=8))
    predictor = SupernetPredictor(tmp_path / "net.safetensors", corpus, device=device)
    sample = SAMPLE[:7]
    scores = predictor.predict([*sample, sample[0]])
    expected = [slow_score(net, corpus, architecture) for architecture in sample]
    np.testing.assert_allclose(scores, [*expected, expected[0]], rtol=2e-6)
    assert scores.dtype == np.float64
    assert len(np.unique(scores)) == 7
    assert predictor.usage.n_evaluations == 7
    n_tokens = int(corpus.pairs["valid"].lengths[:, 1].sum())
    assert predictor.usage.n_target_tokens == 7 * n_tokens


def test_what_networks_share_is_computed_once_and_changes_no_number(corpus: Corpus, tmp_path: Path) -> None:
    net = toy_supernet(tmp_path / "net.safetensors", corpus)
    scoring = ScoringSet.of(corpus.pairs["valid"], torch.device("cpu"))
    sample = [*SAMPLE, replace(SAMPLE[0], cross_heads=SAMPLE[0].cross_heads[::-1])]
    with torch.inference_mode():
        networks = [net.network(architecture) for architecture in sample]
        together = sentence_losses(networks, scoring.batches, 60)
        alone = [sentence_losses([network], scoring.batches, 60)[0] for network in networks]
    assert torch.equal(together, torch.stack(alone))
    done = computed(networks, scoring.batches[:1])
    assert done["encoder_attention"] == len({path for a in sample for path in encoder_attentions(a)})
    assert done["first_decoder_attention"] == len({(a.decoder_dim, a.decoder_heads[0]) for a in sample})
    assert done["keys_values"] == len({pair for a in sample for pair in keys_values(a)})
    assert done["keys_values"] < sum(len(keys_values(a)) for a in sample)


def computed(networks: list[Any], batches: Any) -> dict[str, int]:
    """How often parts of networks are computed on a batch."""
    counts = dict.fromkeys(("encoder_attention", "first_decoder_attention", "keys_values"), 0)
    cls = type(networks[0])
    first = {id(network.decoder.layers[0].attention) for network in networks}
    encoder, decoder, keys = cls.encoder_attention, cls.decoder_attention, affine

    def count_encoder(self: Any, *given: Any) -> Any:
        counts["encoder_attention"] += 1
        return encoder(self, *given)

    def count_decoder(self: Any, x: Any, layer: Any) -> Any:
        counts["first_decoder_attention"] += id(layer.attention) in first
        return decoder(self, x, layer)

    def count_keys(*given: Any) -> Any:
        counts["keys_values"] += 1
        return keys(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "encoder_attention", count_encoder)
        patch.setattr(cls, "decoder_attention", count_decoder)
        patch.setattr(walk, "affine", count_keys)
        sentence_losses(networks, batches, 60)
    return counts


def encoder_prefix(a: Architecture, n: int) -> tuple[Any, ...]:
    return (a.encoder_dim, a.encoder_ffn[:n], a.encoder_heads[:n])


def encoder_attentions(a: Architecture) -> set[tuple[Any, ...]]:
    """What tells the attentions of an encoder from others."""
    return {(encoder_prefix(a, n), a.encoder_heads[n]) for n in range(a.encoder_layers)}


def keys_values(a: Architecture) -> set[tuple[Any, ...]]:
    """Which layers look at which outputs of the encoder; the toy space has two encoder layers at most."""
    slots = [1, 2] if a.encoder_layers == 2 else [1, 1]
    spans = enumerate(a.cross_span)
    return {(encoder_prefix(a, slot), layer) for layer, span in spans for slot in slots[-span:]}


def test_scores_do_not_depend_on_the_number_of_threads(
    corpus: Corpus, checkpoint: Path, tmp_path: Path
) -> None:
    scores = [
        SupernetPredictor(checkpoint, corpus, cache=tmp_path / f"{n}.sqlite", n_threads=n).predict(SAMPLE)
        for n in (1, 3)
    ]
    assert scores[0].tolist() == scores[1].tolist()
    assert torch.get_num_threads() == 1


def test_an_error_on_a_thread_comes_through(corpus: Corpus, tmp_path: Path) -> None:
    toy_supernet(tmp_path / "net.safetensors", corpus)
    predictor = SupernetPredictor(tmp_path / "net.safetensors", corpus, n_threads=2)
    predictor.net.encoder_positions = predictor.net.encoder_positions[:3]
    with pytest.raises(InputError, match="positions end at 2"):
        predictor.predict([ONE])
    assert torch.get_num_threads() == 1


def test_scores_survive_a_restart(corpus: Corpus, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SupernetPredictor(checkpoint, corpus)
    scores = first.predict(SAMPLE)
    monkeypatch.setattr(supernet_predictor, "sentence_losses", lambda *_: pytest.fail("it scores again"))
    second = SupernetPredictor(str(checkpoint), corpus.path)
    assert second.predict(SAMPLE[::-1]).tolist() == scores[::-1].tolist()
    assert (second.usage.n_evaluations, second.usage.n_cached) == (0, len(set(SAMPLE)))
    assert second.usage.to_dict()["n_cached"] == len(set(SAMPLE))


def test_a_run_that_is_killed_keeps_what_it_scored(
    corpus: Corpus, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernet_predictor, "_GROUP", 4)
    real, calls = sentence_losses, []

    def killed(*given: Any) -> Any:
        calls.append(len(given[0]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(supernet_predictor, "sentence_losses", killed)
    predictor = SupernetPredictor(checkpoint, corpus)
    sample = list(dict.fromkeys(SAMPLE))[:11]
    with pytest.raises(KeyboardInterrupt):
        predictor.predict(sample)
    again = SupernetPredictor(checkpoint, corpus)
    again.predict(sample)
    assert calls == [4, 4, 3, 3]
    assert (again.usage.n_evaluations, again.usage.n_cached) == (3, 8)


def test_other_weights_another_corpus_or_precision_are_other_scores(
    corpus: Corpus, checkpoint: Path, tmp_path: Path
) -> None:
    SupernetPredictor(checkpoint, corpus).predict([ONE])
    toy_supernet(tmp_path / "other.safetensors", corpus, seed=1)
    others = [
        SupernetPredictor(tmp_path / "other.safetensors", corpus),
        SupernetPredictor(checkpoint, Corpus.load(prepare_short(tmp_path, 80, (300, 20, 10)))),
        SupernetPredictor(checkpoint, corpus, precision="bf16"),
        SupernetPredictor(checkpoint, corpus, subset="test"),
    ]
    found = [other.predict([ONE])[0] for other in others]
    assert [other.usage.n_cached for other in others] == [0, 0, 0, 0]
    own = SupernetPredictor(checkpoint, corpus).predict([ONE])[0]
    assert own not in found
    assert found[2] == pytest.approx(own, rel=0.02)


def test_bleu_is_that_of_the_extracted_network(corpus: Corpus, checkpoint: Path) -> None:
    predictor = SupernetPredictor(checkpoint, corpus, metric="bleu", subset="test")
    (score,) = predictor.predict([ONE])
    translator = Translator(SuperTransformer.load(checkpoint).extract(ONE), corpus.subwords)
    expected = Quality.of(translator.translate(corpus.sources("test")), corpus.references("test"))
    assert score == expected.bleu
    assert SupernetPredictor(checkpoint, corpus, metric="bleu", subset="test").predict([ONE])[0] == score


def test_what_does_not_match_is_refused(corpus: Corpus, checkpoint: Path, tmp_path: Path) -> None:
    smaller = Corpus.load(prepare_short(tmp_path, 70, (300, 20, 10)))
    with pytest.raises(InputError, match="was trained on 80 subwords, but the vocabulary has 70"):
        SupernetPredictor(checkpoint, smaller)
    shutil.copy(checkpoint, tmp_path / "model.safetensors")
    text = (corpus.path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text + " ")
    with pytest.raises(InputError, match="different vocabularies of one size"):
        SupernetPredictor(tmp_path, corpus)
    predictor = SupernetPredictor(checkpoint, corpus)
    with pytest.raises(SpaceError, match="24"):
        predictor.predict([ONE, replace(ONE, encoder_dim=24)])
    with pytest.raises(InputError, match="`metric` 'speed'; known: loss, bleu"):
        SupernetPredictor(checkpoint, corpus, metric="speed")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown set 'dev'"):
        SupernetPredictor(checkpoint, corpus, subset="dev")
    with pytest.raises(InputError, match="`device` is 'cuda:9'"):
        SupernetPredictor(checkpoint, corpus, device="cuda:9")
    with pytest.raises(InputError, match="there is no model"):
        SupernetPredictor(tmp_path / "nothing", corpus)
    with pytest.raises(InputError, match="a race compares losses"):
        SupernetPredictor(checkpoint, corpus, metric="bleu", race=Race())


def test_a_store_that_is_none_is_left_alone(corpus: Corpus, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(InputError, match="is no store of scores"):
        ScoreStore(path)
    (tmp_path / "text").write_text("precious" * 200)
    with pytest.raises(InputError, match="cannot use the store of scores"):
        ScoreStore(tmp_path / "text")
    store = ScoreStore(tmp_path / "new.sqlite")
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="newer version"):
        ScoreStore(store.path)


def test_the_first_score_of_a_key_stays(tmp_path: Path) -> None:
    store, setting = ScoreStore(tmp_path / "scores.sqlite"), Setting("a", "b", {"metric": "loss"})
    key = setting.key(ONE)
    losses = np.array([1.5, 2.5], np.float32)
    store.put(setting, [(key, ONE, Score(-1.0, losses=losses, seconds=2.0))])
    store.put(setting, [(key, ONE, Score(-9.0))])
    found = ScoreStore(store.path).get([key, "missing"])
    assert list(found) == [key]
    assert (found[key].score, found[key].is_exact, found[key].seconds) == (-1.0, True, 2.0)
    assert np.array_equal(found[key].losses, losses)  # type: ignore[arg-type]


def test_a_supernet_that_diverged_says_so(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    net = toy_supernet(path, corpus)
    with torch.no_grad():
        net.embedding.fill_(1e30)
    net.save(path)
    for race in (None, Race(n_parents=1)):
        predictor = SupernetPredictor(path, corpus, race=race, cache=tmp_path / "scores.sqlite")
        with pytest.raises(PredictorError, match="has a loss that is not finite, for Architecture"):
            predictor.predict(SAMPLE)


def test_a_line_through_demonstrations_turns_scores_into_bleu(corpus: Corpus, checkpoint: Path) -> None:
    line = calibrate([-3.0, -2.5, -2.0], [25.0, 28.0, 31.0])
    assert (line.slope, line.intercept) == pytest.approx((6.0, 43.0))
    predictor = SupernetPredictor(checkpoint, corpus)
    calibrated = Calibrated(predictor, line)
    np.testing.assert_allclose(calibrated.predict([ONE]), 43 + 6 * predictor.predict([ONE]))
    assert (calibrated.name, calibrated.encoding) == ("supernet (calibrated)", "per-layer")
    assert calibrated.usage is predictor.usage
    assert (calibrated.notes, calibrated.keeps_scores) == (predictor.notes, True)
    assert calibrated.identity == f"{predictor.identity} {line}"
    assert calibrate([2.0, 2.0], [10.0, 20.0]) == Line(0.0, 15.0)
    for scores, bleus in (([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0])):
        with pytest.raises(InputError):
            calibrate(scores, bleus)


def test_scores_that_a_full_disk_cannot_hold_are_not_given(
    corpus: Corpus, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = SupernetPredictor(checkpoint, corpus, cache=tmp_path / "scores.sqlite")
    predictor.predict(SAMPLE[:2])
    connect = sqlite3.connect

    def full(*given: Any, **settings: Any) -> Any:
        connection = connect(*given, **settings)
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(InputError, match=r"cannot use the store of scores .*: database or disk is full"):
            predictor.predict(SAMPLE)
    again = SupernetPredictor(checkpoint, corpus, cache=tmp_path / "scores.sqlite")
    again.predict(SAMPLE)
    assert again.usage.n_cached == len(set(SAMPLE[:2]))
    assert again.usage.n_evaluations == len(set(SAMPLE)) - again.usage.n_cached


def test_what_kept_scores_had_taken_is_counted_apart(corpus: Corpus, checkpoint: Path) -> None:
    first, second = SupernetPredictor(checkpoint, corpus), SupernetPredictor(checkpoint, corpus)
    first.predict(SAMPLE)
    second.predict(SAMPLE)
    assert 0.5 * first.usage.seconds < second.usage.seconds_cached < first.usage.seconds
    assert first.usage.seconds_cached == 0


def test_what_scores_depend_on_is_told(corpus: Corpus, checkpoint: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"subset": "test"}, {"race": Race()}, {"race": Race(n_parents=3)}]
    identities = [SupernetPredictor(checkpoint, corpus, **change).identity for change in changes]
    assert len(set(identities)) == 4
    assert corpus.hash in identities[0]
    assert SupernetPredictor(checkpoint, corpus, n_threads=2).identity == identities[0]
