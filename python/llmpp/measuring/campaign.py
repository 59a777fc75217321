"""Measuring many architectures: resumable, a reference between them, each one kept as soon as it is done."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.machine import describe_machine, load
from llmpp.measuring.design_points import Design, choose, reference_architecture
from llmpp.measuring.measured_file import Measured, MeasuredRow, read_measured, task_record, write_measured
from llmpp.measuring.measurement import Clock, MeasurementSettings, Run, measure
from llmpp.measuring.timing import Workload, runs_of
from llmpp.ranges import integer
from llmpp.task import Task

#: Told after each measurement of an architecture: how many are done, how many there are, and the seconds that
#: are left.
Progress: TypeAlias = Callable[[int, int, float], object]
Status: TypeAlias = Literal["done", "interrupted"]

#: Above this, other processes share the CPUs that are timed.
_BUSY = 0.5


@dataclass(frozen=True)
class Campaign:
    """What is measured, how, and where it is kept.

    Attributes:
        task: The task whose architectures are measured.
        workload: What they have to do.
        output: The file, see `measured_file.py`.
        settings: How long each is measured.
        n: How many architectures, those already in the file included.
        n_rounds: How often each is measured: all once, then all again. On a machine that others share, what
            slows it for a minute slows one of an architecture's measurements.
        seed: Seed of their choice.
        design: 'informative' or 'random'.
        reference_every: The reference is measured after so many architectures.
        command: The command that measures it, for the record.

    Raises:
        InputError: If a number is out of its range.
    """

    task: Task
    workload: Workload
    output: Path
    settings: MeasurementSettings = field(default_factory=MeasurementSettings)
    n: int = 120
    n_rounds: int = 2
    seed: int = 0
    design: Design = "informative"
    reference_every: int = 5
    command: str = ""

    def __post_init__(self) -> None:
        integer("n", self.n, 1, 10**6)
        integer("n_rounds", self.n_rounds, 1, 1000)
        integer("reference_every", self.reference_every, 1, 10**6)

    @property
    def header(self) -> dict[str, Any]:
        """What a file says of all its rows."""
        return {
            "task": task_record(self.task),
            "workload": self.workload.to_dict(),
            "reference": reference_architecture(self.task).to_dict(),
            "settings": asdict(self.settings),
            "seed": self.seed,
            "design": self.design,
            "n_rounds": self.n_rounds,
            "command": self.command,
        }


@dataclass(frozen=True)
class Campaigned:
    """How a campaign went.

    Attributes:
        status: 'done', or 'interrupted' by Ctrl-C.
        measured: All that is in the file.
        seconds: How long it took this time.
        notes: What a user should know.
    """

    status: Status
    measured: Measured
    seconds: float
    notes: tuple[str, ...]


def run_campaign(
    campaign: Campaign,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    build: Callable[[Architecture], Run] | None = None,
    machine: Mapping[str, Any] | None = None,
    clock: Clock = time.time,
) -> Campaigned:
    """Measures until the file has all architectures, or until Ctrl-C.

    Args:
        campaign: What to measure.
        resume: Continue the file if it is there, rather than refuse to touch it.
        progress: Told how far it is.
        build: Builds an architecture for a run; by default a network on the workload's device.
        machine: What is recorded of this machine; by default what it tells.
        clock: Seconds since 1970.

    Raises:
        InputError: If the device is not there, or the file cannot be used, or is of another campaign.
        MissingExtraError: If the runtime is not installed.
    """
    build = build or runs_of(campaign.task, campaign.workload)
    machine = machine or describe_machine(campaign.workload.device, campaign.workload.runtime)
    before = _begin(campaign, machine, resume=resume)
    todo = _todo(campaign, before)
    from llmpp.cpu_threads import threads

    with threads(campaign.workload.threads):
        session = _Session(campaign, before, build, machine, clock)
        session.run(todo, progress)
    return session.outcome()


def _todo(campaign: Campaign, before: Measured) -> list[Architecture]:
    """What is left to measure, round by round."""
    counts = before.counts
    further = choose(
        campaign.task, campaign.n, seed=campaign.seed, given=list(counts), design=campaign.design
    )
    chosen = [*counts, *further]
    return [a for done in range(campaign.n_rounds) for a in chosen if counts.get(a, 0) <= done]


def _begin(campaign: Campaign, machine: Mapping[str, Any], *, resume: bool) -> Measured:
    """Reads what is there, if that is wanted, and checks that more of the same is asked for."""
    path = campaign.output
    if not path.exists():
        return Measured(campaign.header)
    if not resume:
        raise InputError(f"{path} is there already: continue it by `--resume`, or name another file")
    before = read_measured(path)
    for what in ("task", "workload"):
        old, new = before.header[what], campaign.header[what]
        for name in new:
            if old.get(name) != new[name]:
                raise InputError(
                    f"{path} was measured with another {what}: its {name} is {old.get(name)!r:.80}, not "
                    f"{new[name]!r:.80}. Ask for the same, or name another file"
                )
    for name in ("seed", "design"):
        if before.header[name] != campaign.header[name]:
            raise InputError(
                f"{path} was begun with the {name} {before.header[name]!r}, not {campaign.header[name]!r}: "
                "go on with the same, or name another file"
            )
    then = before.rows[-1].machine
    for name in ("processor", "device_name"):
        if then.get(name) != machine.get(name):
            raise InputError(
                f"{path} was measured on {then.get(name)}, but this is {machine.get(name)}: name another file"
            )
    return replace(before, header=campaign.header)


class _Session:
    """One start of the command: what was measured so far, and how to go on."""

    def __init__(
        self,
        campaign: Campaign,
        before: Measured,
        build: Callable[[Architecture], Run],
        machine: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        self.campaign, self.measured, self.build = campaign, before, build
        self.machine, self.clock = machine, clock
        self.number = 1 + max((row.session for row in before.rows), default=-1)
        self.began, self.load = clock(), load()
        self.n_before = sum(before.counts.values())
        self.status: Status = "done"

    def run(self, todo: Sequence[Architecture], progress: Progress | None) -> None:
        """Measures a reference, some architectures, a reference, and so on."""
        try:
            if not todo:
                return
            reference = reference_architecture(self.campaign.task)
            run_reference = self.build(reference)
            self._measure(reference, lambda: run_reference, is_reference=True)
            for number, architecture in enumerate(todo, 1):
                self._measure(architecture, lambda chosen=architecture: self.build(chosen))  # type: ignore[misc]
                if number % self.campaign.reference_every == 0 or number == len(todo):
                    self._measure(reference, lambda: run_reference, is_reference=True)
                if progress:
                    left = (self.clock() - self.began) / number * (len(todo) - number)
                    progress(self.n_before + number, self.n_before + len(todo), left)
        except KeyboardInterrupt:
            self.status = "interrupted"

    def _measure(
        self, architecture: Architecture, build: Callable[[], Run], *, is_reference: bool = False
    ) -> None:
        started, load_before = self.clock(), load()
        try:
            measurement = measure(build(), self.campaign.settings, self.clock)
        except RuntimeError as error:
            raise InputError(
                f"an architecture of {architecture.decoder_layers} decoder layers does not run on "
                f"{self.campaign.workload.device} in {self.campaign.workload.dtype}: {error}. What was "
                f"measured before is in {self.campaign.output}"
            ) from error
        row = MeasuredRow(
            is_reference=is_reference,
            architecture=architecture,
            measurement=measurement,
            session=self.number,
            started=started,
            seconds=self.clock() - started,
            load=load_before,
            machine=self.machine,
        )
        self.measured = self.measured.with_row(row)
        write_measured(self.campaign.output, self.measured)

    def outcome(self) -> Campaigned:
        """Says how it went."""
        seconds = self.clock() - self.began
        return Campaigned(self.status, self.measured, seconds, tuple(self._notes()))

    def _notes(self) -> list[str]:
        notes, precision = [], self.campaign.settings.precision
        rows = [row for row in self.measured.rows if not row.is_reference]
        if self.load is not None and self.load > _BUSY:
            notes.append(f"the load was {self.load:.1f} when measuring began: other processes slow it down")
        if n_vague := sum(not row.measurement.is_precise for row in rows):
            notes.append(f"{n_vague} of {len(rows)} medians are not known within {100 * precision:g}%")
        drift = self.measured.drift
        if drift.size * drift.share > precision:
            notes.append(f"the machine's speed changed by {100 * drift.size:.0f}%, which was taken out")
        return notes
