"""What tokens cost, and how many a text has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmpp.errors import InputError

#: Characters per token of a prompt that is full of digits, with the tokenisers of GPT-4-class models.
CHARS_PER_TOKEN = 2.0
#: Tokens that an endpoint may add around a message.
_ENVELOPE = 64


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens.

    Attributes:
        input: Of prompts.
        output: Of replies, thinking included.
    """

    input: float
    output: float

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """The price of so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


def given_price(usd_per_mtok: Sequence[float]) -> Price:
    """Builds a price from dollars per million tokens of input and of output.

    Raises:
        InputError: If these are not two numbers of at least 0.
    """
    if len(usd_per_mtok) != 2 or not all(0 <= usd < float("inf") for usd in usd_per_mtok):
        raise InputError(f"`usd_per_mtok` must be two prices, input and output, got {usd_per_mtok!r}")
    return Price(float(usd_per_mtok[0]), float(usd_per_mtok[1]))


def find_price(model: str, base_url: str | None) -> Price | None:
    """Looks the price of a model up in the list of genai-prices; None where it is not there."""
    found = _listed(model, base_url)
    # The unit is 1,000 tokens: some models cost more beyond a length that prompts do not have by default.
    return None if found is None else Price(1e3 * float(found.input_price), 1e3 * float(found.output_price))


def context_window(model: str, base_url: str | None) -> int | None:
    """The tokens that prompt and reply may have together, by the same list; None where it is not there."""
    found = _listed(model, base_url)
    return None if found is None else found.model.context_window


def _listed(model: str, base_url: str | None) -> Any:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=1000, output_tokens=1000)
    try:
        if base_url:
            return calc_price(usage, model, provider_api_url=base_url)
        return calc_price(usage, model, provider_id="openai")
    except LookupError:
        return None


def count_tokens(text: str) -> int:
    """Estimates the tokens of a text."""
    return round(len(text) / CHARS_PER_TOKEN)


def most_tokens(text: str) -> int:
    """The most tokens that a text can have as a message: no tokeniser makes more of them than bytes."""
    return len(text.encode(errors="replace")) + _ENVELOPE
