"""Ratios of CPU time: both sides in one process, in turn, so that the noise of the machine meets both."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmpp import _core

_RESULTS = Path(__file__).parent.parent / ".benchmarks"


@dataclass(frozen=True)
class Times:
    """Seconds per call, one figure per round."""

    rounds: tuple[float, ...]

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """How far the slowest round lies above the fastest, as a share of the fastest."""
        return max(self.rounds) / self.least - 1

    def __str__(self) -> str:
        return f"{_readable(self.least)} (median {_readable(self.median)}, +{self.spread:.0%})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides measured in turn. The ratio is that of the fastest rounds: how many times less we take."""

    name: str
    ours: Times
    peer: Times
    required: float
    seed: int
    n: int

    @property
    def ratio(self) -> float:
        return self.peer.least / self.ours.least

    def report(self, **more: Any) -> None:
        """Prints one line, and writes the same as JSON to `.benchmarks/NAME.json`."""
        extra = "".join(f", {key} {value}" for key, value in more.items())
        print(
            f"\n{self.name}: {self.ratio:.2f}x (needs {self.required:g}x): ours {self.ours}, "
            f"peer {self.peer}, n={self.n}, {len(self.ours.rounds)} rounds, seed={self.seed}{extra}"
        )
        sides = {side: _figures(getattr(self, side)) for side in ("ours", "peer")}
        write(self.name, {**asdict(self), **sides, "ratio": self.ratio, **more})


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    required: float,
    n: int,
    seed: int,
    n_rounds: int,
    n_calls: tuple[int, int] = (1, 1),
    clock: Callable[[], float] = time.process_time,
) -> Comparison:
    """Times both sides in turn, `n_rounds` times, after one call of each to warm up.

    Args:
        name: Of the comparison.
        ours: Our side.
        peer: The other side, doing the same work.
        required: The least ratio that is accepted.
        n: The size of the work, for the record.
        seed: The seed of the work, for the record.
        n_rounds: Rounds, each of both sides.
        n_calls: Calls per round of our side and of the peer's, where one alone is too short to time.
        clock: CPU time of the process, unless the time that passes is asked for.
    """
    ours()
    peer()
    rounds = [(_seconds(ours, n_calls[0], clock), _seconds(peer, n_calls[1], clock)) for _ in range(n_rounds)]
    our_rounds, peer_rounds = zip(*rounds, strict=True)
    return Comparison(
        name=name, ours=Times(our_rounds), peer=Times(peer_rounds), required=required, seed=seed, n=n
    )


def _seconds(call: Callable[[], object], n_calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(n_calls):
        call()
    return (clock() - start) / n_calls


def write(name: str, record: dict[str, Any]) -> None:
    """Writes a result as one line of JSON, with what it ran on."""
    machine = {"machine": platform.processor() or platform.machine(), "kernel": _core.kernel()}
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps({**record, **machine}) + "\n")


def _figures(times: Times) -> dict[str, Any]:
    return {
        "least_s": times.least,
        "median_s": times.median,
        "spread": times.spread,
        "rounds_s": times.rounds,
    }


def _readable(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
