"""Does jobs: `perform` in any process, and the loop of a local worker, which is a process of its own.

A local worker reads one JSON object `{job, place}` per line of its standard input, and says by one line how
each ended: `{"record": ...}`, or `{"error": {message, details, is_final}}`. It ends at once when its input
ends, so that it does not outlive its run.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeAlias

from llmpp.errors import InputError, MissingExtraError, SpaceError, TrainingError, unknown
from llmpp.file_lock import locked
from llmpp.machine import describe_machine
from llmpp.provenance import origin
from llmpp.study.job import Job
from llmpp.study.place import Place

#: Does a job, and returns what came of it as JSON holds it.
Kind: TypeAlias = Callable[[Job, Place], Mapping[str, Any]]

#: Errors that another attempt would meet again.
_FINAL = (InputError, SpaceError, TrainingError, MissingExtraError)
_PACKAGES = ("llmpp", "torch", "numpy", "safetensors", "tokenizers", "sacrebleu", "ray")
_NICENESS = 10


def perform(question: str) -> str:
    """Does the job of a line, and returns the line that says how it ended.

    The job's own lock is held meanwhile: should a run be dead whose worker still lives, the next one waits
    for the worker's end.
    """
    content = json.loads(question)
    place = Place.from_dict(content["place"])
    parts = content["job"]
    job = Job(parts["id"], parts["kind"], parts["parameters"], tuple(parts["after"]))
    try:
        with locked(place.directory / "locks" / f"{job.id}.lock"):
            return json.dumps({"record": _record(job, place)}, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - any failure of a job is an ending
        message = f"{type(error).__name__}: {error}"
        details = "".join(traceback.format_exception(error))
        is_final = isinstance(error, _FINAL)
        return json.dumps({"error": {"message": message, "details": details, "is_final": is_final}})


def question_of(job: Job, place: Place) -> str:
    """Writes the line that `perform` reads."""
    return json.dumps({"job": job.to_dict(), "place": place.to_dict()})


def _record(job: Job, place: Place) -> dict[str, Any]:
    module = import_module(place.kinds)
    kinds: Mapping[str, Kind] = module.KINDS
    if job.kind not in kinds:
        raise unknown("kind of job", job.kind, list(kinds))
    start = time.perf_counter()
    outcome = dict(kinds[job.kind](job, place))
    is_on_cpu = job.kind in getattr(module, "ON_CPU", ())
    return {
        "outcome": outcome,
        "seconds": round(time.perf_counter() - start, 3),
        "machine": describe_machine("cpu" if is_on_cpu else _device(place), "torch"),
        **origin(place.command, _PACKAGES, None),
    }


def _device(place: Place) -> str:
    """The device that jobs here use, such as 'cuda:0'; the CPU where the place does not say."""
    name = str(place.settings.get("device", "cpu"))
    if name == "cpu":
        return name
    from llmpp.device import find_device

    return str(find_device(name))


def main() -> None:
    """Does jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(max(0, _NICENESS - os.nice(0)))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as endings:
        # What a job prints belongs into the log.
        os.dup2(2, 1)
        questions: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(questions,), daemon=True).start()
        while True:
            endings.write(perform(questions.get()) + "\n")
            endings.flush()


def _read(questions: "queue.SimpleQueue[str]") -> None:
    """Passes lines on; at the end of the input, the run is over or dead, and so is this worker."""
    for line in sys.stdin:
        questions.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
