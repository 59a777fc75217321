"""Figures and weights that ship; `rebuild.py` says where each came from and makes it again."""

from pathlib import Path


def asset(*names: str) -> Path:
    """The path of a file or folder that ships."""
    return Path(__file__).parent.joinpath(*names)
