"""The table of a comparison: what methods find within latency bounds, and what that costs, over seeds.

A search by drawing alone scores as many architectures as an evolution has places for; an evolution scores
fewer, since some of its places go to architectures that it knows. That favours drawing; evaluations by
predictor show by how much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from llmpp.study.results import Results
from llmpp.study.search_jobs import search_name


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: Its mean.
        std: Its standard deviation, with n - 1; None for a single seed.
        n: How many seeds have it.
    """

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread | None":
        """Sums up values; None if there are none."""
        if not values:
            return None
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), std, len(values))


#: The columns: what they are called, digits, and where they come from in a case's figures.
COLUMNS: Mapping[str, tuple[str, int]] = {
    "valid_bleu": ("BLEU, validation", 2),
    "test_bleu": ("BLEU, test", 2),
    "latency_ms": ("latency, ms", 1),
    "predicted_ms": ("predicted, ms", 1),
    "gflops": ("GFLOPs", 4),
    "params_m": ("parameters, M", 3),
    "supernet_loss": ("supernet loss", 3),
    "n_supernet_evaluations": ("supernet evaluations", 0),
    "search_hours": ("search, hours", 3),
    "supernet_hours": ("of these supernet", 3),
}
#: The columns that have a figure for each predictor: as `COLUMNS`.
BY_PREDICTOR: Mapping[str, tuple[str, int]] = {
    "n_evaluations": ("evaluations", 0),
    "seconds_by_predictor": ("seconds", 1),
}


@dataclass(frozen=True)
class Compared:
    """A method at one bound.

    Attributes:
        method: Its name.
        quantile: The share of architectures that are faster than the bound.
        bound_ms: The bound; None before the first search.
        seeds: The figures of each seed, by the names of `COLUMNS`; what is not known yet is missing.
        by_predictor: Figures of each predictor that the method asks, by the names of `BY_PREDICTOR`.
    """

    method: str
    quantile: float
    bound_ms: float | None
    seeds: Mapping[int, Mapping[str, float]]
    by_predictor: Mapping[str, Mapping[str, Spread]]

    def spread(self, column: str) -> Spread | None:
        """Sums up a column over seeds."""
        return Spread.of([figures[column] for figures in self.seeds.values() if column in figures])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        spreads = {name: self.spread(name) for name in COLUMNS}
        return {
            "method": self.method,
            "quantile": self.quantile,
            "bound_ms": self.bound_ms,
            **{name: vars(found) if found else None for name, found in spreads.items()},
            **{
                column: {name: vars(spread) for name, spread in found.items()}
                for column, found in self.by_predictor.items()
            },
            "seeds": {str(seed): dict(figures) for seed, figures in self.seeds.items()},
        }


def compare(results: Results) -> list[Compared]:
    """Sums up a study's searches, bound by bound; those that are not done are left out."""
    comparison = results.study.comparison
    return [
        Compared(
            method,
            quantile,
            _bound(results, method, quantile),
            dict(_seeds(results, method, quantile)),
            {column: _by_predictor(results, method, quantile, column) for column in BY_PREDICTOR},
        )
        for quantile, method in product(comparison.quantiles, comparison.methods)
    ]


def _bound(results: Results, method: str, quantile: float) -> float | None:
    for seed in results.study.comparison.seeds:
        if outcome := results.outcome(f"search-{search_name(method, quantile, seed)}"):
            return float(outcome["bound_ms"])
    return None


def _seeds(results: Results, method: str, quantile: float) -> Iterator[tuple[int, dict[str, float]]]:
    for seed in results.study.comparison.seeds:
        name = search_name(method, quantile, seed)
        if found := results.outcome(f"search-{name}"):
            training, latency = results.outcome(f"train-{name}"), results.outcome(f"latency-{name}")
            yield seed, _figures(found, training, latency)


def _by_predictor(results: Results, method: str, quantile: float, column: str) -> dict[str, Spread]:
    """Sums up a figure of each predictor, in the order in which they are asked."""
    found: dict[str, list[float]] = {}
    for seed in results.study.comparison.seeds:
        outcome = results.outcome(f"search-{search_name(method, quantile, seed)}") or {}
        for name, value in outcome.get(column, {}).items():
            found.setdefault(name, []).append(float(value))
    return {name: spread for name, values in found.items() if (spread := Spread.of(values))}


def _figures(
    found: Mapping[str, Any], training: Mapping[str, Any] | None, latency: Mapping[str, Any] | None
) -> dict[str, float]:
    """The figures of a search and of what became of its find, as far as they are known."""
    figures = {name: float(found[name]) for name in COLUMNS if name in found}
    figures["search_hours"] = found["search_seconds"] / 3600
    figures["supernet_hours"] = found["supernet_seconds"] / 3600
    if training:
        figures |= {"valid_bleu": training["valid"]["bleu"], "test_bleu": training["test"]["bleu"]}
    if latency:
        figures["latency_ms"] = latency["latency_ms"]
    return figures


def cells(row: Compared) -> list[str]:
    """Writes a row for people: mean and standard deviation of each column, '-' where nothing is known.

    Figures stand for as many seeds as the row says; one that stands for fewer says so itself.
    """
    n, bound = len(row.seeds), "-" if row.bound_ms is None else f"{row.bound_ms:g}"
    figures = [_cell(row.spread(name), digits, n) for name, (_, digits) in COLUMNS.items()]
    parts = [
        ", ".join(f"{name} {_cell(spread, digits, n)}" for name, spread in row.by_predictor[column].items())
        for column, (_, digits) in BY_PREDICTOR.items()
    ]
    return [bound, row.method, str(n), *figures, *(part or "-" for part in parts)]


def headings() -> list[str]:
    """The headings of `cells`."""
    titles = [title for title, _ in (*COLUMNS.values(), *BY_PREDICTOR.values())]
    return ["bound, ms", "method", "seeds", *titles]


def _cell(spread: Spread | None, digits: int, n: int) -> str:
    """Writes a figure; how many seeds it stands for, if those are not `n`."""
    if spread is None:
        return "-"
    std = "" if spread.std is None else f" ± {spread.std:.{digits}f}"
    few = "" if spread.n == n else f" ({spread.n} seed{'s' * (spread.n > 1)})"
    return f"{spread.mean:.{digits}f}{std}{few}"
