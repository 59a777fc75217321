"""Turns a study into its jobs: the same ones whenever it is asked to."""

from collections.abc import Collection
from itertools import product
from typing import Any

import numpy as np

from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.recipe import Recipe
from llmpp.space import SearchSpace
from llmpp.study.description import Study
from llmpp.study.job import Job
from llmpp.study.search_jobs import comparison_jobs
from llmpp.study.section import said
from llmpp.task import cost

#: Architectures drawn at once, and how often at most.
_CHUNK, _MOST_CHUNKS = 256, 100
#: Architectures of each decoder depth that are trained before all else.
_N_SPREAD = 3
#: Estimates before anything is known: FLOPs per second of training, and seconds of other jobs.
_TRAINING_SPEED, _TRANSLATING, _SCORING, _MEASURING = 3.75e10, 60.0, {"loss": 60.0, "bleu": 900.0}, 30.0
#: Fields of `Measuring` that jobs have always named, also at their defaults.
_MEASURING_SAYS = ("threads", "n_beams", "precision", "max_seconds")


def draw(
    space: SearchSpace, n: int, *, seed: int, avoid: Collection[Architecture] = ()
) -> list[Architecture]:
    """Draws different architectures, as many of each depth, up to one; uniformly within a depth.

    Args:
        space: The space.
        n: How many.
        seed: Seed of the choice.
        avoid: Architectures that are not drawn.

    Returns:
        Architectures whose depths take turns, so that any first ones are balanced, too.

    Raises:
        InputError: If a depth does not have so many.
    """
    depths = list(product(space.options["encoder_layers"], space.options["decoder_layers"]))
    wanted = {depth: len(range(place, n, len(depths))) for place, depth in enumerate(depths)}
    found: dict[tuple[int, int], list[Architecture]] = {depth: [] for depth in depths}
    seen = set(avoid)
    for number in range(_MOST_CHUNKS):
        if all(len(found[depth]) == wanted[depth] for depth in depths):
            return [found[depths[place % len(depths)]][place // len(depths)] for place in range(n)]
        sequence = np.random.SeedSequence(seed, spawn_key=(number,))
        for drawn in space.sample(_CHUNK, seed=int(sequence.generate_state(1, np.uint64)[0])):
            depth = drawn.encoder_layers, drawn.decoder_layers
            if drawn not in seen and len(found[depth]) < wanted[depth]:
                found[depth].append(drawn)
                seen.add(drawn)
    raise InputError(
        f"the space {space.name!r} has too few architectures of some depth to draw {n} different ones: "
        "draw fewer"
    )


def trained_architectures(study: Study) -> dict[int, Architecture]:
    """Draws the architectures that are trained from scratch, by number."""
    drawn = draw(study.space, study.architectures.n, seed=study.architectures.seed)
    return dict(enumerate(drawn, 1))


def expand(study: Study) -> list[Job]:
    """Lists a study's jobs, each after those that it waits for, those first that tell the most.

    The first supernet and some architectures of each depth show what the study is worth; then come the
    further seeds, all other architectures, the other supernets, latencies, which want the machine for
    themselves, and searches.
    """
    corpus = study.corpus
    files = {name: list(getattr(corpus, name)) for name in ("train", "valid", "test")}
    sizes = {"vocabulary": corpus.vocabulary, "max_tokens": corpus.max_tokens}
    leaves = ("corpus/corpus.json", "corpus/tokenizer.json")
    prepare = Job("prepare", "prepare", {"files": files, **sizes}, estimate=30, leaves=leaves)
    architectures = trained_architectures(study)
    trainings, seeds = _trainings(study, architectures)
    supernets, scorings = _supernets(study), _scorings(study, architectures)
    n_first = _N_SPREAD * len(study.space.options["decoder_layers"])
    return [
        prepare,
        *supernets[:1],
        *trainings[:n_first],
        *scorings[:1],
        *seeds,
        *trainings[n_first:],
        *supernets[1:],
        *scorings[1:],
        *_measurements(study, architectures),
        *comparison_jobs(
            study,
            [job.id for job in trainings],
            recipe=_said(study.training),
            measuring=_how(study),
            training_seconds=sum(job.estimate for job in trainings) / len(trainings),
        ),
    ]


def training_id(number: int, seed: int) -> str:
    """Names the training of an architecture."""
    return f"train-{number:02}-seed-{seed}"


def measurement_id(number: int) -> str:
    """Names the measurement of an architecture's latency."""
    return f"latency-{number:02}"


def _trainings(study: Study, architectures: dict[int, Architecture]) -> tuple[list[Job], list[Job]]:
    """One training each, and the further seeds."""
    first, *others = study.architectures.seeds
    once = [_training(study, number, one, first) for number, one in architectures.items()]
    again = [(number, seed) for seed in others for number in study.architectures.replicated]
    return once, [_training(study, number, architectures[number], seed) for number, seed in again]


def _training(study: Study, number: int, architecture: Architecture, seed: int) -> Job:
    recipe = {**_said(study.training), "seed": seed}
    parameters = {
        "number": number,
        "architecture": architecture.to_dict(),
        "recipe": recipe,
        "task": study.task_dict,
    }
    estimate = _seconds(study, architecture, study.training) + _TRANSLATING
    return Job(training_id(number, seed), "train", parameters, ("prepare",), estimate)


def _supernets(study: Study) -> list[Job]:
    estimate = _seconds(study, study.space.largest_architecture, study.supernet_training)
    return [
        Job(
            f"supernet-{kind}",
            "supernet",
            {
                "mixture": {"kind": kind, "n_experts": study.supernets.n_experts},
                "recipe": _said(study.supernet_training),
                "task": study.task_dict,
            },
            ("prepare",),
            estimate,
            leaves=("model.safetensors", "tokenizer.json"),
        )
        for kind in study.supernets.kinds
    ]


def _scorings(study: Study, architectures: dict[int, Architecture]) -> list[Job]:
    listed = {str(number): architecture.to_dict() for number, architecture in architectures.items()}
    return [
        Job(
            f"score-{kind}-{metric}",
            "score",
            {"supernet": f"supernet-{kind}", "metric": metric, "architectures": listed},
            ("prepare", f"supernet-{kind}"),
            _SCORING[metric],
        )
        for metric in study.supernets.metrics
        for kind in study.supernets.kinds
    ]


def _measurements(study: Study, architectures: dict[int, Architecture]) -> list[Job]:
    return [
        Job(
            measurement_id(number),
            "latency",
            {
                "number": number,
                "architecture": architecture.to_dict(),
                "measuring": _how(study),
                "task": study.task_dict,
            },
            estimate=_MEASURING,
            is_exclusive=True,
        )
        for number, architecture in architectures.items()
    ]


def _said(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says beyond the defaults, so that a setting that is added later makes no other job."""
    default = Recipe().to_dict()
    return {name: value for name, value in recipe.to_dict().items() if value != default[name]}


def _how(study: Study) -> dict[str, Any]:
    """How latencies are measured."""
    return said(study.measuring, _MEASURING_SAYS)


def _seconds(study: Study, architecture: Architecture, recipe: Recipe) -> float:
    """Three passes forward for one forward and backward, over all tokens."""
    flops = cost(architecture, task=study.task).flops / study.sentence_length
    n_tokens = recipe.n_updates * recipe.max_tokens * recipe.n_accumulated
    return max(1.0, 3 * flops * n_tokens / _TRAINING_SPEED)
