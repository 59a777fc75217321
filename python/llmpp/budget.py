"""What may be spent on a language model, and what was."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmpp.errors import InputError
from llmpp.price import Price
from llmpp.ranges import integer

if TYPE_CHECKING:
    from llmpp.cache import StoredReply

_MOST = 10**15


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent on new replies; None is no limit.

    Attributes:
        max_usd: The most US dollars to spend on new replies.
        max_calls: The most requests to send, retries included.
        max_tokens_total: The most tokens to use, in and out.

    Raises:
        InputError: If a limit is no number of at least 0.
    """

    max_usd: float | None = None
    max_calls: int | None = None
    max_tokens_total: int | None = None

    def __post_init__(self) -> None:
        if self.max_usd is not None and not 0 <= self.max_usd < math.inf:
            raise InputError(f"`max_usd` must be a number of at least 0, got {self.max_usd!r}")
        for name in ("max_calls", "max_tokens_total"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, integer(name, getattr(self, name), 0, _MOST))

    @property
    def limits_tokens(self) -> bool:
        """Whether the length of replies matters."""
        return self.max_usd is not None or self.max_tokens_total is not None


@dataclass
class Usage:
    """What was spent. Replies found in the cache cost nothing now.

    Attributes:
        n_calls: Requests answered.
        n_cached: Replies found in the cache.
        n_failed: Requests without a reply.
        n_retries: Further requests that the SDK sent for these.
        n_cut: New replies that ended at the limit of their length.
        n_uncounted: Calls whose tokens the endpoint did not count: here they are the most that there can be.
        input_tokens: Tokens of new prompts.
        output_tokens: Tokens of new replies, thinking included.
        cached_input_tokens: Tokens of prompts whose reply was cached, where known.
        cached_output_tokens: Tokens of cached replies, where known.
        usd: Cost of the new replies, or None where the price is unknown.
        cached_usd: What the cached replies would cost now, or None where the price is unknown.
    """

    n_calls: int = 0
    n_cached: int = 0
    n_failed: int = 0
    n_retries: int = 0
    n_cut: int = 0
    n_uncounted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cached_output_tokens: int = 0
    usd: float | None = None
    cached_usd: float | None = None

    def to_dict(self) -> Mapping[str, Any]:
        """Lists the fields by name."""
        return asdict(self)


@dataclass
class Attempts:
    """How often one request is and may be sent.

    Attributes:
        most: How often it may be, retries included.
        n_sent: How often it was.
        n_refused: How often the endpoint answered with an error, which is not billed.
    """

    most: int
    n_sent: int = 0
    n_refused: int = 0


@dataclass(frozen=True)
class Reservation:
    """The most that a request can cost.

    Attributes:
        input_tokens: Of its prompt.
        output_tokens: Of its reply, which is limited to so many.
        n_attempts: How often it may be sent.
    """

    input_tokens: int
    output_tokens: int
    n_attempts: int


@dataclass
class Ledger:
    """Keeps spending within a budget, counting what requests in flight may still cost.

    Attributes:
        budget: The limits.
        price: Dollars per million tokens; None where unknown.
        usage: What was spent.
        in_flight: What is reserved for requests that were sent.
        lost: The tokens (input, output) of attempts without a reply that may be on the bill all the same.
    """

    budget: Budget
    price: Price | None
    usage: Usage = field(default_factory=Usage)
    in_flight: list[Reservation] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._count_usd()

    def reserve(self, input_tokens: int, output_tokens: int, most_attempts: int) -> Reservation | None:
        """Reserves the most that a request can cost; None if the budget has no room for it.

        Args:
            input_tokens: The most that its prompt can have.
            output_tokens: The most that its reply may have.
            most_attempts: How often the SDK would send it; where there is less room, it may less often.
        """
        n_attempts = min(most_attempts, self._calls_left())
        while n_attempts > 0 and self._room(input_tokens * n_attempts) < output_tokens * n_attempts:
            n_attempts -= 1
        if n_attempts < 1:
            return None
        reservation = Reservation(input_tokens, output_tokens, n_attempts)
        self.in_flight.append(reservation)
        return reservation

    def _calls_left(self) -> int:
        if self.budget.max_calls is None:
            return _MOST
        n_sent = self.usage.n_calls + self.usage.n_failed + self.usage.n_retries
        return self.budget.max_calls - n_sent - sum(one.n_attempts for one in self.in_flight)

    def _room(self, input_tokens: int) -> float:
        """Output tokens that fit beside so many input tokens; infinite without a limit."""
        flying = [
            (one.input_tokens * one.n_attempts, one.output_tokens * one.n_attempts) for one in self.in_flight
        ]
        spent_in = self.usage.input_tokens + sum(tokens for tokens, _ in [*flying, *self.lost]) + input_tokens
        spent_out = self.usage.output_tokens + sum(tokens for _, tokens in [*flying, *self.lost])
        rooms = [math.inf]
        if self.budget.max_tokens_total is not None:
            rooms.append(self.budget.max_tokens_total - spent_in - spent_out)
        if self.budget.max_usd is not None and self.price is not None:
            left = self.budget.max_usd - self.price.usd(spent_in, spent_out)
            rooms.append(
                left * 1e6 / self.price.output if self.price.output else math.copysign(math.inf, left)
            )
        return min(rooms)

    def count_cached(self, reply: "StoredReply") -> None:
        """Counts a reply that was found in the cache."""
        self.usage.n_cached += 1
        self.usage.cached_input_tokens += reply.input_tokens or 0
        self.usage.cached_output_tokens += reply.output_tokens or 0
        self._count_usd()

    def settle(self, reservation: Reservation, attempts: Attempts, reply: "StoredReply | None") -> None:
        """Counts what became of a request instead of what was reserved for it.

        Tokens that the endpoint does not count are counted as they were reserved, and so are attempts that
        ended without an answer of any kind: they may be on the bill.
        """
        self.in_flight.remove(reservation)
        n_lost = attempts.n_sent - attempts.n_refused - (reply is not None)
        self.lost += [(reservation.input_tokens, reservation.output_tokens)] * max(0, n_lost)
        usage = self.usage
        usage.n_retries += max(0, attempts.n_sent - 1)
        if reply is None:
            usage.n_failed += attempts.n_sent > 0
            return
        tokens = reply.input_tokens, reply.output_tokens
        usage.n_calls += 1
        usage.n_cut += reply.is_cut
        usage.n_uncounted += None in tokens
        usage.input_tokens += reservation.input_tokens if tokens[0] is None else tokens[0]
        usage.output_tokens += reservation.output_tokens if tokens[1] is None else tokens[1]
        self._count_usd()

    def _count_usd(self) -> None:
        if self.price is None:
            return
        usage = self.usage
        usage.usd = self.price.usd(usage.input_tokens, usage.output_tokens)
        usage.cached_usd = self.price.usd(usage.cached_input_tokens, usage.cached_output_tokens)
