"""The page of a study, in Markdown with figures beside it; made of its results alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpp.errors import InputError
from llmpp.metrics import kendall_tau
from llmpp.study.compared import cells, compare, headings
from llmpp.study.noise import Noise
from llmpp.study.results import Results
from llmpp.study.task_file import score_name, task_dict
from llmpp.task import Task
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
        InputError: If a training or a measurement is not done, or a file cannot be read or written.
        MissingExtraError: If matplotlib or scikit-learn is not installed.
    """
    from llmpp.report_card import evaluate
    from llmpp.scatter import draw
    from llmpp.study.curves import draw_curves

    task = Task.from_dict(task_dict(results, command=command))
    card = evaluate(task, n_bootstrap=n_bootstrap)
    folder = path.with_suffix("")
    scatter, curves = draw(card, folder / "scatter"), draw_curves(results, folder / "curves")
    parts = [
        f"# {task.words or task.name}, measured end to end",
        f"    {how}",
        f"Figures: {task.source}.",
        *_noise(results),
        *_table(results),
        *_supernets(results),
        *_card(card),
        f"![predicted against trained]({folder.name}/scatter.png)",
        "## Training curves",
        f"![validation loss]({folder.name}/curves.png)",
        *_hours(results),
        *_comparison(results),
        *([read_text(notes, "the notes").strip()] if notes else []),
    ]
    try:
        replace_text(path, "\n\n".join(parts) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    return [path, *scatter, *curves]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table in Markdown."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _noise(results: Results) -> Iterator[str]:
    yield "## What trainings are worth"
    noise = Noise.of(results)
    yield noise.describe()
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
        "FFN and span are means over layers; minutes are of one thread, translations included; supernet "
        "scores are minus nats per token (`_loss`), or BLEU."
    )
    scores = {score_name(kind, metric): found for kind, metric, found in results.scores()}
    head = ["", "enc. dim", "enc. FFN", "dec. layers", "dec. dim", "dec. FFN", "span"]
    head += ["valid BLEU", "test BLEU", "valid loss", "params M", "GFLOPs", "ms", "minutes", *scores]
    yield markdown_table(head, (_row(results, number, scores) for number in results.architectures))


def _row(results: Results, number: int, scores: Mapping[str, Mapping[int, float]]) -> list[str]:
    one, training, latency = results.architectures[number], results.training(number), results.latency(number)
    assert training is not None  # noqa: S101 - the task was made of it
    assert latency is not None  # noqa: S101
    minutes = (training["seconds"] + training["seconds_to_finish"]) / 60
    return [
        str(number),
        str(one.encoder_dim),
        f"{np.mean(one.encoder_ffn):.0f}",
        str(one.decoder_layers),
        str(one.decoder_dim),
        f"{np.mean(one.decoder_ffn):.0f}",
        f"{np.mean(one.cross_span):.1f}",
        f"{training['valid']['bleu']:.2f}",
        f"{training['test']['bleu']:.2f}",
        f"{training['valid_loss']:.3f}",
        f"{training['params'] / 1e6:.3f}",
        f"{training['flops'] / 1e9:.4f}",
        f"{latency['latency_ms']:.1f}",
        f"{minutes:.1f}",
        *(f"{found[number]:.3f}" for found in scores.values()),
    ]


def _supernets(results: Results) -> Iterator[str]:
    """Says how supernets rank all architectures, plainly where they rank badly."""
    trained = np.array([_trained(results, number)["valid"]["bleu"] for number in results.architectures])
    losses = np.array([-_trained(results, number)["valid_loss"] for number in results.architectures])
    rows = [["validation loss of the same trainings", *_tau_cells(losses, trained)]]
    for kind, metric, found in results.scores():
        given = np.array([found[number] for number in results.architectures])
        rows.append([f"`{score_name(kind, metric)}`", *_tau_cells(given, trained)])
    yield "## How supernets rank"
    yield markdown_table(["", f"Kendall tau-b over all {len(trained)} architectures", ""], rows)


def _tau_cells(given: Any, trained: Any) -> list[str]:
    tau = float(kendall_tau(given, trained, np.ones((1, len(given))))[0])
    if np.isnan(tau):
        return ["-", "all are equal"]
    return [f"{tau:.3f}", "ranks badly" if tau < _POOR_TAU else ""]


def _card(card: "ReportCard") -> Iterator[str]:
    n_held_out, n = len(card.key.ids[0]), len(card.architectures)
    yield "## The report card"
    yield (
        f"Means over splits {', '.join(card.splits)}, each of which shows {n - n_held_out} architectures "
        f"and holds out {n_held_out}; bootstrap 95% intervals. The plain error of a `_loss` row says "
        "nothing: it is in nats."
    )
    head = ["predictor", "MAE, BLEU", "Kendall tau-b", "regret of 1"]
    yield markdown_table(head, ([row.predictor, *_measures(row.measures)] for row in card.rows))
    if card.noise_ceiling:
        ceiling = card.noise_ceiling
        yield (
            f"Noise ceiling, validation against test BLEU of the same models: tau-b "
            f"{ceiling.kendall_tau.mean:.3f}, MAE {ceiling.mae.mean:.3f}."
        )


def _measures(measures: Mapping[str, Any]) -> list[str]:
    found = [measures["mae"], measures["kendall_tau"]]
    whole = ["-" if np.isnan(m.mean) else f"{m.mean:.3f} ({m.low:.2f} to {m.high:.2f})" for m in found]
    return [*whole, f"{measures['regret_1'].mean:.3f}"]


def _hours(results: Results) -> Iterator[str]:
    seconds = results.seconds()
    yield "## Hours"
    counts = {kind: sum(results.job(name).kind == kind for name in results.records) for kind in seconds}
    rows = [[kind, str(counts[kind]), f"{spent / 3600:.2f}"] for kind, spent in seconds.items()]
    total = ["together", str(sum(counts.values())), f"{sum(seconds.values()) / 3600:.2f}"]
    yield markdown_table(["jobs", "n", "hours of one process"], [*rows, total])


def _comparison(results: Results) -> Iterator[str]:
    rows = [row for row in compare(results) if row.seeds]
    if rows:
        yield "## Searches"
        yield "Means over seeds ± standard deviation; BLEU and latency are of what was found, once trained."
        yield markdown_table(headings(), map(cells, rows))


def _trained(results: Results, number: int) -> dict[str, Any]:
    training = results.training(number)
    if training is None:
        raise InputError(f"architecture {number} was not trained: go on with `llmpp study run`")
    return training
