"""The verb `evaluate`."""

import math
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from llmpp.answers import join_answers
from llmpp.cli.console import (
    ProgressLine,
    describe_usage,
    log,
    out,
    plain,
    print_json,
    print_report,
    print_table,
)
from llmpp.cli.options import DryRun, Json, Seed, llm_options, survey_settings
from llmpp.errors import InputError, require, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmpp.budget import Usage
    from llmpp.probes import Inquiry, Probe
    from llmpp.report_card import Live, ReportCard
    from llmpp.resampling import Estimate

_LIVE_ONLY = "`--probe`, `--ladder` and `--dry-run`"
#: The measures of a table, and those that are shown with their interval; --json has all.
_WHOLE = ("mae", "kendall_tau")
_SHOWN = {
    "mae": "MAE",
    "kendall_tau": "Kendall tau-b",
    "kendall_tau_random_ties": "tau, ties at random",
    "spearman": "Spearman",
    "regret_1": "regret of 1",
    "regret_3": "of 3",
}


@llm_options()
def evaluate(
    task: Annotated[list[str], typer.Option(help="A task with figures; several: each, and their mean.")],
    llm: dict[str, Any],
    survey: dict[str, Any],
    n_seeds: Annotated[int, typer.Option(help="Students trained per split, on seeds from --seed on.")] = 5,
    n_bootstrap: Annotated[int, typer.Option(help="Resamples of the architectures behind intervals.")] = 2000,
    against: Annotated[str | None, typer.Option(help="The row that the others are compared with.")] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="Files of `llmpp label`, one per split, to use instead of the answers that ship."),
    ] = None,
    extended: Annotated[bool, typer.Option("--extended", help="Add what was tried beyond the plan.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask a live model with one thing in the prompt changed at a time.")
    ] = False,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="Ask a live model with prompts that lose one part after another.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predicted against trained as PATH.png and PATH.svg.")
    ] = None,
    dry_run: DryRun = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure what predictors are worth on trained architectures; name a --model to ask it, too."""
    from llmpp import report_card

    if plot:
        _check_plot(plot)
    report_card.check_alike(task)
    with ProgressLine("evaluating") as line:
        inquiry = _inquiry(llm, survey, seed, line.spend)
        if inquiry is None and (probe or ladder or dry_run):
            raise InputError(f"{_LIVE_ONLY} are about a live model: name it by --model or --base-url")
        probes = _probes(inquiry, is_probing=probe, is_ladder=ladder) if inquiry else ()
        if dry_run and inquiry:
            print_report(_quote(task, inquiry, probes), as_json=as_json)
            return
        settings: dict[str, Any] = {"n_bootstrap": n_bootstrap, "seed": seed}
        if not probes:
            settings |= {
                "n_seeds": n_seeds,
                "extended": extended,
                "progress": line.step,
                "live": _live(inquiry),
            }
            settings |= {"against": against} if against else {}
            settings |= {"answers": join_answers(answers)} if answers else {}
        cards = [_card(name, inquiry, probes, settings) for name in task]
    mean = report_card.average(cards) if len(cards) > 1 else cards[0]
    usage = inquiry.model.usage if inquiry else None
    if as_json:
        several = {"cards": [card.to_dict() for card in cards]} if len(cards) > 1 else {}
        print_json(mean.to_dict() | several | ({"usage": usage.to_dict()} if usage else {}))
    else:
        for card in [*cards, mean] if len(cards) > 1 else cards:
            _print_card(card)
        if usage:
            out.print(describe_usage(usage), soft_wrap=True)
    if plot:
        _draw(mean, plot)


def _check_plot(stem: Path) -> None:
    """Finds out before hours of work whether its figure can be drawn."""
    require("matplotlib", "plot")
    with writing(f"{stem}.png"):
        stem.parent.mkdir(parents=True, exist_ok=True)


def _probes(inquiry: "Inquiry", *, is_probing: bool, is_ladder: bool) -> "Sequence[Probe]":
    """The probes that were asked for; the first is what the others are compared with."""
    from llmpp.probes import PROBES, ladder_probes

    rungs = ladder_probes(inquiry.settings.parts) if is_ladder else ()
    return [*(PROBES if is_probing else ()), *rungs]


def _card(
    task: str, inquiry: "Inquiry | None", probes: "Sequence[Probe]", settings: dict[str, Any]
) -> "ReportCard":
    from llmpp.probes import probe_model
    from llmpp.report_card import evaluate

    if probes and inquiry:
        return probe_model(task, inquiry, probes, **settings)
    return evaluate(task, **settings)


def _live(inquiry: "Inquiry | None") -> "Live | None":
    from llmpp.report_card import Live

    return Live(inquiry.model.settings.model, inquiry.ask) if inquiry else None


def _quote(tasks: list[str], inquiry: "Inquiry", probes: "Sequence[Probe]") -> dict[str, Any]:
    from llmpp.probes import PLAIN, quote_inquiry

    quotes = [quote_inquiry(name, inquiry, probes or (PLAIN,)) for name in tasks]
    return reduce(add, quotes).to_dict()


def _draw(card: "ReportCard", stem: Path) -> None:
    from llmpp.scatter import draw

    files = [str(path) for path in draw(card, stem)]
    log.print(f"written: {plain(', '.join(files))}", soft_wrap=True)


def _inquiry(
    llm: dict[str, Any], survey: dict[str, Any], seed: int, on_reply: "Callable[[Usage], object]"
) -> "Inquiry | None":
    """The live model that the options name; None if they name none."""
    if not llm and not survey:
        return None
    if not {"model", "base_url"} & set(llm):
        raise InputError("options of a language model are given, but no --model or --base-url")
    from llmpp.llm import open_model
    from llmpp.probes import Inquiry

    return Inquiry(open_model(on_reply=on_reply, **llm), survey_settings(survey, seed), seed=seed)


def _print_card(card: "ReportCard") -> None:
    table = Table("predictor", *_SHOWN.values(), "MAE less reference's", title=_title(card), box=SIMPLE)
    for row in card.rows:
        figures = [_estimate(row.measures[name], is_whole=name in _WHOLE) for name in _SHOWN]
        table.add_row(plain(row.predictor), *figures, _estimate(row.difference["mae"], is_whole=True))
    print_table(table)
    if card.noise_ceiling:
        tau, mae = (
            _estimate(one, is_whole=True) for one in (card.noise_ceiling.kendall_tau, card.noise_ceiling.mae)
        )
        out.print(f"noise ceiling, validation against test score: tau-b {tau}, MAE {mae}", soft_wrap=True)


def _title(card: "ReportCard") -> str:
    return (
        f"{card.task}: means over {len(card.splits)} splits, bootstrap 95% intervals over architectures; "
        f"reference: {card.against}"
    )


def _estimate(one: "Estimate", *, is_whole: bool) -> str:
    """Writes a figure, with its interval if asked; '-' if it is not defined."""
    if math.isnan(one.mean):
        return "-"
    interval = f" ({one.low:.3f} to {one.high:.3f})" if is_whole else ""
    return f"{one.mean:.3f}{interval}"
