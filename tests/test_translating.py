"""The verbs on trained networks, end to end: train, translate, export."""

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")


from command import Command, last_line  # noqa: E402
from llmpp import InputError  # noqa: E402
from llmpp.errors import MissingExtraError  # noqa: E402
from llmpp.export import export  # noqa: E402
from llmpp.recipe import Recipe  # noqa: E402
from llmpp.special_tokens import EOS  # noqa: E402
from llmpp.supernet import SuperTransformer  # noqa: E402
from llmpp.train import train_architecture  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from llmpp.translation import Quality, Translator  # noqa: E402
from toy_text import prepare_toy, write_files  # noqa: E402
from toy_training import (  # noqa: E402
    BRIEF,
    ONE,
    SPACE,
    brief,
    task_file,
    toy_corpus,
    toy_supernet,
)

#: The recipe of the other tests, as options.
OPTIONS = [
    f"--{name.replace('_', '-')}={value}" for name, value in {**BRIEF, "n_updates": 4, "n_warm_up": 1}.items()
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned the toy language."""
    path = tmp_path_factory.mktemp("trained") / "run"
    settings: dict[str, Any] = {"dropout": 0, "attention_dropout": 0, "n_beams": 1, "valid_every": 150}
    recipe = Recipe(n_updates=300, n_warm_up=30, peak_rate=5e-3, max_tokens=512, **settings)
    train_architecture(ONE, toy_corpus(), path, recipe=recipe, space=SPACE, n_threads=1)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A task and an architecture as files."""
    task_file(tmp_path / "task.json")
    (tmp_path / "one.json").write_text(json.dumps(ONE.to_dict()))
    (tmp_path / "one.yml").write_text(ONE.to_hat())
    return {name: tmp_path / name for name in ("task.json", "one.json", "one.yml")}


def test_an_architecture_is_trained_and_translates(
    llmpp_command: Command, files: dict[str, Path], tmp_path: Path
) -> None:
    corpus = toy_corpus()
    given = ["train", files["one.yml"], "--corpus", corpus.path, "-o", "run", "--task", files["task.json"]]
    code, out, err = llmpp_command(*given, *OPTIONS, "--n-threads=1", "--json")
    assert code == 0, err
    assert "update 4/4: loss" in err
    result = last_line(out)
    assert (result["kind"], result["n_updates"], result["output"]) == ("architecture", 4, "run")
    assert result["command"].startswith("llmpp train ")
    code, out, _ = llmpp_command(*given, *OPTIONS, "--n-threads=1")
    assert code == 0
    assert f"valid: BLEU {result['valid']['bleu']:.2f}" in out
    code, _, err = llmpp_command(*given, *OPTIONS, "--seed=5")
    assert code == 2
    assert "seed: 0 there, 5 here" in err


def test_a_supernet_is_trained_scored_and_exported(
    llmpp_command: Command, files: dict[str, Path], tmp_path: Path
) -> None:
    corpus = toy_corpus()
    given = ["train-supernet", "--task", files["task.json"], "--corpus", corpus.path, "-o", "super"]
    code, out, err = llmpp_command(*given, "--mixture=layer-wise", *OPTIONS, "--n-threads=1")
    assert code == 0, err
    assert "largest: " in out
    assert "drawn 1: " in out
    net = SuperTransformer.load(tmp_path / "super" / "model.safetensors")
    assert net.mixture.kind == "layer-wise"
    code, out, err = llmpp_command("export", "super", "--architecture", files["one.json"], "-o", "alone")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
    }
    config = json.loads((tmp_path / "alone" / "config.json").read_text())
    alone = Transformer.load(tmp_path / "alone" / "model.safetensors")
    assert config["architecture"] == ONE.to_dict()
    assert config["n_params"] == alone.n_params
    source, target_in, _ = corpus.batches("valid", max_tokens=300)[0].tensors()
    assert torch.equal(alone.eval()(source, target_in), net.eval()(ONE, source, target_in))
    assert llmpp_command("translate", "super").code == 2
    code, _, err = llmpp_command("export", "super", "-o", "other")
    assert code == 2
    assert "model.safetensors is a supernet: name by `--architecture`" in err
    assert not (tmp_path / "other").exists()


def test_translations_of_stdin_come_out_line_by_line(
    llmpp_command: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = toy_corpus().sources("test")[:4]
    expected = Translator.load(trained).translate(sources)
    text = f"{sources[0]}\n\n{sources[1]}\r\n{sources[2]}\n{sources[3]}"
    monkeypatch.setattr("sys.stdin", stdin(text.encode()))
    code, out, err = llmpp_command("translate", trained, "--n-threads=1")
    assert code == 0, err
    assert out == f"{expected[0]}\n\n{expected[1]}\n{expected[2]}\n{expected[3]}\n"
    monkeypatch.setattr("sys.stdin", stdin(b""))
    assert llmpp_command("translate", trained) == (0, "", "")


def stdin(content: bytes) -> io.TextIOWrapper:
    """Standard input as Python opens it where the locale is C: what is not ASCII becomes surrogates."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="ascii", errors="surrogateescape")


def test_text_is_utf_8_whatever_the_locale_is(
    llmpp_command: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = ["old street sees cat.", "a dog likes älterer."]
    expected = Translator.load(trained).translate(sources)
    text = "".join(f"{line}\n" for line in expected)
    assert "ä" in text
    content = "".join(f"{line}\n" for line in sources).encode()
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + content)
    for given in ([], ["marked.txt"]):
        printed = io.BytesIO()
        monkeypatch.setattr("sys.stdin", stdin(content))
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
            assert llmpp_command("translate", trained, *given).code == 0
            found = printed.getvalue().decode("utf-8")
        assert found == text


def test_text_that_is_not_utf_8_is_named_by_its_line(
    llmpp_command: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"a dog.\n\xe4lter.\n"
    (tmp_path / "latin.txt").write_bytes(content)
    monkeypatch.setattr("sys.stdin", stdin(content))
    (tmp_path / "two.txt").write_text("a\nb\n")
    for given, name in (
        ([], "stdin"),
        (["latin.txt"], "latin.txt"),
        (["two.txt", "--references", "latin.txt"], "latin.txt"),
    ):
        code, out, err = llmpp_command("translate", trained, *given)
        assert (code, out) == (2, "")
        assert f"line 2 of {name} is not UTF-8" in err
        assert "iconv" in err
    code, _, err = llmpp_command("translate", trained, "missing.txt")
    assert code == 2
    assert "cannot read missing.txt" in err


def test_only_line_feeds_end_a_line_as_in_a_corpus(
    llmpp_command: Command, trained: Path, tmp_path: Path
) -> None:
    odd = [("a\rdog", "ein\rHund"), ("a\u2028cat", "eine\x85Katze"), ("old street", "ältere Straße")]
    prepare_toy(tmp_path, valid=write_files(tmp_path, "odd", odd))
    sources, references = (tmp_path / "corpus" / f"valid.{side}.txt" for side in ("source", "target"))
    code, _, err = llmpp_command("translate", trained, sources, "--references", references, "-o", "out.txt")
    assert code == 0, err
    texts = (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert texts == Translator.load(trained).translate([source for source, _ in odd])


def test_a_report_goes_where_the_translations_do_not(
    llmpp_command: Command, trained: Path, tmp_path: Path
) -> None:
    corpus = toy_corpus()
    sources, references = corpus.path / "test.source.txt", corpus.path / "test.target.txt"
    code, text, err = llmpp_command("translate", trained, sources)
    assert (code, text.count("\n"), err) == (0, 30, "")
    code, out, err = llmpp_command("translate", trained, sources, "--references", references)
    assert (code, out) == (0, text)
    assert "bleu" in err
    assert "tok:13a" in err
    code, out, err = llmpp_command("translate", trained, sources, "--references", references, "--json")
    assert (code, err) == (0, "")
    assert out.startswith(text)
    assert out.count("\n") == 31
    assert last_line(out)["bleu"] > 50


def test_sacrebleu_is_missed_before_anything_is_computed(
    llmpp_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sacrebleu", "sacrebleu.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="needs the package `sacrebleu`"):
        train_architecture(ONE, toy_corpus(), tmp_path / "run", recipe=brief(), space=SPACE)
    assert not (tmp_path / "run").exists()
    code, _, err = llmpp_command("translate", "missing", "--references", "missing.txt")
    assert code == 1
    assert "needs the package `sacrebleu`" in err


def test_translations_of_a_file_are_compared_with_references(
    llmpp_command: Command, trained: Path, tmp_path: Path
) -> None:
    corpus = toy_corpus()
    sources, references = corpus.path / "test.source.txt", corpus.path / "test.target.txt"
    given = ["translate", trained, sources, "--references", references, "-o", "out.txt"]
    code, out, err = llmpp_command(*given, "--json")
    assert code == 0, err
    report = last_line(out)
    texts = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert report["bleu"] == Quality.of(texts, corpus.references("test")).bleu > 50
    assert report["chrf"] > 50
    assert "tok:13a" in report["bleu_signature"]
    assert report["n_sentences"] == 30
    code, out, _ = llmpp_command(*given, "--n-beams=1")
    assert code == 0
    assert "bleu" in out
    (tmp_path / "few.txt").write_text("one\n")
    code, _, err = llmpp_command("translate", trained, sources, "--references", tmp_path / "few.txt")
    assert code == 2
    assert "there are 30 sentences, but" in err


def test_a_translation_does_not_depend_on_its_company(trained: Path) -> None:
    translator = Translator.load(trained)
    sources = toy_corpus().sources("valid")[:12]
    together = translator.translate(sources, max_tokens=40)
    assert together == [translator.translate([source])[0] for source in sources]
    assert translator.translate([]) == []
    with pytest.raises(InputError, match=r"sentence 2 has \d+ subwords, but this network takes at most 1024"):
        translator.translate(["dog", "dog cat " * 1000])


def test_a_network_is_exported_without_its_training(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "alone")
    sources = toy_corpus().sources("valid")[:3]
    alone = Translator.load(tmp_path / "alone")
    assert alone.translate(sources) == Translator.load(trained).translate(sources)
    with pytest.raises(InputError, match="is not empty"):
        export(trained, tmp_path / "alone")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file: name another"):
        export(trained, tmp_path / "file")


def test_a_full_disk_leaves_no_export(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("llmpp.export.shutil.copyfile", full)
    with pytest.raises(InputError, match="cannot write the network .*No space left"):
        export(trained, tmp_path / "alone")
    assert list(tmp_path.iterdir()) == []


def test_exported_graphs_translate_without_torch(
    llmpp_command: Command, trained: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    code, _, err = llmpp_command("export", trained, "-o", "alone", "--onnx")
    assert code == 0, err
    encoder, step = (runtime.InferenceSession(f"alone/{name}.onnx") for name in ("encoder", "step"))
    corpus, network = toy_corpus(), Translator.load(trained)
    for batch in list(corpus.batches("test", max_tokens=60))[:6]:
        encoded = encoder.run(None, {"source": batch.source})
        kept = dict(zip([one.name for one in encoder.get_outputs()], encoded, strict=True))
        expected = network.translate([corpus.sources("test")[i] for i in batch.indices], n_beams=1)
        assert corpus.decode(greedy(step, kept, len(batch.source))) == expected


def greedy(step: Any, kept: dict[str, Any], n: int) -> Any:
    """Translates by a graph of one step: the likeliest token after the other."""
    tokens = [np.full((n, 1), EOS)]
    heads, width = kept["keys.0"].shape[1], kept["keys.0"].shape[3]
    past = {"past.0": np.zeros((n, 0, 2, heads, width), np.float32)}
    for _ in range(24):
        logits, *present = step.run(None, {"tokens": tokens[-1], **past, **kept})
        past = {f"past.{layer}": one for layer, one in enumerate(present)}
        tokens.append(logits.argmax(2))
    return np.concatenate(tokens[1:], 1)


def test_a_model_without_its_vocabulary_does_not_translate(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="cannot read the vocabulary"):
        Translator.load(tmp_path)
    model = Transformer(ONE, vocabulary=50, qkv_dim=32)
    model.save(tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="was trained on 50 subwords, but the vocabulary has 80"):
        Translator.load(tmp_path)
    (tmp_path / "empty").mkdir()
    words = r"holds no model.safetensors: has its training ended\? `llmpp train`, or `llmpp train-supernet`"
    with pytest.raises(InputError, match=words):
        Translator.load(tmp_path / "empty")


def test_no_translations_have_no_quality() -> None:
    for texts in ([], ["a"]):
        with pytest.raises(InputError, match="each translation needs a reference"):
            Quality.of(texts, [])


def test_a_supernet_is_no_transformer(tmp_path: Path) -> None:
    toy_supernet(tmp_path / "model.safetensors", toy_corpus())
    with pytest.raises(InputError, match="is of schema 'llmpp.supernet/1'"):
        Translator.load(tmp_path)
