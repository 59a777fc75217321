"""Asks a language model: the cache first, then the endpoint, within a budget.

Every reply is in the cache before anything reads it, so nothing is paid twice.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from llmpp.budget import Attempts, Budget, Ledger, Reservation, Usage
from llmpp.cache import Question, ReplyCache, StoredReply
from llmpp.endpoint import Endpoint, FailedRequestError, LlmSettings, RejectedError
from llmpp.errors import InputError, LlmError
from llmpp.price import Price, context_window, find_price, given_price, most_tokens

T = TypeVar("T")

#: Output tokens per architecture asked about: a number and an estimate on a line, or an entry of JSON.
_LINE_TOKENS, _ENTRY_TOKENS = 10, 25
#: Attempts at a sample are samples to the cache; they must not meet those of other samples.
_ATTEMPT_STRIDE = 1_000_000
#: Tokens of a reply beside its answers.
_FEW_TOKENS = 64
#: Under a budget, a reply may have so many tokens beside its answers: models may think before they answer.
_THINKING_TOKENS = 8192


@dataclass
class LanguageModel:
    """A model behind an endpoint, with a cache in front and a budget.

    Attributes:
        settings: Which model, and how it is asked.
        cache: Where replies are kept.
        budget: What may be spent.
        price: Dollars per million tokens; looked up if not given, None where unknown.
        on_reply: Called after each reply and each failure, with what was spent so far.
        failures: What went wrong with requests that have no reply.
        is_stopped: Whether the budget kept a request from being sent.

    Raises:
        InputError: If dollars are limited and the price is unknown.
    """

    settings: LlmSettings
    cache: ReplyCache
    budget: Budget = field(default_factory=Budget)
    price: Price | None = None
    on_reply: Callable[[Usage], object] = lambda _usage: None
    failures: list[str] = field(default_factory=list)
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.price = self.price or find_price(self.settings.model, self.settings.url)
        if self.price is None and self.budget.max_usd is not None:
            raise InputError(
                f"`max_usd` needs a price, and that of {self.settings.model!r} is unknown: give it as "
                "`usd_per_mtok`, dollars per million tokens of input and of output"
            )
        self._ledger = Ledger(self.budget, self.price)

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        return self._ledger.usage

    @property
    def context_tokens(self) -> int | None:
        """The tokens that prompt and reply may have together; None where unknown."""
        return self.settings.context_tokens or context_window(self.settings.model, self.settings.url)

    @property
    def tokens_per_answer(self) -> int:
        """About the tokens of a reply for each architecture."""
        return _ENTRY_TOKENS if self.settings.structured else _LINE_TOKENS

    def answer_tokens(self, n: int) -> int:
        """About the tokens of a reply about `n` architectures, thinking aside."""
        return _FEW_TOKENS + n * self.tokens_per_answer

    def question(self, prompt: str, *, sample: int = 0, attempt: int = 0) -> Question:
        """Names what a reply will belong to; each attempt at a sample has a number of its own."""
        number = sample + attempt * _ATTEMPT_STRIDE
        return Question(self.settings.model, prompt, self.settings.sampling(), number)

    def recall(self, question: Question, size: int) -> StoredReply | None:
        """Finds a reply to a question about `size` architectures in the cache, and counts it.

        A reply that our own budget cut short is found only under a budget: without one it is asked again.
        """
        reply = self.cache.get(question)
        if reply is None and self.budget.limits_tokens:
            limited = (self.cache.get(_limited(question, limit)) for limit in self.reply_limits(size))
            reply = next(filter(None, limited), None)
        if reply is not None:
            self._ledger.count_cached(reply)
        return reply

    def ask(self, questions: Sequence[Question], sizes: Sequence[int]) -> list[StoredReply | None]:
        """Answers questions from the cache, and asks the endpoint for what is not there.

        Args:
            questions: What to ask.
            sizes: How many architectures each asks about.

        Returns:
            One reply per question; None where the request failed or was rejected (see `failures`), or the
            budget kept it from being sent (see `is_stopped`).

        Raises:
            LlmError: If the endpoint rejects the key, the model or the request and there is no reply at all.
            InputError: If the cache cannot be written.
        """
        replies = [self.recall(question, size) for question, size in zip(questions, sizes, strict=True)]
        places = [place for place, reply in enumerate(replies) if reply is None]
        if places:
            new = run_to_end(self._ask_all([(questions[place], sizes[place]) for place in places]))
            for place, reply in zip(places, new, strict=True):
                replies[place] = reply
        return replies

    async def _ask_all(self, asked: Sequence[tuple[Question, int]]) -> list[StoredReply | None]:
        """Sends what the budget allows, `max_concurrency` requests at a time, until the endpoint says no."""
        async with Endpoint(self.settings) as endpoint:
            crew = _Crew(self, self._ledger, endpoint)
            # Every request is waited for: another one's error must not lose a reply that is on its way.
            ended = await asyncio.gather(*(crew.ask(*pair) for pair in asked), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        replies = [reply for reply in ended if not isinstance(reply, BaseException)]
        if crew.rejection:
            if not any(replies):
                raise crew.rejection
            self.failures.append(str(crew.rejection))
        return replies

    def reply_limits(self, size: int) -> tuple[int, int]:
        """The tokens that a reply may have under a budget: room to think, or just for the answers."""
        answers = self.answer_tokens(size)
        return self.settings.max_output_tokens or answers + _THINKING_TOKENS, answers


def _limited(question: Question, limit: int) -> Question:
    """The question to which a reply belongs that was cut by our own limit."""
    settings = dict(question.settings) | {"max_output_tokens": limit}
    return replace(question, settings=tuple(sorted(settings.items())))


class _Crew:
    """The requests of one call, in flight side by side."""

    def __init__(self, model: LanguageModel, ledger: Ledger, endpoint: Endpoint) -> None:
        self.model = model
        self.ledger = ledger
        self.endpoint = endpoint
        self.slots = asyncio.Semaphore(model.settings.max_concurrency)
        self.settled = asyncio.Condition()
        self.rejection: LlmError | None = None

    async def ask(self, question: Question, size: int) -> StoredReply | None:
        async with self.slots:
            reservation = await self._reserve(question, size)
            if reservation is None:
                return None
            attempts, reply = Attempts(reservation.n_attempts), None
            try:
                reply = await self._send(question, reservation, attempts)
                return reply
            finally:
                async with self.settled:
                    self.ledger.settle(reservation, attempts, reply)
                    self.settled.notify_all()
                self.model.on_reply(self.model.usage)

    async def _reserve(self, question: Question, size: int) -> Reservation | None:
        """Waits until the budget has room for a request, and reserves it; None if it never will."""
        most_tokens_in = most_tokens(question.prompt)
        most_attempts = self.model.settings.max_retries + 1
        async with self.settled:
            while not self.rejection:
                for limit in self.model.reply_limits(size):
                    if reservation := self.ledger.reserve(most_tokens_in, limit, most_attempts):
                        return reservation
                if not self.ledger.in_flight:
                    self.model.is_stopped = True
                    return None
                await self.settled.wait()
        return None

    async def _send(
        self, question: Question, reservation: Reservation, attempts: Attempts
    ) -> StoredReply | None:
        own_limit = reservation.output_tokens if self.model.budget.limits_tokens else None
        longest = own_limit or self.model.settings.max_output_tokens
        try:
            reply = await self.endpoint.ask(question.prompt, longest, attempts)
            is_ours = reply.is_cut and longest != self.model.settings.max_output_tokens
            self.model.cache.put(
                _limited(question, reservation.output_tokens) if is_ours else question, reply
            )
        except RejectedError as error:
            self.rejection = error
        except FailedRequestError as error:
            self.model.failures.append(str(error))
        except InputError as error:
            # Going on would pay for replies that cannot be kept.
            self.rejection = LlmError(f"replies cannot be kept: {error}")
        else:
            return reply
        return None


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def open_model(
    *,
    cache: str | Path | None = None,
    usd_per_mtok: Sequence[float] | None = None,
    on_reply: Callable[[Usage], object] = lambda _usage: None,
    **settings: Any,
) -> LanguageModel:
    """Prepares a model to be asked; nothing is sent yet.

    Args:
        cache: The file of replies; by default one in the user's cache directory.
        usd_per_mtok: Dollars per million tokens of input and of output; looked up by default.
        on_reply: Called after each reply with what was spent so far.
        **settings: Fields of `LlmSettings` and of `Budget`.

    Raises:
        InputError: If a setting is out of its range, or the cache cannot be used.
    """
    names = {item.name for item in fields(Budget)}
    budget = Budget(**{name: value for name, value in settings.items() if name in names})
    known = {item.name for item in fields(LlmSettings)}
    for name in settings:
        if name not in names | known:
            raise TypeError(f"unexpected argument {name!r}; known: {', '.join(sorted(names | known))}")
    asked = LlmSettings(**{name: value for name, value in settings.items() if name in known})
    if "model" not in settings and asked.url is not None and not asked.is_openai:
        raise InputError("name the endpoint's model by `model`: its replies are kept under that name")
    price = given_price(usd_per_mtok) if usd_per_mtok is not None else None
    return LanguageModel(asked, ReplyCache(Path(cache) if cache else None), budget, price, on_reply)
