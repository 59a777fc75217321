"""Files of measured latencies: Parquet with one row per measurement, written whole after each of them.

| column | what |
|---|---|
| `kind` | 'architecture', or 'reference' for the one that is measured between the others |
| `encoder_ms`, `decoder_ms`, `latency_ms` | medians, and their sum, with the drift taken out |
| `raw_encoder_ms`, `raw_decoder_ms`, `raw_latency_ms` | the same as measured |
| `drift` | the quotient of the two |
| `half_width`, `is_precise` | half the 95% interval of the median as a share of it; whether that was enough |
| `n_warmups`, `encoder_samples_ms`, `decoder_samples_ms` | runs before the repeats; the repeats |
| `session`, `started`, `seconds`, `load` | which start of the command; Unix time; how long; load average |
| `encoder_dim`, ... | the fields of `Architecture` |
| `machine`, `header` | JSON: the machine; schema, task, workload, reference, settings; equal in all rows |
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpp.architecture import Architecture
from llmpp.errors import InputError, writing
from llmpp.measuring.drift import Drift, find_drift
from llmpp.measuring.measurement import Measurement, Sample
from llmpp.replacement import replaced
from llmpp.space import Floats, SearchSpace
from llmpp.task import Task

if TYPE_CHECKING:
    import polars as pl

MEASURED_SCHEMA = "llmpp.measured/1"
_FIELDS = tuple(Architecture.__dataclass_fields__)


@dataclass(frozen=True)
class MeasuredRow:
    """One measurement.

    Attributes:
        is_reference: Whether it is one of the reference.
        architecture: What was measured.
        measurement: What came out.
        session: Which start of the command it belongs to, from 0.
        started: When it began, in seconds since 1970.
        seconds: How long it took, with building the network.
        load: Processes that ran or waited in the minute before, on average.
        machine: What it was measured on.
    """

    is_reference: bool
    architecture: Architecture
    measurement: Measurement
    session: int
    started: float
    seconds: float
    load: float | None
    machine: Mapping[str, Any]

    @property
    def middle(self) -> float:
        """The middle of the time that it took."""
        return self.started + self.seconds / 2


@dataclass(frozen=True)
class Measured:
    """The measurements of one workload on one machine.

    Attributes:
        header: `task`, `workload`, `reference`, `settings`, and more, ready for JSON.
        rows: In the order in which they were made.
    """

    header: Mapping[str, Any]
    rows: tuple[MeasuredRow, ...] = ()

    @property
    def task(self) -> Task:
        """The task, without its figures."""
        return _task(self.header["task"])

    @property
    def counts(self) -> dict[Architecture, int]:
        """How often each architecture was measured, in the order of the first times; no reference."""
        return dict(Counter(row.architecture for row in self.rows if not row.is_reference))

    @property
    def architectures(self) -> list[Architecture]:
        """What was measured, each once, without the reference."""
        return list(self.counts)

    @property
    def drift(self) -> Drift:
        """How the machine's speed changed."""
        return self.drift_of(0.5)

    def drift_of(self, quantile: float) -> Drift:
        """How the machine's speed changed, by a quantile of the reference's repeats."""
        references = sorted(
            (row.middle, sum(row.measurement.parts_ms(quantile))) for row in self.rows if row.is_reference
        )
        return find_drift([time for time, _ in references], [latency for _, latency in references])

    def latencies(self, quantile: float = 0.5) -> dict[Architecture, tuple[float, float]]:
        """Latencies of encoder and decoder in ms, with the drift taken out: medians over rounds.

        Args:
            quantile: What is taken of an architecture's repeats in each round: 0.5 for the median; 0.1 for
                the time that it takes while others leave the machine alone.
        """
        drift, rounds = self.drift_of(quantile), dict[Architecture, list[tuple[float, float]]]()
        for row in self.rows:
            if not row.is_reference:
                encoder_ms, decoder_ms = row.measurement.parts_ms(quantile)
                factor = drift.factor(row.middle)
                rounds.setdefault(row.architecture, []).append((encoder_ms / factor, decoder_ms / factor))
        return {
            architecture: (median(e for e, _ in found), median(d for _, d in found))
            for architecture, found in rounds.items()
        }

    def with_row(self, row: MeasuredRow) -> "Measured":
        """Adds a measurement."""
        return replace(self, rows=(*self.rows, row))

    def to_frame(self) -> "pl.DataFrame":
        """Returns the table that a file holds."""
        import polars as pl

        drift, header = self.drift, json.dumps({"schema": MEASURED_SCHEMA, **self.header}, sort_keys=True)
        records = [{**_record(row, drift.factor(row.middle)), "header": header} for row in self.rows]
        return pl.DataFrame(records, schema=_schema())


def task_record(task: Task) -> dict[str, Any]:
    """What a file's header says of a task."""
    sizes = {"vocabulary": task.vocabulary, "sentence_length": task.sentence_length}
    return {"name": task.name, "space": task.space.to_dict(), **sizes}


def _task(known: Mapping[str, Any]) -> Task:
    """Builds what `task_record` describes."""
    space = SearchSpace.from_dict(known["space"])
    return Task(known["name"], space, known["vocabulary"], known["sentence_length"])


def _schema() -> "dict[str, Any]":
    import polars as pl

    parts = ("encoder_ms", "decoder_ms", "latency_ms")
    return {
        "kind": pl.String,
        **dict.fromkeys((*parts, *(f"raw_{part}" for part in parts), "drift", "half_width"), pl.Float64),
        "is_precise": pl.Boolean,
        "n_warmups": pl.Int64,
        **dict.fromkeys(("encoder_samples_ms", "decoder_samples_ms"), pl.List(pl.Float64)),
        "session": pl.Int64,
        **dict.fromkeys(("started", "seconds", "load"), pl.Float64),
        **{name: pl.Int64 if name.endswith("_dim") else pl.List(pl.Int64) for name in _FIELDS},
        "machine": pl.String,
        "header": pl.String,
    }


def _record(row: MeasuredRow, factor: float) -> dict[str, Any]:
    of = row.measurement
    parts = {"encoder_ms": of.encoder_ms, "decoder_ms": of.decoder_ms, "latency_ms": of.latency_ms}
    return {
        "kind": "reference" if row.is_reference else "architecture",
        **{name: value / factor for name, value in parts.items()},
        **{f"raw_{name}": value for name, value in parts.items()},
        "drift": factor,
        "half_width": of.half_width,
        "is_precise": of.is_precise,
        "n_warmups": of.n_warmups,
        "encoder_samples_ms": [sample.encoder_ms for sample in of.samples],
        "decoder_samples_ms": [sample.decoder_ms for sample in of.samples],
        "session": row.session,
        "started": row.started,
        "seconds": row.seconds,
        "load": row.load,
        **row.architecture.to_dict(),
        "machine": json.dumps(row.machine, sort_keys=True),
    }


def write_measured(path: Path, measured: Measured) -> None:
    """Writes the file and makes sure that it is on the disk; the one before is there until this one is whole.

    Raises:
        InputError: If it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary, temporary.open("wb") as file:
            measured.to_frame().write_parquet(file)
            file.flush()
            os.fsync(file.fileno())


def is_measured_file(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def _read_frame(path: Path) -> "pl.DataFrame":
    """Reads the table of a file of measurements.

    Raises:
        InputError: If the file is damaged, lacks columns, holds no row, or is of another schema.
    """
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"cannot read the measurements {path}: {error}. Is it whole, and written by `llmpp measure`?"
        ) from error
    if missing := sorted(set(_schema()) - set(frame.columns)):
        raise InputError(f"{path} lacks the columns {missing}: was it written by `llmpp measure`?")
    if frame.is_empty():
        raise InputError(f"{path} holds no measurements: measure some, `llmpp measure -o {path}`")
    return frame


def positive_values(frame: "pl.DataFrame", path: Path) -> Floats:
    """Reads the numbers of a frame `(n, columns)`.

    Raises:
        InputError: If one is not above 0, or not finite.
    """
    values = np.asarray(frame.to_numpy(), np.float64)
    bad = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: `{frame.columns[column]}` of row {row + 1} is {values[row, column]}, not above 0"
        )
    return values


def read_measured(path: Path) -> Measured:
    """Reads what `write_measured` wrote.

    Raises:
        InputError: If the file is damaged, lacks columns, holds no row, or is of another schema.
    """
    frame = _read_frame(path)
    positive_values(frame.select("encoder_ms", "decoder_ms"), path)
    try:
        header = json.loads(frame["header"][0])
        found = header.pop("schema")
        if found != MEASURED_SCHEMA:
            raise InputError(f"expected measurements of schema {MEASURED_SCHEMA!r}, got {found!r}")
        for name in ("task", "workload", "reference", "settings", "seed", "design"):
            if name not in header:
                raise InputError(f"the header lacks {name!r}")
        _task(header["task"])
        return Measured(header, tuple(_row(record) for record in frame.iter_rows(named=True)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds measurements that cannot be used: {error}") from error


def _row(record: Mapping[str, Any]) -> MeasuredRow:
    pairs = zip(record["encoder_samples_ms"], record["decoder_samples_ms"], strict=True)
    samples = tuple(Sample(*pair) for pair in pairs)
    if not samples or not all(0 < part < math.inf for sample in samples for part in sample):
        raise InputError(f"repeats must be above 0 ms, got {list(samples)!r:.80}")
    shared = {name: record[name] for name in ("session", "started", "seconds", "load")}
    return MeasuredRow(
        is_reference=record["kind"] == "reference",
        architecture=Architecture.from_dict({name: record[name] for name in _FIELDS}),
        measurement=Measurement(samples, record["half_width"], record["is_precise"], record["n_warmups"]),
        machine=json.loads(record["machine"]),
        **shared,
    )
