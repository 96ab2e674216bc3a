"""Neighbour graphs of a section: the 10 nearest cells, and all within 30 µm; against brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.reference import neighbours
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import SMALL, Sections
from stplm.spatial.graph import NeighbourGraph, neighbour_graph

K, RADIUS = 10, 30.0
BAR_S, BAR_TIMES = 2.0, 5_000
REFERENCE_CELLS = 10_000
LARGEST = 1_000_000


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Two rows a size. Brute force takes the square of the cells: it is extrapolated as that."""
    small = positions(sections, REFERENCE_CELLS)
    brute = {
        "k": seconds(lambda: neighbours.nearest(small, K)),
        "radius": seconds(lambda: neighbours.within(small, RADIUS)),
    }
    agree = {
        "k": same_nearest(neighbour_graph(small, k=K), *brute["k"][1]),
        "radius": same_within(neighbour_graph(small, radius=RADIUS), brute["radius"][1]),
    }
    rows = []
    for kind, name in (("k", f"neighbour graph, {K} nearest"), ("radius", f"neighbour graph, within {RADIUS:g} µm")):
        for cells in sizes:
            xy = positions(sections, cells)
            how = {"k": K} if kind == "k" else {"radius": RADIUS}
            with memory() as used:
                took, graph = seconds(lambda xy=xy, how=how: neighbour_graph(xy, **how), repeats=3)
            times = brute[kind][0] * (cells / REFERENCE_CELLS) ** 2
            row = Row(
                name,
                cells,
                took,
                times,
                "s",
                peak_mb=used.peak_mb,
                agrees=agree[kind],
                reference_cells=REFERENCE_CELLS,
                note="Least of 3 runs. Brute force grows with the square of the cells. Compared on "
                f"{REFERENCE_CELLS:,} cells: the same neighbours in the same order.",
            )
            if cells == LARGEST:
                row.bar = f"≤ {BAR_S:g} s, ≥ {BAR_TIMES:,} ×"
                row.met = bool(took <= BAR_S and (row.ratio or 0) >= BAR_TIMES and row.agrees)
            rows.append(row)
            del graph
    return rows


def positions(sections: Sections, cells: int) -> np.ndarray:
    """(n, 2) centroids in µm."""
    frame = pd.read_parquet(sections.bundle(cells, SMALL) / "cells.parquet", columns=["x_centroid", "y_centroid"])
    return frame.to_numpy(dtype=np.float64)


def same_nearest(graph: NeighbourGraph, found: np.ndarray, far: np.ndarray) -> bool:
    """Whether a graph has these neighbours (n, k) at these distances."""
    if not np.array_equal(graph.degrees, np.full(len(found), found.shape[1])):
        return False
    return bool((graph.indices == found.ravel()).all() and np.allclose(graph.distances, far.ravel(), atol=1e-4))


def same_within(graph: NeighbourGraph, rows: list[np.ndarray]) -> bool:
    """Whether a graph has these neighbours, in this order."""
    return all(np.array_equal(graph.neighbours(i), row) for i, row in enumerate(rows))
