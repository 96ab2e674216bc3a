"""Label images for sections that come without one: cells painted from their outlines or their centroids.

Pixel ``[row, column]`` covers ``[column, column + 1) × [row, row + 1)`` pixel sizes from the origin, as in SpatialData.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stplm.compiled import compiled
from stplm.errors import SectionError

MAX_RADIUS_UM = 8.0
"""Cells drawn from centroids are never larger: a lymphocyte is about 4 µm, a tumour cell about 8 µm in radius."""
_LONE_RADIUS_UM = 5.0


def rasterise_cells(
    xy: ArrayLike | None = None,
    radius_um: float | None = None,
    polygons: Any = None,
    *,
    pixel_size: float = 1.0,
    shape: tuple[int, int] | None = None,
    origin: tuple[float, float] = (0.0, 0.0),
    values: ArrayLike | None = None,
) -> NDArray[np.uint32]:
    """Paint cells into a label image, from outlines where given, else as discs around their centroids.

    A disc ends where another centroid is nearer (a Voronoi cell clipped to a circle), so cells never overlap. A pixel
    belongs to a polygon when its centre lies in it (even-odd rule, holes stay empty); where polygons overlap, the
    first one keeps the pixel; a polygon too small to hold a pixel centre gets the pixel of its own centre if that is
    free. The result depends on the input only.

    Parameters
    ----------
    xy
        (n, 2) x and y of the centroids in µm; rows that are not finite are left out. Not needed with ``polygons``.
    radius_um
        Radius of the discs in µm; by default :func:`default_radius`.
    polygons
        n shapely Polygons or MultiPolygons in µm (a list, array or GeoSeries); None and empty ones are left out.
    pixel_size
        µm a pixel.
    shape
        (rows, columns) of the image; by default what holds all cells. What lies outside is cut off.
    origin
        x and y in µm of the image's upper left corner.
    values
        n label values, at least 1; by default 1..n in the order given.

    Returns
    -------
    (rows, columns) uint32, 0 for background.

    Raises
    ------
    SectionError
        Neither centroids nor polygons, or values that do not fit.
    """
    if polygons is not None:
        return _paint_polygons(np.asarray(polygons, dtype=object), pixel_size, shape, origin, values)
    if xy is None:
        raise SectionError("Cells can be drawn from outlines or centroids only.", expected="xy or polygons")
    points = np.ascontiguousarray(xy, dtype=np.float64).reshape(-1, 2)
    names = _label_values(values, len(points))
    radius = default_radius(points) if radius_um is None else float(radius_um)
    scaled = (points - np.asarray(origin, dtype=np.float64)) / pixel_size
    reach = radius / pixel_size
    image = np.zeros(shape or _shape_of(scaled + reach), dtype=np.uint32)
    _fill_discs(image, scaled, reach)
    _rename(image, names)
    return image


def default_radius(xy: ArrayLike) -> float:
    """Three quarters of the median distance to the nearest neighbour, at most 8 µm; ``xy`` is (n, 2) in µm."""
    from scipy.spatial import cKDTree

    points = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    points = np.unique(points[np.isfinite(points).all(axis=1)], axis=0)
    if len(points) < 2:
        return _LONE_RADIUS_UM
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    return float(min(MAX_RADIUS_UM, 0.75 * np.median(nearest)))


def label_pyramid(labels: Any, min_size: int = 512) -> list[Any]:
    """Coarser and coarser views of a label image, by taking every second pixel: values are never averaged.

    Parameters
    ----------
    labels
        (rows, columns) array: numpy, or anything that slices lazily (dask).
    min_size
        Stop once the longer side is at most this many pixels.

    Returns
    -------
    ``[labels, labels[::2, ::2], labels[::4, ::4], ...]``; views, not copies.
    """
    levels = [labels]
    while max(levels[-1].shape) > max(1, min_size):
        step = 2 ** len(levels)
        levels.append(labels[::step, ::step])
    return levels


def _label_values(values: ArrayLike | None, n: int) -> NDArray[np.uint32]:
    if values is None:
        return np.arange(1, n + 1, dtype=np.uint32)
    given = np.asarray(values)
    if given.shape != (n,):
        raise SectionError("There must be one label value a cell.", found=str(given.shape), expected=f"({n},)")
    if n and (given.min() < 1 or given.max() > np.iinfo(np.uint32).max):
        raise SectionError("Label values must be at least 1.", found=f"{given.min()} to {given.max()}")
    return given.astype(np.uint32)


def _shape_of(points: NDArray[np.float64]) -> tuple[int, int]:
    inside = points[np.isfinite(points).all(axis=1)]
    if not len(inside):
        return 1, 1
    columns, rows = np.maximum(1, np.ceil(inside.max(axis=0))).astype(int)
    return int(rows), int(columns)


def _paint_polygons(
    polygons: NDArray[np.object_],
    pixel_size: float,
    shape: tuple[int, int] | None,
    origin: tuple[float, float],
    values: ArrayLike | None,
) -> NDArray[np.uint32]:
    import shapely

    names = _label_values(values, len(polygons))
    parts, part_cell = shapely.get_parts(polygons, return_index=True)
    rings, ring_part = shapely.get_rings(parts, return_index=True)
    coords, coord_ring = shapely.get_coordinates(rings, return_index=True)
    scaled = (coords - np.asarray(origin, dtype=np.float64)) / pixel_size
    offsets = np.searchsorted(coord_ring, np.arange(len(rings) + 1))
    cells = part_cell[ring_part]
    first_ring = np.searchsorted(cells, np.arange(len(polygons) + 1))
    image = np.zeros(shape or _shape_of(scaled), dtype=np.uint32)
    _fill_polygons(image, scaled, offsets.astype(np.int64), first_ring.astype(np.int64), names)
    return image


@compiled(nogil=True)
def _fill_discs(image: NDArray[np.uint32], centres: NDArray[np.float64], reach: float) -> None:
    """Number of the nearest centre within reach, from 1, for every pixel; the earlier one where two are level."""
    rows, columns = image.shape
    for i in range(len(centres)):
        x, y = centres[i, 0], centres[i, 1]
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        for row in range(max(0, int(np.floor(y - reach))), min(rows, int(np.ceil(y + reach)) + 1)):
            for column in range(max(0, int(np.floor(x - reach))), min(columns, int(np.ceil(x + reach)) + 1)):
                px, py = column + 0.5, row + 0.5
                distance = (px - x) ** 2 + (py - y) ** 2
                # The pixel that holds the centre belongs to the cell however small the disc is.
                home = int(np.floor(x)) == column and int(np.floor(y)) == row
                if distance > reach * reach and not home:
                    continue
                owner = image[row, column]
                if owner:
                    ox, oy = centres[owner - 1, 0], centres[owner - 1, 1]
                    if (px - ox) ** 2 + (py - oy) ** 2 <= distance:
                        continue
                image[row, column] = i + 1


@compiled(nogil=True)
def _rename(image: NDArray[np.uint32], values: NDArray[np.uint32]) -> None:
    flat = image.reshape(-1)
    for i in range(len(flat)):
        if flat[i]:
            flat[i] = values[flat[i] - 1]


@compiled()
def _fill_polygons(
    image: NDArray[np.uint32],
    coords: NDArray[np.float64],
    offsets: NDArray[np.int64],
    first_ring: NDArray[np.int64],
    values: NDArray[np.uint32],
) -> None:
    """Scan conversion: for each row of pixel centres, sort the crossings and fill between pairs."""
    rows, columns = image.shape
    crossings = np.empty(64, dtype=np.float64)
    for cell in range(len(first_ring) - 1):
        start, stop = offsets[first_ring[cell]], offsets[first_ring[cell + 1]]
        if stop - start < 3:
            continue
        low_y, high_y, low_x, high_x = np.inf, -np.inf, np.inf, -np.inf
        for i in range(start, stop):
            low_x, high_x = min(low_x, coords[i, 0]), max(high_x, coords[i, 0])
            low_y, high_y = min(low_y, coords[i, 1]), max(high_y, coords[i, 1])
        if not (np.isfinite(low_x + high_x) and np.isfinite(low_y + high_y)):
            continue
        if stop - start > len(crossings):
            crossings = np.empty(2 * (stop - start), dtype=np.float64)
        painted = False
        for row in range(max(0, int(np.floor(low_y - 0.5))), min(rows, int(np.ceil(high_y + 0.5)))):
            y = row + 0.5
            n = 0
            for ring in range(first_ring[cell], first_ring[cell + 1]):
                for i in range(offsets[ring], offsets[ring + 1] - 1):
                    y0, y1 = coords[i, 1], coords[i + 1, 1]
                    if (y0 <= y) != (y1 <= y):
                        crossings[n] = coords[i, 0] + (y - y0) / (y1 - y0) * (coords[i + 1, 0] - coords[i, 0])
                        n += 1
            for i in range(1, n):  # insertion sort: there are two crossings nearly always
                at, j = crossings[i], i - 1
                while j >= 0 and crossings[j] > at:
                    crossings[j + 1] = crossings[j]
                    j -= 1
                crossings[j + 1] = at
            for i in range(0, n - 1, 2):
                left = max(0, int(np.ceil(crossings[i] - 0.5)))
                right = min(columns, int(np.ceil(crossings[i + 1] - 0.5)))
                for column in range(left, right):
                    if image[row, column] == 0:
                        image[row, column] = values[cell]
                    painted = True
        if not painted:
            row, column = int(np.floor((low_y + high_y) / 2)), int(np.floor((low_x + high_x) / 2))
            if 0 <= row < rows and 0 <= column < columns and image[row, column] == 0:
                image[row, column] = values[cell]
