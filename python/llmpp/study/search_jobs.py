"""The jobs of a study's comparison: a latency model, a student, searches, and what becomes of their finds."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from llmpp.study.comparison import STUDENT, Method
from llmpp.study.description import Study
from llmpp.study.job import Job
from llmpp.study.section import said

#: Ids of the two jobs that all searches share.
LATENCY_MODEL, STUDENT_JOB = "latency-model", "student"
#: Estimates before anything is known, in seconds.
_PER_MEASUREMENT, _DISTILLING, _PER_ARCHITECTURE = 7.0, 120.0, 1.0
#: Fields of `Method` that jobs have always named, also at their defaults.
_METHOD_SAYS = ("initial", "baseline", "switch", "is_random")


def search_name(method: str, quantile: float, seed: int) -> str:
    """Names a search: what its jobs' ids end in."""
    return f"{method}-{100 * quantile:g}pct-seed-{seed}"


def comparison_jobs(
    study: Study,
    trainings: Sequence[str],
    *,
    recipe: Mapping[str, Any],
    measuring: Mapping[str, Any],
    training_seconds: float,
) -> list[Job]:
    """Lists the jobs of a comparison, each after those that it waits for; none without methods.

    Args:
        study: The study.
        trainings: Ids of the trainings whose figures the student learns from, by number from 1.
        recipe: How architectures are trained, but for the seed.
        measuring: How latencies are measured.
        training_seconds: Estimate of a training.
    """
    comparison = study.comparison
    if not comparison.methods:
        return []
    jobs = [_latency_model(study, measuring)]
    if STUDENT in comparison.needs:
        jobs.append(_student(study, trainings))
    cases = list(product(comparison.seeds, comparison.quantiles, comparison.methods))
    jobs += [_search(study, method, quantile, seed) for seed, quantile, method in cases]
    trained = [case for case in cases if case[0] in comparison.seeds_of_trainings]
    for seed, quantile, method in trained:
        name = search_name(method, quantile, seed)
        found = {"search": f"search-{name}", "task": study.task_dict}
        training = {**found, "recipe": {**recipe, "seed": seed}}
        after = "prepare", f"search-{name}"
        jobs.append(Job(f"train-{name}", "train", training, after, training_seconds))
    for seed, quantile, method in trained:
        name = search_name(method, quantile, seed)
        measured = {"search": f"search-{name}", "task": study.task_dict, "measuring": measuring}
        jobs.append(Job(f"latency-{name}", "latency", measured, (f"search-{name}",), 30.0, is_exclusive=True))
    return jobs


def _latency_model(study: Study, measuring: Mapping[str, Any]) -> Job:
    n = study.comparison.n_measured
    parameters = {"task": study.task_dict, "measuring": measuring, "n": n}
    return Job(LATENCY_MODEL, "latency-model", parameters, (), _PER_MEASUREMENT * n, is_exclusive=True)


def _student(study: Study, trainings: Sequence[str]) -> Job:
    parameters = {"task": study.task_dict, "trainings": list(trainings)}
    leaves = ("student.safetensors",)
    return Job(STUDENT_JOB, "student", parameters, tuple(trainings), _DISTILLING, leaves=leaves)


def _search(study: Study, name: str, quantile: float, seed: int) -> Job:
    comparison = study.comparison
    method = comparison.methods[name]
    needed = ["prepare", LATENCY_MODEL, comparison.judge, *filter(_is_made_here, method.predictors)]
    parameters = {
        "method": {"name": name, **said(method, _METHOD_SAYS)},
        "quantile": quantile,
        "seed": seed,
        "evolution": dict(comparison.evolution),
        "judge": comparison.judge,
        "task": study.task_dict,
    }
    if method.files:
        parameters["files"] = {given: _sha256(study, given) for given in method.files}
    estimate = _PER_ARCHITECTURE * n_places(comparison.evolution) * _share_of_supernet(method) + 30
    return Job(
        f"search-{search_name(name, quantile, seed)}",
        "search",
        parameters,
        tuple(dict.fromkeys(needed)),
        estimate,
    )


def n_places(evolution: Mapping[str, Any]) -> int:
    """How many architectures an evolution has places for that were not there before."""
    from llmpp.evolution import EvolutionSettings

    settings = EvolutionSettings(**evolution)
    return settings.n_population + (settings.n_iterations - 1) * (settings.n_mutants + settings.n_children)


def _sha256(study: Study, name: str) -> str | None:
    """The digest of a weights file: with another, it is another search. None if it is not there yet."""
    try:
        return hashlib.sha256((study.folder / name).read_bytes()).hexdigest()
    except OSError:
        return None


def _is_made_here(predictor: str) -> bool:
    return predictor == STUDENT or predictor.startswith("supernet-")


def _share_of_supernet(method: Method) -> float:
    """The share of a search that a supernet scores."""
    is_supernet = [
        name.startswith("supernet-") for name in (method.initial, method.baseline or method.initial)
    ]
    return method.switch * is_supernet[0] + (1 - method.switch) * is_supernet[1]
