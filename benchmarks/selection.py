"""Time to pick cells in a drawn shape and to label them, against matplotlib.path on all centroids.

No window is needed:

    python benchmarks/selection.py --cells 1000000 --picked 100000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_CORNERS = 800
_CELL_UM = 10.0


def main() -> None:
    """Print one line a measurement."""
    from matplotlib.path import Path as Outline

    from stplm.io.cell_ids import encode_cell_ids
    from stplm_napari.annotations import Annotations
    from stplm_napari.changes import CellClass
    from stplm_napari.journal import Journal
    from stplm_napari.selection import CellGrid, in_brush, in_polygon

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--picked", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    side = _CELL_UM * np.sqrt(args.cells)
    xy = rng.random((args.cells, 2)) * side
    outline = lasso(side, args.picked / args.cells)
    in_brush(xy[:9], outline[:2], 1.0), in_polygon(xy[:9], outline)  # numba compiles at the first call
    print(f"{args.cells:,} cells, a lasso of {_CORNERS} corners, median of {args.repeats}")
    built = measure("grid, once a section", lambda: CellGrid(xy), args.repeats)
    grid = CellGrid(xy)
    rows = in_polygon(grid, outline)
    ours = measure(f"lasso of {len(rows):,} cells", lambda: in_polygon(grid, outline), args.repeats)
    brushed = in_brush(grid, outline, 50.0)
    measure(f"brush over {len(brushed):,} cells", lambda: in_brush(grid, outline, 50.0), args.repeats)
    theirs = measure("matplotlib.path, all cells", lambda: Outline(outline).contains_points(xy), 1)
    assert np.array_equal(rows, np.flatnonzero(Outline(outline).contains_points(xy)))
    print(f"  same cells; {theirs / ours:,.0f} times faster, {theirs / (ours + built):,.0f} times with the grid")

    ids = pd.Index(np.asarray(encode_cell_ids(rng.permutation(args.cells) + 1), object))
    ids.get_indexer(ids[:1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.jsonl"
        classes = [CellClass("A", "#D55E00"), CellClass("B", "#009E73")]
        annotations = Annotations(ids, Journal(path), classes)
        names = iter(["A", "B"] * args.repeats)

        def label() -> None:
            annotations.set_labels(annotations.labels.cells_at(rows), next(names))

        measure(f"label {len(rows):,} cells, on disk", label, args.repeats)
        measure("undo and redo", lambda: (annotations.undo(), annotations.redo()), args.repeats)
        size = max(map(len, path.read_bytes().splitlines()))
        print(f"  {size / 1000:,.0f} kB a journal line, {size / len(rows):.1f} bytes a cell")
        once = Annotations(ids, Journal(path), classes)
        assert len(once.labels) == len(rows)
        measure("restore all of it", lambda: Annotations(ids, Journal(path), classes), 1)


def lasso(side: float, share: float) -> np.ndarray:
    """(800, 2) corners of a wavy outline in the middle of a square, around that share of its area."""
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radius = side * np.sqrt(share / np.pi) * (1 + 0.15 * np.sin(9 * angle))
    return side / 2 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def measure(name: str, call: Callable[[], Any], repeats: int) -> float:
    """Median time of a call in ms, printed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    print(f"  {name:32s} {statistics.median(times):9.1f} ms")
    return statistics.median(times)


if __name__ == "__main__":
    main()
