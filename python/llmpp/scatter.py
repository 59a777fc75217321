"""A figure of a report card: predicted against trained scores, one panel per predictor."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.errors import require
from llmpp.figure import save_figure
from llmpp.marking import Row
from llmpp.report_card import ReportCard

_N_COLUMNS = 5
_PANEL_INCHES = 2.2
_EDGE_INCHES = 0.75
_MARKERS = "osD^vP*X"


def draw(card: ReportCard, path_stem: str | Path) -> tuple[Path, Path]:
    """Draws predicted (mean over seeds) against trained scores, on the diagonal if right.

    Predictors whose error is not defined, since they predict in other units, are left out.

    Args:
        card: What `llmpp.report_card.evaluate` returned.
        path_stem: Where to write: `STEM.png` and `STEM.svg`; missing folders are made.

    Returns:
        The two files.

    Raises:
        InputError: If they cannot be written.
        MissingExtraError: If matplotlib is not installed.
    """
    drawn = tuple(row for row in card.rows if not math.isnan(row.measures["mae"].mean))
    return save_figure(_figure(replace(card, rows=drawn)), path_stem)


def _figure(card: ReportCard) -> Any:
    # Without pyplot: no window, no global state, and the backends that write files.
    n_columns = min(_N_COLUMNS, len(card.rows))
    n_lines = math.ceil(len(card.rows) / n_columns)
    width, height = n_columns * _PANEL_INCHES + 2 * _EDGE_INCHES, n_lines * _PANEL_INCHES + 2 * _EDGE_INCHES
    figure = require("matplotlib.figure", "plot").Figure(figsize=(width, height))
    # Fixed margins: matplotlib's own layouts take half a minute for fifty panels.
    x, y = _EDGE_INCHES / width, _EDGE_INCHES / height
    figure.subplots_adjust(left=x, right=1 - x / 2, bottom=y, top=1 - y, wspace=0.3, hspace=0.4)
    panels = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for panel, row in zip(panels, card.rows, strict=False):
        _draw_panel(panel, card, row)
    for panel in panels[len(card.rows) :]:
        panel.set_axis_off()
    figure.suptitle(f"{card.task}: the architectures that each split holds out", fontsize=10, y=1 - y / 5)
    figure.supxlabel(f"trained ({card.metric})", fontsize=9)
    figure.supylabel(f"predicted ({card.metric})", fontsize=9, x=x / 5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", ncols=len(labels), fontsize=7, frameon=False)
    return figure


def _draw_panel(panel: Any, card: ReportCard, row: Row) -> None:
    predicted = [of_split.mean(axis=0) for of_split in row.predictions]
    for number, (split, x, y) in enumerate(zip(card.splits, card.key.trained, predicted, strict=True)):
        panel.scatter(x, y, s=9, alpha=0.7, marker=_MARKERS[number % len(_MARKERS)], label=f"split {split}")
    every = np.concatenate([*card.key.trained, *predicted])
    ends = every.min(), every.max()
    panel.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    panel.set_aspect("equal")
    panel.set_title(_title(card, row), fontsize=6.5)
    panel.tick_params(labelsize=6)


def _title(card: ReportCard, row: Row) -> str:
    error, tau = row.measures["mae"].mean, row.measures["kendall_tau"].mean
    name = row.predictor if len(row.predictor) <= 40 else row.predictor[:39] + "…"
    ranks = "not defined" if math.isnan(tau) else f"{tau:.2f}"
    return f"{name}\nerror {error:.2f} {card.metric}, tau {ranks}"
