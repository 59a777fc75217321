"""The verbs `train-supernet` and `train`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmpp.architecture import Architecture, read_architectures
from llmpp.cli.console import command_line, log, out, plain, print_json
from llmpp.cli.options import Date, Json, TaskName, settings_options
from llmpp.errors import InputError, require
from llmpp.recipe import Recipe
from llmpp.task import load_task

if TYPE_CHECKING:
    from llmpp.training_log import Progress

_CorpusPath = Annotated[Path, typer.Option("--corpus", help="The directory that `llmpp prepare` wrote.")]
_Directory = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="A new directory; or that of the same training, to go on where it was stopped."
    ),
]
_Device = Annotated[
    str, typer.Option("--device", help="'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.")
]
_Threads = Annotated[int | None, typer.Option("--n-threads", help="Threads of the CPU; torch's by default.")]


@settings_options("recipe", Recipe)
def train_supernet(
    task: TaskName,
    corpus: _CorpusPath,
    output: _Directory,
    mixture: Annotated[
        str,
        typer.Option(help="'plain' as HAT, or Mixture-of-Supernets: 'layer-wise', 'neuron-wise'."),
    ] = "plain",
    n_experts: Annotated[int, typer.Option(help="Experts of each mixed matrix.")] = 2,
    device: _Device = "auto",
    n_threads: _Threads = None,
    date: Date = None,
    as_json: Json = False,
    recipe: Any = None,
) -> None:
    """Train one set of weights for all architectures of a task's space."""
    require("torch", "train")
    from llmpp.corpus import Corpus
    from llmpp.mixture import Mixture
    from llmpp.train import train_supernet as run

    settings = Recipe.from_dict(recipe)
    made = Mixture(kind=mixture, n_experts=n_experts)  # type: ignore[arg-type]
    result = run(
        load_task(task).space,
        Corpus.load(corpus),
        output,
        recipe=settings,
        mixture=made,
        device=device,
        n_threads=n_threads,
        report=_show,
        command=command_line(),
        date=date,
    )
    _print(result, output, as_json=as_json)


@settings_options("recipe", Recipe)
def train(
    architecture: Annotated[
        Path, typer.Argument(help="A file with one architecture: JSON, or HAT's YAML.", show_default=False)
    ],
    corpus: _CorpusPath,
    output: _Directory,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task whose space it is from: it gives the qkv dim, and the depth and widths that "
            "dropout is scaled by."
        ),
    ] = None,
    qkv_dim: Annotated[
        int | None,
        typer.Option(help="Width of queries, keys and values, where there is no task; 512 if not given."),
    ] = None,
    device: _Device = "auto",
    n_threads: _Threads = None,
    date: Date = None,
    as_json: Json = False,
    recipe: Any = None,
) -> None:
    """Train one architecture from scratch, and translate the validation and test sets with it."""
    require("torch", "train")
    from llmpp.corpus import Corpus
    from llmpp.train import train_architecture as run

    if task is not None and qkv_dim is not None:
        raise InputError(f"a task's space has its own qkv dim: give --task or --qkv-dim {qkv_dim}, not both")
    result = run(
        read_one(architecture),
        Corpus.load(corpus),
        output,
        recipe=Recipe.from_dict(recipe),
        space=None if task is None else load_task(task).space,
        qkv_dim=512 if qkv_dim is None else qkv_dim,
        device=device,
        n_threads=n_threads,
        report=_show,
        command=command_line(),
        date=date,
    )
    _print(result, output, as_json=as_json)


def read_one(path: Path) -> Architecture:
    """Reads the one architecture of a file.

    Raises:
        InputError: If there are none or several.
    """
    found = read_architectures(path)
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} architectures: give a file with one")
    return found[0]


def _show(progress: "Progress") -> None:
    log.print(plain(str(progress)), soft_wrap=True, highlight=False)


def _print(result: Mapping[str, Any], output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**result, "output": str(output)})
        return
    for note in result["notes"]:
        out.print(f"note: {plain(note)}", soft_wrap=True)
    chosen = f"the {result['chosen']} weights"
    out.print(f"validation loss: {result['valid_loss']:.4f} nats per target token, of {chosen}")
    if result["kind"] == "supernet":
        for name, loss in result["valid_losses"].items():
            out.print(f"  {name}: {loss:.4f}")
    for name in ("valid", "test"):
        if quality := result.get(name):
            out.print(f"{name}: BLEU {quality['bleu']:.2f}, chrF {quality['chrf']:.2f}")
            out.print(f"  {plain(quality['bleu_signature'])}", soft_wrap=True)
    speed = f"{result['tokens_per_second']:,.0f} target tokens/s"
    out.print(f"time: {result['seconds'] + result['seconds_to_finish']:.0f} s, {speed}")
    out.print(f"written: {plain(str(output))}", soft_wrap=True)
