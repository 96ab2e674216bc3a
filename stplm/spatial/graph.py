"""Which cells are neighbours: by radius, by k nearest, or both, in µm.

Compressed sparse rows, as scipy's CSR. Rows are ordered by distance and then by cell index, so a graph is a function of
the positions alone, not of the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from stplm.errors import SectionError
from stplm.spatial.grid import Grid

_ROWS_A_BLOCK = 262_144
_PILED, _FEW = 16, 8
"""Of k nearest: a square with more than 16 k cells (8 counting as the least k) makes a grid slow."""


@dataclass(frozen=True)
class NeighbourGraph:
    """Neighbours of each cell, nearest first.

    Attributes
    ----------
    indptr
        int64, (n_cells + 1,): the neighbours of cell i are ``indices[indptr[i]:indptr[i + 1]]``.
    indices
        int32, (n_edges,): cell positions.
    distances
        float32, (n_edges,): µm.
    """

    indptr: np.ndarray
    indices: np.ndarray
    distances: np.ndarray

    @property
    def n_cells(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_edges(self) -> int:
        return len(self.indices)

    @property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each cell, int64 of shape (n_cells,)."""
        return np.diff(self.indptr)

    def neighbours(self, cell: int) -> np.ndarray:
        """Neighbours of one cell, nearest first (a view)."""
        return self.indices[self.indptr[cell] : self.indptr[cell + 1]]

    def to_sparse(self, *, weights: str = "ones") -> csr_matrix:
        """As a scipy CSR of shape (n_cells, n_cells), float32; column indices of a row stay ordered by distance.

        ``weights``: ``"ones"``, ``"mean"`` (a row sums to 1) or ``"distance"`` (µm; raises ValueError for another).
        """
        if weights == "distance":
            data = self.distances.copy()
        else:
            data = np.ones(self.n_edges, dtype=np.float32)
            if weights == "mean":
                data /= np.repeat(np.maximum(self.degrees, 1), self.degrees).astype(np.float32)
            elif weights != "ones":
                raise ValueError(f"weights must be 'ones', 'mean' or 'distance', not {weights!r}")
        return csr_matrix((data, self.indices, self.indptr), shape=(self.n_cells, self.n_cells))


def neighbour_graph(
    xy: np.ndarray,
    *,
    k: int | None = None,
    radius: float | None = None,
    include_self: bool = False,
    symmetric: bool = False,
) -> NeighbourGraph:
    """The neighbours of each cell.

    Parameters
    ----------
    xy
        (n_cells, 2), µm.
    k
        At most this many nearest cells, the cell itself not counted. Of cells equally far, the one of lower index.
    radius
        Cells at most this far, in µm. With ``k``: the k nearest of them.
    include_self
        Put the cell itself first in its row, at distance 0.
    symmetric
        Add the other direction of each edge, where k nearest gives only one; a row may then exceed ``k``.

    Returns
    -------
    NeighbourGraph with n_cells rows; a cell without neighbours has an empty row.

    Raises
    ------
    ValueError
        When neither ``k`` nor ``radius`` is given, or one is not positive.
    SectionError
        When positions are not of shape (n_cells, 2), or not finite.
    """
    if k is None and radius is None:
        raise ValueError("give k, radius (µm), or both")
    if (k is not None and k < 1) or (radius is not None and not radius > 0):
        raise ValueError(f"k must be at least 1 and radius above 0 µm, not k={k}, radius={radius}")
    xy = _checked(xy)
    if k is None:
        assert radius is not None
        graph = _within(xy, float(radius))
    else:
        graph = _nearest(xy, int(k), radius)
        if symmetric:
            graph = _both_ways(graph)
    return _with_self(graph) if include_self else graph


def _checked(xy: np.ndarray) -> np.ndarray:
    xy = np.ascontiguousarray(xy, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise SectionError("Cell positions must be x and y.", found=f"shape {xy.shape}", expected="(n_cells, 2) in µm")
    if bad := int((~np.isfinite(xy).all(axis=1)).sum()):
        raise SectionError(
            "Some cells have no position.", found=f"{bad} of {len(xy)} not finite", mend="Leave these cells out."
        )
    return xy


def _within(xy: np.ndarray, radius: float) -> NeighbourGraph:
    """All pairs at most ``radius`` apart, by a grid of squares of half that side."""
    if len(xy) == 0:
        return _empty()
    return NeighbourGraph(*Grid(xy, radius / 2).within(radius))


def _nearest(xy: np.ndarray, k: int, radius: float | None) -> NeighbourGraph:
    """k nearest, by a grid; where cells are piled up in a part of it, by a tree."""
    n = len(xy)
    if n == 0:
        return _empty()
    # Squares of about k / 2 cells: the k nearest are then mostly in the 3 x 3 squares around a cell.
    width, height = np.maximum(xy.max(axis=0) - xy.min(axis=0), 1e-9)
    grid = Grid(xy, float(np.sqrt(width * height * max(k / 2, 1) / n)))
    if grid.fullest > _PILED * max(k, _FEW):
        return _nearest_by_tree(xy, k, radius)
    degrees, indices, distances = grid.nearest(min(k, max(n - 1, 1)), np.inf if radius is None else float(radius))
    if (degrees == indices.shape[1]).all():
        return NeighbourGraph(_indptr(degrees), indices.ravel(), distances.ravel())
    there = np.arange(indices.shape[1]) < degrees[:, None]
    return NeighbourGraph(_indptr(degrees), indices[there], distances[there])


def _nearest_by_tree(xy: np.ndarray, k: int, radius: float | None) -> NeighbourGraph:
    """k nearest through a k-d tree, two more asked for: the cell itself, and one to see a tie at the k-th place."""
    n = len(xy)
    tree = cKDTree(xy)
    asked = min(k + 2, n)
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, n, _ROWS_A_BLOCK):
        rows = np.arange(start, min(start + _ROWS_A_BLOCK, n))
        near, cells = (np.asarray(a) for a in tree.query(xy[rows], k=np.arange(1, asked + 1), workers=-1))
        near[cells == rows[:, None]] = np.inf
        by = np.lexsort((cells, near), axis=1)
        near, cells = np.take_along_axis(near, by, axis=1), np.take_along_axis(cells, by, axis=1)
        if asked == k + 2:
            for row in np.flatnonzero(near[:, k] == near[:, k - 1]):
                near[row, :k], cells[row, :k] = _with_ties(tree, xy, int(rows[row]), k, float(near[row, k - 1]))
        near, cells = near[:, :k], cells[:, :k]
        keep = near <= radius if radius is not None else np.isfinite(near)
        blocks.append((keep.sum(axis=1), cells[keep], near[keep]))
    degrees, indices, distances = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return NeighbourGraph(_indptr(degrees), indices.astype(np.int32), distances.astype(np.float32))


def _with_ties(tree: Any, xy: np.ndarray, row: int, k: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of one cell among all cells as far as its k-th, ordered by distance and index."""
    cells = np.array(tree.query_ball_point(xy[row], reach * (1 + 1e-12)), dtype=np.int64)
    cells = cells[cells != row]
    step = xy[cells] - xy[row]
    near = np.sqrt((step * step).sum(axis=1))
    by = np.lexsort((cells, near))[:k]
    return near[by], cells[by]


def _both_ways(graph: NeighbourGraph) -> NeighbourGraph:
    here = np.repeat(np.arange(graph.n_cells), graph.degrees)
    rows, columns = np.concatenate([here, graph.indices]), np.concatenate([graph.indices, here])
    distances = np.concatenate([graph.distances, graph.distances])
    _, first = np.unique(rows.astype(np.int64) * graph.n_cells + columns, return_index=True)
    rows, columns, distances = rows[first], columns[first], distances[first]
    by = np.lexsort((columns, distances, rows))
    degrees = np.bincount(rows, minlength=graph.n_cells)
    return NeighbourGraph(_indptr(degrees), columns[by].astype(np.int32), distances[by])


def _with_self(graph: NeighbourGraph) -> NeighbourGraph:
    starts, cells = graph.indptr[:-1], np.arange(graph.n_cells, dtype=np.int32)
    return NeighbourGraph(
        _indptr(graph.degrees + 1),
        np.insert(graph.indices, starts, cells),
        np.insert(graph.distances, starts, np.float32(0)),
    )


def _indptr(degrees: np.ndarray) -> np.ndarray:
    indptr = np.zeros(len(degrees) + 1, dtype=np.int64)
    np.cumsum(degrees, out=indptr[1:])
    return indptr


def _empty() -> NeighbourGraph:
    return NeighbourGraph(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
