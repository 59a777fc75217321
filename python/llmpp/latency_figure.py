"""A figure of a latency model: predicted against measured latencies, with what is expected of 90% of them."""

from pathlib import Path
from typing import Any

import numpy as np

from llmpp.errors import require
from llmpp.figure import save_figure
from llmpp.latency import HeldOut

_INCHES = 4.5
_Z90 = 1.6449


def draw(held_out: HeldOut, path_stem: str | Path, *, title: str) -> tuple[Path, Path]:
    """Draws predicted against measured latencies, on the diagonal if right, with 90% intervals.

    Args:
        held_out: What a model was tested on.
        path_stem: Where to write: `STEM.png` and `STEM.svg`; missing folders are made.
        title: The title.

    Returns:
        The two files.

    Raises:
        InputError: If they cannot be written.
        MissingExtraError: If matplotlib is not installed.
    """
    return save_figure(_figure(held_out, title), path_stem)


def _figure(held_out: HeldOut, title: str) -> Any:
    figure = require("matplotlib.figure", "plot").Figure(figsize=(_INCHES, _INCHES), layout="tight")
    panel = figure.subplots()
    x, y = held_out.measured_ms, held_out.predicted_ms
    panel.errorbar(x, y, yerr=_Z90 * held_out.std_ms, fmt="o", markersize=3, linewidth=0.6, alpha=0.7)
    both = np.concatenate([x, y])
    ends = both.min(), both.max()
    panel.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    panel.set_aspect("equal")
    of = held_out.errors
    panel.set_title(
        f"{title}\nMAPE {of['mape_pct']:.2f}%, median error {of['median_ape_pct']:.2f}%", fontsize=8
    )
    panel.set_xlabel("measured (ms)", fontsize=8)
    panel.set_ylabel("predicted (ms), with 90% intervals", fontsize=8)
    panel.tick_params(labelsize=7)
    return figure
