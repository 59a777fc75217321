"""HAT's own checkpoints: weights out of their pickles, and nothing that could run."""

import errno
import json
import os
import pickle
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from safetensors.torch import load_file  # noqa: E402

from command import Command, last_line  # noqa: E402
from llmpp import InputError  # noqa: E402
from llmpp.hat_checkpoint import convert_hat  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.supernet_predictor import SupernetPredictor  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from toy_training import (  # noqa: E402
    prepare_short,
)


class AverageMeter:
    """What fairseq leaves in its checkpoints."""

    def __init__(self) -> None:
        self.avg = 3.0


def hat_checkpoint(path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Writes HAT's supernet as HAT would."""
    module = ModuleType("fairseq.meters")
    monkeypatch.setattr(module, "AverageMeter", AverageMeter, raising=False)
    for name in ("fairseq", "fairseq.meters"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(AverageMeter, "__module__", "fairseq.meters")
    meta: dict[str, Any] = json.loads((data / "hat_golden" / "meta.json").read_text())
    choices = {
        **{f"{name}_choice": v for side in meta["choices"].values() for name, v in side.items()},
        "encoder_embed_choice": meta["choices"]["encoder"]["encoder_embed_dim"],
        "decoder_embed_choice": meta["choices"]["decoder"]["decoder_embed_dim"],
    }
    args = Namespace(**choices, **meta["super"], share_all_embeddings=True)
    weights = load_file(data / "hat_golden" / "weights.safetensors")
    content = {"args": args, "model": weights, "extra_state": {"meters": AverageMeter()}}
    torch.save(content, path)
    monkeypatch.undo()
    return meta


def test_a_checkpoint_of_hat_is_converted(llmpp_command: Command, data: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        meta = hat_checkpoint(tmp_path / "hat.pt", data, patch)
    code, out, err = llmpp_command("convert-hat", "hat.pt", "-o", "hat.safetensors", "--json")
    assert code == 0, err
    made = json.loads((tmp_path / "hat.json").read_text())
    assert last_line(out)["vocab"] == made["vocab"] == meta["vocab"]
    assert made["choices"] == meta["choices"]
    assert {name: made["super"][name] for name in made["super"]}.items() <= meta["super"].items()
    golden = SuperTransformer.from_hat(data / "hat_golden" / "weights.safetensors", meta)
    found = SuperTransformer.from_hat(tmp_path / "hat.safetensors", made)
    assert found.space.options == golden.space.options
    for mine, theirs in zip(found.parameters(), golden.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_converted_checkpoint_is_exported_and_scores(
    llmpp_command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hat_checkpoint(tmp_path / "hat.pt", data, monkeypatch)
    meta = convert_hat(tmp_path / "hat.pt", tmp_path / "hat.safetensors")
    monkeypatch.chdir(tmp_path)
    net = SuperTransformer.from_hat("hat.safetensors", json.loads(Path("hat.json").read_text())).eval()
    net.save(Path("supernet.safetensors"))
    (one,) = net.space.sample(1, seed=3)
    Path("one.json").write_text(json.dumps(one.to_dict()))
    code, _, err = llmpp_command(
        "export", "supernet.safetensors", "--architecture", "one.json", "-o", "alone"
    )
    assert code == 0, err
    source, target_in = torch.tensor([[7, 5, 30, 2]]), torch.tensor([[2, 9, 8]])
    alone = Transformer.load(tmp_path / "alone" / "model.safetensors").eval()
    assert torch.equal(alone(source, target_in), net(one, source, target_in))
    corpus = prepare_short(tmp_path, meta["vocab"], (60, 10, 10))
    sample = net.space.sample(4)
    scores = SupernetPredictor("supernet.safetensors", corpus, device="cpu").predict(sample)
    assert np.isfinite(scores).all()
    assert len(set(scores)) == len(set(sample))


class Evil:
    """A pickle that would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_a_pickle_that_could_run_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"encoder.embed_tokens.weight": torch.zeros(3, 2)}, "evil": Evil()}, "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(InputError, match="holds more than weights and is not read"):
            convert_hat(name, "out.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"evil.pt", "plain.pt"}


def test_what_is_no_checkpoint_of_hat_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    torch.save({"model": {"encoder.embed_tokens.weight": torch.zeros(3, 2)}}, tmp_path / "bare.pt")
    for name, message in (
        ("text", "holds more than weights|is no checkpoint of torch"),
        ("missing", "cannot read the checkpoint .*missing.pt"),
        ("other", r"is no checkpoint of HAT: .* \(found: \['weights'\]\)"),
        ("tensor", "is no checkpoint of HAT"),
    ):
        with pytest.raises(InputError, match=message):
            convert_hat(tmp_path / f"{name}.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(InputError, match="must end in .safetensors"):
        convert_hat(tmp_path / "bare.pt", tmp_path / "out.bin")
    assert convert_hat(tmp_path / "bare.pt", tmp_path / "out.safetensors") == {
        "vocab": 3,
        "pad": 1,
        "super": {},
    }


def tiny(**others: Any) -> dict[Any, Any]:
    """The least that is a checkpoint of HAT, and other tensors."""
    return {"encoder.embed_tokens.weight": torch.zeros(3, 2), **others}


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_checkpoint_that_was_cut_off_or_damaged_is_refused(is_zip: bool, tmp_path: Path) -> None:
    content = {"model": tiny(), "args": Namespace(qkv_dim=3)}
    torch.save(content, tmp_path / "whole.pt", _use_new_zipfile_serialization=is_zip)
    whole = (tmp_path / "whole.pt").read_bytes()
    for length in range(0, len(whole), 97 if is_zip else 1):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(
            InputError, match="cut.pt is no checkpoint of torch|cut.pt holds more than weights"
        ):
            convert_hat(tmp_path / "cut.pt", tmp_path / "out.safetensors")
    draw = np.random.Generator(np.random.PCG64(0))
    for place, byte in zip(draw.integers(0, len(whole), 200), draw.bytes(200), strict=True):
        damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with suppress(InputError):  # a number may have changed, and nothing else
            convert_hat(tmp_path / "damaged.pt", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (torch.zeros(3), "there is no `model` with `encoder.embed_tokens.weight`"),
        ({"encoder.embed_tokens.weight": torch.zeros(())}, r"must be a matrix, got the shape \(\)"),
        ({**tiny(), 3: torch.zeros(2)}, "3 in its `model` is no name"),
        (tiny(x=[1]), "'x' in its `model` is no tensor, but of type list"),
        (tiny(x=torch.eye(3).to_sparse()), "must be a dense tensor of real numbers, got .*torch.sparse_coo"),
        (tiny(x=torch.empty(3, device="meta")), "'x' in its `model` must be a dense tensor .*on meta"),
        (tiny(x=torch.ones(3, dtype=torch.complex64)), "must be a dense tensor .*torch.complex64"),
    ],
)
def test_weights_that_are_none_are_refused(model: Any, words: str, tmp_path: Path) -> None:
    torch.save({"model": model}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=f"odd.pt is no checkpoint of HAT: .*{words}"):
        convert_hat(tmp_path / "odd.pt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pt"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"qkv_dim": None}, "qkv_dim must be a positive integer, got None"),
        ({"encoder_embed_choice": None}, "`encoder_embed_choice` must be a list of integers, got None"),
        (
            {"encoder_embed_choice": "[1,2]"},
            r"`encoder_embed_choice` must be a list of integers, got '\[1,2\]'",
        ),
        ({"decoder_embed_choice": [1, "2"]}, "`decoder_embed_choice` must be an integer"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    torch.save({"model": tiny(), "args": Namespace(**settings)}, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=f"odd.pt has settings that cannot be used: {words}"):
        convert_hat(tmp_path / "odd.pt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pt"]


def test_a_conversion_writes_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model": tiny()}, tmp_path / "hat.pt")
    for blocked in ("out.json", "out.safetensors"):
        (tmp_path / blocked).mkdir()
        with pytest.raises(InputError, match=f"cannot write .*{blocked}"):
            convert_hat(tmp_path / "hat.pt", tmp_path / "out.safetensors")
        (tmp_path / blocked).rmdir()
        assert [path.name for path in tmp_path.iterdir()] == ["hat.pt"]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for write in ("write_text", "write_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, write, full)
            with pytest.raises(InputError, match="cannot write .*No space left"):
                convert_hat(tmp_path / "hat.pt", tmp_path / "out.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["hat.pt"]


def test_half_floats_of_a_checkpoint_become_floats(tmp_path: Path) -> None:
    weights = {
        "encoder.embed_tokens.weight": torch.ones(3, 2).half(),
        "encoder.version": torch.ones(1).long(),
    }
    torch.save({"model": weights}, tmp_path / "half.pt")
    convert_hat(tmp_path / "half.pt", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "encoder.embed_tokens.weight": torch.float32,
        "encoder.version": torch.int64,
    }
