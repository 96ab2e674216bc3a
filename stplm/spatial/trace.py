"""Cell outlines from a label image: the pixel edges around every label, followed once each.

Painting the outlines back (:func:`stplm.spatial.raster.rasterise_cells`) gives the same label image.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stplm.compiled import compiled


def trace_labels(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Outline every label of an image along its pixel edges.

    Parameters
    ----------
    labels
        (rows, columns) whole numbers, 0 for background.

    Returns
    -------
    values
        (n,) the labels that occur, ascending.
    polygons
        (n,) shapely Polygons in pixels (x to the right, y down, a pixel is 1 × 1 from its upper left corner);
        a MultiPolygon where a label lies in several pieces; holes are kept.
    """
    import shapely

    image = np.ascontiguousarray(labels)
    coords, offsets, ring_value = _follow_edges(image)
    if not len(ring_value):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=object)
    lines = shapely.linestrings(coords, indices=np.repeat(np.arange(len(ring_value)), np.diff(offsets)))
    order = np.argsort(ring_value, kind="stable")
    values, first, counts = np.unique(ring_value[order], return_index=True, return_counts=True)
    polygons = np.empty(len(values), dtype=object)
    single = counts == 1
    polygons[single] = shapely.polygons(
        shapely.linearrings(
            shapely.get_coordinates(lines[order[first[single]]]),
            indices=np.repeat(np.arange(single.sum()), np.diff(offsets)[order[first[single]]]),
        )
    )
    for i in np.flatnonzero(~single):
        # Even-odd over all rings of the label: pieces add up, holes stay holes.
        rings = shapely.polygons(
            [
                shapely.linearrings(shapely.get_coordinates(line))
                for line in lines[order[first[i] : first[i] + counts[i]]]
            ]
        )
        polygons[i] = functools.reduce(shapely.symmetric_difference, rings)
    return values, polygons


@compiled()
def _at(image: NDArray[Any], row: int, column: int) -> int:
    if row < 0 or column < 0 or row >= image.shape[0] or column >= image.shape[1]:
        return 0
    value: int = image[row, column]
    return value


@compiled()
def _follow_edges(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Closed rings with the label on the right of the way, corners only. A ring begins on a top edge."""
    rows, columns = image.shape
    seen = np.zeros((rows, columns), dtype=np.bool_)  # top edges already walked along
    step_x, step_y = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])
    xs, ys = [0.0 for _ in range(0)], [0.0 for _ in range(0)]
    offsets, values = [0], [0 for _ in range(0)]
    for row in range(rows):
        for column in range(columns):
            value = image[row, column]
            if value == 0 or seen[row, column] or _at(image, row - 1, column) == value:
                continue
            x, y, heading = column, row, 0
            begun = len(xs)
            xs.append(x)
            ys.append(y)
            while True:
                if heading == 0:
                    seen[y, x] = True
                x, y = x + step_x[heading], y + step_y[heading]
                # The two pixels ahead of the corner, to the left and the right of the way.
                if heading == 0:
                    left, right = _at(image, y - 1, x), _at(image, y, x)
                elif heading == 1:
                    left, right = _at(image, y, x), _at(image, y, x - 1)
                elif heading == 2:
                    left, right = _at(image, y, x - 1), _at(image, y - 1, x - 1)
                else:
                    left, right = _at(image, y - 1, x - 1), _at(image, y - 1, x)
                turned = heading
                if right != value:
                    turned = (heading + 1) % 4  # pixels that touch at a corner only are not joined
                elif left == value:
                    turned = (heading + 3) % 4
                closed = x == column and y == row and turned == 0
                if turned != heading:
                    xs.append(x)
                    ys.append(y)
                heading = turned
                if closed:
                    break
            if xs[-1] != xs[begun] or ys[-1] != ys[begun]:
                xs.append(xs[begun])
                ys.append(ys[begun])
            offsets.append(len(xs))
            values.append(value)
    coords = np.empty((len(xs), 2), dtype=np.float64)
    for i in range(len(xs)):
        coords[i, 0], coords[i, 1] = xs[i], ys[i]
    return coords, np.array(offsets, dtype=np.int64), np.array(values, dtype=np.int64)
