"""Cells inside a drawn shape: a lasso, a polygon, the stroke of a brush. Vectorised, on centroids in µm. No Qt.

A grid over the centroids is built once a section; a shape then costs what lies in its bounding box. Polygons follow the
even-odd rule over all their rings, so a hole is a ring like any other, and a self-crossing lasso is allowed.

What is found is what lies there. Cells that the user has hidden (a class whose eye is closed) are left out by whoever
acts on the result, see :meth:`stplm_napari.session.Session.shown`: a shape never changes what cannot be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stplm.compiled import compiled
from stplm_napari.regions import rings_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_PER_BIN = 8
"""Cells that a square of the grid holds on average."""
_MOST_SLABS = 1024


class CellGrid:
    """Centroids sorted into squares.

    Parameters
    ----------
    xy_um
        (n_cells, 2) x, y in µm; cells with a position that is not finite are never found.
    """

    def __init__(self, xy_um: NDArray[np.floating]) -> None:
        xy = np.asarray(xy_um, np.float64).reshape(-1, 2)
        rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
        placed = xy[rows]
        self.low = placed.min(axis=0) if len(rows) else np.zeros(2)
        extent = placed.max(axis=0) - self.low if len(rows) else np.zeros(2)
        area = float(np.maximum(extent, 1e-6).prod())
        self.side = max(float(np.sqrt(area * _PER_BIN / max(len(rows), 1))), float(extent.max()) / 30_000, 1e-3)
        self.width, self.height = (int(n) + 1 for n in extent // self.side)
        self.order, self.offsets = _sorted_into_bins(placed, self.low, self.side, self.width, self.height)
        self.xy = placed[self.order]
        self.rows = rows[self.order]
        self.n_cells = len(xy)


def in_polygon(cells: CellGrid | NDArray[np.floating], polygon: ArrayLike | Sequence[ArrayLike]) -> NDArray[np.int64]:
    """Rows of the cells whose centroid is inside a polygon.

    Parameters
    ----------
    cells
        The grid of a section, or (n_cells, 2) x, y in µm.
    polygon
        (n_points, 2) x, y in µm, or several such rings; each has at least three points and closes itself. Even-odd:
        what two rings (or two loops of one) enclose is outside.

    Returns
    -------
    Row numbers, ascending. Cells hidden on the tissue are found too, see the module.

    Raises
    ------
    ValueError
        A ring with fewer than three points or of another shape.
    """
    grid = cells if isinstance(cells, CellGrid) else CellGrid(cells)
    edges = np.concatenate([_edges(ring) for ring in rings_of(polygon)])
    return np.sort(grid.rows[_inside(edges, grid.xy, grid.offsets, grid.low, grid.side, grid.width, grid.height)])


def in_brush(cells: CellGrid | NDArray[np.floating], path: ArrayLike, radius_um: float) -> NDArray[np.int64]:
    """Rows of the cells whose centroid is within ``radius_um`` µm of a stroke.

    Parameters
    ----------
    cells
        The grid of a section, or (n_cells, 2) x, y in µm.
    path
        (n_points, 2) x, y in µm, joined by straight lines; one point is a dab.
    radius_um
        Of the brush, µm.

    Returns
    -------
    Row numbers, ascending. Cells hidden on the tissue are found too, see the module.
    """
    grid = cells if isinstance(cells, CellGrid) else CellGrid(cells)
    points = np.asarray(path, np.float64).reshape(-1, 2)
    hit = _near(points, float(radius_um), grid.xy, grid.offsets, grid.low, grid.side, grid.width, grid.height)
    return np.sort(grid.rows[hit])


def warm_up() -> None:
    """Compile what the first lasso and stroke need: some seconds, once an installation; meant for a thread."""
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    in_polygon(square, square)
    in_brush(square, square[:2], 1.0)


def _edges(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4): x, y of both ends."""
    return np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1)


@compiled(nogil=True)
def _sorted_into_bins(xy, low, side, width, height):  # type: ignore[no-untyped-def]
    """Positions sorted by the square they lie in, and where each square begins."""
    offsets = np.zeros(width * height + 1, np.int64)
    bins = np.empty(len(xy), np.int64)
    for i in range(len(xy)):
        column = min(int((xy[i, 0] - low[0]) / side), width - 1)
        row = min(int((xy[i, 1] - low[1]) / side), height - 1)
        bins[i] = row * width + column
        offsets[bins[i] + 1] += 1
    for b in range(width * height):
        offsets[b + 1] += offsets[b]
    free = offsets[:-1].copy()
    order = np.empty(len(xy), np.int64)
    for i in range(len(xy)):
        order[free[bins[i]]] = i
        free[bins[i]] += 1
    return order, offsets


@compiled(nogil=True)
def _inside(edges, xy, offsets, low, side, width, height):  # type: ignore[no-untyped-def]
    """Places in the grid's order that are inside, by the even-odd rule; each looks only at the edges at its height."""
    x0, x1 = edges[:, 0].min(), edges[:, 0].max()
    y0, y1 = edges[:, 1].min(), edges[:, 1].max()
    n_slabs = min(max(len(edges), 1), _MOST_SLABS)
    slab = max((y1 - y0) / n_slabs, 1e-12)
    starts = np.zeros(n_slabs + 1, np.int64)
    for e in range(len(edges)):
        bottom, top = _slabs_of(edges[e, 1], edges[e, 3], y0, slab, n_slabs)
        for s in range(bottom, top + 1):
            starts[s + 1] += 1
    for s in range(n_slabs):
        starts[s + 1] += starts[s]
    free = starts[:-1].copy()
    listed = np.empty(starts[-1], np.int64)
    for e in range(len(edges)):
        bottom, top = _slabs_of(edges[e, 1], edges[e, 3], y0, slab, n_slabs)
        for s in range(bottom, top + 1):
            listed[free[s]] = e
            free[s] += 1

    first, last = int((x0 - low[0]) // side), int((x1 - low[0]) // side)
    lowest, highest = int((y0 - low[1]) // side), int((y1 - low[1]) // side)
    first, last = max(first, 0), min(last, width - 1)
    lowest, highest = max(lowest, 0), min(highest, height - 1)
    if first > last or lowest > highest:
        return np.empty(0, np.int64)
    most = 0
    for row in range(lowest, highest + 1):
        most += offsets[row * width + last + 1] - offsets[row * width + first]
    found = np.empty(most, np.int64)
    n = 0
    for row in range(lowest, highest + 1):
        for i in range(offsets[row * width + first], offsets[row * width + last + 1]):
            x, y = xy[i, 0], xy[i, 1]
            if x < x0 or x > x1 or y < y0 or y > y1:
                continue
            s = min(int((y - y0) / slab), n_slabs - 1)
            odd = False
            for k in range(starts[s], starts[s + 1]):
                e = listed[k]
                ya, yb = edges[e, 1], edges[e, 3]
                if (ya > y) != (yb > y) and x < (edges[e, 2] - edges[e, 0]) * (y - ya) / (yb - ya) + edges[e, 0]:
                    odd = not odd
            if odd:
                found[n] = i
                n += 1
    return found[:n]


@compiled(nogil=True)
def _slabs_of(ya, yb, y0, slab, n_slabs):  # type: ignore[no-untyped-def]
    bottom, top = int((min(ya, yb) - y0) / slab), int((max(ya, yb) - y0) / slab)
    return min(bottom, n_slabs - 1), min(top, n_slabs - 1)


@compiled(nogil=True)
def _near(path, radius, xy, offsets, low, side, width, height):  # type: ignore[no-untyped-def]
    """Whether each place in the grid's order is within the radius of the path."""
    hit = np.zeros(len(xy), np.bool_)
    for k in range(max(len(path) - 1, min(len(path), 1))):
        ax, ay = path[k, 0], path[k, 1]
        after = min(k + 1, len(path) - 1)
        dx, dy = path[after, 0] - ax, path[after, 1] - ay
        length = dx * dx + dy * dy
        first = max(int((min(ax, ax + dx) - radius - low[0]) // side), 0)
        last = min(int((max(ax, ax + dx) + radius - low[0]) // side), width - 1)
        lowest = max(int((min(ay, ay + dy) - radius - low[1]) // side), 0)
        highest = min(int((max(ay, ay + dy) + radius - low[1]) // side), height - 1)
        if first > last:
            continue
        for row in range(lowest, highest + 1):
            for i in range(offsets[row * width + first], offsets[row * width + last + 1]):
                x, y = xy[i, 0] - ax, xy[i, 1] - ay
                t = 0.0 if length == 0.0 else min(max((x * dx + y * dy) / length, 0.0), 1.0)
                if (x - t * dx) ** 2 + (y - t * dy) ** 2 <= radius * radius:
                    hit[i] = True
    return hit
