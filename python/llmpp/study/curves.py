"""A figure of a study's trainings: validation loss by update, one line each."""

from pathlib import Path
from typing import Any

from llmpp.errors import require
from llmpp.figure import save_figure
from llmpp.study.results import Results

_WIDTH, _HEIGHT = 9.0, 4.0


def draw_curves(results: Results, path_stem: Path) -> tuple[Path, Path]:
    """Draws validation losses: architectures by decoder depth on the left, supernets on the right.

    Args:
        results: What the study brought; trainings that are not done are left out.
        path_stem: Where to write: `STEM.png` and `STEM.svg`; missing folders are made.

    Returns:
        The two files.

    Raises:
        InputError: If they cannot be written.
        MissingExtraError: If matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "plot").Figure(figsize=(_WIDTH, _HEIGHT), layout="tight")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_architectures(left, results)
    _draw_supernets(right, results)
    left.set_ylabel("validation loss, nats per token", fontsize=8)
    for panel in (left, right):
        panel.set_xlabel("update", fontsize=8)
        panel.tick_params(labelsize=7)
    return save_figure(figure, path_stem)


def _draw_architectures(panel: Any, results: Results) -> None:
    named = set[int]()
    for number, architecture in results.architectures.items():
        if training := results.training(number):
            depth = architecture.decoder_layers
            layers = "layer" if depth == 1 else "layers"
            label = None if depth in named else f"{depth} decoder {layers}"
            named.add(depth)
            _draw(panel, training, color=f"C{depth}", linewidth=0.8, label=label)
    _finish(panel, "trained from scratch")


def _draw_supernets(panel: Any, results: Results) -> None:
    for number, kind in enumerate(results.study.supernets.kinds):
        if training := results.outcome(f"supernet-{kind}"):
            _draw(panel, training, color=f"C{number}", linewidth=1.2, label=kind)
    _finish(panel, "supernets: mean over some architectures")


def _finish(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=8)
    # matplotlib warns of a legend without lines.
    if panel.lines:
        panel.legend(fontsize=7, frameon=False)


def _draw(panel: Any, training: dict[str, Any], **look: Any) -> None:
    points = training["course"]["validation"]
    panel.plot([update for update, _ in points], [loss for _, loss in points], **look)
