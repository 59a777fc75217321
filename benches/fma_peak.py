"""The most FLOPs per second that this process can do: fused multiply-adds that wait for nothing."""

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).with_name("fma_peak.c")
_N_STEPS = 10_000_000


@cache
def _chains() -> tuple[Callable[[int, float, float], float], int]:
    """The compiled chains, whose calls release the GIL, and the FLOPs of one step."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fma_peak.so"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-o", str(library), str(_SOURCE)], check=True)  # noqa: S603, S607
        loaded = ctypes.CDLL(str(library))
    loaded.flop_per_step.restype = ctypes.c_long
    chains = loaded.chains
    chains.argtypes = [ctypes.c_long, ctypes.c_float, ctypes.c_float]
    chains.restype = ctypes.c_float
    return chains, int(loaded.flop_per_step())


def peak_flops(
    n_threads: int = 1, n_rounds: int = 5, clock: Callable[[], float] = time.process_time
) -> float:
    """The largest FLOPs per second of some rounds; for more than one thread, `clock` must be of wall time."""
    chains, flop_per_step = _chains()

    def run(_: int) -> float:
        return float(chains(_N_STEPS, 0.5, 0.5))

    best = 0.0
    with ThreadPoolExecutor(n_threads) as threads:
        for _ in range(n_rounds):
            start = clock()
            list(threads.map(run, range(n_threads)))
            seconds = clock() - start
            best = max(best, n_threads * _N_STEPS * flop_per_step / seconds)
    return best
