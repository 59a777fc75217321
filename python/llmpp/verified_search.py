"""Searching, measuring what was found, and searching again if what was predicted misses to one side."""

from collections.abc import Callable, Sequence
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
from llmpp.result import Candidate, SearchResult, Status
from llmpp.run import RunDirectory
from llmpp.task import Task
from llmpp.weights import mlp_bytes, read_arrays

#: Measures an architecture.
Measure: TypeAlias = Callable[[Architecture], Measurement]


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
        rounds: list[Verification[Candidate]] = []
        if self.directory:
            self.directory.remove_latency()
        for is_last in (False, True):
            result = self.search(hardware)
            if result.best is None or result.status == "interrupted":
                break
            rounds.append(self._verified(result, hardware, known, is_last=is_last))
            notes += rounds[-1].notes
            if not rounds[-1].is_systematic or rounds[-1].is_interrupted or is_last:
                break
            notes.append("searched again with the corrected latency model")
            hardware = self._corrected(hardware, rounds[-1])
        return self._finished(_concluded(replace(result, notes=(*result.notes, *notes)), rounds))

    def _verified(
        self,
        result: SearchResult,
        hardware: MlpPredictor,
        known: dict[Architecture, list[Measurement]],
        *,
        is_last: bool,
    ) -> Verification[Candidate]:
        with measuring_bar(enabled=self.progress) as told:
            return verify(
                result.ranking(4 * self.n),
                self.measure_one,
                self.bound_ms,
                n=self.n,
                quantile=hardware.record.get("quantile", 0.5),
                known=known,
                is_last=is_last,
                progress=told,
            )

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


def _concluded(result: SearchResult, rounds: Sequence[Verification[Candidate]]) -> SearchResult:
    """Has the last search's result say what measuring showed.

    Its best is the best candidate of all rounds that keeps the bound in truth.
    """
    if not rounds:
        return result
    last = rounds[-1]
    measured = {one.candidate.architecture: one for found in rounds for one in found.measured}
    found = replace(last, measured=tuple(measured.values()))
    is_stopped = last.is_interrupted or result.status == "interrupted"
    best = max((one.candidate for one in found.kept), key=lambda candidate: candidate.score, default=None)
    notes = result.notes
    if best is None and is_stopped:
        best = next((one for one in result.ranking(1000) if one.architecture not in measured), None)
        notes += ("the best that is shown was not measured",) if best else ()
    status: Status = result.status
    if is_stopped:
        status = "interrupted"
    elif best is None:
        status = "infeasible"
    elif result.best is None or best.architecture != result.best.architecture:
        status = "budget"
    smallest = min((one.measured_ms for one in found.measured), default=None)
    return replace(
        result,
        status=status,
        best=best,
        reachable={"latency_ms": smallest} if status == "infeasible" and smallest else None,
        n_ties=result.n_ties if status == "optimal" else None,
        n_architectures=result.n_architectures if status == "optimal" else None,
        notes=notes,
        verification=found,
    )
