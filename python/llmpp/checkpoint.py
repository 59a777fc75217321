"""What a training needs to go on as if it had never stopped: weights, optimiser, random numbers, place.

All of it is one safetensors file, whose record says how far the training is:

| tensor | what |
|---|---|
| `model.NAME` | a parameter |
| `adam.exp_avg.NAME`, `adam.exp_avg_sq.NAME`, `adam.step.NAME` | Adam's means and count, where it has any |
| `random.cpu`, `random.cuda` | the state of torch's generators, uint8 |
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmpp.errors import InputError
from llmpp.model_file import fill, read_model, read_tensors, replace_tensors, write_tensors

STATE_SCHEMA = "llmpp.training-state/1"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Place:
    """How far a training is.

    Attributes:
        update: Updates done.
        epoch: The epoch of the next batch, from 0.
        batch: The number of the next batch in it.
        n_tokens: Target tokens trained on.
        seconds: Time spent, validation included.
        best_update: The update with the smallest validation loss; 0 if there was none.
        best_loss: That loss, in nats per target token.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    best_update: int = 0
    best_loss: float | None = None


def write_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, place: Place) -> None:
    """Writes the state of a training; the one that is there is replaced once its successor is whole.

    Raises:
        InputError: If the file cannot be written; the one that is there is still whole.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for kind, moment in optimiser.state.get(parameter, {}).items():
            tensors[f"adam.{kind}.{name}"] = moment
    tensors["random.cpu"] = torch.get_rng_state()
    device = next(model.parameters()).device
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    write_tensors(path, tensors, STATE_SCHEMA, {"place": asdict(place)})


def read_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> Place:
    """Brings model, optimiser and torch's random numbers to where they were.

    Raises:
        InputError: If the file is not the state of a training of this model.
    """
    tensors, record = read_model(path, STATE_SCHEMA)
    try:
        place = Place(**record["place"])
        random = tensors.pop("random.cpu")
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not the whole state of a training: it lacks or misstates {error}"
        ) from error
    cuda = tensors.pop("random.cuda", None)
    fill(model, _under("model.", tensors), path)
    device = next(model.parameters()).device
    optimiser.state.clear()
    for name, parameter in model.named_parameters():
        moments = {kind: tensors.get(f"adam.{kind}.{name}") for kind in _MOMENTS}
        found = {kind: moment.to(device) for kind, moment in moments.items() if moment is not None}
        if found:
            optimiser.state[parameter] = found
    torch.set_rng_state(random)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)
    return place


def average(inputs: Iterable[Path], output: Path) -> None:
    """Writes the mean of models of one kind, taken in double precision, with the record of the last one.

    Raises:
        InputError: If one cannot be read, or the mean cannot be written.
    """
    paths = list(inputs)
    sums: dict[str, Tensor] = {}
    metadata: Mapping[str, str] = {}
    for path in paths:
        tensors, metadata = read_tensors(path)
        for name, tensor in tensors.items():
            sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
    means = {name: (total / len(paths)).to(tensors[name].dtype) for name, total in sums.items()}
    replace_tensors(output, means, dict(metadata))


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
