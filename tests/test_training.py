"""Training: it learns, goes on where it was killed, stops when it diverges, and leaves whole files."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from safetensors.torch import load_file  # noqa: E402

from llmpp import Architecture, InputError, SpaceError  # noqa: E402
from llmpp.checkpoint import average  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.errors import TrainingError  # noqa: E402
from llmpp.mixture import Mixture  # noqa: E402
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
from toy_training import BRIEF, ONE, SPACE, brief, prepare_short  # noqa: E402

MIXED = Mixture(kind="neuron-wise", router_width=8)


pytestmark = pytest.mark.usefixtures("one_thread")


def train(directory: Path, corpus: Corpus, **settings: Any) -> dict[str, Any]:
    return train_architecture(ONE, corpus, directory, space=SPACE, **{"recipe": brief(), **settings})


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the very same tensors."""
    mine, theirs = load_file(one), load_file(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


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


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from llmpp.corpus import Corpus
from llmpp.train import train_supernet
from test_training import MIXED, SPACE, brief
from llmpp import training_loop

done = []
step = training_loop.Training._update
def update(self, number, batches):
    if number == {update}:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, number, batches)
training_loop.Training._update = update
train_supernet(SPACE, Corpus.load(Path({corpus!r})), {directory!r}, recipe=brief(rule="sandwich"),
               mixture=MIXED, n_threads=1)
"""


def test_a_killed_training_goes_on_to_the_very_same_weights(tmp_path: Path, corpus: Corpus) -> None:
    settings: dict[str, Any] = {"recipe": brief(rule="sandwich"), "mixture": MIXED, "n_threads": 1}
    whole = train_supernet(SPACE, corpus, tmp_path / "whole", **settings)
    code = KILLED.format(
        tests=str(Path(__file__).parent),
        update=8,
        corpus=str(corpus.path),
        directory=str(tmp_path / "killed"),
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert {"state.safetensors", "best.safetensors"} <= names(tmp_path / "killed")
    assert "model.safetensors" not in names(tmp_path / "killed")
    torch.manual_seed(99)  # the caller's random numbers are of no concern
    before = torch.get_rng_state()
    resumed = train_supernet(SPACE, corpus, tmp_path / "killed", **settings)
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("model", "best", "averaged"):
        assert same(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "killed" / f"{name}.safetensors")
    assert whole["valid_losses"] == resumed["valid_losses"]
    logs = [TrainingFiles(tmp_path / name).log.lines() for name in ("whole", "killed")]
    assert (
        [line["update"] for line in logs[0]] == [line["update"] for line in logs[1]] == [5, 5, 10, 10, 12, 12]
    )
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_a_run_stopped_at_any_update_ends_the_same(tmp_path: Path, corpus: Corpus) -> None:
    recipe = brief(n_updates=6, valid_every=2, dropout=0.2)
    train(tmp_path / "whole", corpus, recipe=recipe)
    for number in range(1, 7):
        directory = tmp_path / str(number)

        class StopError(Exception):
            pass

        def stop(self: Any, update: int, batches: Any, number: int = number) -> None:
            if update == number:
                raise StopError
            UPDATE(self, update, batches)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Training, "_update", stop)
            with pytest.raises(StopError):
                train(directory, corpus, recipe=recipe)
        train(directory, corpus, recipe=recipe)
        assert same(tmp_path / "whole" / "model.safetensors", directory / "model.safetensors")


UPDATE = Training._update


def test_a_finished_training_is_not_done_twice(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tmp_path / "run", corpus)
    monkeypatch.setattr(Training, "_update", lambda *_: pytest.fail("it trains again"))
    assert train(tmp_path / "run", corpus) == json.loads(
        json.dumps(first | {"schema": "llmpp.training-result/1"})
    )


def test_another_training_does_not_go_on_in_its_directory(tmp_path: Path, corpus: Corpus) -> None:
    train(tmp_path / "run", corpus)
    with pytest.raises(InputError, match=r"another training \(peak_rate: 0.003 there, 0.004 here\)"):
        train(tmp_path / "run", corpus, recipe=brief(peak_rate=4e-3))
    with pytest.raises(InputError, match="kind: 'architecture' there, 'supernet' here"):
        train_supernet(SPACE, corpus, tmp_path / "run", recipe=brief())
    other = Corpus.load(prepare_short(tmp_path, 80, (300, 20, 10)))
    with pytest.raises(InputError, match="corpus: "):
        train(tmp_path / "run", other)


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is there and is no training"):
        train(tmp_path, corpus)
    assert names(tmp_path) == {"mine.txt"}


def test_two_trainings_in_one_directory_are_prevented(tmp_path: Path, corpus: Corpus) -> None:
    refused: list[str] = []

    def train_beside(_: Progress) -> None:
        with pytest.raises(InputError) as caught:
            train(tmp_path / "run", corpus)
        refused.append(str(caught.value))

    train(tmp_path / "alone", corpus)
    train(tmp_path / "run", corpus, report=train_beside)
    assert len(refused) == 3
    assert f"another process trains in {tmp_path / 'run'}: wait until it ends" in refused[0]
    assert same(tmp_path / "alone" / "model.safetensors", tmp_path / "run" / "model.safetensors")
    train(tmp_path / "run", corpus)


WAITING = """
import sys, time
sys.path.insert(0, {tests!r})
from llmpp.corpus import Corpus
from test_training import train

def wait(progress):
    print("training", flush=True)
    time.sleep(60)
train({directory!r}, Corpus.load({corpus!r}), report=wait)
"""


def test_a_process_that_dies_lets_go_of_its_directory(tmp_path: Path, corpus: Corpus) -> None:
    directory = tmp_path / "run"
    code = WAITING.format(tests=str(Path(__file__).parent), directory=str(directory), corpus=str(corpus.path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "training\n"
        with pytest.raises(InputError, match="another process trains in"):
            train(directory, corpus)
        other.kill()
    assert train(directory, corpus)["n_updates"] == 12


def test_a_start_that_was_killed_is_started_again(tmp_path: Path, corpus: Corpus) -> None:
    for name in ("training.lock", "tokenizer.json", "tokenizer.json.part", "training.json.part"):
        (tmp_path / name).write_text("cut o")
    assert train(tmp_path, corpus)["n_updates"] == 12
    assert (tmp_path / "tokenizer.json").read_bytes() == (corpus.path / "tokenizer.json").read_bytes()


def test_a_directory_that_cannot_be_is_refused(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file: name a directory"):
        train(tmp_path / "file", corpus)
    with pytest.raises(InputError, match="cannot write the training"):
        train(tmp_path / "file" / "run", corpus)
    (tmp_path / "run" / "training.lock").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot open the lock"):
        train(tmp_path / "run", corpus)


def test_divergence_stops_with_the_last_good_checkpoint(tmp_path: Path, corpus: Corpus) -> None:
    def wild(update: int) -> float:
        return 1e-3 if update <= 5 else 1e30

    class Wild(Recipe):
        def rate(self, update: int) -> float:
            return wild(update)

    recipe = Wild(**{**BRIEF, "clip_norm": 0})
    with pytest.raises(
        TrainingError, match=r"diverged in update 7: loss .*best.safetensors is from update 5"
    ):
        train(tmp_path / "run", corpus, recipe=recipe)
    assert "result.json" not in names(tmp_path / "run")
    Transformer.load(tmp_path / "run" / "best.safetensors")


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", corpus)
    written: list[Path] = []
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) > 4:  # best, snapshot and state of the first validation, and best of the second
            write(path, b"cut off")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"cannot write .*: .*No space left"):
            train(tmp_path / "run", corpus)
    assert not list((tmp_path / "run").rglob("*.part"))
    train(tmp_path / "run", corpus)
    assert same(tmp_path / "whole" / "model.safetensors", tmp_path / "run" / "model.safetensors")


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


def test_a_damaged_state_is_named(tmp_path: Path, corpus: Corpus) -> None:
    recipe = brief(n_updates=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_finish", lambda self, made: {})
        train(tmp_path / "run", corpus, recipe=recipe)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read the model .*state.safetensors"):
        train(tmp_path / "run", corpus, recipe=recipe)


def test_times_are_written_for_people() -> None:
    assert [duration(s) for s in (3.2, 89, 600, 7500)] == ["3 s", "89 s", "10 min", "2 h 05 min"]


def test_a_log_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    log = TrainingFiles(tmp_path).log
    log.begin(0)
    for update in (1, 2, 3):
        log.write({"update": update})
    with log.path.open("a") as file:
        file.write('{"update": 4, "lo')
    assert [line["update"] for line in log.lines()] == [1, 2, 3]
    log.begin(2)
    log.write({"update": 3})
    assert [line["update"] for line in log.lines()] == [1, 2, 3]
    assert json.loads(log.path.read_text().splitlines()[0]) == {"schema": "llmpp.training-log/1"}


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
