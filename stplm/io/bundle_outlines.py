"""Outlines of labelled objects, as a Xenium bundle holds them: closed rings in µm with few vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_VERTICES = 25
"""Vertices of a ring, the repeated last one included; about what Xenium Onboard Analysis writes."""
_TOLERANCES = (0.75, 1.0, 1.4, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Douglas-Peucker tolerances in pixels, tried in turn until a ring is short enough."""


@dataclass(frozen=True)
class Outlines:
    """Closed rings in flat arrays.

    Attributes
    ----------
    labels
        (p,) int64, the object's value in the label image, ascending.
    offsets
        (p + 1,) int64, ring ``i`` is ``xy[offsets[i]:offsets[i + 1]]``.
    xy
        (vertices, 2) float32, µm, x then y; the first vertex is repeated at the end of its ring.
    """

    labels: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float32]

    @classmethod
    def from_regular(cls, rings: npt.NDArray[np.floating]) -> Outlines:
        """Open rings of equally many vertices, (p, k, 2) in µm; ring ``i`` belongs to label ``i + 1``."""
        count, k = rings.shape[:2]
        closed = np.concatenate([rings, rings[:, :1]], axis=1).astype(np.float32)
        return cls(np.arange(1, count + 1), np.arange(count + 1, dtype=np.int64) * (k + 1), closed.reshape(-1, 2))


def trace_outlines(
    labels: npt.NDArray[np.unsignedinteger], pixel_size: float, max_vertices: int = MAX_VERTICES
) -> Outlines:
    """Trace each object of a label image (y, x); 0 is background.

    Pixel edges (:func:`stplm.spatial.trace.trace_labels`), then Douglas-Peucker (shapely) with the smallest tolerance
    that leaves at most ``max_vertices``. Of an object in several parts the largest is taken, holes are filled.
    Pixel (row, column) covers the µm square from ``(column, row) * pixel_size``.
    """
    import shapely

    from stplm.spatial.trace import trace_labels

    values, polygons = trace_labels(labels)
    parts, owner = shapely.get_parts(polygons, return_index=True)
    # The largest part of each object: sorted by object, then by falling area, the first of each.
    order = np.lexsort((-shapely.area(parts), owner))
    largest = parts[order[np.searchsorted(owner[order], np.arange(len(values)))]]
    full = shapely.polygons(shapely.get_exterior_ring(largest))
    simple = full.copy()
    left = np.arange(len(full))
    for tolerance in _TOLERANCES:
        simple[left] = shapely.simplify(full[left], tolerance)
        left = left[shapely.get_num_coordinates(simple[left]) > max_vertices]
    simple[left] = shapely.minimum_rotated_rectangle(full[left])
    xy, index = shapely.get_coordinates(simple, return_index=True)
    offsets = np.searchsorted(index, np.arange(len(simple) + 1)).astype(np.int64)
    return Outlines(values, offsets, (xy * pixel_size).astype(np.float32))
