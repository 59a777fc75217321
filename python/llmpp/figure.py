"""Figures as files."""

from pathlib import Path
from typing import Any

from llmpp.errors import require, writing


def save_figure(figure: Any, path_stem: str | Path) -> tuple[Path, Path]:
    """Writes a matplotlib figure as `STEM.png` and `STEM.svg`; missing folders are made.

    Equal figures make equal bytes: no date, fixed ids.

    Raises:
        InputError: If the files cannot be written.
        MissingExtraError: If matplotlib is not installed.
    """
    matplotlib = require("matplotlib", "plot")
    stem = Path(path_stem)
    files = (stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg"))
    with matplotlib.rc_context({"svg.hashsalt": "llmpp"}), writing(f"{files[0]} and {files[1]}"):
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(files[0], dpi=150, metadata={"Software": None})
        figure.savefig(files[1], metadata={"Date": None})
    return files
