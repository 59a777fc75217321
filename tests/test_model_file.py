"""Files of Transformers: written whole, read with care."""

import json
import math
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from llmpp import Architecture, InputError  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import SOURCE, TARGET_IN, VOCABULARY, small  # noqa: E402

ONE = Architecture(12, (8, 24), (2, 4), 16, (12, 8), (4, 1), (2, 4), (1, 2))
#: One layer on each side, where the encoder is the wider one.
WIDE_ENCODER = Architecture(20, (8,), (2,), 8, (12,), (2,), (4,), (1,))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_transformer_comes_back_as_it_was(dtype: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Transformer(
        replace(ONE, cross_span=(3, 1)),
        vocabulary=VOCABULARY,
        qkv_dim=16,
        n_encoder_slots=3,
        super_dims=(20, 16),
        max_length=30,
        padding=4,
        dropout=0.2,
        attention_dropout=0.1,
    ).to(dtype)
    model.save(tmp_path / "new" / "model.safetensors")
    again = Transformer.load(tmp_path / "new" / "model.safetensors")
    assert (again.architecture, again.sizes) == (model.architecture, model.sizes)
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert torch.equal(again.eval()(SOURCE, TARGET_IN), model.eval()(SOURCE, TARGET_IN))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.safetensors"]


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    small(WIDE_ENCODER).save(tmp_path / "model")
    with safe_open(tmp_path / "model", "pt") as file:
        record, names = json.loads(file.metadata()["llmpp"]), list(file.keys())
    assert record["schema"] == "llmpp.transformer/1"
    assert record["architecture"] == WIDE_ENCODER.to_dict()
    assert record["sizes"]["vocabulary"] == VOCABULARY
    encoder = [
        "qkv",
        "out",
        "attention_norm",
        "feed_forward.inner",
        "feed_forward.outer",
        "feed_forward_norm",
    ]
    decoder = [*encoder, "query", "key_value", "cross_out", "cross_norm"]
    parts = [f"encoder.0.{part}" for part in encoder] + [f"decoder.0.{part}" for part in decoder]
    expected = ["embedding", *(f"{part}.{kind}" for part in parts for kind in ("weight", "bias"))]
    assert sorted(names) == sorted(expected)


def drop_tensor(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    del tensors["encoder.0.qkv.bias"]


def add_tensor(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    tensors["decoder.7.qkv.bias"] = torch.zeros(3)


def cut_vocabulary(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    tensors["embedding"] = tensors["embedding"][:20].clone()


def spoil_number(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    tensors["decoder.0.out.bias"][2] = math.nan


def round_numbers(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    tensors["decoder.0.out.bias"] = tensors["decoder.0.out.bias"].long()


def drop_architecture(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    del record["architecture"]


def add_layer(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    record["architecture"]["encoder_ffn"].append(24)


def name_another_schema(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    record["schema"] = "llmpp.supernet/1"


def name_a_setting(tensors: dict[str, Any], record: dict[str, Any]) -> None:
    record["sizes"]["depth"] = 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_tensor, r"lacks the tensor 'encoder.0.qkv.bias' \(1 names differ\)"),
        (add_tensor, "has the unknown tensor 'decoder.7.qkv.bias'"),
        (cut_vocabulary, r"'embedding' has the shape \(20, 16\), not \(23, 16\) as its record says"),
        (spoil_number, "'decoder.0.out.bias' holds numbers that are not finite: use an earlier checkpoint"),
        (round_numbers, "'decoder.0.out.bias' holds torch.int64, and no floats"),
        (drop_architecture, "a record that cannot be used: 'architecture'"),
        (add_layer, "a record that cannot be used: lists must have one value per layer"),
        (name_another_schema, "is of schema 'llmpp.supernet/1', not 'llmpp.transformer/1'"),
        (name_a_setting, "a record that cannot be used: sizes need exactly the fields"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    spoil: Callable[[dict[str, Any], dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    small(ONE).save(path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["llmpp"])
    spoil(tensors, record)
    save_file(tensors, path, {"llmpp": json.dumps(record)})
    with pytest.raises(InputError, match=words) as raised:
        Transformer.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("metadata", [None, {"llmpp": "{"}, {"other": "{}"}])
def test_weights_without_a_record_are_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"embedding": torch.zeros(3, 3)}, tmp_path / "model", metadata)
    with pytest.raises(InputError, match="has no `llmpp` record in its metadata"):
        Transformer.load(tmp_path / "model")


@pytest.mark.parametrize("n_bytes", [0, 4, 500, -1])
def test_a_file_that_was_cut_off_is_refused(n_bytes: int, tmp_path: Path) -> None:
    small(ONE).save(tmp_path / "whole")
    (tmp_path / "model").write_bytes((tmp_path / "whole").read_bytes()[:n_bytes])
    with pytest.raises(InputError, match="cannot read the model .*model"):
        Transformer.load(tmp_path / "model")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=f"cannot read the model {path}"):
            Transformer.load(path)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "model", tmp_path / "directory"):
        with pytest.raises(InputError, match=f"cannot write {path}"):
            small(ONE).save(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"]


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_model_is_as_readable_as_other_files(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        small(ONE).save(tmp_path / "model")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == mode


def test_a_save_that_is_killed_leaves_one_file_which_the_next_one_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.part").write_bytes(b"half")
    replace_by = Path.replace
    seen: list[str] = []

    def seeing(part: Path, target: Path) -> Path:
        seen.extend(path.name for path in tmp_path.iterdir())
        return replace_by(part, target)

    monkeypatch.setattr(Path, "replace", seeing)
    small(ONE).save(tmp_path / "model")
    assert seen == ["model.part"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_saving_over_a_model_that_is_there_keeps_it_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(ONE)
    model.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()

    write = Path.write_bytes

    def full_disk(path: Path, content: bytes) -> None:
        write(path, content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(InputError, match="cannot write .*No space left"):
            small(ONE, seed=1).save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_bytes() == before
