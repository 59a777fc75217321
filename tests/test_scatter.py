"""The figure of a report card."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmpp import InputError
from llmpp.report_card import ReportCard, evaluate
from report_cards import LIVE, TASK, own_task, with_losses

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from llmpp import scatter


@pytest.fixture(scope="module")
def small() -> ReportCard:
    bare = tuple(replace(figures, supernet_scores={}) for figures in TASK.figures)
    return evaluate(own_task(figures=bare), live=LIVE, n_bootstrap=5)


def test_a_scatter_is_drawn_with_a_panel_per_predictor(small: ReportCard, tmp_path: Path) -> None:
    png, svg = scatter.draw(small, tmp_path / "new" / "card.v1")
    assert (png.name, svg.name) == ("card.v1.png", "card.v1.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    assert len(small.rows) == 7
    assert text.count('id="axes_') == 10
    assert text.count('id="PathCollection_') == 7 + 1  # the legend's one
    again = scatter.draw(small, tmp_path / "again")
    assert again[1].read_text(encoding="utf-8") == text


def test_what_is_in_other_units_has_no_panel(tmp_path: Path) -> None:
    card = evaluate(with_losses(), n_bootstrap=5)
    text = scatter.draw(card, tmp_path / "card")[1].read_text(encoding="utf-8")
    assert text.count('id="PathCollection_') == len(card.rows) - 1 + 1  # the legend's one


def test_a_scatter_that_cannot_be_written_is_named(small: ReportCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*card\.png"):
        scatter.draw(small, tmp_path / "file" / "card")
