"""How far trainings of one architecture differ by their seeds, beside how far architectures differ."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmpp.study.results import Results

#: Noise, as a share of the signal, that architectures can be told apart beside.
WANTED_SHARE = 1 / 3


@dataclass(frozen=True)
class Variation:
    """Signal and noise of one measure of trainings, as standard deviations.

    Attributes:
        architectures: Over architectures, each trained with the first seed.
        seeds: Over seeds of one architecture, pooled; None where nothing was repeated.
    """

    architectures: float
    seeds: float | None

    @classmethod
    def of(cls, first: Sequence[float], repeated: Iterable[Sequence[float]]) -> "Variation":
        """Takes it from the values of the first seed, and from those of each architecture's seeds."""
        variances = [np.var(values, ddof=1) for values in repeated if len(values) > 1]
        return cls(
            float(np.std(first, ddof=1)) if len(first) > 1 else 0.0,
            float(np.sqrt(np.mean(variances))) if variances else None,
        )

    @property
    def share(self) -> float | None:
        """Noise as a share of the signal."""
        return None if self.seeds is None or not self.architectures else self.seeds / self.architectures

    def describe(self, what: str) -> str:
        """Says it of a measure."""
        return (
            f"{what} varies by {self.architectures:.3f} (standard deviation) over architectures and by "
            f"{self.seeds:.3f} over seeds of one: {100 * (self.share or 0):.0f}% of that"
        )


@dataclass(frozen=True)
class Noise:
    """Signal and noise of a study's trainings.

    Attributes:
        n: Architectures trained so far.
        n_missing: Trainings that are not done, further seeds included.
        best_bleu: BLEU on the test set of the best by validation BLEU.
        bleu: The variation of validation BLEU.
        loss: The variation of validation loss, in nats per token.
        replicated: Number, seed and outcome of each training of the repeated architectures.
        wanted_bleu: What the best is to reach; 0 if nothing was wanted.
    """

    n: int
    n_missing: int
    best_bleu: float
    bleu: Variation
    loss: Variation
    replicated: tuple[tuple[int, int, dict[str, Any]], ...] = ()
    wanted_bleu: float = 0.0

    @classmethod
    def of(cls, results: Results) -> "Noise":
        """Takes it from what is done."""
        first = results.first_trainings()
        repeated = {
            number: {
                seed: one
                for seed in results.study.architectures.seeds
                if (one := results.training(number, seed))
            }
            for number in results.study.architectures.replicated
        }

        def variation(measure: Callable[[dict[str, Any]], float]) -> Variation:
            by_seed = [list(map(measure, seeds.values())) for seeds in repeated.values()]
            return Variation.of(list(map(measure, first)), by_seed)

        return cls(
            len(first),
            sum(len(results.missing[what]) for what in ("trainings", "further seeds")),
            max(first, key=_bleu)["test"]["bleu"] if first else 0.0,
            variation(_bleu),
            variation(lambda training: float(training["valid_loss"])),
            tuple((number, seed, one) for number, seeds in repeated.items() for seed, one in seeds.items()),
            results.study.wanted_bleu,
        )

    @property
    def _verdict(self) -> str:
        if not self.wanted_bleu:
            return ""
        is_good = self.best_bleu >= self.wanted_bleu
        return f"; {self.wanted_bleu:g} were wanted{'' if is_good else ', so that is NOT enough'}"

    def describe(self) -> str:
        """Says it in a sentence or two, and whether it is as wanted, once all trainings are done."""
        if not self.n:
            return "No architecture is trained yet."
        reached = f"The best of {self.n} by validation BLEU reaches {self.best_bleu:.2f} on the test set"
        if self.n_missing:
            return (
                f"{reached} so far. How far seeds and architectures differ is said when all trainings are "
                f"done: {self.n_missing} are missing."
            )
        best = f"{reached}{self._verdict}."
        if self.bleu.share is None:
            return f"{best} No architecture was trained with several seeds, so nothing is known of noise."
        verdict = "less" if self.bleu.share < WANTED_SHARE else "NOT less"
        return (
            f"{best} {self.bleu.describe('Validation BLEU')}, {verdict} than the third that it may be. "
            f"{self.loss.describe('Validation loss')}."
        )


def _bleu(training: dict[str, Any]) -> float:
    return float(training["valid"]["bleu"])
