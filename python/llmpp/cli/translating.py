"""The verbs `translate`, `export` and `convert-hat`: what trained networks are used for."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from llmpp.cli.console import log, out, plain, print_json, print_report
from llmpp.cli.options import Json, NoSeed
from llmpp.cli.training import read_one
from llmpp.errors import InputError, require, writing
from llmpp.text import decode_lines, replace_text


def translate(
    model: Annotated[
        Path,
        typer.Argument(help="The directory that `llmpp train` or `llmpp export` wrote.", show_default=False),
    ],
    sentences: Annotated[
        Path | None, typer.Argument(help="Text, a sentence per line; stdin by default.", show_default=False)
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Their translations, a sentence per line, to print BLEU and chrF: "
            "on stderr where stdout has the translations."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; stdout by default.")
    ] = None,
    n_beams: Annotated[int, typer.Option(help="Beams; 1 to translate greedily.")] = 4,
    length_penalty: Annotated[
        float, typer.Option(help="From 0; above it, longer translations are favoured.")
    ] = 0.6,
    max_tokens: Annotated[
        int, typer.Option(help="Budget of a batch: its rows times its longest source.")
    ] = 2048,
    device: Annotated[
        str, typer.Option(help="'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.")
    ] = "auto",
    n_threads: Annotated[int | None, typer.Option(help="Threads of the CPU; torch's by default.")] = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Translate text with a trained architecture."""
    require("torch", "train")
    if references is not None:
        require("sacrebleu.metrics", "train")
    from llmpp.cpu_threads import threads
    from llmpp.device import find_device
    from llmpp.translation import Quality, Translator

    translator = Translator.load(model, find_device(device))
    lines = _read(sentences)
    expected = None if references is None else _read(references)
    if expected is not None and len(expected) != len(lines):
        raise InputError(f"there are {len(lines)} sentences, but {references} has {len(expected)} lines")
    start = time.perf_counter()
    with threads(n_threads):
        texts = translator.translate(
            lines, n_beams=n_beams, length_penalty=length_penalty, max_tokens=max_tokens
        )
    report: dict[str, object] = {"n_sentences": len(texts), "seconds": time.perf_counter() - start}
    if expected is not None:
        report |= Quality.of(texts, expected).to_dict()
    _write("".join(f"{text}\n" for text in texts), output)
    if as_json or expected is not None or output:
        print_report(report, output, as_json=as_json, console=out if output else log)


def _read(path: Path | None) -> list[str]:
    """Reads sentences out of a file, or of stdin: as bytes, which nothing has decoded in its own way."""
    try:
        content = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path or 'stdin'}: {error}") from error
    return decode_lines(content, str(path or "stdin"))


def _write(text: str, output: Path | None) -> None:
    """Writes UTF-8, on a stdout of another encoding, too."""
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
        return
    with writing(output):
        replace_text(output, text)


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="The directory of a training, or a model's file.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new directory to write.")],
    architecture: Annotated[
        Path | None, typer.Option(help="File with the architecture to cut out of a supernet.")
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx", help="Write ONNX graphs, too: the encoder, and a decoder step with what it remembers."
        ),
    ] = False,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Write a trained network that works alone: weights, configuration and vocabulary."""
    require("torch", "train")
    from llmpp.export import export as write

    chosen = None if architecture is None else read_one(architecture)
    config = write(checkpoint, output, chosen, onnx=onnx)
    if as_json:
        print_json({**config, "output": str(output)})
        return
    out.print(f"parameters: {config['n_params']:,} without embeddings")
    out.print(f"written: {plain(str(output))}", soft_wrap=True)


def convert_hat(
    checkpoint: Annotated[
        Path, typer.Argument(help="A supernet's checkpoint by HAT, such as `checkpoint_best.pt`.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .safetensors to write; a .json lies beside it.")
    ],
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Turn HAT's pickled checkpoint into safetensors, reading weights and nothing that could run."""
    require("torch", "train")
    from llmpp.hat_checkpoint import convert_hat as convert

    meta = convert(checkpoint, output)
    if as_json:
        print_json({**meta, "output": str(output)})
        return
    if "choices" not in meta:
        description = plain(str(output.with_suffix(".json")))
        out.print(
            f"note: the checkpoint does not tell its choices: add them to {description}", soft_wrap=True
        )
    out.print(f"vocabulary: {meta['vocab']}")
    out.print(f"written: {plain(str(output))}", soft_wrap=True)
