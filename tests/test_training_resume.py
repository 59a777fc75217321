"""Trainings that end early: killed, diverged, without space, and how they go on."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")


from llmpp import InputError  # noqa: E402
from llmpp.corpus import Corpus  # noqa: E402
from llmpp.errors import TrainingError  # noqa: E402
from llmpp.recipe import Recipe  # noqa: E402
from llmpp.train import train_supernet  # noqa: E402
from llmpp.training_files import TrainingFiles  # noqa: E402
from llmpp.training_log import Progress  # noqa: E402
from llmpp.training_loop import Training  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from toy_training import BRIEF, MIXED, SPACE, brief, names, prepare_short, same, train  # noqa: E402

UPDATE = Training._update

pytestmark = pytest.mark.usefixtures("one_thread")


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from llmpp.corpus import Corpus
from llmpp.train import train_supernet
from toy_training import MIXED, SPACE, brief
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
from toy_training import train

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


def test_a_damaged_state_is_named(tmp_path: Path, corpus: Corpus) -> None:
    recipe = brief(n_updates=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_finish", lambda self, made: {})
        train(tmp_path / "run", corpus, recipe=recipe)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read the model .*state.safetensors"):
        train(tmp_path / "run", corpus, recipe=recipe)


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
