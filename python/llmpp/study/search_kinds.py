"""What the jobs of a comparison do: fit a latency model, distil a student, search."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.architecture import Architecture
from llmpp.baselines import FROM_DEMONSTRATIONS, Predict, physics
from llmpp.exam import Exam
from llmpp.phase import name_of
from llmpp.predictor import MlpPredictor, Predictor, load_latency, load_predictor
from llmpp.result import SearchResult
from llmpp.study.comparison import STUDENT, Method
from llmpp.study.comparison_jobs import LATENCY_MODEL, STUDENT_JOB, n_places
from llmpp.study.description import Measuring
from llmpp.study.job import Job
from llmpp.study.place import Place
from llmpp.supernet_predictor import SupernetPredictor
from llmpp.task import Figures, Task

#: Architectures that say what share of all lies below a latency; those that a student is taught on.
_N_DRAWN, _N_TAUGHT = 2000, 450
#: Those that a student may be taught by; which is best is found by leaving out one architecture at a time.
TEACHERS: Mapping[str, Predict] = {**FROM_DEMONSTRATIONS, "ridge on log depth, log FLOPs": physics}


def latency_model(job: Job, place: Place) -> dict[str, Any]:
    """Measures architectures and fits a model; brings its errors, and the model as base64."""
    from llmpp.latency import fit_file
    from llmpp.machine import processor
    from llmpp.measuring.campaign import Campaign, run_campaign

    task, how = Task.from_dict(job.parameters["task"]), Measuring(**job.parameters["measuring"])
    folder = place.work(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(
        task=task,
        workload=how.workload(task),
        output=folder / "measured.parquet",
        settings=how.settings,
        n=job.parameters["n"],
        command=place.command,
    )
    measured = run_campaign(campaign, resume=True)
    path = folder / "latency.safetensors"
    fitted = fit_file(campaign.output, path, task, hardware=processor(), command=place.command)
    model = base64.b64encode(path.read_bytes()).decode()
    return {
        "fit": fitted,
        "notes": list(measured.notes),
        "workload": campaign.workload.to_dict(),
        "model": model,
    }


def student(job: Job, place: Place) -> dict[str, Any]:
    """Distils the predictor that misses least what it has not seen; brings its name and all errors."""
    from llmpp.answers import Answer, Answers, write_answers
    from llmpp.distill import distill_file
    from llmpp.labelling import sample_unlabelled

    folder = place.work(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    task = _with_figures(Task.from_dict(job.parameters["task"]), job, place)
    errors = {name: _left_out_error(teach, task) for name, teach in TEACHERS.items()}
    teacher = min(errors, key=errors.__getitem__)
    asked = sample_unlabelled(task, _N_TAUGHT)
    answers = TEACHERS[teacher](_exam(task, task.figures, asked))
    rows = tuple(Answer(one, float(answer)) for one, answer in zip(asked, answers, strict=True))
    header = {"task": task.name, "model": teacher, "source": "llmpp study run"}
    write_answers(folder / "answers.jsonl", Answers(header, rows))
    output = folder / "student.safetensors"
    report = distill_file(folder / "answers.jsonl", output, task, command=place.command)
    return {"teacher": teacher, "left_out_mae": errors, "student": report}


def search(job: Job, place: Place) -> dict[str, Any]:
    """Searches; brings the best architecture, what it costs, and what the search cost.

    Scores are kept in a store of the search's own, so that no search profits from another.
    """
    from llmpp.hsnas import search as run_search

    parameters = job.parameters
    task = Task.from_dict(parameters["task"])
    settings = {name: value for name, value in parameters["method"].items() if name != "name"}
    method, evolution = Method(**settings), dict(parameters["evolution"])
    if method.is_random:
        evolution = {**evolution, "n_iterations": 1, "n_population": n_places(evolution)}
    place.work(job.id).mkdir(parents=True, exist_ok=True)
    latency = _latency(place, task)
    bound = _bound(latency, task, parameters["quantile"])
    predictors = [_predictor(name, task, job, place) for name in method.predictors]
    result = run_search(
        task,
        latency,
        {"latency_ms": bound},
        strategy="evolution",
        seed=parameters["seed"],
        initial=predictors[0],
        baseline=predictors[1] if len(predictors) > 1 else None,
        switch=method.switch,
        run_dir=place.work(job.id) / "run",
        resume=True,
        **evolution,
    )
    costs = _costs(result, dict(zip(method.predictors, predictors, strict=True)))
    judge = next((one for one in predictors if _is_of(one, parameters["judge"], place)), None)
    judge = judge or _supernet(parameters["judge"], job, place)
    return {"bound_ms": bound, "status": result.status, **_found(result, judge), **costs}


def _found(result: SearchResult, judge: Predictor) -> dict[str, Any]:
    if result.best is None:
        return {"architecture": None, "reachable": result.reachable}
    best = result.best
    return {
        "architecture": best.architecture.to_dict(),
        "score": best.score,
        "supernet_loss": -float(np.asarray(judge.predict([best.architecture]))[0]),
        "predicted_ms": best.latency_ms,
        "gflops": best.gflops,
        "params_m": best.params_m,
    }


def _costs(result: SearchResult, predictors: Mapping[str, Predictor]) -> dict[str, Any]:
    """Counts a search's evaluations and seconds, those before it was killed included."""
    # In results, predictors are called as in the study: their own names may be paths.
    names = {name_of(one): name for name, one in predictors.items()}
    usages = [one.usage for one in predictors.values() if isinstance(one, SupernetPredictor)]
    supernet_now = sum(usage.seconds for usage in usages)
    supernet = supernet_now + sum(usage.seconds_cached for usage in usages)
    scored: dict[str, int] = {}
    for iteration in result.history:
        name = names.get(iteration.predictor, iteration.predictor)
        scored[name] = scored.get(name, 0) + iteration.n_evaluations
    return {
        "n_evaluations": scored,
        "n_supernet_evaluations": sum(usage.n_evaluations + usage.n_cached for usage in usages),
        "supernet_seconds": round(supernet, 2),
        "search_seconds": round(max(result.seconds - supernet_now, 0.0) + supernet, 2),
        "best_scores": [iteration.best_score for iteration in result.history],
    }


def _latency(place: Place, task: Task) -> MlpPredictor:
    """The latency model, out of its job's result: that is carried to other machines, its file may not be."""
    path = place.work(LATENCY_MODEL) / "latency.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(base64.b64decode(place.outcome(LATENCY_MODEL)["model"]))
        part.replace(path)
    return load_latency(path, task=task)


def _bound(latency: MlpPredictor, task: Task, quantile: float) -> float:
    """The latency that so large a share of uniformly drawn architectures keeps, to three digits."""
    latencies = latency.predict(task.space.sample(_N_DRAWN, seed=0)).astype(np.float64)
    return float(f"{np.quantile(latencies, quantile):.3g}")


def _predictor(name: str, task: Task, job: Job, place: Place) -> Predictor:
    if name.startswith("supernet-"):
        return _supernet(name, job, place)
    if name == STUDENT:
        return load_predictor(place.work(STUDENT_JOB) / "student.safetensors", task=task)
    path = Path(place.settings.get("folder", ".")) / name
    return load_predictor(path if path.is_file() else name, task=task)


def _supernet(name: str, job: Job, place: Place) -> SupernetPredictor:
    corpus, store = place.work("prepare") / "corpus", place.work(job.id) / "scores.sqlite"
    device = str(place.settings.get("device", "auto"))
    return SupernetPredictor(place.work(name), corpus, cache=store, device=device)


def _is_of(predictor: Predictor, name: str, place: Place) -> bool:
    return isinstance(predictor, SupernetPredictor) and predictor.path.parent == place.work(name)


def _with_figures(task: Task, job: Job, place: Place) -> Task:
    """Adds what the trainings brought."""
    outcomes = [place.outcome(name) for name in job.parameters["trainings"]]
    figures = tuple(
        Figures(
            number,
            Architecture.from_dict(outcome["architecture"]),
            outcome["valid"]["bleu"],
            outcome["test"]["bleu"],
            float("nan"),
            {},
        )
        for number, outcome in enumerate(outcomes, 1)
    )
    return Task(**{**vars(task), "figures": figures})


def _left_out_error(teach: Predict, task: Task) -> float:
    """The mean absolute error on each figure, of what was learnt from all others."""
    missed = []
    for one in task.figures:
        shown = tuple(other for other in task.figures if other is not one)
        (answer,) = teach(_exam(task, shown, [one.architecture]))
        missed.append(abs(float(answer) - one.valid_score))
    return float(np.mean(missed))


def _exam(task: Task, shown: tuple[Figures, ...], asked: list[Architecture]) -> Exam:
    return Exam("all", task, shown, tuple(asked), supernet_scores={})
