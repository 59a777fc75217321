"""Scores architectures by a race; what is computed is kept block by block, and never computed again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.score_store import Score, ScoreStore, Setting
from llmpp.scoring_race import Race, run_race
from llmpp.scoring_usage import ScoringUsage
from llmpp.space import Floats
from llmpp.validation import ScoringBatch, ScoringSet

#: Computes the losses of some architectures on some batches: `(n_architectures, n_sentences)`, in nats.
Losses: TypeAlias = Callable[[Sequence[Architecture], Sequence[ScoringBatch]], Floats]


@dataclass(eq=False)
class RacedScorer:
    """Races the architectures that it is asked about against the best of all that it was asked before.

    What it answers does not depend on what was kept: the race is run again on the losses that are there.

    Attributes:
        race: How to race.
        set: The sentences.
        losses: Computes losses.
        store: Where losses are kept.
        setting: What they depend on; the blocks are part of it.
        usage: What scoring has cost so far; this adds to it.
        leaders: The losses of the best that were scored in full, best first.
    """

    race: Race
    set: ScoringSet
    losses: Losses
    store: ScoreStore
    setting: Setting
    usage: ScoringUsage
    leaders: dict[Architecture, NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> list[NDArray[np.int64]]:
        """The sentences of each block."""
        return self.race.blocks(len(self.set.n_tokens))

    @cached_property
    def batches(self) -> list[tuple[ScoringBatch, ...]]:
        """The batches of each block."""
        return [self.set.batches_of(block) for block in self.blocks]

    @cached_property
    def n_tokens(self) -> Floats:
        """Target tokens of each sentence `(n_sentences,)`."""
        found: Floats = self.set.n_tokens.cpu().numpy()
        return found

    def predict(self, architectures: list[Architecture]) -> dict[Architecture, float]:
        """Scores different architectures; those that cannot be among the best get an estimate."""
        if not architectures:
            return {}
        everyone = list(dict.fromkeys([*architectures, *self.leaders]))
        lanes = _Lanes.of(self, everyone, len(architectures))
        finish = run_race(lanes.evaluate, len(everyone), self.blocks, self.n_tokens, self.race)
        self._count(lanes, finish.is_exact, len(architectures))
        # Who led before is known in full, even if it dropped out now. Of the others, only who stayed counts:
        # what the store knows beyond that changes nothing.
        is_full = finish.is_exact | np.array([architecture in self.leaders for architecture in everyone])
        totals = np.where(is_full, lanes.rows.sum(axis=1, dtype=np.float64), np.inf)
        losses = np.where(is_full, totals / self.n_tokens.sum(), finish.losses)
        best = np.argsort(totals, kind="stable")[: min(self.race.n_parents, int(is_full.sum()))]
        self.leaders = {everyone[lane]: lanes.rows[lane] for lane in best.tolist()}
        return dict(zip(architectures, (-losses).tolist(), strict=False))

    def _count(self, lanes: "_Lanes", is_exact: NDArray[np.bool_], n_asked: int) -> None:
        is_new = ~lanes.is_kept[:n_asked]
        self.usage.n_evaluations += int(is_new.sum())
        self.usage.n_dropped += int((is_new & ~is_exact[:n_asked]).sum())


@dataclass(eq=False)
class _Lanes:
    """The architectures of one race, with their losses as far as they are known.

    Attributes:
        scorer: The scorer.
        architectures: Those that race.
        rows: Losses of each sentence in nats `(n, n_sentences)`, float32; NaN where not known.
        seconds: What those took, `(n,)`.
        is_kept: Of which of them something was kept `(n,)`.
    """

    scorer: RacedScorer
    architectures: list[Architecture]
    rows: NDArray[np.float32]
    seconds: Floats
    is_kept: NDArray[np.bool_]

    @classmethod
    def of(cls, scorer: RacedScorer, architectures: list[Architecture], n_asked: int) -> "_Lanes":
        """Finds what is known, of the first that were asked about in the store; of those that led, all is."""
        n = len(architectures)
        rows = np.full((n, len(scorer.n_tokens)), np.nan, np.float32)
        lanes = cls(scorer, architectures, rows, np.zeros(n), np.zeros(n, np.bool_))
        keys = [scorer.setting.key(architecture) for architecture in architectures[:n_asked]]
        stored = scorer.store.get(keys)
        for lane, kept in ((lane, stored[key]) for lane, key in enumerate(keys) if key in stored):
            rows[lane] = kept.losses
            lanes.seconds[lane], lanes.is_kept[lane] = kept.seconds, True
        for lane, architecture in enumerate(architectures):
            rows[lane] = scorer.leaders.get(architecture, rows[lane])
        scorer.usage.count_kept(stored.values())
        return lanes

    def evaluate(self, alive: NDArray[np.int64], number: int) -> Floats:
        """Gives the losses of some on a block; what is not known is computed, and kept at once."""
        block = self.scorer.blocks[number]
        missing = alive[np.isnan(self.rows[np.ix_(alive, block)]).any(axis=1)]
        if len(missing):
            start = time.perf_counter()
            unknown = [self.architectures[lane] for lane in missing.tolist()]
            found = self.scorer.losses(unknown, self.scorer.batches[number])
            self.rows[np.ix_(missing, block)] = found[:, block]
            self.seconds[missing] += (time.perf_counter() - start) / len(missing)
            n_tokens = int(self.scorer.n_tokens[block].sum())
            self.scorer.usage.n_target_tokens += len(missing) * n_tokens
            self._keep(missing.tolist())
        return self.rows[np.ix_(alive, block)].astype(np.float64)

    def _keep(self, lanes: list[int]) -> None:
        setting = self.scorer.setting
        scored = [(setting.key(self.architectures[i]), self.architectures[i], self._score(i)) for i in lanes]
        self.scorer.store.put(setting, scored)

    def _score(self, lane: int) -> Score:
        row = self.rows[lane]
        is_seen = ~np.isnan(row)
        mean = row[is_seen].sum(dtype=np.float64) / self.scorer.n_tokens[is_seen].sum()
        return Score(-float(mean), bool(is_seen.all()), row, float(self.seconds[lane]))
