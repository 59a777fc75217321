"""`Comparison`: which searches a study compares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmpp.evolution import EvolutionSettings
from llmpp.ranges import LARGEST_SEED, between, integer
from llmpp.study.section import build_section

#: The student that a study distils itself.
STUDENT = "student"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to search.

    Attributes:
        initial: What the search starts on: 'student', distilled from the best predictor that needs nothing
            but demonstrations; a supernet, such as 'supernet-plain'; 'distilled' for the student that ships
            with the task; or a weights file, whose path counts from the study's file.
        baseline: What it ends on; empty to stay with `initial`.
        switch: The share of iterations before the baseline takes over.
        is_random: Whether architectures are only drawn, as many as an evolution has places for.
    """

    initial: str
    baseline: str = ""
    switch: float = 0.5
    is_random: bool = False

    @property
    def predictors(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(filter(None, (self.initial, self.baseline)))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Searches that are compared; the architectures that they find are trained from scratch and measured.

    Attributes:
        methods: The ways, by name; none for no searches.
        quantiles: The latency bounds: each is above the latency of so large a share of all architectures.
        seeds: Seeds of searches, and of the trainings of what they find.
        evolution: Fields of `EvolutionSettings`.
        judge: The supernet that says what the loss of every found architecture is.
        n_measured: Architectures that the latency model is fitted to.

    Raises:
        InputError: If a setting is out of its range or unknown.
    """

    methods: Mapping[str, Method] = field(default_factory=dict)
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)
    seeds: tuple[int, ...] = (1, 2, 3)
    evolution: Mapping[str, Any] = field(default_factory=dict)
    judge: str = "supernet-plain"
    n_measured: int = 120

    def __post_init__(self) -> None:
        for quantile in self.quantiles:
            between("quantiles", quantile, 0.001, 1)
        for seed in self.seeds:
            integer("seeds", seed, 0, LARGEST_SEED)
        integer("n_measured", self.n_measured, 30, 10**6)
        build_section(EvolutionSettings, self.evolution, "[comparison.evolution]")
        methods = {
            name: given if isinstance(given, Method) else build_section(Method, given, f"the method {name!r}")
            for name, given in self.methods.items()
        }
        object.__setattr__(self, "methods", methods)

    @property
    def needs(self) -> set[str]:
        """What methods name, and the judge, if there are any methods."""
        named = {name for method in self.methods.values() for name in method.predictors}
        return named | {self.judge} if self.methods else set()
