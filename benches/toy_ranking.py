"""Does a supernet rank architectures as training them from scratch does? On a toy language, in minutes.

    python benches/toy_ranking.py [--n 20] [--updates 400] [--seed 0]

Prints Kendall's tau of supernet and trained losses for each kind of supernet, with the CPU time that each
took on one thread, and the losses of each architecture. Exits with 1 if a tau is not above 0.5.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from llmpp import SearchSpace
from llmpp.corpus import Corpus
from llmpp.mixture import KINDS, Mixture
from llmpp.recipe import Recipe
from llmpp.supernet_predictor import SupernetPredictor
from llmpp.train import train_architecture, train_supernet
from toy_training import prepare_short

LEAST_TAU = 0.5
#: Wide enough apart for the toy language to tell them apart at this budget.
SPACE = SearchSpace(
    "toy-ranking",
    {
        "encoder_dim": (8, 32),
        "encoder_layers": (1, 2),
        "encoder_ffn": (8, 64),
        "encoder_heads": (1, 2),
        "decoder_dim": (8, 32),
        "decoder_layers": (1, 2),
        "decoder_ffn": (8, 64),
        "decoder_heads": (1, 2),
        "cross_heads": (1, 2),
        "cross_span": (1, 2),
    },
    32,
)


def main() -> None:
    """Trains, scores, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = Corpus.load(prepare_short(folder, 80, (2000, 150, 10)))
        taus = study(folder, corpus, given.n, given.updates, given.seed)
    sys.exit(min(taus) <= LEAST_TAU)


def recipe(n_updates: int, seed: int) -> Recipe:
    """A recipe for the toy language."""
    settings: dict[str, Any] = {"dropout": 0, "attention_dropout": 0, "max_tokens": 512, "n_beams": 1}
    return Recipe(
        n_updates=n_updates,
        n_warm_up=n_updates // 10,
        peak_rate=5e-3,
        valid_every=n_updates // 4,
        seed=seed,
        **settings,
    )


def study(folder: Path, corpus: Corpus, n: int, n_updates: int, seed: int) -> list[float]:
    """Compares the supernets with training from scratch, and returns the tau of each."""
    architectures = SPACE.sample(n, seed=seed)
    start = time.process_time()
    trained = [
        train_architecture(
            one,
            corpus,
            folder / f"{number}",
            recipe=recipe(n_updates, seed),
            space=SPACE,
            n_threads=1,
        )["valid_loss"]
        for number, one in enumerate(architectures)
    ]
    print(f"{n} trained from scratch: {time.process_time() - start:.0f} s of CPU", flush=True)
    columns: dict[str, Any] = {}
    taus = []
    for kind in KINDS:
        start = time.process_time()
        settings: dict[str, Any] = {
            "recipe": recipe(3 * n_updates, seed),
            "mixture": Mixture(kind=kind),
            "n_threads": 1,
        }
        train_supernet(SPACE, corpus, folder / kind, **settings)
        seconds = time.process_time() - start
        predictor = SupernetPredictor(folder / kind, corpus, cache=folder / "scores.sqlite", n_threads=1)
        columns[kind] = -predictor.predict(architectures)
        tau = float(kendalltau(columns[kind], trained).statistic)
        taus.append(tau)
        print(f"{kind}: tau {tau:.2f}; trained in {seconds:.0f} s of CPU", flush=True)
    print("trained   " + "   ".join(columns))
    for row in np.argsort(trained):
        print(f"{trained[row]:.4f}    " + "   ".join(f"{column[row]:.4f}" for column in columns.values()))
    return taus


if __name__ == "__main__":
    main()
