"""What a survey brought, and what it will take."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmpp.errors import MissingAnswersError
from llmpp.space import Floats


@dataclass(frozen=True)
class Outcome:
    """What a model answered.

    Attributes:
        samples: `(n_samples, n)` answers in the task's metric, NaN where there is none.
        prompts: The digest of the prompt that asked first about each architecture.
        problem: Why some architectures have no answer; None if all have one.
    """

    samples: Floats
    prompts: tuple[str, ...]
    problem: MissingAnswersError | None

    @property
    def answers(self) -> Floats:
        """Means over the samples, `(n,)`; NaN where no sample has an answer."""
        return _nanmean(self.samples)

    @property
    def spread(self) -> Floats:
        """Standard deviations over the samples, `(n,)`; NaN where fewer than two have an answer."""
        n = (~np.isnan(self.samples)).sum(axis=0)
        squares: Floats = np.nansum((self.samples - self.answers) ** 2, axis=0)
        squares[n < 2] = np.nan
        variances: Floats = squares / np.maximum(n - 1, 1)
        return np.sqrt(variances)


def _nanmean(samples: Floats) -> Floats:
    n = (~np.isnan(samples)).sum(axis=0)
    sums: Floats = np.nansum(samples, axis=0)
    sums[n == 0] = np.nan
    means: Floats = sums / np.maximum(n, 1)
    return means


@dataclass(frozen=True)
class Quote:
    """What surveys will take, before anything is sent. Re-asking and thinking come on top.

    Attributes:
        model: Whom they ask.
        n_architectures: Architectures to ask about.
        n_cached: Replies that are in the cache.
        n_calls: Requests to send.
        input_tokens: About so many tokens in.
        output_tokens: About so many tokens out.
        most_input_tokens: No tokeniser makes more of the prompts.
        usd: About so many dollars; None where the price is unknown.
    """

    model: str
    n_architectures: int
    n_cached: int
    n_calls: int
    input_tokens: int
    output_tokens: int
    most_input_tokens: int
    usd: float | None

    def __add__(self, other: "Quote") -> "Quote":
        """The quote of two surveys of one model."""
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Quote(
            self.model,
            self.n_architectures + other.n_architectures,
            self.n_cached + other.n_cached,
            self.n_calls + other.n_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.most_input_tokens + other.most_input_tokens,
            usd,
        )

    def to_dict(self) -> dict[str, Any]:
        """Lists the fields by name, with a note on what they leave out."""
        note = "estimates; re-asking what a reply lacks, and thinking, come on top"
        if self.usd is None:
            note += f"; the price of {self.model} is unknown: give `usd_per_mtok`, for input and output"
        return {**asdict(self), "note": note}
