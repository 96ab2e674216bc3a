"""Calling every cell with a few-shot head, calibrated; against logistic regression on log counts by scikit-learn."""

from __future__ import annotations

import numpy as np

import stplm
from benchmarks import vectors
from benchmarks.reference import annotation as reference
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import Sections
from stplm import keys
from stplm.tasks.features import cell_features

BAR_S = 1.0
SHOTS = 10
REFERENCE_CELLS = 100_000
LARGEST = 1_000_000


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Three rows a size: prediction from kept features, the unknown score on top of it, and making the features."""
    rows = []
    for cells in sizes:
        table, truth = vectors.embedded(sections, cells)
        labels = drawn(truth)
        with memory() as making:
            making_s, features = seconds(lambda table=table: cell_features(table))
        head = stplm.fit_classifier(table, labels, features=features)
        call = {"classifier": head, "features": features}
        stplm.predict(table, **call)  # what is compiled once
        with memory() as used:
            took, _ = seconds(lambda table=table, call=call: stplm.predict(table, unknown=False, **call), repeats=3)
        right = float((table.obs[keys.CLASS].astype(str).to_numpy() == truth).mean())
        with_unknown, _ = seconds(lambda table=table, call=call: stplm.predict(table, **call), repeats=2)
        few = np.arange(min(cells, REFERENCE_CELLS))
        labelled = np.flatnonzero(labels != None)  # noqa: E711
        model = reference.fit(table.X[labelled], truth[labelled])
        counts = table.X[few]
        theirs_s, (called, _) = seconds(lambda model=model, counts=counts: reference.predict(model, counts))
        theirs_right = float((called == truth[few]).mean())
        row = Row(
            "calling every cell, calibrated",
            cells,
            took,
            theirs_s * cells / len(few),
            "s",
            peak_mb=used.peak_mb,
            agrees=right >= theirs_right - 0.005,
            reference_cells=len(few),
            note=f"Least of 3 runs; {SHOTS} labels a class; features kept from the embedding, as in the window. "
            "The reference is predict_proba of logistic regression on log counts. Agrees: called right at least as "
            f"often as the reference is, less half a hundredth (ours {right:.3f}, reference {theirs_right:.3f}).",
        )
        if cells == LARGEST:
            row.bar, row.met = f"≤ {BAR_S:g} s", took <= BAR_S
        more = "Beyond the row above, which leaves it out; the window adds it after the classes are shown."
        rows += [
            row,
            Row("calling every cell: the unknown score", cells, max(with_unknown - took, 1e-6), None, "s", note=more),
            Row("calling every cell: making the features, once", cells, making_s, None, "s", peak_mb=making.peak_mb),
        ]
    return rows


def drawn(truth: np.ndarray) -> np.ndarray:
    """The class of some cells of each class, None elsewhere."""
    labels, random = np.full(len(truth), None, dtype=object), np.random.default_rng(1)
    for name in np.unique(truth):
        there = np.flatnonzero(truth == name)
        labels[random.choice(there, min(SHOTS, len(there)), replace=False)] = name
    return labels
