"""pymoo's genetic algorithm on the same search: integer genomes, whole populations scored with torch."""

import numpy as np
import torch
from benches.peers.numpy_encoding import NumpyEncoding
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import Problem
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize


class BestUnderLatency(Problem):  # type: ignore[misc]  # pymoo has no types
    """Highest score under a bound on latency."""

    def __init__(
        self, score: torch.nn.Module, latency: torch.nn.Module, encoding: NumpyEncoding, latency_ms: float
    ) -> None:
        super().__init__(
            n_var=len(encoding.n_options), n_obj=1, n_ieq_constr=1, xl=0, xu=encoding.n_options - 1, vtype=int
        )
        self.score = score
        self.latency = latency
        self.encoding = encoding
        self.latency_ms = latency_ms

    def _evaluate(
        self, x: NDArray[np.int64], out: dict[str, NDArray[np.float32]], *_: object, **__: object
    ) -> None:
        features = torch.from_numpy(self.encoding.features(x))
        with torch.inference_mode():
            out["F"] = -self.score(features).numpy()
            out["G"] = self.latency(features).numpy() - self.latency_ms


def search(problem: BestUnderLatency, *, n_population: int, n_evaluations: int, seed: int) -> float:
    """Returns the best feasible score found."""
    algorithm = GA(
        pop_size=n_population,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(repair=RoundingRepair()),
        mutation=PM(prob_var=0.3, vtype=float, repair=RoundingRepair()),
    )
    result = minimize(problem, algorithm, ("n_eval", n_evaluations), seed=seed, verbose=False)
    return -float(result.F[0])
