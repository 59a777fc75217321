"""What the jobs of a comparison do: fit a latency model, distil a student, search."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.architecture import Architecture
from llmpp.baselines import FROM_DEMONSTRATIONS, Predict, physics
from llmpp.corpus import file_entry
from llmpp.errors import InputError
from llmpp.exam import Exam
from llmpp.file_lock import locked
from llmpp.predictor import MlpPredictor, Predictor, load_latency, load_predictor
from llmpp.replacement import replaced
from llmpp.result import SearchResult
from llmpp.scoring_usage import ScoringUsage
from llmpp.study.comparison import STUDENT, Method
from llmpp.study.description import Measuring
from llmpp.study.job import Job
from llmpp.study.made_with import check_made_again, check_model
from llmpp.study.place import Place
from llmpp.study.search_costs import costs_of
from llmpp.study.search_jobs import LATENCY_MODEL, STUDENT_JOB, n_places
from llmpp.supernet_predictor import SupernetPredictor
from llmpp.task import Figures, Task

#: Architectures that say what share of all lies below a latency; those that a student is taught on.
_N_DRAWN, _N_TAUGHT = 2000, 450
_LATENCY_FILE, _STUDENT_FILE = "latency.safetensors", "student.safetensors"
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
    path = folder / _LATENCY_FILE
    fitted = fit_file(campaign.output, path, task, hardware=processor(), command=place.command)
    model = base64.b64encode(path.read_bytes()).decode()
    return {
        "fit": fitted,
        "notes": list(measured.notes),
        "workload": campaign.workload.to_dict(),
        "model": model,
    }


def student(job: Job, place: Place) -> dict[str, Any]:
    """Distils the predictor that misses least what it has not seen; brings its name and all errors.

    Raises:
        InputError: If the student has to be made again for its file, and comes out as another one than that
            which results were made with.
    """
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
    output = folder / _STUDENT_FILE
    report = distill_file(folder / "answers.jsonl", output, task, command=place.command)
    sha256 = load_predictor(output, task=task).identity
    check_made_again(place, job.id, sha256)
    return {"teacher": teacher, "left_out_mae": errors, "student": report, "sha256": sha256}


def search(job: Job, place: Place) -> dict[str, Any]:
    """Searches; brings the best architecture, what it costs, and what the search cost.

    Scores are kept in a store of the search's own, so that no search profits from another.
    """
    from llmpp.hsnas import search as run_search

    parameters = job.parameters
    task, method = Task.from_dict(parameters["task"]), _method(job)
    place.work(job.id).mkdir(parents=True, exist_ok=True)
    latency = _latency(place, task)
    bound = _bound(latency, task, parameters["quantile"])
    judge = str(parameters["judge"])
    predictors = {name: _predictor(name, task, job, place) for name in (*method.predictors, judge)}
    made_with = _made_with({LATENCY_MODEL: latency, **predictors}, place)
    result = run_search(
        task,
        latency,
        {"latency_ms": bound},
        strategy="evolution",
        seed=parameters["seed"],
        initial=predictors[method.initial],
        baseline=predictors.get(method.baseline),
        switch=method.switch,
        run_dir=place.work(job.id) / "run",
        resume=True,
        **_evolution(job, method),
    )
    # Before the judge, which may be one of them, is asked again.
    costs = costs_of(result, _usages(predictors, method))
    found = _found(result, predictors[judge])
    return {"bound_ms": bound, "status": result.status, **found, **costs, "made_with": made_with}


def _method(job: Job) -> Method:
    return Method(**{name: value for name, value in job.parameters["method"].items() if name != "name"})


def _evolution(job: Job, method: Method) -> dict[str, Any]:
    given = dict(job.parameters["evolution"])
    return {**given, "n_iterations": 1, "n_population": n_places(given)} if method.is_random else given


def _usages(predictors: Mapping[str, Predictor], method: Method) -> dict[str, ScoringUsage]:
    """What the supernets of a method have scored so far."""
    named = {name: predictors[name] for name in method.predictors}
    return {name: one.usage for name, one in named.items() if isinstance(one, SupernetPredictor)}


def _made_with(predictors: Mapping[str, Predictor], place: Place) -> dict[str, str]:
    """Says which models of other jobs are there, and checks that they are those of their results."""
    found = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, SupernetPredictor):
            found[name] = predictor.setting.checkpoint
        elif isinstance(predictor, MlpPredictor) and name in (LATENCY_MODEL, STUDENT):
            found[name] = predictor.identity
    for name, sha256 in found.items():
        check_model(place, name, sha256)
    return found


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


def _latency(place: Place, task: Task) -> MlpPredictor:
    """The latency model, out of its job's result: that is carried to other machines, its file may not be."""
    path, model = (
        place.work(LATENCY_MODEL) / _LATENCY_FILE,
        base64.b64decode(place.outcome(LATENCY_MODEL)["model"]),
    )
    # Several workers may come to want it at once.
    with locked(place.directory / "locks" / "latency-model.restored.lock"):
        if not path.is_file() or path.read_bytes() != model:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as part:
                part.write_bytes(model)
        return replace(load_latency(path, task=task), name=LATENCY_MODEL)


def _bound(latency: MlpPredictor, task: Task, quantile: float) -> float:
    """The latency that so large a share of uniformly drawn architectures keeps, to three digits."""
    latencies = latency.predict(task.space.sample(_N_DRAWN, seed=0)).astype(np.float64)
    return float(f"{np.quantile(latencies, quantile):.3g}")


def _predictor(name: str, task: Task, job: Job, place: Place) -> Predictor:
    """Loads a predictor; it is called as in the study, not by its path, so that a study may be moved."""
    if name.startswith("supernet-"):
        return _supernet(name, job, place)
    if name == STUDENT:
        return replace(load_predictor(place.work(STUDENT_JOB) / _STUDENT_FILE, task=task), name=STUDENT)
    path = Path(place.settings.get("folder", ".")) / name
    if path.is_file():
        _check_file(path, job.parameters.get("files", {}).get(name))
        return replace(load_predictor(path, task=task), name=name)
    return load_predictor(name, task=task)


def _check_file(path: Path, sha256: str | None) -> None:
    """Checks that a weights file is the one that the job was made for; of jobs of older versions, nothing."""
    if sha256 is not None and (found := file_entry(path)["sha256"]) != sha256:
        raise InputError(
            f"{path} is another file ({found:.12}) than when the run began ({sha256:.12}): begin the run "
            "again, or put the former file there"
        )


def _supernet(name: str, job: Job, place: Place) -> SupernetPredictor:
    corpus, store = place.work("prepare") / "corpus", place.work(job.id) / "scores.sqlite"
    device = str(place.settings.get("device", "auto"))
    predictor = SupernetPredictor(place.work(name), corpus, cache=store, device=device)
    predictor.name = name
    return predictor


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
