"""LLM-PP: a language model as a predictor of quality (arXiv 2310.16712)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from llmpp.architecture import Architecture
from llmpp.budget import Usage
from llmpp.errors import InputError
from llmpp.llm import open_model
from llmpp.space import Encoding, Floats
from llmpp.survey import Survey, SurveySettings
from llmpp.task import Task, load_task


class LlmPredictor:
    """Scores architectures by asking a language model; replies are cached, so nothing is paid twice.

    As `initial` or `baseline` of `hsnas.search` it is asked once per generation.

    Args:
        task: A task with figures of trained architectures.
        split: The demonstrations that prompts show: a split of the task, or 'all'.
        settings: How architectures are put to the model.
        **model: Arguments of `llmpp.llm.open_model`: `model`, `base_url`, `n_samples`, `max_usd`, ...

    Raises:
        InputError: If there is no such task or split, or a setting is out of its range.

    Example:
        >>> predictor = LlmPredictor("wmt14.en-de", model="gpt-4.1", max_usd=1.0)
        >>> predictor.name
        'gpt-4.1'
    """

    encoding: Encoding = "per-layer"

    def __init__(
        self,
        task: str | Path | Task,
        *,
        split: str = "all",
        settings: SurveySettings | None = None,
        **model: Any,
    ) -> None:
        self.task = load_task(task)
        self.demonstrations = self.task.demonstrations(split)
        if not self.demonstrations:
            raise InputError(
                f"the task {self.task.name} has no trained architectures to demonstrate: give it `figures`"
            )
        self.settings = settings or SurveySettings()
        self.model = open_model(**model)
        self.name = self.model.settings.model

    @property
    def identity(self) -> str:
        """What its scores depend on: a digest of model, settings and demonstrations."""
        settings = self.model.settings
        asked = [settings.model, settings.sampling(), settings.n_samples, asdict(self.settings)]
        content = [*asked, [asdict(figures) for figures in self.demonstrations]]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        return self.model.usage

    @overload
    def predict(self, architectures: Sequence[Architecture], return_std: Literal[False] = ...) -> Floats: ...

    @overload
    def predict(
        self, architectures: Sequence[Architecture], return_std: Literal[True]
    ) -> tuple[Floats, Floats]: ...

    def predict(
        self,
        architectures: Sequence[Architecture],
        return_std: bool = False,  # noqa: FBT001, FBT002 - the convention of scikit-learn
    ) -> Floats | tuple[Floats, Floats]:
        """Scores architectures, `(n,)`, in the task's metric: means over the samples.

        Args:
            architectures: What to score.
            return_std: Also return the standard deviation over the samples, `(n,)`; NaN where only one of
                them has an answer.

        Raises:
            InputError: If a spread is asked for and `n_samples` is 1.
            MissingAnswersError: If some have no answer; its `missing` says which, the others' are cached.
            LlmError: If the endpoint rejects key, model or request.
            SpaceError: If an architecture lies outside the space.
        """
        if return_std and self.model.settings.n_samples < 2:
            raise InputError("`return_std` needs `n_samples` of at least 2, got 1")
        if not architectures:
            return (np.zeros(0), np.zeros(0)) if return_std else np.zeros(0)
        outcome = self.survey(architectures).run()
        if outcome.problem:
            raise outcome.problem
        return (outcome.answers, outcome.spread) if return_std else outcome.answers

    def survey(self, architectures: Sequence[Architecture]) -> Survey:
        """Prepares the questions about architectures, without asking.

        Raises:
            InputError: If there are none, or not one fits into the model's context.
            SpaceError: If an architecture lies outside the space.
        """
        return Survey(self.model, self.task, self.demonstrations, architectures, self.settings)
