"""Prints what the latency model's form and its robust loss are worth.

`python benches/latency_study.py DATA`, where DATA is the folder that holds `hat_latency`.
"""

import sys
from itertools import combinations_with_replacement
from pathlib import Path
from unittest.mock import patch

import numpy as np

from llmpp import latency
from llmpp.space import HYPERPARAMETERS
from llmpp.task import load_task

N_DRAWS = 5
QUADRATIC = tuple(combinations_with_replacement(HYPERPARAMETERS, 2))


def main(folder: Path) -> None:
    """Prints the tables of `docs/latency.md`."""
    print("file, loss: MAPE %, median error % on the test rows")
    for path in sorted(folder.glob("*.csv")):
        table = read(path)
        for name, scale in (("Huber", latency.HUBER_SCALE), ("least squares", 1e6)):
            with patch.object(latency, "HUBER_SCALE", scale):
                errors = latency.held_out_errors(table)
            print(f"{path.stem}, {name}: {errors['mape_pct']:.2f}, {errors['median_ape_pct']:.2f}")
    print("file, rows fitted on: MAPE % of the shipped products, of the full quadratic; mean of 5 draws")
    for path in sorted(folder.glob("*.csv")):
        for n in (50, 100, 400, 1600):
            few, many = (mape(read(path), n, products) for products in (latency.PRODUCTS, QUADRATIC))
            print(f"{path.stem}, {n}: {few:.2f}, {many:.2f}")
    print("file: predictions not positive (of 600,000), added decoder layers that lower one (of 500,000)")
    for path in sorted(folder.glob("wmt*.csv")):
        print(f"{path.stem}: {violations(read(path))}")


def read(path: Path) -> latency.LatencyTable:
    """Reads one file of HAT."""
    return latency.read_table(path, load_task("iwslt14.de-en" if "iwslt" in path.name else "wmt14.en-de"))


def mape(table: latency.LatencyTable, n: int, products: tuple[tuple[str, str], ...]) -> float:
    """Mean over draws of `n` training rows of the MAPE on the test rows."""
    train, test = latency.split_rows(len(table.latency_ms))
    errors = []
    for seed in range(N_DRAWS):
        rows = np.random.default_rng(seed).permutation(train)[:n]
        with patch.object(latency, "PRODUCTS", products):
            model = latency.fit(table.features[rows], table.latency_ms[rows])
        predicted = model.predict(table.features[test])
        errors.append(latency.errors(predicted, table.latency_ms[test])["mape_pct"])
    return float(np.mean(errors))


def violations(table: latency.LatencyTable) -> tuple[int, int]:
    """Counts what is not physical, over 100,000 random architectures at each decoder depth."""
    space = load_task("wmt14.en-de").space
    features = space.core.encode(space.core.sample(100_000, 0), "averaged").astype(np.float64)
    model = latency.fit(table.features, table.latency_ms)
    by_depth = []
    for depth in range(1, 7):
        features[:, list(HYPERPARAMETERS).index("decoder_layers")] = depth / 6
        by_depth.append(model.predict(features))
    predicted = np.array(by_depth)
    return int((predicted <= 0).sum()), int((np.diff(predicted, axis=0) < 0).sum())


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "hat_latency")
