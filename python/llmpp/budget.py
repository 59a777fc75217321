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
        max_calls: The most requests to send.
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
class Ledger:
    """Keeps spending within a budget, counting what requests in flight may still cost.

    Attributes:
        budget: The limits.
        price: Dollars per million tokens; None where unknown.
        usage: What was spent.
        in_flight: The tokens (input, output) reserved for each request in flight.
        lost: The same for requests whose reply never came, though it may be on the bill.
    """

    budget: Budget
    price: Price | None
    usage: Usage = field(default_factory=Usage)
    in_flight: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._count_usd()

    def room(self, input_tokens: int) -> float:
        """Output tokens that a further request may have; infinite without a limit, negative: none at all."""
        budget, usage = self.budget, self.usage
        n_sent = usage.n_calls + usage.n_failed + len(self.in_flight)
        if budget.max_calls is not None and n_sent >= budget.max_calls:
            return -1.0
        reserved = [*self.in_flight, *self.lost]
        spent_in = usage.input_tokens + sum(tokens for tokens, _ in reserved) + input_tokens
        spent_out = usage.output_tokens + sum(tokens for _, tokens in reserved)
        rooms = [math.inf]
        if budget.max_tokens_total is not None:
            rooms.append(budget.max_tokens_total - spent_in - spent_out)
        if budget.max_usd is not None and self.price is not None:
            left = budget.max_usd - self.price.usd(spent_in, spent_out)
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

    def count_new(self, reply: "StoredReply", reserved: tuple[int, int]) -> None:
        """Counts a new reply; what the endpoint did not count is counted as it was reserved."""
        self.usage.n_calls += 1
        self.usage.input_tokens += reserved[0] if reply.input_tokens is None else reply.input_tokens
        self.usage.output_tokens += reserved[1] if reply.output_tokens is None else reply.output_tokens
        self._count_usd()

    def count_failed(self, reserved: tuple[int, int], *, is_maybe_billed: bool) -> None:
        """Counts a request without a reply; what may be on the bill stays reserved."""
        self.usage.n_failed += 1
        if is_maybe_billed:
            self.lost.append(reserved)

    def _count_usd(self) -> None:
        if self.price is None:
            return
        usage = self.usage
        usage.usd = self.price.usd(usage.input_tokens, usage.output_tokens)
        usage.cached_usd = self.price.usd(usage.cached_input_tokens, usage.cached_output_tokens)
