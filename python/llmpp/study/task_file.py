"""Makes a task of a study's results: figures of trained architectures, and splits to test predictors on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmpp.errors import InputError
from llmpp.shuffling import shuffled_order
from llmpp.study.expansion import measurement_id
from llmpp.study.results import Results
from llmpp.task import LOSS_SUFFIX

#: Seeds of the splits, which are called by them, like those of the WMT tasks.
SPLITS = (123, 456, 789)
#: A split demonstrates one architecture of so many.
_SHARE = 3
#: With fewer architectures, splits have too few demonstrations to test predictors.
FEWEST_TO_TEST = 2 * _SHARE
#: What the scores of supernets are called, as in the WMT tasks.
NAMES: Mapping[str, str] = {"plain": "hat", "layer-wise": "layer_wise_mos", "neuron-wise": "neuron_wise_mos"}
_SUFFIXES: Mapping[str, str] = {"bleu": "", "loss": LOSS_SUFFIX}
_PACKAGES = ("llmpp", "torch", "sacrebleu")


def task_dict(results: Results, *, command: str) -> dict[str, Any]:
    """Makes the task, as `Task.from_dict` reads it: numbers only, no text of the corpus.

    Args:
        results: What the study brought.
        command: The command that did the study, for the record.

    Raises:
        InputError: If a training or a measurement is not done.
    """
    results.check_complete()
    return trained_task(results, command=command)


def trained_task(results: Results, *, command: str) -> dict[str, Any]:
    """Makes the same of trainings, all of which must be there; a latency that is not is NaN."""
    scores = {score_name(kind, metric): found for kind, metric, found in results.scores()}
    return {
        **results.study.task_dict,
        "metric": "BLEU",
        "source": source(results, command),
        "splits": {str(seed): split(sorted(results.architectures), seed) for seed in SPLITS},
        "figures": [_figures(results, number, scores) for number in results.architectures],
    }


def score_name(kind: str, metric: str) -> str:
    """Names the scores of a kind of supernet by a metric."""
    return f"{NAMES[kind]}{_SUFFIXES[metric]}"


def split(numbers: list[int], seed: int) -> list[int]:
    """Chooses the demonstrations of a split, uniformly; the same on every platform and version of numpy."""
    draw = np.random.PCG64(np.random.SeedSequence(seed))
    order = shuffled_order(draw, len(numbers))
    return sorted(numbers[place] for place in order[: len(numbers) // _SHARE])


def source(results: Results, command: str) -> str:
    """Says in one line where the figures come from: corpus, machine, versions, seeds, command."""
    study, training, measuring = results.study, results.study.training, results.study.measuring
    sets = (results.outcome("prepare") or {}).get("sets", {})
    sizes = ", ".join(f"{entry['n_pairs']:,} {name}" for name, entry in sets.items())
    corpus = f"{Path(study.corpus.path).name or study.name}{f' ({sizes} pairs)' if sets else ''}"
    threads = f"{measuring.threads} thread{'s' if measuring.threads > 1 else ''}"
    return (
        f"trained from scratch and measured by llmpp: {command}; corpus {corpus}; {training.n_updates:,} "
        f"updates of {training.max_tokens:,} tokens, seed {study.architectures.seeds[0]}; BLEU by "
        f"{training.n_beams} beams; latency of {threads}{_measured(results)}, {measuring.n_beams} beams; "
        f"{_made(results)}"
    )


def _figures(results: Results, number: int, scores: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    training = results.training(number)
    if training is None:
        raise InputError(f"architecture {number} was not trained: go on with `llmpp study run`")
    latency = results.latency(number) or {"latency_ms": float("nan")}
    return {
        "id": number,
        "valid_score": round(training["valid"]["bleu"], 2),
        "test_score": round(training["test"]["bleu"], 2),
        "latency_ms": round(latency["latency_ms"], 3),
        "supernet_scores": {name: round(found[number], 4) for name, found in scores.items()},
        "architecture": results.architectures[number].to_dict(),
    }


def _measured(results: Results) -> str:
    """The machines whose latencies there are."""
    names = filter(results.records.__contains__, map(measurement_id, results.architectures))
    machines = dict.fromkeys(results.records[name]["machine"]["device_name"] for name in names)
    return f" of {' and '.join(machines)}" if machines else ""


def _made(results: Results) -> str:
    """Machines, versions and dates of the results, each once."""
    records = [record for name, record in results.records.items() if results.job(name).kind != "prepare"]
    if not records:
        return "nothing is done yet"
    # A training's own machine may be a GPU; the record's is the CPU that it ran on.
    owns = [record["outcome"].get("machine") or record["machine"] for record in records]
    machines = dict.fromkeys(machine["device_name"] for machine in owns)
    versions = {name: dict.fromkeys(record["versions"][name] for record in records) for name in _PACKAGES}
    dates = sorted({record["date"] for record in records})
    listed = ", ".join(f"{name} {'/'.join(found)}" for name, found in versions.items())
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{' and '.join(machines)}; {listed}; {period}"
