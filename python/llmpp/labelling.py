"""Labels architectures with a language model's answers, for `llmpp distill` to learn from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.answers import Answer, Answers, read_answers, write_answers
from llmpp.architecture import Architecture
from llmpp.errors import InputError, LlmError
from llmpp.llm_predictor import LlmPredictor
from llmpp.provenance import origin
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.survey import Outcome
from llmpp.task import Task

LABELLING_SCHEMA = "llmpp.labelling/1"


def sample_unlabelled(task: Task, n: int, *, seed: int = 0) -> list[Architecture]:
    """Draws distinct architectures of a task's space that it has no figures of.

    Raises:
        InputError: If `n` is not in 1..1,000,000, or the space has too few.
    """
    n, seed = integer("n", n, 1, 1_000_000), integer("seed", seed, 0, LARGEST_SEED)
    known = {figures.architecture for figures in task.figures}
    # Drawn twice as many as needed, so that the first ones do not depend on how many are asked for.
    for n_drawn in (2 * n + 64, 20 * n + 640):
        drawn = dict.fromkeys(task.space.sample(n_drawn, seed=seed))
        found = [architecture for architecture in drawn if architecture not in known]
        if len(found) >= n:
            return found[:n]
    raise InputError(f"the space {task.space.name} has too few architectures for n={n}")


def label(
    predictor: LlmPredictor,
    architectures: Sequence[Architecture],
    output: Path,
    *,
    split: str,
    command: str,
) -> dict[str, Any]:
    """Asks about architectures and writes the answers, also where some are missing.

    A line in OUTPUT.runs.jsonl records each run: status, tokens and cost, cached and new apart.

    Args:
        predictor: Whom to ask, showing which demonstrations.
        architectures: What to ask about.
        output: The file of answers. One that is there is replaced if it answers the same task with the same
            model and settings.
        split: The demonstrations' name.
        command: What to record as the command.

    Returns:
        Status ('done', 'budget' or 'incomplete'), number of answers, what is missing, tokens and cost.

    Raises:
        InputError: If the output holds something else, or cannot be written.
        LlmError: If the endpoint rejects key, model or request. What was answered is in the cache.
    """
    header = _header(predictor)
    _check_output(output, header)
    survey = predictor.survey(architectures)
    status = "interrupted"
    try:
        outcome = survey.run()
        status = _status(predictor, outcome)
        answers = _answers(architectures, outcome, split)
        if answers:
            write_answers(output, Answers(header, tuple(answers)))
    except LlmError:
        status = "rejected"
        raise
    finally:
        usage = predictor.usage.to_dict()
        _record(output, {"status": status, "usage": usage, **origin(command, ["llmpp", "openai"], None)})
    return {
        "status": status,
        "n_answers": len(answers),
        "n_missing": len(architectures) - len(answers),
        "problem": str(outcome.problem) if outcome.problem else None,
        **usage,
    }


def _header(predictor: LlmPredictor) -> Mapping[str, Any]:
    settings = predictor.model.settings
    return {
        "task": predictor.task.name,
        "model": settings.model,
        "source": "llmpp label",
        "settings": dict(settings.sampling()),
        "n_samples": settings.n_samples,
    }


def _check_output(output: Path, header: Mapping[str, Any]) -> None:
    if output.exists():
        found = read_answers(output).header
        if dict(found) != dict(header):
            raise InputError(f"{output} holds answers of {dict(found)}: name another output, or remove it")
    elif not output.parent.is_dir():
        raise InputError(f"there is no directory {output.parent} to write {output.name} to")


def _status(predictor: LlmPredictor, outcome: Outcome) -> str:
    if outcome.problem is None:
        return "done"
    return "budget" if predictor.model.is_stopped else "incomplete"


def _answers(architectures: Sequence[Architecture], outcome: Outcome, split: str) -> list[Answer]:
    rows = zip(architectures, outcome.answers, outcome.prompts, strict=True)
    return [
        Answer(architecture, round(float(answer), 6), split, prompt)
        for architecture, answer, prompt in rows
        if np.isfinite(answer)
    ]


def _record(output: Path, content: Mapping[str, Any]) -> None:
    path = output.with_name(f"{output.name}.runs.jsonl")
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"schema": LABELLING_SCHEMA, **content}) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
