"""A Transformer as ONNX graphs, timed in ONNX Runtime: the encoder, what is kept of it, and one decoder step.

The graphs hold the same computations as `llmpp.decoding`, traced. Only the number of past tokens is dynamic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llmpp.decoding import start
from llmpp.errors import require
from llmpp.measuring.fixed_beams import Beams, advance, first_beams
from llmpp.measuring.measurement import Sample
from llmpp.measuring.timing import Workload, random_source, time_by_clock
from llmpp.network import Encoded
from llmpp.onnx_tracing import flat, remembered, trace
from llmpp.transformer import Transformer

if TYPE_CHECKING:
    import onnxruntime

Arrays = list[NDArray[Any]]


class _EncoderGraph(nn.Module):
    """Source `(batch, length)` -> the outputs that decoder layers look at, and what is no padding."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model, self.span = model, max(model.architecture.cross_span)

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        encoded = self.model.network().encode(source)
        return (*encoded.outputs[-self.span :], encoded.is_token)


class _SourceGraph(nn.Module):
    """What the encoder returned -> keys, values and mask of the source, layer by layer."""

    def __init__(self, model: Transformer, n_beams: int) -> None:
        super().__init__()
        self.model, self.n_beams = model, n_beams

    def forward(self, *encoded: Tensor) -> tuple[Tensor, ...]:
        cache = start(self.model.network(), Encoded(encoded[:-1], encoded[-1]), self.n_beams)
        return flat(cache)


class _StepGraph(nn.Module):
    """Tokens, sums, past and source -> logits, new tokens, new sums, and the past of the beams chosen."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model, self.n_layers = model, model.architecture.decoder_layers

    def forward(self, tokens: Tensor, sums: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        cache = remembered(kept[: self.n_layers], kept[self.n_layers :])
        logits, beams, cache = advance(self.model.network(), Beams(tokens, sums), cache)
        return (logits, *beams, *cache.past)


@dataclass(frozen=True)
class Graphs:
    """Serialised ONNX models.

    Attributes:
        encoder: `source` -> `encoded.0`, ..., `is_token`.
        source: Those -> `source.0`, ...: keys, values and mask of each decoder layer.
        step: `tokens`, `sums`, `past.0`, ..., `source.0`, ... -> `logits`, `next_tokens`, `next_sums`,
            `present.0`, ...
    """

    encoder: bytes
    source: bytes
    step: bytes


def export(model: Transformer, source: Tensor, n_beams: int) -> Graphs:
    """Exports a Transformer in evaluation mode.

    Args:
        model: The Transformer, on the CPU.
        source: Sentences `(batch, source length)`, int64; their shape is that of the graphs.
        n_beams: Beams per sentence.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    require("onnx", "onnx")
    with torch.inference_mode(mode=False), torch.no_grad():
        network = model.network()
        encoder = _EncoderGraph(model)
        encoded = encoder(source)
        of_source = _SourceGraph(model, n_beams)
        kept_of_source = of_source(*encoded)
        beams = first_beams(len(source), n_beams)
        # One token has gone before: traced with none, its number of tokens would be taken for fixed.
        cache = start(network, network.encode(source), n_beams)
        _, beams, cache = advance(network, beams, cache)
        names = [*_numbered("encoded", len(encoded) - 1), "is_token"]
        kept, past = _numbered("source", len(kept_of_source)), _numbered("past", len(cache.past))
        presents = _numbered("present", len(past))
        return Graphs(
            _export(encoder, (source,), ["source"], names),
            _export(of_source, encoded, names, kept),
            _export(
                _StepGraph(model),
                (*beams, *cache.past, *kept_of_source),
                ["tokens", "sums", *past, *kept],
                ["logits", "next_tokens", "next_sums", *presents],
                [*past, *presents],
            ),
        )


def _numbered(name: str, n: int) -> list[str]:
    return [f"{name}.{number}" for number in range(n)]


def _export(
    graph: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    growing: Sequence[str] = (),
) -> bytes:
    """Traces a graph; the axis 1 of the names that grow is dynamic."""
    return trace(graph, arguments, inputs, outputs, {name: {1: f"{name}_length"} for name in growing})


class OnnxRun:
    """Runs a Transformer in ONNX Runtime and times it.

    Args:
        model: The Transformer, on the CPU in fp32.
        workload: What to run it on.

    Raises:
        MissingExtraError: If onnx or onnxruntime is not installed.
    """

    def __init__(self, model: Transformer, workload: Workload) -> None:
        self.workload, self.shape = workload, model.architecture
        source = random_source(model.sizes.vocabulary, workload)
        self.source: NDArray[np.int64] = source.numpy()
        self.width = model.sizes.qkv_dim
        graphs = export(model, source, workload.n_beams)
        self.encoder, self.of_source, self.step = (
            _session(graph, workload) for graph in (graphs.encoder, graphs.source, graphs.step)
        )

    def __call__(self) -> Sample:
        """Runs it once."""
        encoder_ms, encoded = time_by_clock(lambda: self.encode(self.source))
        decoder_ms, _ = time_by_clock(lambda: self.decode(encoded))
        return Sample(encoder_ms, decoder_ms)

    def encode(self, source: NDArray[np.int64]) -> Arrays:
        """Encodes sentences: what the encoder's graph returns."""
        return list(self.encoder.run(None, {"source": source}))

    def decode(self, encoded: Arrays) -> Arrays:
        """Makes all steps; returns the logits of each `(batch, beams, vocabulary)`."""
        names = [one.name for one in self.of_source.get_inputs()]
        kept = self.of_source.run(None, dict(zip(names, encoded, strict=False)))
        kept_names = [one.name for one in self.of_source.get_outputs()]
        # A graph lacks the inputs that it does not need, such as masks where nothing is padded.
        needed = {one.name for one in self.step.get_inputs()}
        of_source = {name: value for name, value in zip(kept_names, kept, strict=True) if name in needed}
        tokens, sums = (tensor.numpy() for tensor in first_beams(self.workload.batch, self.workload.n_beams))
        past: Arrays = self._no_past()
        logits = []
        for _ in range(self.workload.target_length):
            pasts = {f"past.{number}": one for number, one in enumerate(past)}
            inputs = {"tokens": tokens, "sums": sums, **pasts, **of_source}
            now, tokens, sums, *past = self.step.run(None, inputs)
            logits.append(now)
        return logits

    def _no_past(self) -> Arrays:
        rows = self.workload.batch * self.workload.n_beams
        return [
            np.zeros((rows, 0, 2, heads, self.width // heads), np.float32)
            for heads in self.shape.decoder_heads
        ]


def _session(graph: bytes, workload: Workload) -> "onnxruntime.InferenceSession":
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = workload.threads, 1
    options.log_severity_level = 3
    kind, _, index = workload.device.partition(":")
    providers = [("CUDAExecutionProvider", {"device_id": int(index or 0)})] if kind == "cuda" else []
    return runtime.InferenceSession(graph, options, providers=[*providers, "CPUExecutionProvider"])
