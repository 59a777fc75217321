"""The verbs that ask a language model: `predict`, `label`, `check`; and `cache`."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from llmpp.architecture import Architecture, read_architectures
from llmpp.cli.console import (
    FAILED,
    ProgressLine,
    command_line,
    describe_usage,
    fail,
    log,
    out,
    plain,
    print_json,
    print_report,
    print_table,
)
from llmpp.cli.options import Cache, DryRun, Json, NoSeed, Seed, Split, TaskName, llm_options, survey_settings
from llmpp.errors import InputError
from llmpp.task import load_task

if TYPE_CHECKING:
    from llmpp.llm_predictor import LlmPredictor
    from llmpp.survey import Survey

cache = typer.Typer(help="The replies that are kept, so that nothing is paid twice.", no_args_is_help=True)


@contextmanager
def open_predictor(
    task: str, split: str, seed: int, llm: dict[str, Any], survey: dict[str, Any]
) -> "Iterator[LlmPredictor]":
    """Yields a predictor that shows on stderr what is spent."""
    from llmpp.llm_predictor import LlmPredictor

    with ProgressLine("asking") as line:
        settings = survey_settings(survey, seed)
        predictor = LlmPredictor(task, split=split, settings=settings, on_reply=line.spend, **llm)
        try:
            yield predictor
        except KeyboardInterrupt:
            if predictor.usage.n_calls:
                log.print(f"replies that had arrived are kept: {plain(str(predictor.model.cache.path))}")
            raise


@llm_options()
def predict(
    architectures: Annotated[list[Path], typer.Argument(help="JSON, JSON lines or HAT's YAML.")],
    task: TaskName,
    llm: dict[str, Any],
    survey: dict[str, Any],
    split: Split = "all",
    dry_run: DryRun = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Ask a language model how good architectures are."""
    asked = [architecture for path in architectures for architecture in read_architectures(path)]
    with open_predictor(task, split, seed, llm, survey) as predictor:
        if dry_run:
            print_report(predictor.survey(asked).quote().to_dict(), as_json=as_json)
            return
        outcome = predictor.survey(asked).run()
    rows = [
        {"estimate": _number(answer), "std": _number(std), "architecture": architecture.to_dict()}
        for architecture, answer, std in zip(asked, outcome.answers, outcome.spread, strict=True)
    ]
    if as_json:
        usage = predictor.usage.to_dict()
        problem = str(outcome.problem) if outcome.problem else None
        print_json({"model": predictor.name, "predictions": rows, "problem": problem, "usage": usage})
    else:
        _print_predictions(rows, predictor)
    if outcome.problem:
        raise outcome.problem


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _print_predictions(rows: Sequence[dict[str, Any]], predictor: "LlmPredictor") -> None:
    table = Table("number", f"{predictor.task.metric} by {predictor.name}", "std")
    for number, row in enumerate(rows, 1):
        figures = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("estimate", "std")]
        table.add_row(str(number), *figures)
    out.print(table)
    out.print(describe_usage(predictor.usage), soft_wrap=True)


@llm_options()
def label(
    task: TaskName,
    llm: dict[str, Any],
    survey: dict[str, Any],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file of answers to write.")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            help="Sample so many architectures and ask about those. (default 450; with a split 280, and "
            "what it holds out among them)",
        ),
    ] = None,
    architectures: Annotated[
        Path | None, typer.Option(help="Ask about the architectures of this file instead.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The demonstrations that prompts show: a split of the task, or 'all'. (default 'all'; "
            "--export: each of them)"
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Ask no one: write the questions to this new directory, for batch jobs or by hand; those "
            "of all splits and of 'all', unless --split says which."
        ),
    ] = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Ask a language model about many architectures, for `llmpp distill` to learn from."""
    from llmpp.labelling import default_questions, sample_unlabelled
    from llmpp.labelling import label as label_architectures
    from llmpp.offline import export_questions

    if (output and export) or not (output or export or dry_run):
        raise InputError("`llmpp label` needs one of --output FILE and --export DIR, or --dry-run")
    found = load_task(task)
    splits = [split] if split else [*(found.splits or {}), "all"] if export else ["all"]

    def asked_of(shown: str) -> list[Architecture]:
        if architectures:
            return read_architectures(architectures)
        if n is not None:
            return sample_unlabelled(found, n, seed=seed)
        return default_questions(found, shown, seed=seed)

    if export or dry_run:
        surveys = {one: _survey(asked_of(one), task, one, seed, llm, survey) for one in splits}
        if dry_run:
            first, *others = [each.quote() for each in surveys.values()]
            print_report(sum(others, first).to_dict(), as_json=as_json)
        elif export:
            print_report({"n_questions": export_questions(surveys, export)}, export, as_json=as_json)
        return
    assert output is not None  # noqa: S101 - checked above
    (shown,) = splits
    asked = asked_of(shown)
    with open_predictor(task, shown, seed, llm, survey) as predictor:
        report = label_architectures(predictor, asked, output, split=shown, command=command_line())
    print_report(report, output if output.exists() else None, as_json=as_json)
    if report["problem"]:
        fail(report["problem"], FAILED)


def _survey(
    asked: Sequence[Architecture],
    task: str,
    split: str,
    seed: int,
    llm: dict[str, Any],
    survey: dict[str, Any],
) -> "Survey":
    with open_predictor(task, split, seed, llm, survey) as predictor:
        return predictor.survey(asked)


@llm_options(asks=False)
def check(
    llm: dict[str, Any],
    task: TaskName = "wmt14.en-de",
    split: Split = "all",
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Ask a language model one small question, and say what works and what to do about the rest."""
    from llmpp.inspection import inspect_endpoint
    from llmpp.llm import open_model

    model = open_model(**llm)
    if model.budget.max_calls == 0:
        raise InputError("`llmpp check` makes one call, and `max_calls` is 0")
    findings = inspect_endpoint(load_task(task), model, split=split)
    is_good = all(finding.state != "failed" for finding in findings)
    if as_json:
        print_json({"ok": is_good, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            out.print(f"{finding.state:>8} {finding.subject:>9}  {plain(finding.text)}", soft_wrap=True)
    if not is_good:
        raise typer.Exit(FAILED)


@cache.command("list")
def list_cache(path: Cache = None, _seed: NoSeed = 0, as_json: Json = False) -> None:
    """List the models and settings that replies are kept of."""
    from llmpp.cache import ReplyCache

    replies = ReplyCache(path)
    rows = [dict(row) for row in replies.counts()]
    if as_json:
        print_json({"cache": str(replies.path), "rows": rows})
        return
    table = Table("model", "settings", "replies", "tokens in", "tokens out", "from", "to")
    for row in rows:
        table.add_row(*("-" if value is None else plain(str(value)) for value in row.values()))
    print_table(table)
    out.print(f"cache: {plain(str(replies.path))}", soft_wrap=True)


@cache.command("export")
def export_cache(
    output: Annotated[Path, typer.Argument(help="The JSON lines to write.")],
    path: Cache = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Write every kept reply with its question as JSON lines, for `llmpp cache import` elsewhere."""
    from llmpp.cache import ReplyCache
    from llmpp.offline import export_replies

    print_report({"n_replies": export_replies(ReplyCache(path), output)}, output, as_json=as_json)


@cache.command("import")
def import_cache(
    source: Annotated[
        Path,
        typer.Argument(
            help="A directory of `llmpp label --export` with replies/NAME.txt in it, the output file of a "
            "batch, or a file of `llmpp cache export`."
        ),
    ],
    model: Annotated[str | None, typer.Option(help="The model that gave the replies of a directory.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="The directory that a batch was made from, if its output lies elsewhere."),
    ] = None,
    path: Cache = None,
    _seed: NoSeed = 0,
    as_json: Json = False,
) -> None:
    """Take replies into the cache; each is checked against its prompt, and what is missing is said."""
    from llmpp.cache import ReplyCache
    from llmpp.offline import as_rows, import_replies

    imported = import_replies(ReplyCache(path), source, model=model, prompts=prompts)
    problems = [entry for entry in imported if entry.problem or entry.n_answers < entry.n_asked]
    taken = [entry for entry in imported if not entry.problem]
    counts = {
        "n_prompts": len(imported),
        "n_taken": len(taken),
        "n_new": sum(entry.is_new for entry in taken),
        "n_answers": sum(entry.n_answers for entry in taken),
        "n_missing": sum(entry.n_asked - entry.n_answers for entry in imported),
    }
    if as_json:
        print_json({**counts, "rows": as_rows(imported)})
    else:
        for entry in problems:
            what = entry.problem or f"{entry.n_answers} of {entry.n_asked} answers"
            out.print(f"{plain(entry.name)}: {plain(what)}", soft_wrap=True)
        print_report(counts, as_json=False)
    if imported and not taken:
        raise typer.Exit(FAILED)
