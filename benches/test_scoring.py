"""Scores of a generation by a supernet: against HAT's way of scoring, and with a race.

The supernet has the sizes of a small corpus, trained for a moment on a made-up language; generations are
those that an evolution comes to.
"""

import functools
import itertools
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benches.made_up_text import prepare_made_up
from benches.peers import hat_scoring
from benches.ratio import compare, write

from llmpp import Architecture, SearchSpace, Task, hsnas
from llmpp.corpus import Corpus
from llmpp.recipe import Recipe
from llmpp.score_store import ScoreStore
from llmpp.scoring_race import Race
from llmpp.supernet_predictor import SupernetPredictor
from llmpp.train import train_supernet

SEED = 0
N_THREADS = 1
#: Of scores, in nats per target token.
TOLERANCE = 2e-6
REQUIRED = 1.5
N_POPULATION, N_PARENTS = 125, 25
MAX_TOKENS = 1024
SPACE = SearchSpace(
    "caption-sized",
    {
        "encoder_dim": (64, 96, 128),
        "encoder_layers": (3,),
        "encoder_ffn": (64, 128, 256),
        "encoder_heads": (2, 4),
        "decoder_dim": (64, 96, 128),
        "decoder_layers": (1, 2, 3, 4),
        "decoder_ffn": (64, 128, 256),
        "decoder_heads": (2, 4),
        "cross_heads": (2, 4),
        "cross_span": (1, 2, 3),
    },
    128,
)
RECIPE = Recipe(n_updates=150, n_warm_up=40, max_tokens=1024, valid_every=150, n_judged=0, n_averaged=1)
FOLDER = tempfile.TemporaryDirectory(prefix="llmpp-scoring-")


@functools.cache
def corpus() -> Corpus:
    return prepare_made_up(Path(FOLDER.name), n_train=4000, n_valid=300, vocabulary=2000, seed=SEED)


@functools.cache
def supernet() -> Path:
    path = Path(FOLDER.name) / "supernet"
    train_supernet(SPACE, corpus(), path, recipe=RECIPE, n_threads=N_THREADS)
    return path


def predictor(name: str, race: Race | None = None) -> SupernetPredictor:
    cache = Path(FOLDER.name) / f"{name}.sqlite"
    return SupernetPredictor(supernet(), corpus(), race=race, cache=cache, n_threads=N_THREADS)


class Watched:
    """Scores by a race, and in full to see whom the race lost; keeps what it was asked."""

    name = "raced"

    def __init__(self) -> None:
        self.raced, self.exact = predictor("raced", Race(n_parents=N_PARENTS)), predictor("exact")
        self.scores: tuple[dict[Architecture, float], dict[Architecture, float]] = ({}, {})
        self.asked: list[list[Architecture]] = []
        self.parents: list[list[Architecture]] = []
        self.kept: list[float] = []
        self.seconds = [0.0, 0.0]

    def predict(self, architectures: list[Architecture]) -> Any:
        found = []
        for side, one in enumerate((self.raced, self.exact)):
            start = time.process_time()
            found.append(one.predict(architectures))
            self.seconds[side] += time.process_time() - start
        for known, scores in zip(self.scores, found, strict=True):
            known.update(zip(architectures, scores.tolist(), strict=True))
        raced, true = (sorted(known, key=known.__getitem__)[-N_PARENTS:] for known in self.scores)
        self.kept.append(len(set(raced) & set(true)) / len(true))
        self.asked.append(architectures)
        self.parents.append(raced)
        return found[0]


@functools.cache
def watched_search() -> Watched:
    """An evolution of 20 generations."""
    watched = Watched()
    task = Task("captions", SPACE, corpus().vocabulary, sentence_length=16)
    hsnas.search(task, initial=watched, seed=SEED, n_iterations=20)
    return watched


def generations() -> list[tuple[list[Architecture], list[Architecture]]]:
    """Generations 2, 6, 10, 14 and 18: all 125 members, as HAT has them, and those that were not known."""
    watched, found = watched_search(), []
    for number in (1, 5, 9, 13, 17):
        new, parents = watched.asked[number], watched.parents[number - 1]
        # Which of those known come again does not matter to the time: parents stand for them.
        known = list(itertools.islice(itertools.cycle(parents), N_POPULATION - len(new)))
        found.append(([*known, *new], new))
    return found


def test_a_race_keeps_the_parents_and_scores_fewer_tokens() -> None:
    watched = watched_search()
    raced, exact = watched.raced.usage, watched.exact.usage
    ratio, faster = exact.n_target_tokens / raced.n_target_tokens, watched.seconds[1] / watched.seconds[0]
    kept = sum(watched.kept) / len(watched.kept)
    print(
        f"\nrace: {ratio:.2f}x fewer tokens, {faster:.2f}x less time; of the parents {kept:.1%} kept, "
        f"{min(watched.kept):.0%} at least, in {len(watched.kept)} generations; {exact.n_evaluations} "
        f"architectures, {raced.n_dropped} of them dropped; seed={SEED}"
    )
    figures = {"token_ratio": ratio, "time_ratio": faster, "kept": watched.kept}
    write(
        "scoring_race",
        {**figures, "n": exact.n_evaluations, "n_dropped": raced.n_dropped, "seed": SEED},
    )
    assert ratio >= 2
    assert kept >= 0.95


def test_a_generation_takes_a_fraction_of_hats_time() -> None:
    torch.set_num_threads(1)
    ours, net = predictor("fresh"), predictor("fresh").net
    batches = [batch.tensors() for batch in corpus().batches("valid", max_tokens=MAX_TOKENS)]
    few = [architecture for members, new in generations() for architecture in [*members[:2], *new[:4]]]
    difference = float(np.abs(ours.predict(few) - hat_scoring.score(net, batches, few)).max())
    assert difference < TOLERANCE
    n_calls = itertools.count()

    def score_new() -> None:
        ours.store = ScoreStore(Path(FOLDER.name) / f"round-{next(n_calls)}.sqlite")
        for _, new in generations():
            ours.predict(new)

    comparison = compare(
        "scoring_vs_hat",
        score_new,
        lambda: [hat_scoring.score(net, batches, members) for members, _ in generations()],
        required=REQUIRED,
        n=5 * N_POPULATION,
        seed=SEED,
        n_rounds=2,
    )
    n_new = [len(new) for _, new in generations()]
    comparison.report(n_new=n_new, largest_difference=difference)
    assert comparison.ratio >= comparison.required


def test_a_generation_needs_little_more_memory_than_in_hats_way() -> None:
    members, _ = generations()[0]
    loaded, hat, ours = (peak_mib(way, members) for way in ("loading", "hat", "ours"))
    print(f"\nmemory at most: {ours:.0f} MiB, HAT's way {hat:.0f}, before anything is scored {loaded:.0f}")
    write("scoring_memory", {"ours_mib": ours, "hat_mib": hat, "loaded_mib": loaded, "n": len(members)})
    assert loaded < min(ours, hat)
    assert ours < 1.2 * hat


def peak_mib(way: str, members: list[Architecture]) -> float:
    """The most memory that a process of its own has had which scores a generation in one of the ways."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured_peak, (way, supernet(), corpus().path, members))


def measured_peak(way: str, checkpoint: Path, text: Path, members: list[Architecture]) -> float:
    torch.set_num_threads(1)
    one = SupernetPredictor(checkpoint, text, cache=Path(FOLDER.name) / "memory.sqlite", n_threads=1)
    if way == "ours":
        one.predict(members)
    elif way == "hat":
        batches = [batch.tensors() for batch in one.corpus.batches("valid", max_tokens=MAX_TOKENS)]
        hat_scoring.score(one.net, batches, members)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
