"""Named tissue regions: drawn outlines with a class and a note. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import LabelError
from stplm.io.rings import area

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from stplm_napari.picking import CellPicker

Ring = tuple[tuple[float, float], ...]
_DECIMALS = 3
"""Corners are kept to a nanometre: a tenth of what exchange formats are held to."""


@dataclass(frozen=True)
class Region:
    """A part of the tissue.

    ``rings`` are closed outlines of (x, y) in µm under the even-odd rule, so that holes and several parts are rings
    too. ``class_name`` is "" for a region that has none; ``by`` and ``at`` (UTC, ISO 8601) tell who drew it when.
    """

    name: str
    rings: tuple[Ring, ...]
    class_name: str = ""
    note: str = ""
    by: str = ""
    at: str = ""

    def arrays(self) -> list[NDArray[np.float64]]:
        """Its rings as (n_points, 2) x, y in µm."""
        return [np.array(ring, np.float64) for ring in self.rings]

    def cells(self, picker: CellPicker) -> NDArray[np.int64]:
        """Rows of the cells whose centroid is in it, ascending."""
        from stplm_napari.selection import in_polygon

        return np.zeros(0, np.int64) if picker.grid is None else in_polygon(picker.grid, self.arrays())

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Lowest x, lowest y, highest x, highest y in µm."""
        points = np.concatenate(self.arrays())
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return x0, y0, x1, y1

    @property
    def area_um2(self) -> float:
        """What it covers, µm², by the even-odd rule."""
        return area(self.arrays())

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "rings": [[list(point) for point in ring] for ring in self.rings]}


def rings_from(outline: Sequence[Any]) -> tuple[Ring, ...]:
    """Rings of (x, y) in µm from one outline or several, as lists or arrays. Raises LabelError."""
    try:
        rings = [np.round(ring, _DECIMALS) for ring in rings_of(outline)]
    except (ValueError, TypeError) as error:
        raise LabelError("A region needs an outline of at least three corners.", found=str(error)) from error
    if not all(np.isfinite(ring).all() for ring in rings):
        raise LabelError("A region's corners must be finite numbers.")
    return tuple(tuple((float(x), float(y)) for x, y in ring) for ring in rings)


def rings_of(polygon: ArrayLike | Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    """A polygon as a list of (n_points, 2) rings. Raises ValueError."""
    try:
        one = np.asarray(polygon, np.float64)
        rings = [one] if one.ndim == 2 else list(one)
    except ValueError:  # rings of different lengths
        rings = [np.asarray(ring, np.float64) for ring in polygon]  # type: ignore[union-attr]
    for ring in rings:
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
            raise ValueError(f"a polygon has at least three (x, y) points, not shape {ring.shape}")
    return rings


def free_name(taken: Iterable[str], base: str) -> str:
    """``"DCIS 1"``, or the next number that no region has."""
    names = set(taken)
    return next(name for i in range(1, len(names) + 2) if (name := f"{base} {i}") not in names)
