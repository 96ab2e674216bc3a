"""All cells on a map: ours, which fits a sample and puts the rest in; against umap-learn's fit of all cells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import cell_map, vectors
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import Sections
from stplm import keys
from stplm.tasks.umap import SAMPLE, map_vectors

BAR_S = 180.0
MOST_REFERENCE_CELLS = SAMPLE
"""As many as ours fits on, so that trustworthiness is judged where neighbours are as near."""
LARGEST = 1_000_000
TRUST_LOST = 0.03
"""Trustworthiness that ours may lie below umap-learn's."""
_BEAT_S = 0.01


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row a size, and how long a thread beside it had to wait for its turn."""
    reference_cells = min(max(sizes), MOST_REFERENCE_CELLS)
    table, _ = vectors.embedded(sections, reference_cells)
    small = np.asarray(table.obsm[keys.X_STPLM])
    map_vectors(small[:2_000], sample=1_000)  # numba compiles
    by_umap_learn(small[:5_000])  # the same; under 4,096 cells it searches neighbours in another way
    theirs_s, theirs = seconds(lambda: by_umap_learn(small))
    trust = cell_map.trust(small, theirs)
    rows = []
    for cells in sizes:
        table, _ = vectors.embedded(sections, cells)
        points, groups = np.asarray(table.obsm[keys.X_STPLM]), table.obs[keys.CLUSTER].cat.codes.to_numpy()
        del table
        with memory() as used:
            took, (places, wait_s) = seconds(
                lambda points=points, groups=groups: _beside(lambda: map_vectors(points, groups))
            )
        ours_trust = cell_map.trust(points, places)
        row = Row(
            "map of all cells (UMAP)",
            cells,
            took,
            theirs_s * cells / reference_cells,
            "s",
            peak_mb=used.peak_mb,
            agrees=ours_trust >= trust - TRUST_LOST,
            reference_cells=reference_cells,
            note="umap-learn's fit_transform of the same vectors, standardised, with a seed as ours has one (so in one "
            "thread); extrapolated in proportion, which it takes at least. Agrees: trustworthiness of "
            f"{cell_map.JUDGED:,} cells at most {TRUST_LOST} below its.",
        )
        if cells == LARGEST:
            row.bar, row.met = f"≤ {BAR_S / 60:g} min", bool(took <= BAR_S and row.agrees)
        waits = "Longest time that a thread of the same process, waking every 10 ms, did not get its turn."
        rows += [row, Row("map of all cells: longest wait beside it", cells, 1000 * wait_s, None, "ms", note=waits)]
    return rows


def by_umap_learn(points: np.ndarray) -> np.ndarray:
    """umap-learn's own fit of all cells."""
    import umap

    scaled = (points - points.mean(axis=0)) / (points.std(axis=0) + 1e-6)
    return np.asarray(umap.UMAP(random_state=0, n_jobs=1).fit_transform(scaled))


def _beside(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the longest wait of a thread beside it."""
    done, longest = threading.Event(), 0.0

    def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done.wait(_BEAT_S):
            now = time.perf_counter()
            longest, last = max(longest, now - last - _BEAT_S), now

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        return work(), longest
    finally:
        done.set()
        thread.join()
