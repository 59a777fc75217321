"""Labels architectures with a language model's answers, for `llmpp distill` to learn from."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.answers import Answer, Answers, read_answers, write_answers
from llmpp.architecture import Architecture
from llmpp.errors import InputError, LlmError, writing
from llmpp.llm_predictor import LlmPredictor
from llmpp.outcome import Outcome
from llmpp.prompt import DEFAULT_BATCH, PARTS
from llmpp.provenance import origin
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.shuffling import shuffled_order
from llmpp.task import Task

LABELLING_SCHEMA = "llmpp.labelling/1"
#: Architectures beside those held out that a split is asked about, and that are asked about with all figures.
_N_FOR_SPLIT, _N_FOR_ALL = 280, 450


def sample_unlabelled(task: Task, n: int, *, seed: int = 0) -> list[Architecture]:
    """Draws distinct architectures of a task's space that it has no figures of.

    Raises:
        InputError: If `n` is not in 1..1,000,000, or the space has too few.
    """
    n, seed = integer("n", n, 1, 1_000_000), integer("seed", seed, 0, LARGEST_SEED)
    known = {figures.architecture for figures in task.figures}
    # Some are drawn twice, or are known. A further draw of more repeats the first ones, so the order holds.
    for n_drawn in (2 * n + 64, 20 * n + 640):
        drawn = dict.fromkeys(task.space.sample(n_drawn, seed=seed))
        found = [architecture for architecture in drawn if architecture not in known]
        if len(found) >= n:
            return found[:n]
    raise InputError(f"the space {task.space.name} has too few architectures for n={n}: give a smaller `n`")


def default_questions(task: Task, split: str, *, seed: int = 0) -> list[Architecture]:
    """Chooses what a split is asked about, prompt by prompt: what it holds out, among others.

    The 280 others teach a student, and what is held out says what the answers are worth; the model is not
    told which is which. With all figures as demonstrations nothing is held out, and there are 450 others,
    none of which a split is asked about.

    Args:
        task: A task with figures.
        split: The demonstrations: a split of the task, or 'all'.
        seed: Seed of the others and of the order.

    Raises:
        InputError: If there is no such split, or the space has too few architectures.
    """
    held_out = [figures.architecture for figures in task.held_out(split)]
    if not held_out:
        # A longer draw repeats the shorter one, so these are not among those of the splits.
        return sample_unlabelled(task, _N_FOR_SPLIT + _N_FOR_ALL, seed=seed)[_N_FOR_SPLIT:]
    others = sample_unlabelled(task, _N_FOR_SPLIT, seed=seed)
    draw = np.random.PCG64(np.random.SeedSequence([seed, *split.encode()]))
    asked = _shuffled(held_out, draw)
    n_prompts = math.ceil((len(others) + len(asked)) / DEFAULT_BATCH)
    return [
        architecture
        for number in range(n_prompts)
        for architecture in _shuffled(
            _part(others, number, n_prompts) + _part(asked, number, n_prompts), draw
        )
    ]


def _part(architectures: list[Architecture], number: int, n: int) -> list[Architecture]:
    """Cuts a list into `n` parts of nearly equal lengths."""
    return architectures[number * len(architectures) // n : (number + 1) * len(architectures) // n]


def _shuffled(architectures: list[Architecture], draw: np.random.PCG64) -> list[Architecture]:
    return [architectures[place] for place in shuffled_order(draw, len(architectures))]


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
        output: The file of answers. One that is there is replaced if it was asked for in the same way, and
            about no other architectures.
        split: The demonstrations' name.
        command: What to record as the command.

    Returns:
        Status ('done', 'budget' or 'incomplete'), number of answers, what is missing, tokens and cost.

    Raises:
        InputError: If the output holds something else, or cannot be written.
        LlmError: If the endpoint rejects key, model or request. What was answered is in the cache.
    """
    header = _header(predictor, split)
    _check_output(output, header, architectures)
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


def _header(predictor: LlmPredictor, split: str) -> Mapping[str, Any]:
    """What the answers depend on, so that other ones are not mixed with them."""
    model, survey = predictor.model.settings, predictor.settings
    parts = {name: getattr(survey.parts, name) for name in PARTS}
    asked = {
        "n_samples": model.n_samples,
        "shuffled": survey.shuffle_demonstrations and survey.seed,
        "without": [name for name, is_on in parts.items() if not is_on],
        "n_sentence_pairs": len(survey.parts.sentence_pairs),
    }
    settings = dict(model.sampling()) | {
        name: value for name, value in asked.items() if value not in (1, False, [], 0)
    }
    header = {"task": predictor.task.name, "model": model.model, "source": "llmpp label"}
    return header | {"demonstrations": split, "settings": settings}


def _check_output(output: Path, header: Mapping[str, Any], architectures: Sequence[Architecture]) -> None:
    """Makes sure, before anything is paid for, that answers can be written and none are lost."""
    if output.exists():
        found = read_answers(output)
        if dict(found.header) != dict(header):
            raise InputError(
                f"{output} holds answers of {dict(found.header)}: name another output, or remove it"
            )
        if n_others := len(set(found.architectures) - set(architectures)):
            raise InputError(
                f"{output} holds answers about {n_others} architectures that are not asked about now: name "
                "another output, or remove it"
            )
    temporary = output.with_name(f"{output.name}.part")
    with writing(output):
        temporary.touch()
        temporary.unlink()


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
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"schema": LABELLING_SCHEMA, **content}) + "\n")
