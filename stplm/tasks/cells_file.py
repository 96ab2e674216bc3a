"""Counts that stay in a table file: those of any cells, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm.io.table_file import ROWS

if TYPE_CHECKING:
    from stplm.io.table_file import FileCounts

_GAP = 65_536
"""Stored counts between two wanted cells from which they are read apart: reading on would cost more than seeking."""
_MOST = 8_000_000
"""Stored counts that are read at once."""


class FileRows:
    """Counts (n_cells, m) float32 of a table file, sliced by cells as a CSR matrix in memory is.

    Parameters
    ----------
    counts
        Of an open file.
    columns
        int64 (m,), ascending: which of its genes; by default all.
    """

    def __init__(self, counts: FileCounts, columns: NDArray[np.int64] | None = None) -> None:
        self._counts = counts
        self._columns = None if columns is None or len(columns) == counts.shape[1] else columns
        self.shape = (counts.shape[0], counts.shape[1] if columns is None else len(columns))

    def __getitem__(self, cells: slice | NDArray[Any]) -> sparse.csr_matrix:
        """Of some cells, in the order in which they are asked for: a slice, a mask (n_cells,), or int64 rows."""
        if isinstance(cells, slice):
            return self._known(self._counts[cells])
        given = np.asarray(cells)
        rows, place = np.unique(np.flatnonzero(given) if given.dtype == bool else given, return_inverse=True)
        if not len(rows):
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        parts = [self._known(self._counts[int(s[0]) : int(s[-1]) + 1][s - s[0]]) for s in self._stretches(rows)]
        found = sparse.csr_matrix(parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr"))
        return found if np.array_equal(place, np.arange(len(rows))) else sparse.csr_matrix(found[place])

    @cached_property
    def indptr(self) -> NDArray[np.int64]:
        """Where each cell's counts begin, (n_cells + 1,), as in a CSR matrix of these genes."""
        if self._columns is None:
            return self._counts.indptr
        return np.concatenate([[0], *(np.diff(block.indptr) for block in self.blocks())]).cumsum()

    def blocks(self) -> Iterator[sparse.csr_matrix]:
        """All cells, a stretch after the other."""
        for start in range(0, self.shape[0], ROWS):
            yield self[start : start + ROWS]

    def _stretches(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The ascending ``rows`` cut where much lies between two, or where much would be read at once."""
        indptr = self._counts.indptr
        apart = indptr[rows[1:]] - indptr[rows[:-1] + 1] > _GAP
        run = np.concatenate([[0], np.cumsum(apart)])
        first = indptr[rows[np.searchsorted(run, run)]]
        piece = (indptr[rows] - first) // _MOST
        cuts = np.flatnonzero((np.diff(run) > 0) | (np.diff(piece) > 0)) + 1
        return np.split(rows, cuts)

    def _known(self, part: sparse.csr_matrix) -> sparse.csr_matrix:
        found = part if self._columns is None else part[:, self._columns]
        return sparse.csr_matrix(found, dtype=np.float32)
