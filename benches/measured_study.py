"""Prints what a latency model of a machine is worth that was measured by `llmpp measure`.

`python benches/measured_study.py TRAIN TEST [AGAIN ...]`: TRAIN is fitted on, its first 30, 60, 90 and all;
TEST holds other architectures, measured in another run (`--design random --seed 1`); files AGAIN hold
architectures of TRAIN or TEST that were measured another time, and say how well measurements repeat.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmpp import Architecture
from llmpp.latency import errors, fit, measured_task, read_table
from llmpp.latency_model import SHAPES, LatencyTable, cross_validated, fit_rising, fit_shape, folds
from llmpp.measuring.measured_file import Measured, read_measured
from llmpp.space import Floats
from llmpp.terms import physical_basis


def main(train: Path, test: Path, again: list[Path]) -> None:
    """Prints the figures of a machine."""
    files = {path: read_measured(path) for path in (train, test, *again)}
    for path, measured in files.items():
        describe(path.name, measured)
    task = measured_task(train)
    assert task is not None
    for quantile in (0.5, 0.1):
        print(f"quantile {quantile} of the repeats. Rows fitted on, shape: MAPE %, median error %, and the")
        print("share within the 90% interval, on TEST")
        table, others = (read_table(path, task, quantile) for path in (train, test))
        for n in sorted({30, 60, 90, len(table)}):
            few = table.take(np.arange(min(n, len(table))))
            report(f"{n}, {fit(few).shape} (chosen)", few, others)
            for shape in SHAPES:
                got = errors(fit_shape(few, shape).predict(others.features), others.latency_ms)
                print(f"{n}, {shape}: {got['mape_pct']:.2f}, {got['median_ape_pct']:.2f}")
    table, others = read_table(train, task), read_table(test, task)
    report("all, without taking drift out", raw(table, files[train]), raw(others, files[test]))
    factor = reference_ms(files[test]) / reference_ms(files[train])
    same_speed = replace(others, encoder_ms=others.encoder_ms / factor, decoder_ms=others.decoder_ms / factor)
    report(
        f"all, TEST brought to the speed of TRAIN (its reference took {factor:.4f} times)", table, same_speed
    )
    per_layer(table, files[train])
    for path, measured in files.items():
        repeatability(measured, path.name)
    for path in again:
        for other in (train, test):
            compare(files[other], files[path], f"{path.name} against {other.name}")


def describe(name: str, measured: Measured) -> None:
    """Prints how a file was measured."""
    rows = [row for row in measured.rows if not row.is_reference]
    widths = [100 * row.measurement.half_width for row in rows]
    minutes = sum(row.seconds for row in measured.rows) / 60
    runs = [len(row.measurement.samples) + row.measurement.n_warmups for row in rows]
    loads = [row.load for row in measured.rows if row.load is not None]
    print(f"{name}: {len(rows)} architectures in {minutes:.1f} min; {measured.header['workload']}")
    print(f"  machine: {dict(rows[-1].machine)}; load: {min(loads):.1f} to {max(loads):.1f}")
    print(f"  half width of the median: {np.median(widths):.2f}%, 90% below {np.quantile(widths, 0.9):.2f}%")
    print(f"  runs of each, with those that warm up: median {np.median(runs):.0f}, most {max(runs)}")
    drift = measured.drift
    print(f"  drift: {100 * drift.size:.1f}%, {drift.share:.2f} of the reference's variance")
    print(f"  reference: {reference_ms(measured):.2f} ms")


def reference_ms(measured: Measured) -> float:
    """The median latency of the reference."""
    return float(np.median([row.measurement.latency_ms for row in measured.rows if row.is_reference]))


def report(name: str, table: LatencyTable, test: LatencyTable) -> None:
    """Prints the errors of the shape that is chosen."""
    model = fit(table)
    predicted = model.predict(test.features)
    got = errors(predicted, test.latency_ms)
    within = np.abs(predicted - test.latency_ms) < 1.6449 * model.std(test.features)
    print(f"{name}: {got['mape_pct']:.2f}, {got['median_ape_pct']:.2f}, {within.mean():.2f}")


def raw(table: LatencyTable, measured: Measured) -> LatencyTable:
    """The table as it was measured."""
    rounds: dict[Architecture, list[tuple[float, float]]] = {}
    for row in measured.rows:
        if not row.is_reference:
            parts = (row.measurement.encoder_ms, row.measurement.decoder_ms)
            rounds.setdefault(row.architecture, []).append(parts)
    encoder, decoder = np.array([np.median(found, axis=0) for found in rounds.values()]).T
    return replace(table, encoder_ms=encoder, decoder_ms=decoder)


def per_layer(table: LatencyTable, measured: Measured) -> None:
    """Prints what terms gain that averaged features cannot express: products of sizes within a layer."""
    products = np.array([within_layers(a) for a in measured.architectures], np.float64)
    basis, is_encoder = physical_basis(*table.ranges)
    columns, predicted = basis.columns(table.features), np.empty(len(table))
    extended = np.column_stack([columns, products / products.mean(axis=0)])
    for inside, outside in folds(table):
        predicted[outside] = 0
        for side, measured_ms in ((is_encoder, table.encoder_ms), (~is_encoder, table.decoder_ms)):
            used = extended[:, np.append(side, np.ones(products.shape[1], bool))]
            coefficients = fit_rising(used[inside] / measured_ms[inside, None])
            predicted[outside] += used[outside] @ coefficients
    without = errors(cross_validated(table, "physical"), table.latency_ms)["mape_pct"]
    with_them = errors(predicted, table.latency_ms)["mape_pct"]
    print(
        f"MAPE % by cross-validation on TRAIN: {without:.2f}, with {products.shape[1]} terms that need every "
        f"layer {with_them:.2f}"
    )


def within_layers(a: Architecture) -> tuple[int, ...]:
    """Sums over layers of products of a layer's sizes."""
    return (
        a.encoder_dim * sum(a.encoder_ffn),
        a.decoder_dim * sum(a.decoder_ffn),
        a.encoder_dim * sum(a.cross_span),
        sum(span * heads for span, heads in zip(a.cross_span, a.cross_heads, strict=True)),
    )


def repeatability(measured: Measured, name: str) -> None:
    """Prints how far the first two rounds of a file lie apart."""
    rounds: dict[Architecture, list[float]] = {}
    for architecture, latency in corrected(measured):
        rounds.setdefault(architecture, []).append(latency)
    pairs = [found[:2] for found in rounds.values() if len(found) > 1]
    if pairs:
        print_ratios(np.array([two / one for one, two in pairs]), f"{name}, second round against first")


def compare(one: Measured, other: Measured, name: str) -> None:
    """Prints how far two measurements of the same architectures lie apart."""
    latencies = [dict(corrected(measured)) for measured in (one, other)]
    both = latencies[0].keys() & latencies[1].keys()
    if both:
        print_ratios(np.array([latencies[1][a] / latencies[0][a] for a in both]), name)


def corrected(measured: Measured) -> list[tuple[Architecture, float]]:
    """Every measurement in ms with the drift taken out."""
    drift = measured.drift
    rows = [row for row in measured.rows if not row.is_reference]
    return [(row.architecture, row.measurement.latency_ms / drift.factor(row.middle)) for row in rows]


def print_ratios(ratios: Floats, name: str) -> None:
    """Prints how far ratios of latencies are from equal."""
    # A factor that all share is another speed of the machine; a model can know nothing of it.
    alone = 100 * np.abs(ratios / np.median(ratios) - 1)
    print(
        f"{name}: {len(ratios)} architectures; median ratio {np.median(ratios):.4f}; apart from it they "
        f"differ by {alone.mean():.2f}% on average, median {np.median(alone):.2f}%"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
