"""How far trainings of one architecture differ by their seeds, beside how far architectures differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmpp.study.results import Results

#: Noise, as a share of the signal, that architectures can be told apart beside.
WANTED_SHARE = 1 / 3


@dataclass(frozen=True)
class Noise:
    """Signal and noise of a study's trainings.

    Attributes:
        n: Architectures trained so far.
        n_missing: Trainings that are not done, further seeds included.
        best_bleu: BLEU on the test set of the best by validation BLEU.
        architecture_std: Standard deviation of validation BLEU over architectures, of the first seed.
        seed_std: The same over seeds of one architecture, pooled; None where nothing was repeated.
        replicated: Number, seed and outcome of each training of the repeated architectures.
        wanted_bleu: What the best is to reach; 0 if nothing was wanted.
    """

    n: int
    n_missing: int
    best_bleu: float
    architecture_std: float
    seed_std: float | None
    replicated: tuple[tuple[int, int, dict[str, Any]], ...]
    wanted_bleu: float = 0.0

    @classmethod
    def of(cls, results: Results) -> "Noise":
        """Takes it from what is done."""
        first = [one for number in results.architectures if (one := results.training(number))]
        scores = [one["valid"]["bleu"] for one in first]
        replicated, variances = [], []
        for number in results.study.architectures.replicated:
            seeds = results.study.architectures.seeds
            found = [(number, seed, one) for seed in seeds if (one := results.training(number, seed))]
            replicated += found
            if len(found) > 1:
                variances.append(np.var([one["valid"]["bleu"] for _, _, one in found], ddof=1))
        return cls(
            len(first),
            sum(len(results.missing[what]) for what in ("trainings", "further seeds")),
            max(((one["valid"]["bleu"], one["test"]["bleu"]) for one in first), default=(0.0, 0.0))[1],
            float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
            float(np.sqrt(np.mean(variances))) if variances else None,
            tuple(replicated),
            results.study.wanted_bleu,
        )

    @property
    def share(self) -> float | None:
        """Noise as a share of the signal."""
        if self.seed_std is None or not self.architecture_std:
            return None
        return self.seed_std / self.architecture_std

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
        if self.share is None or self.seed_std is None:
            return f"{best} No architecture was trained with several seeds, so nothing is known of noise."
        verdict = "less" if self.share < WANTED_SHARE else "NOT less"
        return (
            f"{best} Validation BLEU varies by {self.architecture_std:.3f} (standard deviation) over "
            f"architectures and by {self.seed_std:.3f} over seeds of one: {100 * self.share:.0f}% of that, "
            f"{verdict} than the third that it may be."
        )
