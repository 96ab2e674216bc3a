"""Regions as rings under the even-odd rule: which rings are holes of which, and a region as one line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]


def parts(rings: Sequence[Ring]) -> list[list[Ring]]:
    """Rings as polygons: an outer ring and its holes each, in the order of the outer rings. Corners stay as they are.

    A ring inside an even number of others is an outer one, a ring inside an odd number a hole of the smallest around
    it. Rings that cross each other count as apart.
    """
    import shapely

    if len(rings) == 1:
        return [[rings[0]]]
    polygons = [shapely.Polygon(ring) for ring in rings]
    whole = [shapely.make_valid(polygon) for polygon in polygons]
    inside = [
        [j for j in range(len(rings)) if j != i and shapely.contains(whole[j], whole[i]) and not _same(whole, i, j)]
        for i in range(len(rings))
    ]
    made = {i: [rings[i]] for i in range(len(rings)) if len(inside[i]) % 2 == 0}
    for i in range(len(rings)):
        if i not in made:
            around = [j for j in inside[i] if j in made]
            made[min(around, key=lambda j: whole[j].area)].append(rings[i])
    return list(made.values())


def area(rings: Sequence[Ring]) -> float:
    """What rings cover by the even-odd rule, in their unit squared."""
    import shapely

    covered = shapely.Polygon()
    for ring in rings:
        covered = covered.symmetric_difference(shapely.make_valid(shapely.Polygon(ring)))
    return float(covered.area)


def keyhole(polygon: Sequence[Ring]) -> Ring:
    """An outer ring and its holes as one ring, for formats without holes: there and back along a cut of no width.

    Holes run the other way round, so that it is the same to whoever counts turns instead of crossings.
    """
    ring = np.asarray(polygon[0], np.float64)
    turn = _turn(ring)
    for hole in polygon[1:]:
        hole = hole[::-1] if _turn(hole) == turn else hole
        apart = ((ring[:, None] - hole[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        around = np.concatenate([hole[j:], hole[: j + 1]])
        ring = np.concatenate([ring[: i + 1], around, ring[i:]])
    return ring


def _turn(ring: Ring) -> bool:
    """Which way round it runs."""
    x, y = ring.T
    return bool((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0)


def _same(whole: Sequence[object], i: int, j: int) -> bool:
    """Two rings on the same line: the earlier one is the outer."""
    import shapely

    return bool(shapely.equals(whole[i], whole[j])) and i < j
