"""Scores architectures by a race; what is computed is kept block by block, and never computed again."""

import time
from collections.abc import Callable, Mapping, Sequence
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
    """

    race: Race
    set: ScoringSet
    losses: Losses
    store: ScoreStore
    setting: Setting
    usage: ScoringUsage
    #: The losses of the best that were scored in full, best first.
    _leaders: dict[Architecture, NDArray[np.float32]] = field(default_factory=dict)

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
        asked = set(architectures)
        rivals = {leader: row for leader, row in self._leaders.items() if leader not in asked}
        lanes = _Lanes.of(self, architectures, rivals)
        finish = run_race(lanes.evaluate, len(lanes.architectures), self.blocks, self.n_tokens, self.race)
        is_new = ~lanes.is_kept[: len(architectures)]
        self.usage.n_evaluations += int(is_new.sum())
        self.usage.n_dropped += int((is_new & ~finish.is_exact[: len(architectures)]).sum())
        # In the order of the race, so that no tie is broken by chance.
        best = np.argsort(np.where(finish.is_exact, finish.losses, np.inf), kind="stable")
        n_leaders = min(self.race.n_parents, int(finish.is_exact.sum()))
        self._leaders = {lanes.architectures[i]: lanes.rows[i] for i in best[:n_leaders].tolist()}
        return dict(zip(architectures, (-finish.losses).tolist(), strict=False))


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
    def of(
        cls,
        scorer: RacedScorer,
        asked: list[Architecture],
        rivals: Mapping[Architecture, NDArray[np.float32]],
    ) -> "_Lanes":
        """Finds what is known of those that are asked about; of their rivals, all is."""
        n = len(asked) + len(rivals)
        rows = np.full((n, len(scorer.n_tokens)), np.nan, np.float32)
        rows[len(asked) :] = list(rivals.values()) or rows[:0]
        lanes = cls(scorer, [*asked, *rivals], rows, np.zeros(n), np.zeros(n, np.bool_))
        keys = [scorer.setting.key(architecture) for architecture in asked]
        stored = scorer.store.get(keys)
        for lane, kept in ((lane, stored[key]) for lane, key in enumerate(keys) if key in stored):
            rows[lane] = kept.losses
            lanes.seconds[lane], lanes.is_kept[lane] = kept.seconds, True
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
