"""The page of a study, in Markdown with figures beside it; made of its results alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpp.errors import writing
from llmpp.resampling import Estimate
from llmpp.study.comparison import STUDENT
from llmpp.study.comparison_table import cells, compare, headings
from llmpp.study.noise import Noise
from llmpp.study.ranks import Ranks, rank
from llmpp.study.results import Results
from llmpp.study.search_jobs import n_places
from llmpp.study.task_file import FEWEST_TO_TEST, score_name, source, trained_task
from llmpp.task import Task, cost
from llmpp.text import read_text, replace_text

if TYPE_CHECKING:
    from llmpp.report_card import ReportCard

#: Below this, a supernet is said to rank badly: less than the WMT tasks' supernets reach.
_POOR_TAU = 0.5


def write_page(
    results: Results,
    path: Path,
    *,
    command: str,
    how: str,
    notes: Path | None = None,
    n_bootstrap: int = 2000,
) -> list[Path]:
    """Writes the page, and its figures into a folder of the same name beside it.

    Of a study that is not done, the page has what there is, and says what is missing.

    Args:
        results: What the study brought.
        path: The Markdown file.
        command: The command that did the study.
        how: The command that makes the page.
        notes: Markdown that goes into it: what was tried, and what was found.
        n_bootstrap: Resamples behind the intervals of the report card.

    Returns:
        The files.

    Raises:
        InputError: If a file cannot be read or written.
        MissingExtraError: If matplotlib or scikit-learn is not installed.
    """
    folder, files = path.with_suffix(""), [path]
    written = [read_text(notes, "the notes").strip()] if notes else []
    parts = [
        f"# {results.study.words or results.study.name}, measured end to end",
        f"    {how}",
        *_so_far(results),
        f"Figures: {source(results, command)}.",
        *_noise(results),
        *_table(results),
        *_ranks(results, n_bootstrap),
        *_card(results, command, n_bootstrap, folder, files),
        *_curves(results, folder, files),
        *_hours(results),
        *_comparison(results),
        *written,
    ]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "\n\n".join(parts) + "\n")
    return files


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table in Markdown."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _so_far(results: Results) -> Iterator[str]:
    """Says what is missing, if anything is."""
    n, missing = len(results.architectures), {what: len(names) for what, names in results.missing.items()}
    if any(missing.values()):
        yield (
            f"**Not done yet.** {n - missing['trainings']} of {n} architectures are trained so far, and "
            f"{n - missing['latencies']} of {n} measured; {missing['further seeds']} trainings with further "
            f"seeds and {missing['supernet scores']} tables of supernet scores are missing. `-` is what is "
            "not known yet."
        )


def _noise(results: Results) -> Iterator[str]:
    yield "## What trainings are worth"
    noise = Noise.of(results)
    yield noise.describe()
    if noise.replicated:
        yield markdown_table(
            ["architecture", "seed", "validation BLEU", "test BLEU", "validation loss"],
            (
                [str(number), str(seed), f"{one['valid']['bleu']:.2f}", f"{one['test']['bleu']:.2f}",
                 f"{one['valid_loss']:.3f}"]
                for number, seed, one in noise.replicated
            ),
        )  # fmt: skip


def _table(results: Results) -> Iterator[str]:
    yield "## The architectures"
    yield (
        "FFN and span are means over layers. Minutes are by the clock, translations included, on "
        f"{_where(results)}: other jobs ran beside most of these, and whatever else the machine did, so they "
        "say how long it took, not what it takes. `hat` is the plain supernet, the others mixtures; scores "
        "are minus nats per token (`_loss`), or BLEU."
    )
    scores = {score_name(kind, metric): found for kind, metric, found in results.scores()}
    head = ["", "enc. dim", "enc. FFN", "dec. layers", "dec. dim", "dec. FFN", "span"]
    head += ["valid BLEU", "test BLEU", "valid loss", "params M", "GFLOPs", "ms", "minutes", *scores]
    yield markdown_table(head, (_row(results, number, scores) for number in results.architectures))
    if any(_is_imprecise(results.latency(number)) for number in results.architectures):
        wanted = 100 * results.study.measuring.precision
        yield f"`*`: half the 95% interval of this median is more than {wanted:g}% of it."


def _where(results: Results) -> str:
    """Where architectures were trained: devices, and threads of each."""
    machines = [machine for training in results.first_trainings() if (machine := training.get("machine"))]
    named = dict.fromkeys((one.get("device", "cpu"), one.get("n_threads")) for one in machines)
    found = [f"{device} with {n} thread{'' if n == 1 else 's'}" if n else device for device, n in named]
    return " or ".join(found) or "one thread"


def _row(results: Results, number: int, scores: Mapping[str, Mapping[int, float]]) -> list[str]:
    one = results.architectures[number]
    costs = cost(one, task=results.study.task)
    return [
        str(number),
        str(one.encoder_dim),
        f"{np.mean(one.encoder_ffn):.0f}",
        str(one.decoder_layers),
        str(one.decoder_dim),
        f"{np.mean(one.decoder_ffn):.0f}",
        f"{np.mean(one.cross_span):.1f}",
        *_quality(results.training(number)),
        f"{costs.params / 1e6:.3f}",
        f"{costs.flops / 1e9:.4f}",
        _milliseconds(results.latency(number)),
        _minutes(results.training(number)),
        *(f"{found[number]:.3f}" for found in scores.values()),
    ]


def _quality(training: Mapping[str, Any] | None) -> list[str]:
    if training is None:
        return ["-"] * 3
    return [
        f"{training['valid']['bleu']:.2f}",
        f"{training['test']['bleu']:.2f}",
        f"{training['valid_loss']:.3f}",
    ]


def _minutes(training: Mapping[str, Any] | None) -> str:
    return f"{(training['seconds'] + training['seconds_to_finish']) / 60:.1f}" if training else "-"


def _milliseconds(latency: Mapping[str, Any] | None) -> str:
    return f"{latency['latency_ms']:.1f}{'*' * _is_imprecise(latency)}" if latency else "-"


def _is_imprecise(latency: Mapping[str, Any] | None) -> bool:
    return latency is not None and not latency["is_precise"]


def _ranks(results: Results, n_bootstrap: int) -> Iterator[str]:
    """Says how supernets rank architectures, plainly where they rank badly."""
    yield "## How supernets rank"
    if missing := results.missing["trainings"]:
        yield _later("Ranks are compared", missing)
        return
    yield (
        "Kendall's tau-b with validation BLEU after training, with bootstrap 95% intervals. "
        "Among equal depths: the mean over numbers of decoder layers of the same among architectures with so "
        "many, which is what a predictor tells beyond depth."
    )
    head = ["", f"over all {len(results.architectures)} architectures", "among equal depths", ""]
    yield markdown_table(head, map(_rank_cells, rank(results, n_bootstrap=n_bootstrap)))


def _later(what: str, missing: Sequence[str]) -> str:
    return f"{what} when all architectures are trained: {len(missing)} are missing."


def _rank_cells(ranks: Ranks) -> list[str]:
    tau = ranks.whole.mean
    verdict = "all are equal" if np.isnan(tau) else "ranks badly" if tau < _POOR_TAU else ""
    return [ranks.name, _with_interval(ranks.whole), _with_interval(ranks.within), verdict]


def _with_interval(one: Estimate) -> str:
    return "-" if np.isnan(one.mean) else f"{one.mean:.3f} ({one.low:.2f} to {one.high:.2f})"


def _card(results: Results, command: str, n_bootstrap: int, folder: Path, files: list[Path]) -> Iterator[str]:
    """Evaluates predictors as `llmpp evaluate` does; adds the files of the plot to `files`."""
    from llmpp.report_card import evaluate
    from llmpp.scatter import draw

    yield "## The report card"
    if missing := results.missing["trainings"]:
        yield _later("Predictors are compared", missing)
        return
    if len(results.architectures) < FEWEST_TO_TEST:
        yield f"Predictors are compared from {FEWEST_TO_TEST} architectures on."
        return
    card = evaluate(Task.from_dict(trained_task(results, command=command)), n_bootstrap=n_bootstrap)
    yield from _card_table(card)
    files += draw(card, folder / "scatter")
    yield f"![predicted against trained]({folder.name}/scatter.png)"


def _card_table(card: "ReportCard") -> Iterator[str]:
    n_held_out, n = len(card.key.ids[0]), len(card.architectures)
    yield (
        f"Means over splits {', '.join(card.splits)}, each of which shows {n - n_held_out} architectures "
        f"and holds out {n_held_out}; bootstrap 95% intervals. Losses of supernets are in "
        "nats: they have an error, and a plot, only after a line has been fitted to what is shown."
    )
    head = ["predictor", "MAE, BLEU", "Kendall tau-b", "regret of 1"]
    yield markdown_table(head, ([row.predictor, *_measures(row.measures)] for row in card.rows))
    if card.noise_ceiling:
        ceiling = card.noise_ceiling
        yield (
            f"Noise ceiling, validation against test BLEU of the same models: tau-b "
            f"{ceiling.kendall_tau.mean:.3f}, MAE {ceiling.mae.mean:.3f}."
        )


def _measures(measures: Mapping[str, Estimate]) -> list[str]:
    whole = map(_with_interval, (measures["mae"], measures["kendall_tau"]))
    return [*whole, f"{measures['regret_1'].mean:.3f}"]


def _curves(results: Results, folder: Path, files: list[Path]) -> Iterator[str]:
    """Draws what was trained so far; adds the files to `files`."""
    from llmpp.study.curves import draw_curves

    files += draw_curves(results, folder / "curves")
    yield "## Training curves"
    yield f"![validation loss]({folder.name}/curves.png)"


def _hours(results: Results) -> Iterator[str]:
    seconds = results.seconds()
    yield "## Hours"
    yield (
        "By the clock, added up over jobs, most of which ran beside another one: not hours of a machine that "
        "does nothing else."
    )
    counts = {kind: sum(results.job(name).kind == kind for name in results.records) for kind in seconds}
    rows = [[kind, str(counts[kind]), f"{spent / 3600:.2f}"] for kind, spent in seconds.items()]
    total = ["together", str(sum(counts.values())), f"{sum(seconds.values()) / 3600:.2f}"]
    yield markdown_table(["jobs", "n", "hours of one process"], [*rows, total])


def _comparison(results: Results) -> Iterator[str]:
    rows = [row for row in compare(results) if row.seeds]
    if not rows:
        return
    yield "## Searches"
    yield "Means over seeds ± standard deviation; BLEU and latency are of what was found, once trained."
    comparison, methods = results.study.comparison, results.study.comparison.methods
    if (trained := comparison.seeds_of_trainings) != comparison.seeds:
        seeds = ", ".join(map(str, trained)) or "no seed"
        yield f"Only what searches with these seeds found is trained: {seeds}."
    if any(method.is_random for method in methods.values()):
        n = n_places(comparison.evolution)
        yield (
            f"Random search evaluates {n:,} architectures, as many as an evolution has places for; an "
            "evolution meets known ones among its own, which are not evaluated again. The table has the "
            "evaluations of each."
        )
    if STUDENT in comparison.needs:
        yield (
            "The student is distilled from the best predictor that needs no language model: the one among "
            "those that learn from the trained architectures alone that misses least what it has not seen."
        )
    yield markdown_table(headings(), map(cells, rows))
