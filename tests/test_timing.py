"""What is timed: fixed beams against readable twins, both runtimes against each other, and stopwatches."""

import itertools
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from llmpp import Architecture, InputError  # noqa: E402
from llmpp.cpu_threads import threads  # noqa: E402
from llmpp.decoding import start  # noqa: E402
from llmpp.machine import describe_machine, load  # noqa: E402
from llmpp.measuring.fixed_beams import advance, first_beams  # noqa: E402
from llmpp.measuring.timing import (  # noqa: E402
    TorchRun,
    Workload,
    check_device,
    random_source,
    runs_of,
    stopwatch,
)
from llmpp.special_tokens import EOS  # noqa: E402
from small_networks import DEVICES, SPACE, TASK, VOCABULARY, apart, sentences, small  # noqa: E402

ONE = Architecture(12, (8, 24), (2, 4), 16, (12, 8), (4, 1), (2, 4), (3, 2))
LENGTHS: dict[str, Any] = {"source_length": 7, "target_length": 5}


pytestmark = pytest.mark.usefixtures("one_thread")


def test_two_steps_with_room_for_all_find_the_best_of_all_continuations() -> None:
    model, source, k = small(ONE, vocabulary=9), sentences([4, 4], vocabulary=9), 9
    network = model.network()
    beams, cache = first_beams(2, k), start(network, network.encode(source), k)
    for _ in range(2):
        _, beams, cache = advance(network, beams, cache)
    for row in range(2):
        sums = []
        for first, second in itertools.product(range(9), repeat=2):
            logits = model(source[row : row + 1], torch.tensor([[EOS, first]]))[0].log_softmax(1).detach()
            sums.append(float(logits[0, first] + logits[1, second]))
        np.testing.assert_allclose(beams.sums[row].tolist(), sorted(sums)[: -k - 1 : -1], rtol=1e-5)


def test_beams_follow_the_sentences_that_they_continue() -> None:
    model, source, k = small(ONE), sentences([6]), 4
    network = model.network()
    beams, cache = first_beams(1, k), start(network, network.encode(source), k)
    prefixes = torch.full((k, 1), EOS)
    for _ in range(6):
        before = beams.sums[0]
        logits, beams, cache = advance(network, beams, cache)
        # Which beam each one continues follows from the sums.
        every = logits[0].log_softmax(1) + before[:, None]
        parents = [
            int((every[:, t] - s).abs().argmin()) for t, s in zip(*map(torch.flatten, beams), strict=True)
        ]
        prefixes = torch.cat((prefixes[parents], beams.tokens[0][:, None]), 1)
    scores = model(source.expand(k, -1), prefixes[:, :-1]).log_softmax(2)
    expected = scores.gather(2, prefixes[:, 1:, None]).sum((1, 2))
    assert apart(beams.sums[0], expected) < 1e-4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("batch", "n_beams"), [(1, 5), (3, 2)])
def test_a_run_times_both_parts(device: str, dtype: str, batch: int, n_beams: int) -> None:
    workload = Workload(**LENGTHS, device=device, dtype=dtype, batch=batch, n_beams=n_beams)
    run = runs_of(TASK, workload)(ONE)
    assert isinstance(run, TorchRun)
    assert not run.model.training
    assert not any(parameter.requires_grad for parameter in run.model.parameters())
    assert all(0 < part < 5000 for part in run())
    with torch.inference_mode():
        beams = run._decode(run.network.encode(run.source))
    assert beams.tokens.shape == (batch, n_beams)
    assert beams.sums.isfinite().all()


def test_more_steps_take_more_time() -> None:
    one, many = (runs_of(TASK, Workload(source_length=7, target_length=n))(ONE) for n in (1, 40))
    short, long = (min(run().decoder_ms for _ in range(5)) for run in (one, many))
    assert long > 5 * short


def test_the_source_is_whole_sentences_without_padding() -> None:
    source = random_source(VOCABULARY, Workload(**LENGTHS, batch=3))
    assert source.shape == (3, 7)
    assert source.min() > EOS
    assert source.max() < VOCABULARY


@pytest.mark.parametrize("device", DEVICES)
def test_a_stopwatch_waits_for_the_device(device: str) -> None:
    def work() -> Any:
        if device == "cpu":
            time.sleep(0.02)
        x = torch.randn(64, 64, device=device)
        for _ in range(50):
            x = x @ x / 8
        return x

    milliseconds, result = stopwatch(device)(work)
    assert milliseconds > (20 if device == "cpu" else 0)
    assert result.shape == (64, 64)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with suppress(RuntimeError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("device", "runtime", "words"),
    [
        ("cuda:99", "torch", "the device 'cuda:99' is not there: torch sees cpu"),
        ("cuda:99", "onnxruntime", "the device 'cuda:99' is not there: onnxruntime sees cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, runtime: str, words: str) -> None:
    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=words):
        check_device(Workload(**LENGTHS, device=device, runtime=runtime))


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe_machine("cpu", "onnxruntime")
    assert set(machine) == {"processor", "device_name", "n_cpus", "system", "python", "versions"}
    assert machine["device_name"] == machine["processor"]
    assert set(machine["versions"]) == {"llmpp", "torch", "onnx", "onnxruntime"}
    average = load()
    assert average is None or average >= 0


@pytest.fixture(scope="module")
def exported() -> Any:
    """A module that needs onnx and onnxruntime."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from llmpp.measuring import onnx_export

    return onnx_export


@pytest.mark.parametrize(("seed", "batch", "n_beams"), [(0, 1, 5), (1, 3, 2), (2, 2, 1)])
def test_exported_graphs_compute_what_torch_computes(
    exported: Any, seed: int, batch: int, n_beams: int
) -> None:
    workload = Workload(**LENGTHS, runtime="onnxruntime", batch=batch, n_beams=n_beams)
    model = small(SPACE.sample(1, seed=seed)[0], seed=seed)
    run, network = exported.OnnxRun(model, workload), model.network()
    source = torch.from_numpy(run.source)
    encoded = run.encode(run.source)
    with torch.inference_mode():
        expected = network.encode(source)
        *outputs, is_token = encoded
        for mine, theirs in zip(outputs, expected.outputs[-len(outputs) :], strict=True):
            assert apart(torch.from_numpy(mine), theirs) < 1e-5
        assert is_token.all()
        beams, cache = first_beams(batch, n_beams), start(network, expected, n_beams)
        for logits in run.decode(encoded):
            now, beams, cache = advance(network, beams, cache)
            assert apart(torch.from_numpy(logits), now) < 1e-4
    assert cache.length == 5


def test_exported_graphs_take_padding(exported: Any) -> None:
    model, source = small(ONE), sentences([7, 4])
    run = exported.OnnxRun(model, Workload(**LENGTHS, runtime="onnxruntime", batch=2, n_beams=2))
    network = model.network()
    logits = run.decode(run.encode(source.numpy()))
    with torch.inference_mode():
        beams, cache = first_beams(2, 2), start(network, network.encode(source), 2)
        for mine in logits:
            now, beams, cache = advance(network, beams, cache)
            assert apart(torch.from_numpy(mine), now) < 1e-4


def test_onnx_runtime_is_timed_in_both_parts(exported: Any) -> None:
    run = runs_of(TASK, Workload(**LENGTHS, runtime="onnxruntime"))(ONE)
    assert isinstance(run, exported.OnnxRun)
    assert all(0 < part < 5000 for part in run())
