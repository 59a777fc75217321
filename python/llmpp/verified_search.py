"""Searching, measuring what was found, and searching again if what was predicted misses to one side."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.measuring.measurement import Measurement
from llmpp.measuring.verification import Verification, measurer, verify
from llmpp.phase import name_of
from llmpp.plan import SearchPlan
from llmpp.predictor import MlpPredictor, Predictor
from llmpp.progress import measuring_bar
from llmpp.provenance import origin
from llmpp.result import SearchResult, Status
from llmpp.run import RunDirectory
from llmpp.task import Task
from llmpp.weights import mlp_bytes, read_arrays

#: Measures an architecture.
Measure: TypeAlias = Callable[[Architecture], Measurement]

#: Searches at most: a second one if the first shows an error that all share.
_N_ROUNDS = 2


@dataclass(frozen=True)
class VerifiedSearch:
    """How to search and to measure.

    Attributes:
        search: Searches with a latency model.
        measure_one: Measures an architecture.
        n: How many of the best are measured.
        bound_ms: The bound on latency, or None.
        directory: Where a corrected latency model and the result are written, or None.
        progress: Whether a bar is shown.
    """

    search: Callable[[MlpPredictor], SearchResult]
    measure_one: Measure
    n: int
    bound_ms: float | None
    directory: RunDirectory | None = None
    progress: bool = False

    def run(self, hardware: MlpPredictor) -> SearchResult:
        """Searches and measures, a second time with the corrected latency model if the error is systematic.

        Returns:
            The result of the last search: `best` is the best that keeps the bound in truth.

        Raises:
            InputError: If an architecture cannot be measured.
            PredictorError: If a predictor fails.
        """
        known: dict[Architecture, list[Measurement]] = {}
        notes: list[str] = []
        found: Verification[Any] | None = None
        for number in range(1, _N_ROUNDS + 1):
            result = self.search(hardware)
            if result.best is None or result.status == "interrupted":
                result = replace(result, verification=found)
                break
            with measuring_bar(enabled=self.progress) as told:
                found = verify(
                    result.ranking(4 * self.n),
                    self.measure_one,
                    self.bound_ms,
                    n=self.n,
                    quantile=hardware.record.get("quantile", 0.5),
                    known=known,
                    progress=told,
                )
            result = _with_verification(result, found)
            if not found.is_systematic or found.is_interrupted or number == _N_ROUNDS:
                break
            notes += [*found.notes, "searched again with the corrected latency model"]
            hardware = self._corrected(hardware, found)
        return self._finished(replace(result, notes=(*notes, *result.notes)))

    def _corrected(self, hardware: MlpPredictor, found: Verification[Any]) -> MlpPredictor:
        corrected, data = rescaled(hardware, found.factor, len(found.measured))
        if self.directory:
            self.directory.write_latency(data)
        return corrected

    def _finished(self, result: SearchResult) -> SearchResult:
        if self.directory:
            self.directory.write_result(result)
        return result


def measurer_of(latency: Predictor | None, task: Task, n: int) -> Measure:
    """Returns what measures architectures as those were that a search's latency model was fitted to.

    Args:
        latency: What the search predicts latency by.
        task: The task.
        n: How many are to be measured, for the message.

    Raises:
        InputError: If the hardware is no latency model of this machine.
        MissingExtraError: If torch is not installed.
    """
    if isinstance(latency, MlpPredictor):
        return measurer(latency, task)
    what = "none" if latency is None else f"`{name_of(latency)}`"
    raise InputError(
        f"`verify={n}` needs as `hardware` a latency model of this machine, got {what}: `llmpp measure "
        f"--task {task.name} -o FILE.parquet`, then `llmpp fit-latency FILE.parquet`"
    )


def verified_search(plan: SearchPlan, measure_one: Measure) -> SearchResult:
    """Searches as planned, and measures the best; see `VerifiedSearch`.

    Raises:
        InputError: If an architecture cannot be measured.
        PredictorError: If a predictor fails.
    """
    way = VerifiedSearch(
        search=plan.run,
        measure_one=measure_one,
        n=plan.verify,
        bound_ms=plan.bounds.get("latency_ms"),
        directory=plan.directory,
        progress=plan.progress,
    )
    return way.run(cast("MlpPredictor", plan.latency))


def rescaled(hardware: MlpPredictor, factor: float, n_measured: int) -> tuple[MlpPredictor, bytes]:
    """Multiplies what a latency model predicts.

    Args:
        hardware: The model, read from a file.
        factor: What its predictions are to be multiplied by.
        n_measured: How many measurements showed that, for the record.

    Returns:
        The model, and the weights file that holds it.

    Raises:
        InputError: If it was not read from a file.
        MissingExtraError: If safetensors is not installed.
    """
    if hardware.path is None:
        raise InputError(f"{hardware.name} was not read from a file, so it cannot be corrected")
    tensors = read_arrays(hardware.path, "")
    for name in ("output.mean", "output.std", "spread.factor"):
        if name in tensors:
            tensors[name] = (tensors[name] * factor).astype(tensors[name].dtype)
    correction = {"factor": factor, "n_measured": n_measured, **origin("", ["llmpp"], None)}
    record = {**hardware.record, "correction": correction}
    data = mlp_bytes(tensors, record)
    spread = hardware.spread and replace(hardware.spread, factor=hardware.spread.factor * factor)
    corrected = replace(hardware, mlp=_core.Mlp(data), record=record, spread=spread)
    return replace(corrected, name=f"{hardware.name}, corrected"), data


def _with_verification(result: SearchResult, found: Verification[Any]) -> SearchResult:
    """Has a result say what measuring showed; its best is the best that keeps the bound in truth."""
    best = found.kept[0].candidate if found.kept else None
    reachable = None
    status: Status = result.status
    ties: dict[str, Any] = {"n_ties": result.n_ties, "n_architectures": result.n_architectures}
    if best is None and found.measured:
        status, reachable = "infeasible", {"latency_ms": min(one.measured_ms for one in found.measured)}
    elif best != result.best and status == "optimal":
        status = "budget"
    if found.is_interrupted:
        status, best = "interrupted", best or result.best
    if status != "optimal":
        ties = dict.fromkeys(ties)
    return replace(
        result,
        status=status,
        best=best,
        reachable=reachable,
        notes=(*result.notes, *found.notes),
        verification=found,
        **ties,
    )
