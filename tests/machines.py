"""A machine whose speed and time tests decide: what a campaign measures on it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llmpp import Architecture, load_task
from llmpp.measuring.campaign import Campaign, Campaigned, run_campaign
from llmpp.measuring.measurement import Run, Sample
from llmpp.measuring.timing import Workload

TASK = load_task("wmt14.en-de")
WORKLOAD = Workload(source_length=30, target_length=30)
MACHINE = {"processor": "abacus", "device_name": "abacus", "versions": {"torch": "2"}}


def steady(seconds: float) -> float:
    """A machine that never changes."""
    return 1.0


def law(architecture: Architecture) -> tuple[float, float]:
    """What encoder and decoder take on a machine at its usual speed, in ms."""
    encoder = sum(5 + architecture.encoder_dim * ffn / 400_000 for ffn in architecture.encoder_ffn)
    layers = sum(20 + architecture.decoder_dim * ffn / 40_000 for ffn in architecture.decoder_ffn)
    return encoder, layers + architecture.decoder_dim / 8 + 2 * sum(architecture.cross_span)


class Machine:
    """Runs architectures by the law; each run moves its clock.

    Args:
        speed: How many times slower it is at a time in seconds.
        noise: Standard deviation of a run, as a share of it.
    """

    def __init__(self, speed: Callable[[float], float] = steady, noise: float = 0.005) -> None:
        self.speed, self.noise, self.now = speed, noise, 0.0
        self.random = np.random.RandomState(0)
        self.n_built, self.stop_at = 0, 10**9
        self.stop: Callable[[], Any] = self.interrupt

    def clock(self) -> float:
        return self.now

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def build(self, architecture: Architecture) -> Run:
        self.n_built += 1
        self.now += 0.5
        encoder, decoder = law(architecture)

        def run() -> Sample:
            if self.n_built == self.stop_at:
                self.stop_at = 10**9
                self.stop()
            factor = self.speed(self.now) * self.random.normal(1, self.noise)
            self.now += (encoder + decoder) * factor / 1e3
            return Sample(encoder * factor, decoder * factor)

        return run


def campaign(output: Path, n: int = 12, **more: Any) -> Campaign:
    """A campaign on the task above."""
    return Campaign(**{"task": TASK, "workload": WORKLOAD, "output": output, "n": n, "n_rounds": 1, **more})


def run(on: Machine, of: Campaign, **more: Any) -> Campaigned:
    """Runs a campaign on a machine."""
    arguments = {"build": on.build, "machine": MACHINE, "clock": on.clock, **more}
    return run_campaign(of, **arguments)


def kill() -> None:
    """Ends this process as nothing can prevent."""
    os.kill(os.getpid(), 9)
