"""The verb `measure`, and what is made of its file."""

import json
from pathlib import Path

import polars as pl
import pytest

torch = pytest.importorskip("torch")

from command import Command, last_line  # noqa: E402
from llmpp import load_task  # noqa: E402
from llmpp.measuring import campaign as campaigns  # noqa: E402
from llmpp.measuring import measured_file  # noqa: E402
from machines import Machine  # noqa: E402
from predictors import network_file  # noqa: E402

SMALL = {
    "schema": "llmpp.task/1",
    "name": "small",
    "vocabulary": 23,
    "sentence_length": 4,
}


@pytest.fixture
def small_task(tmp_path: Path) -> Path:
    from small_networks import SPACE

    path = tmp_path / "small.json"
    path.write_text(json.dumps({**SMALL, "space": SPACE.to_dict()}))
    return path


def test_the_verb_measures_real_networks_and_fits_goes_on_from_its_file(
    llmpp_command: Command, small_task: Path
) -> None:
    short = ["--max-seconds", "0.02", "--threads", "1", "--seed", "1"]
    measure = ["measure", "--task", small_task, "-o", "a.parquet", *short]
    code, out, err = llmpp_command(*measure, "--n", "3", "--json")
    assert code == 0, err
    assert (last_line(out)["status"], last_line(out)["n"]) == ("done", 3)
    frame = pl.read_parquet("a.parquet")
    assert frame["raw_encoder_ms"].min() > 0  # type: ignore[operator]
    assert json.loads(frame["header"][0])["workload"]["source_length"] == 4
    machine = json.loads(frame["machine"][0])
    assert machine["n_cpus"] >= 1
    assert set(machine["versions"]) == {"llmpp", "torch"}
    assert llmpp_command(*measure, "--n", "4")[0] == 2
    code, out, _ = llmpp_command(*measure, "--n", "32", "--resume")
    assert code == 0
    assert "written: a.parquet" in out
    code, out, err = llmpp_command("fit-latency", "a.parquet", "-o", "m", "--plot", "figure", "--json")
    assert code == 0, err
    assert (last_line(out)["task"], last_line(out)["n_rows"]) == ("small", 32)
    assert Path("figure.png").stat().st_size > 5000
    code, out, _ = llmpp_command("hardware", "m", "--json")
    row = last_line(out)["hardware"][-1]
    assert (row["name"], row["task"], row["workload"]["n_beams"]) == ("m", "small", 5)
    code, out, _ = llmpp_command("hardware", "m")
    assert "titan-xp (wmt14.en-fr)" in out
    assert "measured by mit-han-lab" in out
    initial = network_file(Path("initial"), load_task(small_task))
    search = ["search", "--task", small_task, "--hardware", "m", "--initial", initial, "--verify", "2"]
    code, out, err = llmpp_command(*search, "--latency-ms", "1000", "--run-dir", "run", "--json")
    assert code == 0, err
    found = last_line(out)
    measured = found["verification"]["measured"]
    assert [one["is_within"] for one in measured] == [True, True]
    assert measured[0]["architecture"] == found["best"]["architecture"]
    assert 0 < measured[0]["measured_ms"] < 1000
    code, out, _ = llmpp_command(*search, "--latency-ms", "1000", "--run-dir", "run", "--resume")
    assert code == 0
    assert "keeps the bound" in out
    assert llmpp_command(*search, "--resume")[0] == 2


def test_the_verb_ends_with_130_after_ctrl_c_and_says_how_to_go_on(
    llmpp_command: Command, small_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    machine.stop_at = 3
    monkeypatch.setattr(campaigns, "runs_of", lambda task, workload: machine.build)
    code, _, err = llmpp_command("measure", "--task", small_task, "-o", "a.parquet", "--n", "9")
    assert code == 130
    assert "go on by the same command and --resume" in err
    assert len(measured_file.read_measured(Path("a.parquet")).architectures) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "cuda:99"], "the device 'cuda:99' is not there: torch sees cpu"),
        (["--device", "tpu"], "unknown device 'tpu'; known: cpu, cuda, cuda:N, mps"),
        (["--device", "cpu:1"], "unknown device 'cpu:1'"),
        (["--dtype", "int8"], "unknown dtype 'int8'; known: fp32, bf16, fp16"),
        (["--runtime", "jax"], "unknown runtime 'jax'; known: torch, onnxruntime"),
        (["--runtime", "onnxruntime", "--dtype", "bf16"], "onnxruntime is timed in fp32"),
        (["--beam", "0"], "`n_beams` must be an integer in 1..1024, got 0"),
        (["--batch", "0"], "`batch` must be"),
        (["--source-length", "0"], "`source_length` must be"),
        (["--threads", "0"], "`threads` must be"),
        (["--precision", "0"], "`precision` must be"),
        (["--n", "0"], "`n` must be"),
        (["--design", "best"], "unknown design 'best'"),
        (["--task", "wmt15"], "unknown task 'wmt15'"),
    ],
)
def test_wrong_use_of_the_verb_exits_with_two(
    options: list[str], words: str, llmpp_command: Command, small_task: Path
) -> None:
    code, _, err = llmpp_command("measure", "--task", small_task, "-o", "a.parquet", "--n", "2", *options)
    assert code == 2
    assert words in err
    assert not Path("a.parquet").exists()
