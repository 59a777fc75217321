"""`RayWorkers`: tasks on a Ray cluster, whose machines see the study's directory under the same path.

Claims are this process's, so a job whose machine is lost is begun again, and none is begun twice.
"""

import os
import time
from typing import Any

from llmpp.errors import InputError, require
from llmpp.ranges import integer
from llmpp.study.dispatcher import Ending
from llmpp.study.job import Job
from llmpp.study.local_workers import ending_of
from llmpp.study.place import Place
from llmpp.study.worker import perform, question_of


class RayWorkers:
    """Does jobs as Ray's tasks.

    Args:
        place: Where the study is.
        address: The cluster's, such as `auto` or `ray://host:10001`; or `local` for one of its own.
        n: How many jobs at a time.

    Raises:
        InputError: If the cluster is not there.
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, place: Place, address: str, n: int = 2) -> None:
        self.place, self.n = place, integer("workers", n, 1, 2**16)
        # A study tells nobody that it runs, unless it is asked to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray = require("ray", "ray")
        own = {"num_cpus": self.n, "include_dashboard": False} if address == "local" else {}
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level="error", **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"there is no Ray cluster at {address!r}: {error}") from error
        # Whether a job is begun again is the queue's business.
        self.perform = self.ray.remote(num_cpus=1, max_retries=0)(perform)
        self.running: dict[Any, Job] = {}

    @property
    def n_idle(self) -> int:
        """How many more jobs can be begun now."""
        return self.n - len(self.running)

    def start(self, job: Job) -> None:
        """Has the cluster begin a job."""
        self.running[self.perform.remote(question_of(job, self.place))] = job

    def wait(self, seconds: float) -> list[Ending]:
        """Waits for jobs to end, for so many seconds at most."""
        if not self.running:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        return [self._hear(reference) for reference in ready]

    def stop(self) -> None:
        """Ends all tasks, and leaves the cluster."""
        for reference in self.running:
            self.ray.cancel(reference, force=True)
        self.running = {}
        self.ray.shutdown()

    def _hear(self, reference: Any) -> Ending:
        job = self.running.pop(reference)
        try:
            return ending_of(job, self.ray.get(reference))
        except (self.ray.exceptions.RayError, OSError) as error:
            return Ending(job, message=f"its worker was lost: {type(error).__name__}", details=str(error))
