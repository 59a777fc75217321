"""`Comparison`: which searches a study compares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmpp.errors import InputError
from llmpp.evolution import EvolutionSettings
from llmpp.ranges import LARGEST_SEED, between, different, integer, share
from llmpp.study.section import build_section

#: The student that a study distils itself.
STUDENT = "student"
#: The student that ships with a task.
_SHIPPED = "distilled"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to search.

    Attributes:
        initial: What the search starts on: 'student', distilled from the best predictor that needs nothing
            but demonstrations; a supernet, such as 'supernet-plain'; 'distilled' for the student that ships
            with the task; or a weights file, whose path counts from the study's file.
        baseline: What it ends on; empty to stay with `initial`.
        switch: The share of iterations before the baseline takes over.
        is_random: Whether architectures are only drawn, as many as an evolution has places for. An evolution
            scores fewer, since some of its places go to architectures that it knows: that favours drawing.

    Raises:
        InputError: If a value is not what it should be, or both predictors are the same.
    """

    initial: str
    baseline: str = ""
    switch: float = 0.5
    is_random: bool = False

    def __post_init__(self) -> None:
        for name in ("initial", "baseline"):
            if not isinstance(value := getattr(self, name), str):
                raise InputError(f"`{name}` must be the name of a predictor, got {value!r}")
        if not isinstance(self.is_random, bool):
            raise InputError(f"`is_random` must be true or false, got {self.is_random!r}")
        share("switch", self.switch)
        if self.initial == self.baseline:
            raise InputError(
                f"`baseline` is {self.baseline!r}, as `initial` is: leave it out to stay with that"
            )

    @property
    def predictors(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(filter(None, (self.initial, self.baseline)))

    @property
    def files(self) -> tuple[str, ...]:
        """Those that are weights files."""
        return tuple(
            name
            for name in self.predictors
            if name not in (STUDENT, _SHIPPED) and not name.startswith("supernet-")
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Searches that are compared; the architectures that they find are trained from scratch and measured.

    Attributes:
        methods: The ways, by name; none for no searches.
        quantiles: The latency bounds: each is above the latency of so large a share of all architectures.
        seeds: Seeds of searches, and of the trainings of what they find.
        trained_seeds: Those of the seeds whose finds are trained and measured; None for all.
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
    trained_seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        different("quantiles", self.quantiles)
        different("seeds", self.seeds)
        different("trained_seeds", self.trained_seeds or (), 0)
        for quantile in self.quantiles:
            between("quantiles", quantile, 0.001, 1)
        for seed in self.seeds:
            integer("seeds", seed, 0, LARGEST_SEED)
        for seed in self.trained_seeds or ():
            if seed not in self.seeds:
                raise InputError(f"`trained_seeds` must be among `seeds` {list(self.seeds)}, got {seed!r}")
        integer("n_measured", self.n_measured, 30, 10**6)
        build_section(EvolutionSettings, self.evolution, "[comparison.evolution]")
        methods = {
            name: given if isinstance(given, Method) else build_section(Method, given, f"the method {name!r}")
            for name, given in self.methods.items()
        }
        object.__setattr__(self, "methods", methods)

    @property
    def seeds_of_trainings(self) -> tuple[int, ...]:
        """The seeds whose finds are trained and measured."""
        return self.seeds if self.trained_seeds is None else self.trained_seeds

    @property
    def needs(self) -> set[str]:
        """What methods name, and the judge, if there are any methods."""
        named = {name for method in self.methods.values() for name in method.predictors}
        return named | {self.judge} if self.methods else set()
