"""Training: it learns, as its recipe says, and leaves what its page says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")


from llmpp import Architecture, InputError, SpaceError  # noqa: E402
from llmpp.checkpoint import average  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.recipe import Recipe  # noqa: E402
from llmpp.scoring_race import Race  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.supernet_predictor import SupernetPredictor  # noqa: E402
from llmpp.train import train_architecture, train_supernet  # noqa: E402
from llmpp.trainee import Shared, Single  # noqa: E402
from llmpp.training_files import TrainingFiles  # noqa: E402
from llmpp.training_log import Progress, duration  # noqa: E402
from llmpp.training_loop import Training  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import DEVICES, slow_loss  # noqa: E402
from toy_training import MIXED, ONE, SPACE, brief, names, same, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_loss_falls_and_translations_become_right(tmp_path: Path, corpus: Corpus) -> None:
    recipe = Recipe(
        n_updates=300,
        n_warm_up=30,
        peak_rate=5e-3,
        max_tokens=512,
        valid_every=100,
        dropout=0,
        attention_dropout=0,
        n_beams=2,
    )
    seen: list[Progress] = []
    result = train(tmp_path / "run", corpus, recipe=recipe, report=seen.append)
    log = TrainingFiles(tmp_path / "run").log.lines()
    losses = [line["loss"] for line in log if line["kind"] == "validation"]
    assert losses == sorted(losses, reverse=True)
    assert result["valid_loss"] < 1
    assert seen[0].loss > 2.5
    assert result["valid"]["bleu"] > 60
    assert result["test"]["n_sentences"] == 30
    assert "tok:13a" in result["valid"]["bleu_signature"]
    assert [progress.update for progress in seen] == [50, 100, 150, 200, 250, 300]
    assert seen[-1].seconds_left == 0
    assert "tokens/s" in str(seen[0])


def test_a_training_leaves_what_its_page_says(tmp_path: Path, corpus: Corpus) -> None:
    result = train(tmp_path / "run", corpus)
    assert names(tmp_path / "run") == {
        *("training.json", "tokenizer.json", "log.jsonl", "result.json", "training.lock"),
        *("best.safetensors", "averaged.safetensors", "model.safetensors"),
    }
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (record["schema"], record["corpus"]) == ("llmpp.training/1", corpus.hash)
    assert Recipe.from_dict(record["recipe"]) == brief()
    assert record["subject"]["architecture"] == ONE.to_dict()
    model = Transformer.load(tmp_path / "run" / "model.safetensors")
    assert (model.sizes.n_encoder_slots, model.sizes.super_dims) == (2, (32, 32))
    assert result["n_params"] == model.n_params
    assert same(tmp_path / "run" / "model.safetensors", tmp_path / "run" / f"{result['chosen']}.safetensors")
    assert result["valid_loss"] == min(result["best_loss"], result["averaged_loss"])


def test_the_averaged_checkpoint_is_the_mean_of_the_last(tmp_path: Path, corpus: Corpus) -> None:
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(Transformer(ONE, vocabulary=20, qkv_dim=8))
        models[-1].save(tmp_path / f"{seed}.safetensors")
    average([tmp_path / f"{seed}.safetensors" for seed in range(3)], tmp_path / "mean.safetensors")
    mean = Transformer.load(tmp_path / "mean.safetensors")
    for name, parameter in mean.named_parameters():
        expected = torch.stack([dict(model.named_parameters())[name].double() for model in models]).mean(0)
        assert torch.equal(parameter, expected.float())


def test_only_the_last_validations_are_averaged(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    real = average

    def recorded(inputs: Any, output: Path) -> None:
        given.extend(path.stem for path in inputs)
        real(inputs, output)

    monkeypatch.setattr("llmpp.training_loop.average", recorded)
    train(tmp_path / "run", corpus)
    assert [int(name) for name in given] == [10, 12]


def test_the_sandwich_trains_the_largest_the_smallest_and_one_that_is_drawn() -> None:
    shared = Shared(SuperTransformer(SPACE, vocabulary=20), brief(rule="sandwich"))
    drawn = [shared.chosen(update) for update in range(1, 30)]
    ends = (SPACE.largest_architecture, SPACE.smallest_architecture)
    assert {tuple(architectures[1:]) for architectures in drawn} == {ends}
    assert len({architectures[0] for architectures in drawn}) > 20
    assert [shared.chosen(7), shared.chosen(3)] == [drawn[6], drawn[2]]
    uniform = Shared(shared.model, brief())
    assert [uniform.chosen(update) for update in range(1, 30)] == [[a[0]] for a in drawn]
    assert SPACE.largest_architecture == Architecture(
        32, (48,) * 2, (2,) * 2, 32, (48,) * 2, (2,) * 2, (2,) * 2, (2,) * 2
    )
    assert SPACE.smallest_architecture == Architecture(16, (16,), (1,), 16, (16,), (1,), (1,), (1,))


def test_a_supernet_is_judged_by_its_largest_its_smallest_and_others() -> None:
    judged = Shared(SuperTransformer(SPACE, vocabulary=20), brief(n_judged=3)).judged
    assert list(judged) == ["largest", "smallest", "drawn 1", "drawn 2", "drawn 3"]
    assert len(set(judged.values())) == 5


def gradients(
    trainee: Any, corpus: Corpus, directory: Path, n_batches: int, **settings: Any
) -> dict[str, Any]:
    """The gradients that one update leaves."""
    recipe = brief(clip_norm=0, dropout=0, attention_dropout=0, **settings)
    training = Training(trainee, corpus, recipe, TrainingFiles(directory), None)
    batches = training._batches()
    training._update(1, [next(batches) for _ in range(n_batches)])
    return {name: p.grad for name, p in trainee.model.named_parameters()}


def test_a_gradient_reaches_only_the_slice_that_was_drawn(tmp_path: Path, corpus: Corpus) -> None:
    net = SuperTransformer(SPACE, vocabulary=corpus.vocabulary)
    trainee = Shared(net, brief())
    update = next(u for u in range(1, 99) if (a := trainee.chosen(u)[0]).encoder_dim == a.decoder_dim == 16)
    architecture = trainee.chosen(update)[0]
    training = Training(trainee, corpus, brief(), TrainingFiles(tmp_path), None)
    training._update(update, [next(training._batches())])
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    own = dict(net.extract(architecture).named_parameters())
    assert grads.keys() == own.keys()
    for name, grad in grads.items():
        inside = tuple(slice(0, n) for n in own[name].shape)
        assert grad[inside].abs().max() > 0, name
        outside = grad.clone()
        outside[inside] = 0
        assert not outside.any(), name


@pytest.mark.parametrize("rule", ["uniform", "sandwich"])
def test_an_update_follows_the_mean_over_batches_and_architectures(
    tmp_path: Path, corpus: Corpus, rule: Any
) -> None:
    torch.manual_seed(1)
    net = SuperTransformer(SPACE, vocabulary=corpus.vocabulary)
    trainee = Shared(net, brief(rule=rule))
    found = gradients(trainee, corpus, tmp_path, 3, rule=rule)
    torch.manual_seed(1)
    twin = SuperTransformer(SPACE, vocabulary=corpus.vocabulary)
    recipe = brief()
    batches = [corpus.batches("train", max_tokens=recipe.max_tokens, seed=recipe.seed)[i] for i in range(3)]
    losses, n_tokens = [], sum(batch.n_target_tokens for batch in batches)
    for architecture in trainee.chosen(1):
        for batch in batches:
            source, target_in, target_out = batch.tensors()
            logits = twin(architecture, source, target_in).flatten(0, 1)
            losses.append(slow_loss(logits, target_out.flatten()))
    (torch.stack(losses).sum() / n_tokens / len(trainee.chosen(1))).backward()
    for name, parameter in twin.named_parameters():
        assert (parameter.grad is None) == (found[name] is None)
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_bfloat16_trains_and_says_where_it_is_slow(tmp_path: Path, corpus: Corpus) -> None:
    result = train(tmp_path / "run", corpus, recipe=brief(precision="bf16", n_updates=4, n_warm_up=1))
    plain = train(tmp_path / "plain", corpus, recipe=brief(n_updates=4, n_warm_up=1))
    assert result["valid_loss"] == pytest.approx(plain["valid_loss"], rel=0.05)
    assert Transformer.load(tmp_path / "run" / "model.safetensors").embedding.dtype == torch.float32
    is_slow = torch.backends.cpu.get_cpu_capability() == "AVX2"
    assert [("bfloat16" in note) for note in result["notes"]] == [True] * is_slow


def test_the_learning_rate_rises_and_falls_as_hats() -> None:
    cosine = Recipe(n_updates=100, n_warm_up=10, peak_rate=1e-3)
    assert [cosine.rate(update) for update in (5, 10, 55, 100)] == pytest.approx(
        [5e-4, 1e-3, 5e-4, 1e-7], rel=2e-4
    )
    root = replace(cosine, decay="inverse-sqrt")
    assert [root.rate(update) for update in (5, 10, 40)] == pytest.approx([5e-4, 1e-3, 5e-4], rel=2e-4)
    assert Recipe(n_updates=10, n_warm_up=0).rate(1) < Recipe().peak_rate
    rates = [cosine.rate(update) for update in range(1, 101)]
    assert max(rates) == rates[9]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_updates": 0}, "`n_updates` must be an integer in 1"),
        ({"n_warm_up": 9, "n_updates": 5}, "`n_warm_up` must be at most `n_updates`, which is 5, got 9"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 0.99\], got 1.0"),
        ({"peak_rate": -1}, "`peak_rate` must be a positive number"),
        ({"decay": "linear"}, "unknown `decay` 'linear'; known: cosine, inverse-sqrt"),
        ({"precision": "fp16"}, "unknown `precision` 'fp16'"),
        ({"rule": "largest"}, "unknown `rule` 'largest'"),
        ({"speed": 3}, "unknown setting of a recipe 'speed'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_dict(settings)


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, corpus: Corpus) -> None:
    outside = replace(ONE, encoder_dim=24)
    with pytest.raises(SpaceError):
        train_architecture(outside, corpus, tmp_path / "run", space=SPACE, recipe=brief())
    with pytest.raises(InputError, match="`device` is 'cuda:7', but torch finds"):
        train(tmp_path / "run", corpus, device="cuda:7")
    with pytest.raises(InputError, match="`device` must be"):
        train(tmp_path / "run", corpus, device="abacus")
    with pytest.raises(InputError, match="`n_threads` must be an integer"):
        train(tmp_path / "run", corpus, n_threads=0)
    with pytest.raises(InputError, match="does not divide qkv_dim 9"):
        train_architecture(ONE, corpus, tmp_path / "run", qkv_dim=9, recipe=brief())
    with pytest.raises(InputError, match="`max_tokens` must be at least"):
        train(tmp_path / "few", corpus, recipe=brief(max_tokens=2))
    assert names(tmp_path) == set()


def test_times_are_written_for_people() -> None:
    assert [duration(s) for s in (3.2, 89, 600, 7500)] == ["3 s", "89 s", "10 min", "2 h 05 min"]


def test_a_single_architecture_is_what_is_trained() -> None:
    single = Single(Transformer(ONE, vocabulary=20, qkv_dim=8))
    assert single.chosen(3) == [ONE]
    assert dict(single.judged) == {"architecture": ONE}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_device_trains_scores_and_translates(
    device: str, precision: Any, tmp_path: Path, corpus: Corpus
) -> None:
    recipe = brief(precision=precision, rule="sandwich")
    result = train_supernet(SPACE, corpus, tmp_path / "net", recipe=recipe, mixture=MIXED, device=device)
    assert torch.device(result["machine"]["device"]).type == device
    predictor = SupernetPredictor(
        tmp_path / "net", corpus, device=device, precision=precision, race=Race(n_parents=1)
    )
    score = predictor.predict([SPACE.largest_architecture])[0]
    assert score == pytest.approx(-result["valid_losses"]["largest"], rel=1e-3)
    trained = train(tmp_path / "one", corpus, recipe=recipe, device=device)
    assert trained["valid"]["n_sentences"] == 60
