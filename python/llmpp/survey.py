"""Asks a language model about many architectures, and again about those that it left out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmpp.architecture import Architecture
from llmpp.cache import Question, StoredReply
from llmpp.errors import InputError, MissingAnswersError
from llmpp.llm import LanguageModel
from llmpp.outcome import Outcome, Quote
from llmpp.price import count_tokens, most_tokens
from llmpp.prompt import DEFAULT_BATCH, PromptParts, build_prompt
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.reply import read_reply
from llmpp.space import Floats
from llmpp.task import Figures, Task

#: Of so many missing architectures, a message lists the numbers.
_MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class SurveySettings:
    """How architectures are put to a model.

    Attributes:
        parts: What the prompt holds.
        names: Other names for hyperparameters and 'gflops' in the prompt.
        batch_size: Architectures per prompt; None for 150, or as many as the model's context holds.
        max_attempts: How often an architecture is asked about until there is an answer.
        shuffle_demonstrations: Show the demonstrations in another order to each sample but the first.
        seed: Seed of these orders.

    Raises:
        InputError: If a setting is out of its range.
    """

    parts: PromptParts = field(default_factory=PromptParts)
    names: Mapping[str, str] = field(default_factory=dict)
    batch_size: int | None = None
    max_attempts: int = 3
    shuffle_demonstrations: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            integer("batch_size", self.batch_size, 1, 100_000)
        integer("max_attempts", self.max_attempts, 1, 100)
        integer("seed", self.seed, 0, LARGEST_SEED)


@dataclass
class _Thread:
    """One sample of one batch: its question, and what is still to be asked.

    A thread depends on its own replies alone, so an interrupted survey asks the same questions again.
    """

    demonstrations: list[Figures]
    sample: int
    places: list[int]
    attempt: int = 0
    has_failed: bool = False


class Survey:
    """Questions about architectures, and the answers that came so far.

    Args:
        model: Whom to ask.
        task: The task.
        demonstrations: What prompts show, in this order.
        architectures: What is asked about. Equal ones are asked about once.
        settings: How.

    Raises:
        InputError: If there is nothing to show or to ask, or not one architecture fits into the context.
        SpaceError: If an architecture lies outside the task's space.
    """

    def __init__(
        self,
        model: LanguageModel,
        task: Task,
        demonstrations: Sequence[Figures],
        architectures: Sequence[Architecture],
        settings: SurveySettings | None = None,
    ) -> None:
        self.model, self.task, self.settings = model, task, settings or SurveySettings()
        self.distinct = list(dict.fromkeys(architectures))
        index = {architecture: place for place, architecture in enumerate(self.distinct)}
        self.places = [index[architecture] for architecture in architectures]
        self.shown = list(demonstrations)
        n_samples = model.settings.n_samples
        if self.settings.shuffle_demonstrations and n_samples < 2:
            raise InputError("`shuffle_demonstrations` needs `n_samples` of at least 2, got 1")
        self._problems: dict[int, str] = {}
        self._n_failures = len(model.failures)
        self.samples = np.full((n_samples, len(self.distinct)), np.nan)
        size = self.settings.batch_size or self._fitting_batch()
        starts = range(0, len(self.distinct), size)
        batches = [list(range(len(self.distinct)))[start : start + size] for start in starts]
        orders = [self._ordered(sample) for sample in range(n_samples)]
        self._threads = [
            _Thread(order, sample, batch) for batch in batches for sample, order in enumerate(orders)
        ]
        self._first = {
            thread.places[0]: self._question(thread) for thread in self._threads if not thread.sample
        }

    def run(self) -> Outcome:
        """Asks until every architecture has an answer, or attempts, budget or endpoint are exhausted.

        Raises:
            LlmError: If the endpoint rejects key, model or request. What was answered is in the cache.
        """
        self.model.is_stopped = False
        while threads := self._open_threads():
            questions = [self._question(thread) for thread in threads]
            replies = self.model.ask(questions, [len(thread.places) for thread in threads])
            for thread, reply in zip(threads, replies, strict=True):
                self._take(thread, reply)
        return self._outcome()

    def recall(self) -> Outcome:
        """Takes what the cache holds, without asking anyone."""
        for thread in self._open_threads():
            while self._is_open(thread) and (reply := self._recall(thread)):
                self._take(thread, reply)
        return self._outcome()

    def open_questions(self) -> list[tuple[Question, list[Architecture]]]:
        """Lists the next questions that have no reply in the cache, with what they ask about."""
        self.recall()
        return [
            (self._question(thread), [self.distinct[place] for place in thread.places])
            for thread in self._open_threads()
        ]

    def quote(self) -> Quote:
        """Counts what is to be sent, and what it will cost."""
        n_before = self.model.usage.n_cached
        asked = self.open_questions()
        input_tokens = sum(count_tokens(question.prompt) for question, _ in asked)
        output_tokens = sum(self.model.answer_tokens(len(architectures)) for _, architectures in asked)
        price = self.model.price
        return Quote(
            self.model.settings.model,
            len(self.distinct),
            self.model.usage.n_cached - n_before,
            len(asked),
            input_tokens,
            output_tokens,
            sum(most_tokens(question.prompt) for question, _ in asked),
            None if price is None else price.usd(input_tokens, output_tokens),
        )

    def _fitting_batch(self) -> int:
        """How many architectures prompt and reply can hold within the model's context."""
        context = self.model.context_tokens
        if context is None or not self.distinct:
            return DEFAULT_BATCH
        one = self._prompt(self.shown, self.distinct[:1])
        line = count_tokens(one[one.rindex("\n1 ") :]) + self.model.tokens_per_answer
        reply = max(self.model.settings.max_output_tokens or 0, self.model.answer_tokens(1))
        size = 1 + (context - count_tokens(one) - reply) // line
        if size < 1:
            raise InputError(
                f"a prompt about one architecture takes about {count_tokens(one)} tokens, and the context of "
                f"{self.model.settings.model} holds {context}: show fewer demonstrations or parts of the "
                "prompt, or correct `context_tokens`"
            )
        return min(size, DEFAULT_BATCH)

    def _ordered(self, sample: int) -> list[Figures]:
        if not self.settings.shuffle_demonstrations or sample == 0:
            return self.shown
        draw = np.random.Generator(np.random.PCG64([self.settings.seed, sample]))
        return [self.shown[place] for place in draw.permutation(len(self.shown))]

    def _prompt(self, demonstrations: Sequence[Figures], architectures: Sequence[Architecture]) -> str:
        return build_prompt(
            self.task,
            demonstrations,
            architectures,
            parts=self.settings.parts,
            names=self.settings.names,
            structured=self.model.settings.structured,
        )

    def _question(self, thread: _Thread) -> Question:
        prompt = self._prompt(thread.demonstrations, [self.distinct[place] for place in thread.places])
        return self.model.question(prompt, sample=thread.sample, attempt=thread.attempt)

    def _recall(self, thread: _Thread) -> StoredReply | None:
        return self.model.recall(self._question(thread), len(thread.places))

    def _open_threads(self) -> list[_Thread]:
        return [thread for thread in self._threads if self._is_open(thread)]

    def _is_open(self, thread: _Thread) -> bool:
        return bool(thread.places) and thread.attempt < self.settings.max_attempts and not thread.has_failed

    def _take(self, thread: _Thread, reply: StoredReply | None) -> None:
        """Reads a reply into the samples; what it lacks stays to be asked."""
        if reply is None:
            thread.has_failed = True
            return
        shown = [figures.valid_score for figures in self.shown]
        read = read_reply(reply.text, len(thread.places), shown, is_cut=reply.is_cut)
        for number, estimate in read.estimates.items():
            self.samples[thread.sample, thread.places[number - 1]] = estimate
        for number, problem in read.problems.items():
            cut = " (reply cut)" if reply.is_cut else ""
            self._problems[thread.places[number - 1]] = f"{problem}{cut}"
        thread.places = [thread.places[number - 1] for number in read.missing]
        thread.attempt += 1
        # At temperature 0 the same prompt brings the same reply.
        if not read.estimates and not reply.is_cut and self.model.settings.temperature == 0:
            thread.attempt = self.settings.max_attempts

    def _outcome(self) -> Outcome:
        samples = self.samples[:, self.places]
        keys = [
            self._first[max(start for start in self._first if start <= place)].key for place in self.places
        ]
        return Outcome(samples, tuple(key[:12] for key in keys), self._problem(samples))

    def _problem(self, samples: Floats) -> MissingAnswersError | None:
        """Says which architectures have no answer in any sample, and why."""
        missing = tuple(int(place) for place in np.flatnonzero(np.isnan(samples).all(axis=0)))
        if not missing:
            return None
        numbers = ", ".join(str(place + 1) for place in missing[:_MAX_LISTED])
        rest = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        kept = (
            "" if len(missing) == len(self.places) else f". The others' are kept in {self.model.cache.path}"
        )
        return MissingAnswersError(
            f"{len(missing)} of {len(self.places)} architectures have no answer (numbers {numbers}{rest}): "
            f"{'; '.join(self._reasons([self.places[place] for place in missing]))}{kept}",
            missing,
        )

    def _reasons(self, missing: Sequence[int]) -> Iterator[str]:
        """Says why, each reason with its remedy."""
        if failures := self.model.failures[self._n_failures :]:
            yield f"{len(failures)} requests failed, the last because: {failures[-1]}"
        if self.model.is_stopped:
            yield "the next request could pass the budget; raise it to go on"
        elif not failures and self._open_threads():
            yield "they were not asked about yet"
        if counts := Counter(self._problems[place] for place in missing if place in self._problems):
            found = ", ".join(f"{n} {problem}" for problem, n in counts.items())
            shown = [figures.valid_score for figures in self.shown]
            yield (
                f"{found} in the last replies of {self.model.settings.model} (demonstrations range from "
                f"{min(shown):g} to {max(shown):g}). Raise `max_attempts` to ask again, lower `batch_size`, "
                "or raise `max_output_tokens` if replies are cut"
            )
