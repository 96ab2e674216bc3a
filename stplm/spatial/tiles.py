"""Fixed square tiles with a halo: what a cell sees of the tissue depends on the tissue alone, never on a batch size.

A section that is larger than memory is worked on in bands, whole rows of these tiles: the tiles stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HAIR = 1e-6
"""µm; far under any distance that means something, far over the rounding of coordinates in µm."""


@dataclass(frozen=True)
class Tile:
    """Cells of one tile: ``cells`` (m,) int64 rows, its ``n_own`` own first and its halo after; ``centre`` in µm."""

    cells: NDArray[np.int64]
    n_own: int
    centre: NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Whole rows of tiles.

    Attributes
    ----------
    rows
        Numbers of the rows of tiles, from 0 at the section's lowest y.
    cells
        (m,) int64, ascending: the cells of these tiles.
    around
        (c,) int64, ascending: these and all cells within reach of the band.
    origin
        (2,) µm: where the section's grid of tiles starts.
    """

    rows: range
    cells: NDArray[np.int64]
    around: NDArray[np.int64]
    origin: NDArray[np.float64]


def iter_tiles(
    xy: NDArray[np.float64],
    size: float,
    halo: float,
    *,
    origin: NDArray[np.float64] | None = None,
    rows: range | None = None,
) -> Iterator[Tile]:
    """Tiles of ``size`` µm over cells at ``xy`` (n, 2) µm, each with the cells up to ``halo`` µm outside it.

    The grid starts at the section's lowest x and y, so the same section always gives the same tiles. Every cell is the
    tile's own in exactly one tile; empty tiles are left out. Of a part of a section, ``origin`` says where the
    section's grid starts, and only the tiles of ``rows`` are given.
    """
    if len(xy) == 0:
        return
    origin = xy.min(0) if origin is None else origin
    column, row = _places(xy, origin, size)
    # Sorting by x once makes each column's band of candidates a slice.
    order = np.argsort(xy[:, 0], kind="stable")
    x_sorted = xy[order, 0]
    # A hair more than the halo: without one, rounding must not lose a cell on the edge of its own tile.
    reach = halo + _HAIR
    for c in np.unique(column):
        left = origin[0] + c * size
        band = order[slice(*np.searchsorted(x_sorted, [left - reach, left + size + reach]))]
        for r in np.unique(row[band][column[band] == c]):
            if rows is not None and r not in rows:
                continue
            bottom = origin[1] + r * size
            y = xy[band, 1]
            near = band[(y >= bottom - reach) & (y <= bottom + size + reach)]
            own = (column[near] == c) & (row[near] == r)
            inside, outside = np.sort(near[own]), np.sort(near[~own])
            centre = np.array([left + size / 2, bottom + size / 2])
            yield Tile(np.concatenate([inside, outside]), len(inside), centre)


def iter_bands(xy: NDArray[np.float64], size: float, reach: float, cells: int) -> Iterator[Band]:
    """Bands of the tiles that :func:`iter_tiles` gives, of at least ``cells`` cells each (the last may have fewer).

    ``reach`` µm: how far the surroundings of a band go.
    """
    if len(xy) == 0:
        return
    origin, y = xy.min(0), np.ascontiguousarray(xy[:, 1])
    row = np.floor((y - origin[1]) / size).astype(np.int32)
    filled, taken = np.unique(row, return_counts=True)
    first, held = int(filled[0]), 0
    for place, (r, n) in enumerate(zip(filled.tolist(), taken.tolist(), strict=True)):
        held += n
        if held < cells and place + 1 < len(filled):
            continue
        low, high = origin[1] + first * size - reach - _HAIR, origin[1] + (r + 1) * size + reach + _HAIR
        mine = np.flatnonzero((row >= first) & (row <= r))
        yield Band(range(first, r + 1), mine, np.flatnonzero((y >= low) & (y <= high)), origin)
        first, held = int(filled[place + 1]) if place + 1 < len(filled) else r, 0


def count_tiles(xy: NDArray[np.float64], size: float) -> int:
    """Number of tiles that ``iter_tiles`` gives."""
    if len(xy) == 0:
        return 0
    return len(np.unique(_places(xy, xy.min(0), size), axis=1).T)


def _places(xy: NDArray[np.float64], origin: NDArray[np.float64], size: float) -> NDArray[np.int64]:
    """Column and row of each cell's tile, (2, n)."""
    places: NDArray[np.int64] = np.floor((xy - origin) / size).astype(np.int64).T
    return places
