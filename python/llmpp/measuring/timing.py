"""What is timed: a Transformer translating one batch of sentences, as HAT measures it.

The encoder's part is the encoder, once. The decoder's part is all that follows: keys and values of the source
once, then `target_length` steps on a key-value cache, with the choice of the best beams in each. HAT (arXiv
2005.14187) times the same without that choice, and with training's dropout and gradients switched on.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, TypeVar

from llmpp.architecture import Architecture
from llmpp.errors import InputError, require, unknown
from llmpp.measuring.measurement import Run, Sample
from llmpp.ranges import integer
from llmpp.task import Task

T = TypeVar("T")
#: Runs a function and returns how long it took, in ms, and its result.
Stopwatch: TypeAlias = Callable[[Callable[[], T]], tuple[float, T]]

#: Names of dtypes, and torch's.
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
RUNTIMES = ("torch", "onnxruntime")
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What an architecture has to do while it is timed.

    Attributes:
        source_length: Tokens of each source sentence.
        target_length: Tokens of each translation: so many steps are made.
        device: 'cpu', 'cuda', 'cuda:N' or 'mps'.
        runtime: 'torch' (eager) or 'onnxruntime'.
        dtype: 'fp32', 'bf16' or 'fp16'.
        batch: Sentences at a time.
        n_beams: Translations of each that are followed.
        threads: CPU threads.

    Raises:
        InputError: If a setting is out of its range, or two do not go together.
    """

    source_length: int
    target_length: int
    device: str = "cpu"
    runtime: str = "torch"
    dtype: str = "fp32"
    batch: int = 1
    n_beams: int = 5
    threads: int = 1

    def __post_init__(self) -> None:
        for name, most in (("source_length", 2**16), ("target_length", 2**16), ("batch", 2**16)):
            integer(name, getattr(self, name), 1, most)
        integer("n_beams", self.n_beams, 1, 1024)
        integer("threads", self.threads, 1, 1024)
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, list(DTYPES))
        if self.runtime not in RUNTIMES:
            raise unknown("runtime", self.runtime, list(RUNTIMES))
        kind, _, index = self.device.partition(":")
        if kind not in DEVICES or (index and not (kind == "cuda" and index.isdecimal())):
            raise unknown("device", self.device, ["cpu", "cuda", "cuda:N", "mps"])
        if self.runtime == "onnxruntime" and (self.dtype != "fp32" or kind == "mps"):
            raise InputError(
                f"onnxruntime is timed in fp32 on cpu or cuda, got {self.dtype} on {self.device}: "
                "choose those, or the runtime 'torch'"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)


def default_threads() -> int:
    """The threads that torch uses if nobody says otherwise.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    return int(require("torch", "train").get_num_threads())


def check_device(workload: Workload) -> None:
    """Checks that the device is there for the runtime.

    Raises:
        InputError: If it is not.
        MissingExtraError: If the runtime is not installed.
    """
    torch = require("torch", "train")
    kind, _, index = workload.device.partition(":")
    there = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if workload.runtime == "onnxruntime":
        require("onnx", "onnx")
        providers = require("onnxruntime", "onnx").get_available_providers()
        there = ["cpu", *(name for name in there if name != "cpu" and "CUDAExecutionProvider" in providers)]
    wanted = f"cuda:{index or 0}" if kind == "cuda" else kind
    if wanted not in there:
        raise InputError(
            f"the device {workload.device!r} is not there: {workload.runtime} sees {', '.join(there)} here"
        )


def runs_of(task: Task, workload: Workload) -> Callable[[Architecture], Run]:
    """Returns what builds an architecture with random weights, ready to be timed.

    Raises:
        InputError: If the device is not there.
        MissingExtraError: If the runtime is not installed.
    """
    check_device(workload)

    def build(architecture: Architecture) -> Run:
        try:
            if workload.runtime == "onnxruntime":
                from llmpp.measuring.onnx_export import OnnxRun

                return OnnxRun(_model(architecture, task, workload), workload)
            return TorchRun(_model(architecture, task, workload), workload)
        except RuntimeError as error:
            raise InputError(
                f"an architecture of {architecture.decoder_layers} decoder layers cannot be built for "
                f"{workload.device} in {workload.dtype}: {error}"
            ) from error

    return build


def _model(architecture: Architecture, task: Task, workload: Workload) -> Any:
    from llmpp.transformer import Transformer

    model = Transformer(
        architecture,
        vocabulary=task.vocabulary,
        qkv_dim=task.space.qkv_dim,
        n_encoder_slots=task.space.largest["encoder_layers"],
        max_length=max(workload.source_length, workload.target_length),
    )
    return model.eval().requires_grad_(False)  # noqa: FBT003 - torch's own form


class TorchRun:
    """Runs a Transformer in eager torch and times it.

    Args:
        model: The Transformer, on the CPU in fp32.
        workload: What to run it on.
    """

    def __init__(self, model: Any, workload: Workload) -> None:
        torch = require("torch", "train")
        self.workload = workload
        self.model = model.to(workload.device, getattr(torch, DTYPES[workload.dtype]))
        self.network = self.model.network()
        self.source = random_source(self.model.sizes.vocabulary, workload).to(workload.device)
        self.stopwatch: Stopwatch[Any] = stopwatch(workload.device)

    def __call__(self) -> Sample:
        """Runs it once."""
        with require("torch", "train").inference_mode():
            encoder_ms, encoded = self.stopwatch(lambda: self.network.encode(self.source))
            decoder_ms, _ = self.stopwatch(lambda: self._decode(encoded))
        return Sample(encoder_ms, decoder_ms)

    def _decode(self, encoded: Any) -> Any:
        from llmpp.decoding import start
        from llmpp.measuring.fixed_beams import advance, first_beams

        beams = first_beams(self.workload.batch, self.workload.n_beams, self.workload.device)
        cache = start(self.network, encoded, self.workload.n_beams)
        for _ in range(self.workload.target_length):
            _, beams, cache = advance(self.network, beams, cache)
        return beams


def random_source(vocabulary: int, workload: Workload) -> Any:
    """Draws source sentences `(batch, source_length)` without padding."""
    from llmpp.special_tokens import EOS

    torch = require("torch", "train")
    draw = torch.Generator().manual_seed(0)
    first = min(EOS + 1, vocabulary - 1)
    return torch.randint(first, vocabulary, (workload.batch, workload.source_length), generator=draw)


def stopwatch(device: str) -> Stopwatch[Any]:
    """Returns what times a function on a device, until all it began there is done."""
    torch = require("torch", "train")
    if device.startswith("cuda"):
        return lambda function: _time_by_events(torch, device, function)
    wait = torch.mps.synchronize if device == "mps" else lambda: None
    return lambda function: time_by_clock(function, wait)


def time_by_clock(function: Callable[[], T], wait: Callable[[], Any] = lambda: None) -> tuple[float, T]:
    """Times a function by this computer's clock; `wait` is called on both ends."""
    wait()
    begin = time.perf_counter()
    result = function()
    wait()
    return 1e3 * (time.perf_counter() - begin), result


def _time_by_events(torch: Any, device: str, function: Callable[[], T]) -> tuple[float, T]:
    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        result = function()
        end.record()
        torch.cuda.synchronize()
    return begin.elapsed_time(end), result
