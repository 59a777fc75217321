"""Checks an endpoint with one real call: key, address, model, price, context length, form of the reply."""

import os
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llmpp.cache import StoredReply
from llmpp.endpoint import Endpoint, LlmSettings, hide_secrets
from llmpp.errors import LlmError
from llmpp.llm import LanguageModel, run_to_end
from llmpp.price import Price, count_tokens
from llmpp.prompt import DEFAULT_BATCH, build_prompt
from llmpp.reply import read_reply
from llmpp.task import Task

State: TypeAlias = Literal["ok", "unknown", "failed"]

#: Architectures in the prompt of a check.
_N_ASKED = 2


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        subject: What was checked.
        state: 'ok', 'failed', or 'unknown' where that does no harm.
        text: What was found, and what to do where it is not good.
    """

    subject: str
    state: State
    text: str


def inspect_endpoint(task: Task, model: LanguageModel, *, split: str = "all") -> list[Finding]:
    """Asks a model one small question, past the cache, and says what works.

    Args:
        task: A task with figures to demonstrate.
        model: Whom to ask.
        split: The demonstrations to show.

    Returns:
        One finding per subject; those after a failed call are missing.

    Raises:
        InputError: If the task has no such split.
    """
    settings, shown = model.settings, task.demonstrations(split)
    asked = task.space.sample(_N_ASKED)
    prompt = build_prompt(task, shown, asked, structured=settings.structured)
    findings = [_key(settings)]
    start = time.perf_counter()
    try:
        reply = run_to_end(_ask(settings, prompt))
    except LlmError as error:
        return [*findings, Finding("endpoint", "failed", str(error))]
    seconds = time.perf_counter() - start
    findings.append(
        Finding("endpoint", "ok", f"{hide_secrets(settings.url or 'OpenAI')} answered in {seconds:.1f} s")
    )
    findings.append(Finding("model", "ok", f"{settings.model}: {_tokens(reply)}"))
    findings.append(_price(model.price, reply))
    findings.append(_context(model, prompt))
    findings.append(_parse(settings, reply, [figures.valid_score for figures in shown]))
    return findings


async def _ask(settings: LlmSettings, prompt: str) -> StoredReply:
    async with Endpoint(settings) as endpoint:
        return await endpoint.ask(prompt, settings.max_output_tokens)


def _key(settings: LlmSettings) -> Finding:
    if os.environ.get("OPENAI_API_KEY"):
        return Finding("key", "ok", "OPENAI_API_KEY is set")
    if settings.url is None:
        return Finding("key", "failed", "OPENAI_API_KEY is not set; OpenAI's endpoint needs one")
    return Finding("key", "unknown", "OPENAI_API_KEY is not set; local endpoints need none")


def _tokens(reply: StoredReply) -> str:
    if reply.input_tokens is None:
        return "the endpoint does not count tokens, so a budget counts the most that there can be"
    return f"{reply.input_tokens} tokens in, {reply.output_tokens} out"


def _price(price: Price | None, reply: StoredReply) -> Finding:
    if price is None:
        text = "unknown: give dollars per million tokens by `usd_per_mtok` (0 0 for a model of your own)"
        return Finding("price", "unknown", text)
    text = f"{price.input:g} USD per million tokens in, {price.output:g} out"
    if reply.input_tokens is not None:
        text += f"; this call {price.usd(reply.input_tokens, reply.output_tokens or 0):.4f} USD"
    return Finding("price", "ok", text)


def _context(model: LanguageModel, prompt: str) -> Finding:
    context = model.context_tokens
    line = prompt[prompt.rindex(f"\n{_N_ASKED} ") :]
    needed = count_tokens(prompt) + DEFAULT_BATCH * (count_tokens(line) + model.tokens_per_answer)
    needs = f"{DEFAULT_BATCH} architectures take about {needed}"
    if context is None:
        return Finding("context", "unknown", f"unknown; {needs}. If it holds less, give `context_tokens`")
    fits = "" if context >= needed else ", so prompts will ask about fewer"
    return Finding("context", "ok", f"{context} tokens; {needs}{fits}")


def _parse(settings: LlmSettings, reply: StoredReply, shown: list[float]) -> Finding:
    read = read_reply(reply.text, _N_ASKED, shown, is_cut=reply.is_cut)
    if not read.problems:
        values = ", ".join(f"{value:g}" for value in read.estimates.values())
        return Finding("parse", "ok", f"{_N_ASKED} of {_N_ASKED} answers: {values}")
    why = ", ".join(f"{number} is {problem}" for number, problem in read.problems.items())
    remedies = [
        "raise `max_output_tokens`" if reply.is_cut else "",
        "" if settings.structured else "try `structured`",
        "try another model",
    ]
    cut = ", cut at the limit of its length" if reply.is_cut else ""
    return Finding(
        "parse",
        "failed",
        f"{len(read.estimates)} of {_N_ASKED} answers ({why}) in {reply.text[:200]!r}{cut}: "
        f"{', '.join(filter(None, remedies))}",
    )
