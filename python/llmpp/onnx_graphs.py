"""A Transformer as ONNX graphs, to translate where there is no torch: the encoder, and one decoder step.

| file | inputs | outputs |
|---|---|---|
| `encoder.onnx` | `source` `(batch, length)` int64, padded | `keys.I`, `values.I`, `mask.I` of layer I |
| `step.onnx` | `tokens` `(batch, 1)` int64, `past.I`, and those | `logits` `(batch, 1, vocab)`, `present.I` |

`past.I` is `(batch, n, 2, heads, width)` float32 after n tokens; it begins with none, `tokens` with `</s>`,
and what a step calls `present.I` is `past.I` of the next. Batch and lengths are free.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from llmpp.decoding import Cache, start, step
from llmpp.errors import require
from llmpp.onnx_tracing import flat, remembered, trace
from llmpp.transformer import Transformer


class _Encoder(nn.Module):
    """Source -> keys, values and mask of the source, layer by layer."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        network = self.model.network()
        return flat(start(network, network.encode(source)))


class _Step(nn.Module):
    """Tokens, past and source -> logits, and the past with these tokens."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        n = self.model.architecture.decoder_layers
        logits, cache = step(self.model.network(), tokens, remembered(kept[:n], kept[n:]))
        return (logits, *cache.past)


def write_onnx(model: Transformer, directory: Path) -> None:
    """Writes `encoder.onnx` and `step.onnx`, traced in evaluation mode.

    Raises:
        MissingExtraError: If onnx is not installed.
    """
    require("onnx", "onnx")
    n, axes = model.architecture.decoder_layers, dict[str, dict[int, str]]()
    names = [f"{part}.{layer}" for layer in range(n) for part in ("keys", "values", "mask")]
    axes |= {name: {0: "batch", (3 if "mask" in name else 2): f"{name} length"} for name in names}
    pasts, presents = [f"past.{layer}" for layer in range(n)], [f"present.{layer}" for layer in range(n)]
    axes |= {name: {0: "batch", 1: f"{name} length"} for name in [*pasts, *presents]}
    axes |= {"source": {0: "batch", 1: "length"}, "tokens": {0: "batch"}, "logits": {0: "batch"}}
    with torch.inference_mode(mode=False), torch.no_grad():
        source, tokens, cache = _example(model.cpu().eval())
        encoder = trace(_Encoder(model), (source,), ["source"], names, axes)
        arguments = (tokens, *cache.past, *flat(cache))
        one_step = trace(_Step(model), arguments, ["tokens", *pasts, *names], ["logits", *presents], axes)
    (directory / "encoder.onnx").write_bytes(encoder)
    (directory / "step.onnx").write_bytes(one_step)


def _example(model: Transformer) -> tuple[Tensor, Tensor, Cache]:
    """Two sentences, one padded, and one token gone before: sizes of 0 or 1 would be taken for fixed."""
    padding = model.sizes.padding
    source = torch.full((2, 3), 0 if padding else 1)
    source[1, 2] = padding
    network, tokens = model.network(), source[:, :1]
    return source, tokens, step(network, tokens, start(network, network.encode(source)))[1]
