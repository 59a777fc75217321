"""`LocalWorkers`: processes of this machine, niced, with one thread each."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import IO

from llmpp.ranges import integer
from llmpp.study.dispatcher import Ending
from llmpp.study.job import Job
from llmpp.study.place import Place
from llmpp.study.worker import question_of

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
#: Seconds that workers have to end by themselves.
_GRACE = 5.0


@dataclass
class _Worker:
    """A process, the number that its log is called by, and what it does."""

    process: "subprocess.Popen[bytes]"
    number: int
    job: Job | None = None

    @property
    def input(self) -> IO[bytes]:
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        return self.process.stdin

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        return self.process.stdout


class LocalWorkers:
    """Does jobs in processes of its own; one that dies is replaced when there is a job for it.

    Args:
        place: Where the study is.
        n: How many at most.

    Raises:
        InputError: If the number is not in 1..256.
    """

    def __init__(self, place: Place, n: int = 2) -> None:
        self.place, self.n = place, integer("workers", n, 1, 256)
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()

    @property
    def n_idle(self) -> int:
        """How many more jobs can be begun now."""
        return self.n - sum(worker.job is not None for worker in self.workers)

    def start(self, job: Job) -> None:
        """Has a worker begin a job."""
        worker = next((worker for worker in self.workers if worker.job is None), None) or self._hire()
        worker.job = job
        # A worker that died meanwhile is seen by the end of its output.
        with contextlib.suppress(BrokenPipeError):
            worker.input.write(question_of(job, self.place).encode() + b"\n")
            worker.input.flush()

    def wait(self, seconds: float) -> list[Ending]:
        """Waits for jobs to end, for so many seconds at most."""
        endings = [self._hear(key.data) for key, _ in self.selector.select(seconds)]
        return [ending for ending in endings if ending]

    def stop(self) -> None:
        """Ends all workers."""
        for worker in self.workers:
            with contextlib.suppress(BrokenPipeError):
                worker.input.close()
        for worker in self.workers:
            try:
                worker.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.output.close()
        self.workers = []
        self.selector.close()

    def _hire(self) -> _Worker:
        folder = self.place.directory / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        number = min(set(range(self.n)) - {worker.number for worker in self.workers})
        with (folder / f"worker-{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "llmpp.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **dict.fromkeys(_THREADS, "1")},
            )
        worker = _Worker(process, number)
        self.workers.append(worker)
        self.selector.register(worker.output, selectors.EVENT_READ, worker)
        return worker

    def _hear(self, worker: _Worker) -> Ending | None:
        """Reads how a job ended; a line without an end is that of a worker that died."""
        line, job = worker.output.readline(), worker.job
        if line.endswith(b"\n") and job:
            worker.job = None
            return ending_of(job, line.decode())
        self.selector.unregister(worker.output)
        self.workers.remove(worker)
        with contextlib.suppress(BrokenPipeError):
            worker.input.close()
        worker.output.close()
        code = worker.process.wait()
        return Ending(job, message=f"its worker ended by itself, {_reason(code)}") if job else None


def ending_of(job: Job, line: str) -> Ending:
    """Reads the line that `perform` returns."""
    content = json.loads(line)
    return Ending(job, record=content["record"]) if "record" in content else Ending(job, **content["error"])


def _reason(code: int) -> str:
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
