"""Which architectures to measure: those that tell most about the coefficients of the latency model.

Depths take turns. Of each three architectures two are chosen to inform (greedily by the D-criterion: the one
whose prediction would be least certain), and one is drawn at random, so that what is typical is measured,
too, and shows where the model's form does not hold.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import InputError, unknown
from llmpp.ranges import LARGEST_SEED, integer
from llmpp.space import HYPERPARAMETERS, Floats
from llmpp.task import Task, costs
from llmpp.terms import physical_basis

Design: TypeAlias = Literal["informative", "random"]
DESIGNS: tuple[Design, ...] = ("informative", "random")

#: Candidates drawn uniformly, and candidates whose layers are all alike: means over layers of uniform draws
#: crowd in the middle, and the ends tell most.
_N_UNIFORM, _N_EVEN = 2000, 1000
#: What is assumed to be known of each coefficient before the first measurement, in units of its column.
_PRIOR = 1e-3
#: Part of the cost of a typical architecture that does not grow with its FLOPs.
_OVERHEAD = 0.2


def choose(
    task: Task, n: int, *, seed: int = 0, given: Sequence[Architecture] = (), design: Design = "informative"
) -> list[Architecture]:
    """Chooses architectures to measure.

    The choice of fewer is the beginning of the choice of more, so that a campaign may be cut short or
    extended.

    Args:
        task: The task.
        n: How many, with those that are given.
        seed: Seed of what is random.
        given: Architectures that were measured already.
        design: 'informative', or 'random' for uniform draws only.

    Returns:
        The `n - len(given)` further ones, in the order in which to measure them; none if that is negative.

    Raises:
        InputError: If the design is unknown, a number is out of its range, or `n` is more than the space
            has, or than are drawn to choose from.
        SpaceError: If a given one lies outside the space.
    """
    if design not in DESIGNS:
        raise unknown("design", design, list(DESIGNS))
    n, seed = integer("n", n, 1, 10**6), integer("seed", seed, 0, LARGEST_SEED)
    pool = _pool(task, seed, given)
    picks = _informative(task, pool, len(given)) if design == "informative" else _random(pool, len(given))
    n_left = max(0, n - len(given))
    places = [place for place, _ in zip(picks, range(n_left), strict=False)]
    if len(places) < n_left:
        raise InputError(
            f"of {task.space.name} at most {len(given) + len(places)} architectures can be chosen, not {n}: "
            "measure fewer"
        )
    return task.space.architectures(pool[places])


def _pool(task: Task, seed: int, given: Sequence[Architecture]) -> NDArray[np.uint8]:
    """Genomes to choose from: first those that are given, then uniform ones, then even ones."""
    space = task.space
    uniform = space.core.sample(_N_UNIFORM, seed)
    # Another seed, and not the next one: the pools of two seeds should have nothing in common.
    even = space.genomes([_even(a) for a in space.sample(_N_EVEN, seed=(seed + 2**63) % (LARGEST_SEED + 1))])
    genomes = np.concatenate([space.genomes(list(given)), uniform, even] if given else [uniform, even])
    _, first = np.unique(space.core.encode(genomes, "averaged"), axis=0, return_index=True)
    kept = np.union1d(first, np.arange(len(given)))
    return np.ascontiguousarray(genomes[kept])


def _even(architecture: Architecture) -> Architecture:
    """Gives all layers what the first one has."""
    values = [(value[0],) * len(value) for value in architecture.values()]
    return Architecture.from_values(values)


def _strata(pool: NDArray[np.uint8], core: _core.Space) -> NDArray[np.intp]:
    """Numbers the depths (encoder's and decoder's) of genomes `(n,)`."""
    names = list(HYPERPARAMETERS)
    depths = core.encode(pool, "averaged")[:, [names.index("encoder_layers"), names.index("decoder_layers")]]
    return np.unique(depths, axis=0, return_inverse=True)[1].ravel()


def _random(pool: NDArray[np.uint8], n_given: int) -> Iterator[int]:
    yield from range(n_given, len(pool))


def _informative(task: Task, pool: NDArray[np.uint8], n_given: int) -> Iterator[int]:
    """Yields places in the pool; what is given counts as chosen."""
    rows, strata = _rows(task, pool), _strata(pool, task.space.core)
    is_left = np.arange(len(pool)) >= n_given
    gram = np.eye(rows.shape[1]) * _PRIOR + rows[:n_given].T @ rows[:n_given]
    inverse = np.linalg.inv(gram)
    n_depths = int(strata.max()) + 1
    for number in range(n_given, len(pool)):
        # All depths in turn, each time round in another order: time should not go with depth.
        order = np.random.RandomState(number // n_depths).permutation(n_depths)
        of_depth = np.flatnonzero(is_left & (strata == order[number % n_depths]))
        places = of_depth if len(of_depth) else np.flatnonzero(is_left)
        if number % 3 == 2:
            place = int(places[0])
        else:
            seen = rows[places]
            place = int(places[np.argmax(((seen @ inverse) * seen).sum(axis=1))])
        is_left[place] = False
        towards = inverse @ rows[place]
        inverse -= np.outer(towards, towards) / (1 + rows[place] @ towards)
        yield place


def _rows(task: Task, pool: NDArray[np.uint8]) -> Floats:
    """The columns of the latency model `(n, k)`, as shares of what an architecture may cost."""
    features = task.space.core.encode(pool, "averaged").astype(np.float64)
    smallest = np.array([min(options) / max(options) for options in task.space.options.values()])
    basis, _ = physical_basis(smallest, np.ones(len(smallest)))
    columns = basis.columns(features)
    flops = costs(pool, task)[:, 0].astype(np.float64)
    shares = columns / (_OVERHEAD + flops / flops.mean())[:, None]
    rows: Floats = shares / np.sqrt((shares**2).mean(axis=0))
    return rows


def reference_architecture(task: Task) -> Architecture:
    """The architecture that is measured between the others: the middle of every hyperparameter's options."""
    middle = {name: sorted(options)[len(options) // 2] for name, options in task.space.options.items()}
    per_layer = [
        (middle[name],) * (1 if layers is None else middle[layers])
        for name, layers in HYPERPARAMETERS.items()
    ]
    per_layer[1] = (middle["encoder_layers"],)
    return Architecture.from_values(per_layer)
