"""Probes of a live model: what of the prompt its answers depend on.

Each asks about what the splits hold out, with one thing changed. A model that works from the demonstrations
loses nothing on another scale, under opaque names or in another order, and everything when labels are
shuffled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TypeAlias

import numpy as np

from llmpp.exam import Exam, set_exams
from llmpp.llm import LanguageModel
from llmpp.outcome import Quote
from llmpp.prompt import PARTS, PromptParts, ladder
from llmpp.report_card import ReportCard, compare
from llmpp.space import HYPERPARAMETERS, Floats
from llmpp.survey import Survey, SurveySettings
from llmpp.task import Figures, Task, load_task

#: Demonstrations as a probe shows them, from those of a split and a generator.
Change: TypeAlias = Callable[[list[Figures], np.random.Generator], list[Figures]]

_SCALE, _OFFSET = 0.7, 1.3
_OPAQUE = {
    name: f"part{1 + index // 6}_{'abcdef'[index % 6]}"
    for index, name in enumerate([*HYPERPARAMETERS, "gflops"])
}


def _same(shown: list[Figures], _draw: np.random.Generator) -> list[Figures]:
    return shown


def _rescaled(shown: list[Figures], _draw: np.random.Generator) -> list[Figures]:
    return [replace(figures, valid_score=_SCALE * figures.valid_score + _OFFSET) for figures in shown]


def _reordered(shown: list[Figures], draw: np.random.Generator) -> list[Figures]:
    return [shown[place] for place in draw.permutation(len(shown))]


def _relabelled(shown: list[Figures], draw: np.random.Generator) -> list[Figures]:
    """Gives every demonstration the score of another one."""
    order = draw.permutation(len(shown))
    scores = {
        int(place): shown[int(other)].valid_score
        for place, other in zip(order, np.roll(order, 1), strict=True)
    }
    return [replace(figures, valid_score=scores[place]) for place, figures in enumerate(shown)]


@dataclass(frozen=True)
class Probe:
    """One change of the prompt.

    Attributes:
        name: What is changed.
        change: How demonstrations are shown.
        without: Parts that the prompt leaves out.
        parts: Parts that it has instead of the usual ones, before some are left out.
        metric: What quality is called; None as the task does.
        names: What hyperparameters are called.
        scale: What qualities are multiplied by.
        offset: What is then added.
    """

    name: str
    change: Change = _same
    without: tuple[str, ...] = ()
    parts: PromptParts | None = None
    metric: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0


PLAIN = Probe("as asked")
PROBES = (
    PLAIN,
    Probe("another scale", _rescaled, ("task_name",), scale=_SCALE, offset=_OFFSET),
    Probe("opaque names", _rescaled, PARTS, metric="score", names=_OPAQUE, scale=_SCALE, offset=_OFFSET),
    Probe("another order", _reordered),
    Probe("shuffled labels", _relabelled),
)


@dataclass(frozen=True)
class Inquiry:
    """A probe put to a model.

    Attributes:
        model: Whom to ask.
        settings: How, but for what the probe changes.
        probe: What it changes.
        seed: Seed of orders and labels.
    """

    model: LanguageModel
    settings: SurveySettings
    probe: Probe = PLAIN
    seed: int = 0

    def survey(self, exam: Exam) -> Survey:
        """Prepares the questions of an exam."""
        probe = self.probe
        parts = (probe.parts or self.settings.parts).without(probe.without)
        if probe.names:
            parts = parts.showing(())
        settings = replace(self.settings, parts=parts, names={**self.settings.names, **probe.names})
        shown = probe.change(list(exam.demonstrations), np.random.Generator(np.random.PCG64(self.seed)))
        task = replace(exam.task, metric=probe.metric or exam.task.metric)
        return Survey(self.model, task, shown, exam.architectures, settings)

    def ask(self, exam: Exam) -> Floats:
        """Asks, and brings the answers `(n,)` back to the scale of the task.

        Raises:
            MissingAnswersError: If some architectures have no answer.
            LlmError: If the endpoint rejects key, model or request.
        """
        outcome = self.survey(exam).run()
        if outcome.problem:
            raise outcome.problem
        return (outcome.answers - self.probe.offset) / self.probe.scale


def ladder_probes(parts: PromptParts) -> tuple[Probe, ...]:
    """Lists the steps of the paper's ablation, from the whole prompt down to the demonstrations alone."""
    rungs = ladder(parts.sentence_pairs)
    return tuple(Probe(name, parts=rung) for name, rung in reversed(rungs.items()))


def probe_model(
    task: str | Path | Task,
    inquiry: Inquiry,
    probes: Sequence[Probe] = PROBES,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> ReportCard:
    """Puts probes to a model, on every split of a task, and compares each with the first.

    Raises:
        InputError: If the task has no figures or splits.
        MissingAnswersError: If some architectures have no answer. What was answered is in the cache.
        LlmError: If the endpoint rejects key, model or request.
    """
    predictors = {probe.name: replace(inquiry, probe=probe).ask for probe in probes}
    return compare(task, predictors, against=probes[0].name, n_bootstrap=n_bootstrap, seed=seed)


def quote_inquiry(task: str | Path | Task, inquiry: Inquiry, probes: Sequence[Probe] = (PLAIN,)) -> Quote:
    """Counts what a report card's questions to a model, or those of probes, will take."""
    inquiries = [replace(inquiry, probe=probe) for probe in probes]
    exams = set_exams(load_task(task), None)
    return reduce(add, [one.survey(exam).quote() for one in inquiries for exam in exams])
