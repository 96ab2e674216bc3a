"""Fixed square tiles with a halo: what a cell sees of the tissue depends on the tissue alone, never on a batch size."""

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


def iter_tiles(xy: NDArray[np.float64], size: float, halo: float) -> Iterator[Tile]:
    """Tiles of ``size`` µm over cells at ``xy`` (n, 2) µm, each with the cells up to ``halo`` µm outside it.

    The grid starts at the section's lowest x and y, so the same section always gives the same tiles. Every cell is the
    tile's own in exactly one tile; empty tiles are left out.
    """
    if len(xy) == 0:
        return
    origin = xy.min(0)
    column, row = np.floor((xy - origin) / size).astype(np.int64).T
    # Sorting by x once makes each column's band of candidates a slice.
    order = np.argsort(xy[:, 0], kind="stable")
    x_sorted = xy[order, 0]
    # A hair more than the halo: without one, rounding must not lose a cell on the edge of its own tile.
    reach = halo + _HAIR
    for c in np.unique(column):
        left = origin[0] + c * size
        band = order[slice(*np.searchsorted(x_sorted, [left - reach, left + size + reach]))]
        for r in np.unique(row[band][column[band] == c]):
            bottom = origin[1] + r * size
            y = xy[band, 1]
            near = band[(y >= bottom - reach) & (y <= bottom + size + reach)]
            own = (column[near] == c) & (row[near] == r)
            inside, outside = np.sort(near[own]), np.sort(near[~own])
            centre = np.array([left + size / 2, bottom + size / 2])
            yield Tile(np.concatenate([inside, outside]), len(inside), centre)


def count_tiles(xy: NDArray[np.float64], size: float) -> int:
    """Number of tiles that ``iter_tiles`` gives."""
    if len(xy) == 0:
        return 0
    return len(np.unique(np.floor((xy - xy.min(0)) / size).astype(np.int64), axis=0))
