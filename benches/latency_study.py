"""Prints what the latency model's shapes and its robust loss are worth.

`python benches/latency_study.py DATA`, where DATA is the folder that holds `hat_latency`.
"""

import sys
from itertools import combinations_with_replacement
from pathlib import Path
from unittest.mock import patch

import numpy as np

from llmpp import latency, latency_model
from llmpp.latency_model import SHAPES, LatencyTable, Shape
from llmpp.space import HYPERPARAMETERS
from llmpp.task import load_task

N_DRAWS = 10
QUADRATIC = tuple(combinations_with_replacement(HYPERPARAMETERS, 2))


def main(folder: Path) -> None:
    """Prints the tables of `docs/latency.md`."""
    files = {path.stem: read(path) for path in sorted(folder.glob("*.csv"))}
    print(
        "file, fitted on HAT's training rows, shape chosen: RMSE ms, MAE ms, MAPE %, median error %, and the"
    )
    print("share of the test rows within the 90% interval")
    for name, table in files.items():
        train, _ = latency.split_rows(len(table))
        shape, tested = latency.fit(table.take(train)).shape, latency.hold_out(table)
        within = np.abs(tested.predicted_ms - tested.measured_ms) < 1.6449 * tested.std_ms
        print(
            f"{name}, {shape}:", *(f"{value:.2f}" for value in tested.errors.values()), f"{within.mean():.2f}"
        )
    print("file, loss: MAPE %, median error % on the test rows")
    for name, table in files.items():
        for loss, scale in (("Huber", latency_model.HUBER_SCALE), ("least squares", 1e6)):
            with patch.object(latency_model, "HUBER_SCALE", scale):
                errors = latency.held_out_errors(table)
            print(f"{name}, {loss}: {errors['mape_pct']:.2f}, {errors['median_ape_pct']:.2f}")
    print(
        "file, rows fitted on: MAPE % on the test rows of the physical shape, of the free shape, of the full"
    )
    print(
        f"quadratic; mean of {N_DRAWS} draws of the rows; and how often cross-validation chose the physical"
    )
    for name, table in files.items():
        for n in (30, 60, 120, 400, 1600):
            few = [mape(table, n, shape) for shape in SHAPES]
            with patch.object(latency_model, "PRODUCTS", QUADRATIC):
                few.append(mape(table, n, "free"))
            print(f"{name}, {n}:", *(f"{value:.2f}" for value in few), share_physical(table, n))
    print("file: predictions not positive (of 600,000), added decoder layers that lower one (of 500,000)")
    for name, table in files.items():
        if name.startswith("wmt"):
            print(f"{name}: {violations(table)}")


def read(path: Path) -> LatencyTable:
    """Reads one file of HAT."""
    return latency.read_table(path, load_task("iwslt14.de-en" if "iwslt" in path.name else "wmt14.en-de"))


def draws(table: LatencyTable, n: int) -> list[LatencyTable]:
    """Draws `n` of HAT's training rows, several times."""
    train, _ = latency.split_rows(len(table))
    return [table.take(np.random.RandomState(seed).permutation(train)[:n]) for seed in range(N_DRAWS)]


def mape(table: LatencyTable, n: int, shape: Shape) -> float:
    """Mean over draws of `n` training rows of the MAPE on the test rows."""
    test = table.take(latency.split_rows(len(table))[1])
    predicted = [latency_model.fit_shape(few, shape).predict(test.features) for few in draws(table, n)]
    return float(np.mean([latency.errors(one, test.latency_ms)["mape_pct"] for one in predicted]))


def share_physical(table: LatencyTable, n: int) -> str:
    """How often the physical shape was chosen."""
    chosen = [latency.fit(few).shape for few in draws(table, n)]
    return f"{chosen.count('physical')}/{len(chosen)}"


def violations(table: LatencyTable) -> tuple[int, int]:
    """Counts what is not physical, over 100,000 random architectures at each decoder depth."""
    space = load_task("wmt14.en-de").space
    features = space.core.encode(space.core.sample(100_000, 0), "averaged").astype(np.float64)
    model = latency.fit(table)
    by_depth = []
    for depth in range(1, 7):
        features[:, list(HYPERPARAMETERS).index("decoder_layers")] = depth / 6
        by_depth.append(model.predict(features))
    predicted = np.array(by_depth)
    return int((predicted <= 0).sum()), int((np.diff(predicted, axis=0) < 0).sum())


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "hat_latency")
