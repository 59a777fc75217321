"""Options that several verbs share; those of language models come from the settings' own docstrings."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from llmpp.budget import Budget
from llmpp.endpoint import LlmSettings
from llmpp.prompt import PARTS, PromptParts, read_sentence_pairs

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
TaskName = Annotated[str, typer.Option("--task", help="A task of `llmpp tasks`, or a task's JSON file.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random choices.")]
NoSeed = Annotated[int, typer.Option("--seed", help="Accepted by every verb; here nothing is random.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
Date = Annotated[str | None, typer.Option("--date", help="Date to record, YYYY-MM-DD; today by default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and price, and send nothing.")]
Split = Annotated[
    str, typer.Option("--split", help="The demonstrations that prompts show: a split of the task, or 'all'.")
]
_CACHE = "File of replies; one in the user's cache directory by default."
Cache = Annotated[Path | None, typer.Option("--cache", help=_CACHE)]

#: Options of `open_model` beside those of the two dataclasses.
_OTHERS: dict[str, tuple[Any, str]] = {
    "usd_per_mtok": (tuple[float, float], "Dollars per million tokens: input, output. Looked up by default."),
    "cache": (Path, _CACHE),
}
#: Options of `SurveySettings`.
_SURVEY: dict[str, tuple[Any, str]] = {
    "batch_size": (int, "Architectures per prompt. (default 150, or as many as the context holds)"),
    "max_attempts": (int, "How often an architecture is asked about until there is an answer. (default 3)"),
    "shuffle_demonstrations": (bool, "Show demonstrations in another order to each sample but the first."),
    "without": (list[str], f"Leave a part of the prompt out: {', '.join(PARTS)}. May be repeated."),
    "sentence_pairs": (Path, "File of sentence pairs to show, source and target separated by a tab."),
}


def attribute_docs(cls: type) -> dict[str, str]:
    """Reads what a class's docstring says of each attribute."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def llm_options(*, asks: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the options of a language model, and passes those that were set as its argument `llm`.

    Args:
        asks: Whether the verb asks about architectures, and so has the options of prompts, too: those that
            were set are its argument `survey`.
    """

    def wrap(verb: Callable[..., None]) -> Callable[..., None]:
        model, survey = _model_parameters(), _parameters(_SURVEY) if asks else []
        own = [p for p in inspect.signature(verb).parameters.values() if p.name not in ("llm", "survey")]

        @functools.wraps(verb)
        def wrapped(**values: Any) -> None:
            groups = [("llm", model), ("survey", survey)] if asks else [("llm", model)]
            given = {
                group: {p.name: values[p.name] for p in parameters if values[p.name] not in (None, [])}
                for group, parameters in groups
            }
            verb(**{p.name: values[p.name] for p in own}, **given)

        _sign(wrapped, verb, own, model + survey)
        return wrapped

    return wrap


def settings_options(argument: str, cls: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb one option per field of a dataclass of settings.

    Args:
        argument: The verb's argument that those which were set are passed as, by name.
        cls: The dataclass.
    """

    def wrap(verb: Callable[..., None]) -> Callable[..., None]:
        settings = _parameters(_options_of(cls))
        own = [p for p in inspect.signature(verb).parameters.values() if p.name != argument]

        @functools.wraps(verb)
        def wrapped(**values: Any) -> None:
            given = {p.name: values[p.name] for p in settings if values[p.name] is not None}
            verb(**{p.name: values[p.name] for p in own}, **{argument: given})

        _sign(wrapped, verb, own, settings)
        return wrapped

    return wrap


def _sign(
    wrapped: Any, verb: Callable[..., None], own: list[inspect.Parameter], added: list[inspect.Parameter]
) -> None:
    """Has typer see a verb's own parameters and those that were added."""
    hints = get_type_hints(verb, include_extras=True)
    parameters = [p.replace(annotation=hints[p.name]) for p in own] + added
    as_keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    wrapped.__signature__ = inspect.Signature(as_keywords)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}


def _model_parameters() -> list[inspect.Parameter]:
    """One option per field of the settings, the budget and `open_model`."""
    return _parameters(_options_of(LlmSettings) | _options_of(Budget) | _OTHERS)


def _options_of(cls: type) -> dict[str, tuple[Any, str]]:
    """The type and the help of an option for each field of a dataclass."""
    hints, docs, options = get_type_hints(cls), attribute_docs(cls), {}
    for item in fields(cls):
        default = "" if item.default in (None, MISSING, False) else f" (default {item.default})"
        options[item.name] = (_option_type(hints[item.name]), docs[item.name] + default)
    return options


def _option_type(hint: Any) -> Any:
    """The type that typer reads: without None, and texts instead of literals."""
    kinds = [
        kind for kind in getattr(hint, "__args__", ()) if isinstance(kind, type) and kind is not type(None)
    ]
    if isinstance(hint, type):
        return hint
    return kinds[0] if kinds else str


def _parameters(options: dict[str, tuple[Any, str]]) -> list[inspect.Parameter]:
    """Options that are None unless given, so that defaults live in one place."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(f"--{name.replace('_', '-')}", help=help_text)],
        )
        for name, (kind, help_text) in options.items()
    ]


def survey_settings(given: dict[str, Any], seed: int) -> Any:
    """Builds `SurveySettings` from the options that were set.

    Raises:
        InputError: If a part is unknown, or the file of sentence pairs cannot be read.
    """
    from llmpp.survey import SurveySettings

    rest = {name: value for name, value in given.items() if name not in ("without", "sentence_pairs")}
    parts = PromptParts().without(given.get("without", []))
    if "sentence_pairs" in given:
        parts = parts.showing(read_sentence_pairs(given["sentence_pairs"]))
    return SurveySettings(parts=parts, seed=seed, **rest)
