"""Cells on disk as flat arrays, mapped into memory: whoever needs some of them reads these and no others.

Counts lie as CSR of the smallest whole numbers; positions, neighbours, weights and distances as they are; each array is
an ``.npy`` file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stplm.tasks.cells import Cells

_PLACED = ("xy", "neighbours", "weights", "distances")


class StoredCounts:
    """CSR counts on disk that are indexed as a matrix is; only the rows asked for are read, as float32."""

    def __init__(self, folder: Path, n_columns: int) -> None:
        self.folder = folder
        self.indptr, self.indices, self.data = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices", "data")
        )
        self.shape = (len(self.indptr) - 1, n_columns)

    def __getitem__(self, cells: NDArray[Any] | slice) -> csr_matrix:
        if isinstance(cells, slice):
            start, stop, stride = cells.indices(self.shape[0])
            if stride == 1:
                first, last = int(self.indptr[start]), int(self.indptr[max(stop, start)])
                return self._matrix(self.indptr[start : max(stop, start) + 1] - first, slice(first, last))
            cells = np.arange(start, stop, stride)
        cells = np.asarray(cells)
        starts = np.asarray(self.indptr[cells])
        lengths = self.indptr[cells + 1] - starts
        stops = np.concatenate([[0], np.cumsum(lengths)])
        return self._matrix(stops, np.repeat(starts - stops[:-1], lengths) + np.arange(stops[-1]))

    def _matrix(self, indptr: NDArray[np.int64], entries: NDArray[np.int64] | slice) -> csr_matrix:
        parts = (self.data[entries].astype(np.float32), self.indices[entries].astype(np.int32), np.asarray(indptr))
        return csr_matrix(parts, shape=(len(indptr) - 1, self.shape[1]))


@dataclass(frozen=True)
class StoredCells(Cells):
    """Cells whose arrays lie in ``folder``; ``checksum`` is of what they were made from."""

    folder: Path
    checksum: str

    def scratch(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A file beside the counts, one for each of several processes."""
        path = self.folder / f"{name}-{os.environ.get('RANK', '0')}.npy"
        room: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        return room


def write_cells(cells: Cells, folder: Path) -> None:
    """Put the arrays of ``cells`` into a ``folder`` that is there."""
    counts = cells.counts
    arrays = {
        "indptr": counts.indptr.astype(np.int64),
        "indices": counts.indices.astype(np.min_scalar_type(max(counts.shape[1] - 1, 0))),
        "data": counts.data.astype(np.min_scalar_type(int(counts.data.max(initial=0)))),
        **{name: getattr(cells, name) for name in _PLACED if getattr(cells, name) is not None},
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def read_cells(folder: Path, rows: NDArray[np.int64], checksum: str = "") -> StoredCells:
    """What :func:`write_cells` put there; ``rows`` (m,): the model's gene row of each column of the counts."""
    counts: Any = StoredCounts(folder, len(rows))
    xy, neighbours, weights, distances = (_load(folder / f"{name}.npy") for name in _PLACED)
    return StoredCells(counts, rows, xy, neighbours, weights, distances, folder, checksum)


def _load(path: Path) -> Any:
    return np.load(path, mmap_mode="r") if path.is_file() else None
