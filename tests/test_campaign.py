"""Measuring many architectures: what is kept, how it goes on, and what is taken out."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from llmpp import InputError, load_task  # noqa: E402
from llmpp.latency import fit_file, read_table  # noqa: E402
from llmpp.measuring.campaign import Campaign  # noqa: E402
from llmpp.measuring.design_points import choose, reference_architecture  # noqa: E402
from llmpp.measuring.measured_file import read_measured, write_measured  # noqa: E402
from llmpp.measuring.measurement import MeasurementSettings  # noqa: E402
from llmpp.measuring.timing import Workload  # noqa: E402
from machines import MACHINE, TASK, WORKLOAD, Machine, campaign, law, run  # noqa: E402


def test_all_architectures_are_measured_in_order_with_a_reference_between_them(tmp_path: Path) -> None:
    found = run(Machine(), campaign(tmp_path / "a.parquet", 7, reference_every=3))
    assert found.status == "done"
    assert found.measured.architectures == choose(TASK, 7)
    kinds = "".join("r" if row.is_reference else "a" for row in found.measured.rows)
    assert kinds == "raaaraaarar"
    references = {row.architecture for row in found.measured.rows if row.is_reference}
    assert references == {reference_architecture(TASK)}
    for row in found.measured.rows:
        assert row.measurement.latency_ms == pytest.approx(sum(law(row.architecture)), rel=0.02)


def test_the_file_holds_all_that_was_measured_and_on_what(tmp_path: Path) -> None:
    found = run(Machine(), campaign(tmp_path / "new" / "a.parquet", 6, command="llmpp measure"))
    path = tmp_path / "new" / "a.parquet"
    again = read_measured(path)
    assert again.rows == found.measured.rows
    assert again.header == json.loads(json.dumps(found.measured.header))
    assert again.header["workload"] == WORKLOAD.to_dict()
    assert again.header["command"] == "llmpp measure"
    assert again.task.space == TASK.space
    assert again.rows[0].machine == MACHINE
    frame = pl.read_parquet(path)
    for part in ("encoder", "decoder"):
        medians = frame[f"{part}_samples_ms"].list.median()
        assert frame[f"raw_{part}_ms"].to_list() == medians.to_list()
    assert (frame["raw_latency_ms"] / frame["latency_ms"] - frame["drift"]).abs().max() < 1e-12
    assert list(path.parent.iterdir()) == [path]


def test_drift_is_taken_out_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    machine = Machine(lambda seconds: 1.0 if seconds < 60 else 1.4)
    found = run(machine, campaign(tmp_path / "a.parquet", 40))
    frame = pl.read_parquet(tmp_path / "a.parquet").filter(pl.col("kind") == "architecture")
    truth = np.array([sum(law(a)) for a in found.measured.architectures])
    raw, corrected = frame["raw_latency_ms"].to_numpy() / truth, frame["latency_ms"].to_numpy() / truth
    assert raw.max() / raw.min() > 1.35
    within = np.abs(corrected / np.median(corrected) - 1) < 0.02
    assert within.mean() > 0.85
    assert any("speed changed by 4" in note for note in found.notes), found.notes


def test_a_steady_machine_gets_no_note_of_drift(tmp_path: Path) -> None:
    found = run(Machine(), campaign(tmp_path / "a.parquet", 20))
    assert not any("speed" in note for note in found.notes)


def test_what_is_not_known_well_enough_is_told(tmp_path: Path) -> None:
    settings = MeasurementSettings(precision=0.001, max_repeats=6)
    found = run(Machine(), campaign(tmp_path / "a.parquet", 6, settings=settings))
    assert "6 of 6 medians are not known within 0.1%" in found.notes


def test_ctrl_c_keeps_what_is_done_and_resuming_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, machine = tmp_path / "a.parquet", Machine()
    machine.stop_at = 6
    stopped = run(machine, campaign(path))
    assert stopped.status == "interrupted"
    assert read_measured(path).architectures == choose(TASK, 12)[:4]
    n_before = machine.n_built
    done = run(machine, campaign(path), resume=True)
    assert done.status == "done"
    assert done.measured.architectures == choose(TASK, 12)
    assert machine.n_built - n_before == 8 + 1
    assert [row.session for row in done.measured.rows] == [0] * 5 + [1] * (8 + 3)


def test_a_finished_file_is_extended_by_a_larger_number_and_left_alone_by_the_same(tmp_path: Path) -> None:
    path, machine = tmp_path / "a.parquet", Machine()
    run(machine, campaign(path, 6))
    before = path.read_bytes()
    assert run(machine, campaign(path, 6), resume=True).measured.architectures == choose(TASK, 6)
    assert path.read_bytes() == before
    assert run(machine, campaign(path, 9), resume=True).measured.architectures == choose(TASK, 9)


def test_rounds_go_through_all_before_any_is_measured_again(tmp_path: Path) -> None:
    path, machine = tmp_path / "a.parquet", Machine()
    machine.stop_at = 10
    assert run(machine, campaign(path, 6, n_rounds=3)).status == "interrupted"
    told: list[tuple[int, int]] = []
    found = run(
        machine,
        campaign(path, 6, n_rounds=3),
        resume=True,
        progress=lambda done, total, _: told.append((done, total)),
    )
    rows = [row.architecture for row in found.measured.rows if not row.is_reference]
    assert rows == choose(TASK, 6) * 3
    assert told[-1] == (18, 18)
    assert found.measured.architectures == choose(TASK, 6)
    assert run(machine, campaign(path, 7, n_rounds=3), resume=True).measured.counts == dict.fromkeys(
        choose(TASK, 7), 3
    )


def test_what_slows_a_machine_for_a_while_weighs_less_in_rounds(tmp_path: Path) -> None:
    def neighbour(seconds: float) -> float:
        return 1.3 if 30 < seconds < 45 else 1.0

    def worst(n_rounds: int) -> float:
        path = tmp_path / f"{n_rounds}.parquet"
        found = run(Machine(neighbour), campaign(path, 40, n_rounds=n_rounds, reference_every=1000))
        table = read_table(path, TASK)
        truth = np.array([sum(law(a)) for a in found.measured.architectures])
        return float(np.abs(table.latency_ms / truth - 1).max())

    assert worst(1) > 0.2
    assert worst(3) < 0.05


def test_a_low_quantile_forgets_what_interrupts_repeats(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    settings = MeasurementSettings(precision=0.001, max_repeats=50, max_seconds=1000)
    machine = Machine(lambda seconds: 1.4 if int(seconds * 997) % 5 < 3 else 1.0)
    found = run(machine, campaign(path, 40, settings=settings))
    truth = np.array([sum(law(a)) for a in found.measured.architectures])
    errors = [np.abs(read_table(path, TASK, q).latency_ms / truth - 1).max() for q in (0.5, 0.1)]
    assert errors[1] < 0.03 < errors[0]


def test_the_median_of_the_repeats_is_what_the_file_calls_latency(tmp_path: Path) -> None:
    found = run(Machine(), campaign(tmp_path / "a.parquet", 8))
    frame = pl.read_parquet(tmp_path / "a.parquet").filter(pl.col("kind") == "architecture")
    latencies = found.measured.latencies()
    assert [sum(latencies[a]) for a in choose(TASK, 8)] == pytest.approx(frame["latency_ms"].to_list())


def test_another_design_or_seed_does_not_go_into_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    run(Machine(), campaign(path, 4))
    for other in ({"design": "random"}, {"seed": 9}):
        with pytest.raises(InputError, match=f"was begun with the {next(iter(other))}"):
            run(Machine(), campaign(path, 6, **other), resume=True)


def test_a_file_of_the_reference_alone_cannot_be_fitted(tmp_path: Path) -> None:
    path, machine = tmp_path / "a.parquet", Machine()
    machine.stop_at = 2
    assert run(machine, campaign(path)).status == "interrupted"
    assert read_measured(path).architectures == []
    with pytest.raises(InputError, match="holds no architecture yet: go on by `llmpp measure --resume"):
        read_table(path, TASK)


@pytest.mark.parametrize("samples", [[], [-1.0], [float("nan")], [0.0]])
def test_repeats_that_cannot_be_are_refused(tmp_path: Path, samples: list[float]) -> None:
    path = tmp_path / "a.parquet"
    run(Machine(), campaign(path, 4))
    frame = pl.read_parquet(path)
    for part in ("encoder_samples_ms", "decoder_samples_ms"):
        changed = [samples, *frame[part].to_list()[1:]]
        frame = frame.with_columns(pl.Series(part, changed, dtype=pl.List(pl.Float64)))
    frame.write_parquet(path)
    with pytest.raises(InputError, match="repeats must be above 0 ms"):
        read_measured(path)


def test_a_model_is_tested_on_a_few_of_the_same_workload_only(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    files = [tmp_path / name for name in ("train.parquet", "test.parquet", "other.parquet")]
    run(Machine(), campaign(files[0], 40))
    run(Machine(), campaign(files[1], 5, seed=1))
    run(Machine(), campaign(files[2], 5, workload=replace(WORKLOAD, threads=2)))
    how: dict[str, Any] = {"hardware": "abacus", "command": ""}
    report = fit_file(files[0], tmp_path / "m", TASK, test=files[1], **how)
    assert report["mape_pct"] < 5
    with pytest.raises(InputError, match="was measured with threads 2, but .* with 1"):
        fit_file(files[0], tmp_path / "m", TASK, test=files[2], **how)


def test_sessions_of_different_speed_are_brought_together(tmp_path: Path) -> None:
    path, machine = tmp_path / "a.parquet", Machine(lambda seconds: 1.0 if seconds < 5000 else 1.25)
    run(machine, campaign(path, 18))
    machine.now = 5000.0
    found = run(machine, campaign(path, 36), resume=True)
    frame = pl.read_parquet(path).filter(pl.col("kind") == "architecture")
    ratio = frame["latency_ms"].to_numpy() / [sum(law(a)) for a in found.measured.architectures]
    assert ratio.std() / ratio.mean() < 0.02


def test_resuming_without_a_file_begins_one(tmp_path: Path) -> None:
    assert run(Machine(), campaign(tmp_path / "a.parquet", 3), resume=True).status == "done"


def test_progress_tells_how_many_and_how_long(tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    machine = Machine()
    run(machine, campaign(tmp_path / "a.parquet", 12), progress=lambda *what: told.append(what))
    assert [one[:2] for one in told] == [(k, 12) for k in range(1, 13)]
    assert told[5][2] == pytest.approx(machine.now / 2, rel=0.3)
    assert told[-1][2] == 0


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from llmpp.measuring import measured_file
from machines import Machine, campaign, kill, run

write, n = measured_file.Measured.to_frame, 0

class Half:
    def __init__(self, frame):
        self.frame = frame
    def write_parquet(self, file):
        file.write(b"PAR1 and no more")
        file.flush()
        kill()

def to_frame(self):
    return Half(write(self)) if len(self.rows) == 5 else write(self)

measured_file.Measured.to_frame = to_frame
run(Machine(), campaign(Path("a.parquet"), 9))
"""


def test_a_file_half_written_by_a_kill_loses_only_the_measurement_that_was_being_written(
    tmp_path: Path,
) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent))
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "a.parquet.part").read_bytes() == b"PAR1 and no more"
    assert len(read_measured(tmp_path / "a.parquet").rows) == 4
    done = run(Machine(), campaign(tmp_path / "a.parquet", 9), resume=True)
    assert done.measured.architectures == choose(TASK, 9)
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_a_file_that_is_there_is_not_touched_without_being_told_to(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("mine")
    with pytest.raises(InputError, match="is there already: continue it by `--resume`, or name another"):
        run(Machine(), campaign(tmp_path / "a.parquet"))
    with pytest.raises(InputError, match="cannot read the measurements .*a.parquet"):
        run(Machine(), campaign(tmp_path / "a.parquet"), resume=True)
    assert (tmp_path / "a.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"task": load_task("wmt14.en-fr")}, "another task: its name is 'wmt14.en-de', not 'wmt14.en-fr'"),
        (
            {"workload": Workload(source_length=30, target_length=30, dtype="bf16")},
            "another workload: its dtype is 'fp32', not 'bf16'",
        ),
        (
            {"workload": Workload(source_length=30, target_length=30, threads=2)},
            "another workload: its threads is 1, not 2",
        ),
    ],
)
def test_another_campaign_does_not_go_into_the_same_file(
    other: dict[str, Any], words: str, tmp_path: Path
) -> None:
    run(Machine(), campaign(tmp_path / "a.parquet", 3))
    with pytest.raises(InputError, match=words):
        run(Machine(), campaign(tmp_path / "a.parquet", 6, **other), resume=True)


def test_another_machine_does_not_go_into_the_same_file(tmp_path: Path) -> None:
    run(Machine(), campaign(tmp_path / "a.parquet", 3))
    with pytest.raises(InputError, match="was measured on abacus, but this is cray"):
        run(
            Machine(),
            campaign(tmp_path / "a.parquet", 6),
            resume=True,
            machine={"processor": "cray", "device_name": "cray"},
        )


def test_a_network_that_does_not_run_says_so_and_the_others_are_kept(tmp_path: Path) -> None:
    machine = Machine()

    def fail() -> None:
        raise RuntimeError("CUDA out of memory")

    machine.stop_at, machine.stop = 4, fail
    with pytest.raises(
        InputError, match="does not run on cpu in fp32: CUDA out of memory. What was measured"
    ):
        run(machine, campaign(tmp_path / "a.parquet"))
    assert len(read_measured(tmp_path / "a.parquet").architectures) == 2


def damaged(path: Path, change: Any) -> Path:
    change(pl.read_parquet(path)).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop("started", "half_width"), r"lacks the columns \['half_width', 'started'\]"),
        (lambda f: f.head(0), "holds no measurements: measure some"),
        (lambda f: f.with_columns(header=pl.lit("{}")), "cannot be used: 'schema'"),
        (lambda f: f.with_columns(header=pl.lit('{"schema": "x"}')), "expected measurements of schema"),
        (lambda f: f.with_columns(header=pl.lit("{")), "cannot be used"),
        (lambda f: f.with_columns(decoder_dim=pl.lit(0)), "cannot be used: decoder_dim must be a positive"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(change: Any, words: str, tmp_path: Path) -> None:
    run(Machine(), campaign(tmp_path / "a.parquet", 3))
    with pytest.raises(InputError, match=words):
        read_measured(damaged(tmp_path / "a.parquet", change))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    run(Machine(), campaign(path, 3))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="Is it whole, and written by `llmpp measure`"):
        read_measured(path)


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    run(Machine(), campaign(tmp_path / "a.parquet", 3))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_measured(tmp_path / "folder", read_measured(tmp_path / "a.parquet"))


@pytest.mark.parametrize(("name", "value"), [("n", 0), ("reference_every", 0), ("n", 2.5)])
def test_numbers_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"`{name}` must be an integer"):
        Campaign(task=TASK, workload=WORKLOAD, output=Path("a"), **{name: value})  # type: ignore[arg-type]
