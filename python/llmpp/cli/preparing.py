"""The verb `prepare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from llmpp.cli.console import ProgressLine, command_line, out, plain, print_json, print_table
from llmpp.cli.options import Date, Json, NoSeed


def prepare(
    train: Annotated[
        list[Path],
        typer.Option(
            help="The training text: one TSV of two columns, or this option twice, for the source and for "
            "the target, a sentence per line. UTF-8, plain or compressed by gzip."
        ),
    ],
    valid: Annotated[list[Path], typer.Option(help="The text to choose by, likewise.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new directory to write.")],
    test: Annotated[list[Path] | None, typer.Option(help="The text to report on, likewise.")] = None,
    vocabulary: Annotated[int, typer.Option(help="Subwords that source and target share.")] = 3000,
    max_tokens: Annotated[
        int, typer.Option(help="Subwords of the longest sentence that is used, its end included.")
    ] = 256,
    _seed: NoSeed = 0,
    date: Date = None,
    as_json: Json = False,
) -> None:
    """Turn parallel text into a corpus: a shared subword vocabulary, and sets to train and score on."""
    from llmpp.preparation import prepare as prepare_corpus

    with ProgressLine("preparing"):
        record = prepare_corpus(
            train=train,
            valid=valid,
            test=test or None,
            output=output,
            vocabulary=vocabulary,
            max_tokens=max_tokens,
            command=command_line(),
            date=date,
        )
    if as_json:
        print_json({**record, "output": str(output)})
        return
    _print_sets(record["sets"])
    out.print(f"vocabulary: {record['vocabulary']} subwords; hash: {record['hash']}", soft_wrap=True)
    out.print(f"written: {plain(str(output))}", soft_wrap=True)


def _print_sets(sets: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("set", "lines", "pairs", "tokens per source", "tokens per target", "longest", "unknown")
    for name, counts in sets.items():
        means = [f"{counts[f'n_{side}_tokens'] / counts['n_pairs']:.1f}" for side in ("source", "target")]
        keys = ("n_lines", "n_pairs", "longest", "n_unknown_tokens")
        n_lines, n_pairs, longest, n_unknown = (str(counts[key]) for key in keys)
        table.add_row(name, n_lines, n_pairs, *means, longest, n_unknown)
    print_table(table)
    for name, counts in sets.items():
        for reason, lines in counts["dropped"].items():
            if lines["n"]:
                what = f"{lines['n']} {reason.replace('_', '-')}, {_lines(lines['n'], lines['first_lines'])}"
                out.print(f"dropped from {name}: {what}", soft_wrap=True)
        if counts["n_lines"] == counts["n_pairs"]:
            out.print(f"dropped from {name}: none")


def _lines(n: int, first: Sequence[int]) -> str:
    numbers = ", ".join(map(str, first)) + (", ..." if n > len(first) else "")
    return f"line{'s' if n > 1 else ''} {numbers}"
