"""LLM-Distill-PP: distils a language model's answers into a small ReLU network (arXiv 2310.16712).

Training is full-batch Adam in float64 with an L2 penalty, from starting weights of numpy's generator:
rounding differences between machines stay far below what float32 resolves. The network's size is chosen on
held-out answers alone. `docs/distillation.md` has the figures, and what was tried beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.answers import Answers, read_answers
from llmpp.cpu_threads import threads
from llmpp.errors import InputError, require
from llmpp.provenance import origin
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.space import Floats
from llmpp.task import Task
from llmpp.weights import write_mlp

if TYPE_CHECKING:
    import torch

Hidden: TypeAlias = tuple[int, ...]
Progress: TypeAlias = Callable[[int, int], object]

#: Widths of the hidden layers to choose from, cheapest first.
SIZES: tuple[Hidden, ...] = ((16,), (32,), (64,), (32, 32), (64, 64))

N_STEPS = 1000
LEARNING_RATE = 3e-2
#: Weight of the squared weights (biases excluded) beside the mean squared error of standardised answers.
L2_PENALTY = 3e-3
N_FOLDS = 5
N_SEEDS = 2
_MIN_ANSWERS = 20


@dataclass(frozen=True, eq=False)
class Student:
    """A trained network.

    Attributes:
        layers: Weight `(out, in)` and bias `(out,)` of each layer.
        feature_mean: Subtracted from the features, `(d,)`.
        feature_scale: Divides them: one scale for all, since a scale of its own would blow up a feature
            that hardly varies.
        answer_mean: Added to the output.
        answer_scale: Multiplies the output.
    """

    layers: list[tuple[Floats, Floats]]
    feature_mean: Floats
    feature_scale: float
    answer_mean: float
    answer_scale: float

    def predict(self, features: Floats) -> Floats:
        """Predicts answers `(n,)` from features `(n, d)`, in float64."""
        values = (features - self.feature_mean) / self.feature_scale
        for weight, bias in self.layers[:-1]:
            values = np.maximum(values @ weight.T + bias, 0.0)
        weight, bias = self.layers[-1]
        outputs: Floats = (values @ weight.T + bias)[:, 0] * self.answer_scale + self.answer_mean
        return outputs

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Returns the tensors that the core's `Mlp` reads."""
        tensors = {
            "input.mean": self.feature_mean,
            "input.std": np.full_like(self.feature_mean, self.feature_scale),
            "output.mean": np.array([self.answer_mean]),
            "output.std": np.array([self.answer_scale]),
        }
        for index, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
        return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Choice:
    """The size chosen on held-out answers.

    Attributes:
        hidden: The smallest size whose held-out error is within one standard error of the best.
        held_out_mae: Mean absolute error on held-out answers, by size.
    """

    hidden: Hidden
    held_out_mae: dict[Hidden, float]


def fit(features: NDArray[Any], answers: Floats, hidden: Hidden, *, seed: int) -> Student:
    """Trains one network.

    Args:
        features: `(n, d)`.
        answers: `(n,)`.
        hidden: Widths of the hidden layers.
        seed: Seed of the starting weights.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    torch = require("torch", "train")
    features = features.astype(np.float64)
    variance = features.var(axis=0)
    varying = variance > 1e-12
    scale = float(np.sqrt(variance[varying].mean())) if varying.any() else 1.0
    mean, centre, spread = features.mean(axis=0), float(answers.mean()), float(answers.std()) or 1.0
    layers = _starting_weights((features.shape[1], *hidden, 1), seed)
    parameters = [torch.from_numpy(array).requires_grad_() for layer in layers for array in layer]
    x = torch.from_numpy((features - mean) / scale)
    y = torch.from_numpy((answers - centre) / spread)
    _train(x, y, parameters)
    trained = [parameter.detach().numpy() for parameter in parameters]
    return Student(list(zip(trained[::2], trained[1::2], strict=True)), mean, scale, centre, spread)


def _starting_weights(widths: Sequence[int], seed: int) -> list[tuple[Floats, Floats]]:
    """Draws Xavier-uniform weights and small biases; the same with every version of torch."""
    draw = np.random.Generator(np.random.PCG64(seed))
    layers = []
    for fan_in, fan_out in pairwise(widths):
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        layers.append((draw.uniform(-bound, bound, (fan_out, fan_in)), draw.uniform(-0.3, 0.3, fan_out)))
    return layers


def _train(x: "torch.Tensor", y: "torch.Tensor", parameters: "list[torch.Tensor]") -> None:
    with threads(1):  # networks this small only lose time to a second thread
        _descend(require("torch", "train"), x, y, parameters)


def _descend(torch: Any, x: "torch.Tensor", y: "torch.Tensor", parameters: "list[torch.Tensor]") -> None:
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, foreach=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, N_STEPS)
    weights, biases = parameters[::2], parameters[1::2]
    for _ in range(N_STEPS):
        values = x
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            values = torch.relu(torch.nn.functional.linear(values, weight, bias))
        outputs = torch.nn.functional.linear(values, weights[-1], biases[-1])[:, 0]
        loss = (outputs - y).square().mean()
        for weight in weights:
            loss = loss + L2_PENALTY * weight.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def choose(
    features: NDArray[Any],
    answers: Floats,
    sizes: Sequence[Hidden] = SIZES,
    progress: Progress = lambda _done, _total: None,
) -> Choice:
    """Chooses a size by the error on held-out answers: 5 folds, 2 seeds each.

    Args:
        features: `(n, d)`.
        answers: `(n,)`.
        sizes: The sizes to choose from.
        progress: Called with the number of trainings done and of all trainings.

    Raises:
        MissingExtraError: If torch is not installed.
    """
    folds = np.array_split(np.random.Generator(np.random.PCG64(0)).permutation(len(answers)), N_FOLDS)
    errors: dict[Hidden, Floats] = {}
    for size in sizes:
        errors[size] = np.zeros(len(answers))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(answers)), fold)
            for seed in range(N_SEEDS):
                student = fit(features[rest], answers[rest], size, seed=seed)
                errors[size][fold] += np.abs(student.predict(features[fold]) - answers[fold]) / N_SEEDS
            progress(len(errors) * N_FOLDS, len(sizes) * N_FOLDS)
    means = {size: float(error.mean()) for size, error in errors.items()}
    best = min(sizes, key=means.__getitem__)
    margin = float(errors[best].std(ddof=1) / math.sqrt(len(answers)))
    return Choice(next(size for size in sizes if means[size] <= means[best] + margin), means)


def distill_file(
    answers_path: Path,
    output: Path,
    task: Task,
    *,
    split: str = "all",
    seed: int = 0,
    command: str,
    date: str | None = None,
    progress: Progress = lambda _done, _total: None,
) -> dict[str, Any]:
    """Distils the answers of a file into a student, and writes it with its record.

    What a split holds out, to test on, is not learnt from.

    Returns:
        The size chosen, its error on held-out answers in the unit of the answers, and their number.

    Raises:
        InputError: If the answers cannot be read, are too few, or are of another task.
        SpaceError: If an answer is about an architecture outside the task's space.
        MissingExtraError: If torch or safetensors is not installed.
    """
    seed = integer("seed", seed, 0, LARGEST_SEED)
    made = origin(command, ["llmpp", "numpy", "torch"], date)
    answers = _to_learn_from(read_answers(answers_path).of_split(split), task, split)
    if len(answers.rows) < _MIN_ANSWERS:
        raise InputError(
            f"{answers_path} has {len(answers.rows)} answers; a student needs at least {_MIN_ANSWERS}"
        )
    if answers.header.get("task", task.name) != task.name:
        raise InputError(f"{answers_path} answers for the task {answers.header['task']!r}, not {task.name!r}")
    features = task.space.features(answers.architectures)
    choice = choose(features, answers.values, progress=progress)
    student = fit(features, answers.values, choice.hidden, seed=seed)
    report = {
        "hidden": list(choice.hidden),
        "held_out_mae": round(choice.held_out_mae[choice.hidden], 4),
        "n_answers": len(answers.rows),
    }
    record = {
        "kind": "score",
        "encoding": "averaged",
        "largest": task.space.largest,
        "task": task.name,
        "metric": task.metric,
        "model": answers.header.get("model", "not recorded"),
        "split": split,
        "prompts": sorted({row.prompt for row in answers.rows if row.prompt}),
        "seed": seed,
        **report,
        **made,
    }
    write_mlp(output, student.tensors(), record)
    return report


def _to_learn_from(answers: Answers, task: Task, split: str) -> Answers:
    """Leaves out the answers about what a split of the task holds out."""
    if split not in (task.splits or {}):
        return answers
    held_out = {figures.architecture for figures in task.held_out(split)}
    return replace(answers, rows=tuple(row for row in answers.rows if row.architecture not in held_out))
