"""Tracing parts of a Transformer as ONNX graphs."""

import io
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from llmpp.decoding import Cache

_OPSET = 17


def trace(
    graph: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """Traces a graph in evaluation mode.

    Args:
        graph: What to trace.
        arguments: Example inputs; a size of 0 or 1 is taken for fixed, whatever its axis is called.
        inputs: The names of the inputs.
        outputs: The names of the outputs.
        axes: Those whose size is free, by name and number; each has a name of its own.

    Returns:
        A serialised ONNX model.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that needs no further package is called old, and tracing warns of every comparison of
        # shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            arguments,
            buffer,  # type: ignore[arg-type]  # the old exporter writes to it
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes[name]) for name in (*inputs, *outputs) if name in axes},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def flat(cache: Cache) -> tuple[Tensor, ...]:
    """Lists what decoder layers keep of the source: keys, values and mask of the first, and so on."""
    pairs = zip(cache.cross, cache.masks, strict=True)
    return tuple(tensor for keys_values, mask in pairs for tensor in (*keys_values, mask))


def remembered(past: Sequence[Tensor], source: Sequence[Tensor]) -> Cache:
    """Builds a cache of the past of each layer, and of what `flat` lists."""
    cross = tuple((source[i], source[i + 1]) for i in range(0, len(source), 3))
    return Cache(tuple(past), cross, tuple(source[2::3]))
