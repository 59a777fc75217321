"""Racing: architectures are scored a block of sentences at a time, and drop out when they cannot be parents.

A candidate is compared with the one that is n-th best so far, sentence by sentence: the differences of their
losses vary far less than the losses do. It drops out when even the lower end of a confidence interval of the
difference is a loss. Each block is a random sample, so what is seen of the set speaks for the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.errors import InputError
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.ranges import between as number_between
from llmpp.shuffling import shuffled_order
from llmpp.space import Floats

#: Computes the losses of some candidates on a block: their numbers and the block's -> `(n, sentences of it)`.
Evaluate: TypeAlias = Callable[[NDArray[np.int64], int], Floats]
#: How much worse than the last parent a candidate that dropped out is said to be at least, relatively.
_MARGIN = 1e-6


@dataclass(frozen=True, kw_only=True)
class Race:
    """How a race is run.

    Attributes:
        n_parents: How many candidates are wanted; all of these are scored in full.
        confidence: Of each one-sided interval, in [0.5, 1): the larger, the later candidates drop out.
        n_blocks: Parts of the set, each a random sample of its sentences.
        seed: Seed of these samples.

    Raises:
        InputError: If a setting is out of its range.
    """

    n_parents: int = 25
    confidence: float = 0.999
    n_blocks: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        checked = {
            "n_parents": integer("n_parents", self.n_parents, 1, 10**6),
            "confidence": number_between("confidence", self.confidence, 0.5, 0.999999),
            "n_blocks": integer("n_blocks", self.n_blocks, 1, 1000),
            "seed": integer("seed", self.seed, 0, LARGEST_SEED),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def blocks(self, n_sentences: int) -> list[NDArray[np.int64]]:
        """Parts the sentences of a set at random into blocks of nearly equal sizes."""
        draw = np.random.PCG64(np.random.SeedSequence(self.seed))
        return np.array_split(shuffled_order(draw, n_sentences), min(self.n_blocks, n_sentences))


@dataclass(frozen=True, eq=False)
class Finish:
    """How a race ended.

    Attributes:
        losses: The loss of each candidate in nats per target token `(n,)`: exact if it stayed to the end,
            else an estimate, which is above those of the wanted.
        is_exact: Who stayed to the end `(n,)`.
    """

    losses: Floats
    is_exact: NDArray[np.bool_]


def run_race(
    evaluate: Evaluate, n_candidates: int, blocks: list[NDArray[np.int64]], n_tokens: Floats, race: Race
) -> Finish:
    """Runs a race.

    Args:
        evaluate: Computes losses in nats, summed over a sentence's tokens, of candidates that are still in.
        n_candidates: Candidates.
        blocks: Which sentences each block has; together, every sentence once.
        n_tokens: Target tokens of each sentence `(n_sentences,)`.
        race: How to run it.

    Raises:
        InputError: If there are no sentences.
    """
    if not len(n_tokens):
        raise InputError("a race needs sentences to score on, but the set has none")
    z = NormalDist().inv_cdf(race.confidence)
    losses = np.full((n_candidates, len(n_tokens)), np.nan)
    alive, seen = np.arange(n_candidates), np.empty(0, np.int64)
    for number, block in enumerate(blocks):
        losses[np.ix_(alive, block)] = evaluate(alive, number)
        seen = np.concatenate([seen, block])
        if 2 <= len(seen) < len(n_tokens) and len(alive) > race.n_parents:
            sums = losses[np.ix_(alive, seen)]
            last = np.argsort(sums.sum(axis=1), kind="stable")[race.n_parents - 1]
            difference, error = _difference(sums - sums[last], n_tokens, seen)
            alive = alive[difference - z * error <= 0]
    return _finish(losses, n_tokens, race)


def _difference(sums: Floats, n_tokens: Floats, seen: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Estimates differences over the whole set from those on the sentences seen, without replacement.

    Args:
        sums: Differences on each sentence seen, in nats `(n, n_seen)`.
        n_tokens: Target tokens of all sentences.
        seen: Which sentences were seen, at least two.

    Returns:
        Differences in nats per target token `(n,)`, and their standard errors `(n,)`: those of a ratio, with
        the correction for a finite set (Cochran 1977, Sampling Techniques, chapter 6).
    """
    tokens = n_tokens[seen]
    difference = sums.sum(axis=1) / tokens.sum()
    rest = sums - difference[:, None] * tokens
    variance = np.square(rest).sum(axis=1) / (len(seen) - 1)
    share_unseen = 1 - len(seen) / len(n_tokens)
    return difference, np.sqrt(len(seen) * variance * share_unseen) / tokens.sum()


def _finish(losses: Floats, n_tokens: Floats, race: Race) -> Finish:
    """Gives those that dropped out an estimate: the wanted's mean, and how they differ from it where seen."""
    is_exact: NDArray[np.bool_] = np.isfinite(losses.sum(axis=1))
    found = np.where(is_exact, losses.sum(axis=1) / n_tokens.sum(), np.nan)
    exact = np.flatnonzero(is_exact)
    wanted = exact[np.argsort(found[exact], kind="stable")][: race.n_parents]
    mean_row, mean, last = losses[wanted].mean(axis=0), float(found[wanted].mean()), float(found[wanted[-1]])
    for candidate in np.flatnonzero(~is_exact):
        seen = np.flatnonzero(np.isfinite(losses[candidate]))
        difference = (losses[candidate] - mean_row)[seen].sum() / n_tokens[seen].sum()
        found[candidate] = max(mean + difference, last + abs(last) * _MARGIN)
    return Finish(found, is_exact)
