"""Cells as an encoder takes them, their counts read when they are asked for: from a table in memory or from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.compiled import compiled
from stplm.io.validate import counts_csr
from stplm.tasks.cells import matched_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from stplm.tasks.cells import Cells


class Counts(Protocol):
    """Counts (n_cells, n_genes) that are sliced by cells, as a CSR matrix is: rows are canonical CSR of any number
    type. A matrix in memory, or one that reads a file."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def __getitem__(self, cells: slice, /) -> csr_matrix: ...


@dataclass(frozen=True)
class Source:
    """Cells of a section for one encoder.

    Attributes
    ----------
    counts
        (n_cells, n_genes), the section's genes.
    columns, rows
        int64 (m,): which genes the model knows, and the model's gene row of each.
    xy
        float64 (n_cells, 2) in µm, or None for a section without positions.
    """

    counts: Counts
    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    xy: NDArray[np.float64] | None

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    @classmethod
    def of_table(cls, table: AnnData, genes: list[str]) -> Source:
        """The cells of a table in memory for a model of these ``genes`` (Ensembl ids).

        Raises GeneError when no gene matches, SectionError when there is no cell or the counts are not integers.
        """
        xy = np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[:, :2] if keys.SPATIAL in table.obsm else None
        columns, rows = matched_genes(table, genes)
        return cls(counts_csr(table.X, "X"), columns, rows, xy)

    @classmethod
    def of_cells(cls, cells: Cells) -> Source:
        """The same of cells that were prepared with their neighbours."""
        counts: Any = cells.counts
        return cls(counts, np.arange(len(cells.rows)), cells.rows, cells.xy)

    def read(self, start: int, stop: int) -> CellBlock:
        """Counts of the cells from ``start`` to ``stop``."""
        places = np.full(self.counts.shape[1], -1, dtype=np.int64)
        places[self.columns] = np.arange(len(self.columns))
        return CellBlock(start, stop, self.counts[start:stop], places, len(self.columns))


@dataclass(frozen=True)
class CellBlock:
    """Cells ``start`` to ``stop`` of a source; ``places``: of each gene its column among the known ones, or -1."""

    start: int
    stop: int
    counts: csr_matrix
    places: NDArray[np.int64]
    n_known: int

    def lengths(self) -> NDArray[np.int64]:
        """Number of known genes that each cell has counts of, int64 (stop - start,)."""
        if self.n_known == len(self.places):
            return np.asarray(np.diff(self.counts.indptr), dtype=np.int64)
        found = np.concatenate([[0], np.cumsum(self.places[self.counts.indices] >= 0)])
        return np.asarray(np.diff(found[self.counts.indptr]), dtype=np.int64)

    def dense(self, cells: NDArray[np.int64]) -> NDArray[np.float32]:
        """Counts of some of the cells (positions in the block) over the known genes, float32 (len(cells), m)."""
        made = np.zeros((len(cells), self.n_known), dtype=np.float32)
        csr = self.counts
        _fill(csr.indptr, csr.indices, csr.data, self.places, cells, made)
        return made


@compiled(nogil=True)
def _fill(indptr: Any, indices: Any, data: Any, places: Any, cells: Any, made: Any) -> None:
    for i in range(len(cells)):
        for entry in range(indptr[cells[i]], indptr[cells[i] + 1]):
            place = places[indices[entry]]
            if place >= 0:
                made[i, place] += data[entry]
