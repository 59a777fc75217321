"""What the jobs of a study do: prepare text, train, score, measure. Each goes on where it was killed."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.corpus import RECORD, Corpus, file_entry
from llmpp.errors import InputError
from llmpp.recipe import Recipe
from llmpp.study.description import Measuring
from llmpp.study.finds import known_training, train_find
from llmpp.study.job import Job
from llmpp.study.made_with import check_made_again, check_model
from llmpp.study.place import Place
from llmpp.study.search_kinds import latency_model, search, student
from llmpp.study.worker import Kind
from llmpp.task import Task, cost

#: Names of what a training's result says that is of use without its files.
_TRAINING = (
    "n_updates",
    "n_target_tokens",
    "best_update",
    "best_loss",
    "averaged_loss",
    "chosen",
    "valid_loss",
    "valid_losses",
    "valid",
    "test",
    "n_params",
    "seconds",
    "seconds_to_finish",
    "tokens_per_second",
    "machine",
    "notes",
)


def prepare(job: Job, place: Place) -> dict[str, Any]:
    """Prepares the corpus; brings its hash and counts, no sentences.

    Raises:
        InputError: If the corpus has to be made again for its files, and comes out as another one.
    """
    from llmpp.preparation import prepare as prepare_corpus

    output, raw = _corpus(place), Path(place.settings["corpus"])
    if not (output / RECORD).is_file():
        files: dict[str, Any] = {
            name: [raw / file for file in listed] for name, listed in job.parameters["files"].items()
        }
        sizes = {name: job.parameters[name] for name in ("vocabulary", "max_tokens")}
        prepare_corpus(**files, **sizes, output=output, command=place.command)
    record = Corpus.load(output).record
    if place.is_done(job.id) and (known := place.outcome(job.id)["hash"]) != record["hash"]:
        raise InputError(
            f"the corpus made of {raw} is another one ({record['hash']:.12}) than that of the results in "
            f"{place.directory} ({known:.12}): give the same raw text by --corpus, with the same version of "
            "`tokenizers`, or name another directory"
        )
    return {name: record[name] for name in ("hash", "vocabulary", "max_tokens", "sets")}


def train(job: Job, place: Place) -> dict[str, Any]:
    """Trains an architecture; brings losses, BLEU (by beams, and greedy on the validation set), and costs.

    What was trained before as another job is not trained again: its outcome is taken, with `same_as`.
    """
    architecture = _architecture(job, place)
    if "search" in job.parameters:
        return train_find(job, place, architecture, partial(_trained, job, place, architecture))
    known = known_training(job, place, architecture)
    return known or _trained(job, place, architecture, place.work(job.id))


def supernet(job: Job, place: Place) -> dict[str, Any]:
    """Trains a supernet; brings its validation losses, and the digest of its weights.

    Raises:
        InputError: If the supernet has to be made again for its files, and comes out as another one than that
            which results were made with.
    """
    from llmpp.mixture import Mixture
    from llmpp.train import train_supernet
    from llmpp.translation import find_model

    corpus, folder = Corpus.load(_corpus(place)), place.work(job.id)
    recipe = Recipe.from_dict(job.parameters["recipe"])
    result = train_supernet(
        Task.from_dict(job.parameters["task"]).space,
        corpus,
        folder,
        recipe=recipe,
        mixture=Mixture(**job.parameters["mixture"]),
        device=_device(place),
        command=place.command,
    )
    sha256 = file_entry(find_model(folder))["sha256"]
    check_made_again(place, job.id, sha256)
    return {**_short(result, recipe, folder), "corpus": corpus.hash, "sha256": sha256}


def score(job: Job, place: Place) -> dict[str, Any]:
    """Scores architectures by a supernet; brings the score of each, by number, and what that took.

    Raises:
        InputError: If the supernet is another one than that of its result, or than other results were made
            with.
    """
    from llmpp.supernet_predictor import SupernetPredictor

    listed, supernet = job.parameters["architectures"], str(job.parameters["supernet"])
    place.work(job.id).mkdir(parents=True, exist_ok=True)
    predictor = SupernetPredictor(
        place.work(supernet),
        _corpus(place),
        metric=job.parameters["metric"],
        cache=place.work(job.id) / "scores.sqlite",
        device=_device(place),
    )
    made_with = {supernet: predictor.setting.checkpoint}
    check_model(place, supernet, made_with[supernet])
    scores = predictor.predict([Architecture.from_dict(data) for data in listed.values()])
    found = dict(zip(listed, scores.tolist(), strict=True))
    return {"scores": found, "usage": predictor.usage.to_dict(), "made_with": made_with}


def latency(job: Job, place: Place) -> dict[str, Any]:
    """Measures an architecture on the CPU, and the space's reference after it, which shows drift."""
    from llmpp.cpu_threads import threads
    from llmpp.machine import load
    from llmpp.measuring.design_points import reference_architecture
    from llmpp.measuring.measurement import measure
    from llmpp.measuring.timing import runs_of

    task, how = Task.from_dict(job.parameters["task"]), Measuring(**job.parameters["measuring"])
    workload, architecture = how.workload(task), _architecture(job, place)
    build, before = runs_of(task, workload), load()
    with threads(how.threads):
        one = measure(build(architecture), how.settings)
        reference = measure(build(reference_architecture(task)), how.settings)
    return {
        "latency_ms": one.latency_ms,
        "encoder_ms": one.encoder_ms,
        "decoder_ms": one.decoder_ms,
        "half_width": one.half_width,
        "is_precise": one.is_precise,
        "n_repeats": len(one.samples),
        "reference_ms": reference.latency_ms,
        "load": before,
        "workload": workload.to_dict(),
    }


#: What does each kind of job.
KINDS: dict[str, Kind] = {
    "prepare": prepare,
    "train": train,
    "supernet": supernet,
    "score": score,
    "latency": latency,
    "latency-model": latency_model,
    "student": student,
    "search": search,
}
#: Kinds that are done on the CPU, whatever device the study is told to use.
ON_CPU = frozenset({"prepare", "latency", "latency-model", "student"})


def _architecture(job: Job, place: Place) -> Architecture:
    """The architecture of a job: its own, or what a search found.

    Raises:
        InputError: If the search found none.
    """
    if "search" not in job.parameters:
        return Architecture.from_dict(job.parameters["architecture"])
    found = place.outcome(job.parameters["search"])
    if found["architecture"] is None:
        raise InputError(
            f"{job.parameters['search']} found no architecture within {found['bound_ms']:g} ms: raise that "
            "quantile of the comparison"
        )
    return Architecture.from_dict(found["architecture"])


def _trained(job: Job, place: Place, architecture: Architecture, folder: Path) -> dict[str, Any]:
    """Trains an architecture in a directory, or goes on there."""
    from llmpp.train import train_architecture

    task, corpus = Task.from_dict(job.parameters["task"]), Corpus.load(_corpus(place))
    recipe, device = Recipe.from_dict(job.parameters["recipe"]), _device(place)
    result = train_architecture(
        architecture, corpus, folder, recipe=recipe, space=task.space, device=device, command=place.command
    )
    costs = cost(architecture, task=task)
    return {
        "architecture": architecture.to_dict(),
        **_short(result, recipe, folder),
        "valid_greedy": _greedy(folder, corpus, device),
        "flops": costs.flops,
        "params": costs.params,
        "embedding_params": costs.embedding_params,
        "corpus": corpus.hash,
    }


def _greedy(directory: Path, corpus: Corpus, device: str) -> dict[str, Any]:
    """What greedy translations of the validation set are worth."""
    from llmpp.device import find_device
    from llmpp.translation import Quality, Translator

    translator = Translator.load(directory, find_device(device))
    texts = translator.translate(corpus.sources("valid"), n_beams=1)
    return Quality.of(texts, corpus.references("valid")).to_dict()


def _corpus(place: Place) -> Path:
    return place.work("prepare") / "corpus"


def _device(place: Place) -> str:
    return str(place.settings.get("device", "auto"))


def _short(result: Mapping[str, Any], recipe: Recipe, directory: Path) -> dict[str, Any]:
    """What is kept of a training: what came of it, how it was done, and its course."""
    kept = {name: result[name] for name in _TRAINING if name in result}
    return {**kept, "recipe": recipe.to_dict(), "course": _course(directory)}


def _course(directory: Path) -> dict[str, list[list[float]]]:
    """The losses of a training, pairs of update and nats per target token, out of its log."""
    from llmpp.training_files import TrainingFiles

    lines = TrainingFiles(directory).log.lines()
    return {
        kind: [[line["update"], round(line["loss"], 4)] for line in lines if line["kind"] == kind]
        for kind in ("update", "validation")
    }
