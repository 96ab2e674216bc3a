"""Counts of a table, block by block: the same checks and the same form whatever the storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stplm.io.validate import counts_csr

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

ROWS_A_BLOCK = 16_384
_ROWS_A_GATHER = 65_536
"""Cells whose gene numbers fit a processor's cache, about."""


@dataclass(frozen=True)
class CountBlock:
    """Cells ``start`` to ``stop`` of a table, as canonical int32 CSR of shape (stop - start, n_genes)."""

    start: int
    stop: int
    counts: sparse.csr_matrix


def count_blocks(table: AnnData, rows: int = ROWS_A_BLOCK) -> Iterator[CountBlock]:
    """The counts of a table in blocks of cells: in memory or backed by a file, sparse or dense.

    Memory above the table's own is that of a block (for a CSC matrix: of a CSR copy).
    Raises SectionError when values are not whole numbers from 0.
    """
    matrix = table.X
    where = str(table.filename) if table.isbacked else "table.X"
    if sparse.issparse(matrix) and matrix.format != "csr":
        matrix = sparse.csr_matrix(matrix)
    for start in range(0, table.n_obs, rows):
        stop = min(start + rows, table.n_obs)
        part = rows_of(matrix, start, stop) if isinstance(matrix, sparse.csr_matrix) else matrix[start:stop]
        yield CountBlock(start, stop, counts_csr(part.compute() if hasattr(part, "compute") else part, where))


def rows_of(matrix: sparse.csr_matrix, start: int, stop: int) -> sparse.csr_matrix:
    """Rows of a CSR matrix in memory, without copying their values: not to be written to."""
    first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
    parts = (matrix.data[first:last], matrix.indices[first:last], matrix.indptr[start : stop + 1] - first)
    rows = sparse.csr_matrix(parts, shape=(stop - start, matrix.shape[1]), copy=False)
    if matrix.has_canonical_format:  # what holds for all rows need not be looked for in each block
        rows.has_canonical_format = True
    return rows


def gene_counts(matrix: Any, gene: int) -> NDArray[np.float32]:
    """(n_cells,) counts of one gene. A CSR matrix is not transposed: a million cells take a tenth of a second.

    ``matrix`` is (n_cells, n_genes), sparse or dense, without double entries; ``gene`` a column of it.
    """
    if not (sparse.issparse(matrix) and matrix.format == "csr"):
        column = matrix[:, [gene]]
        column = column.compute() if hasattr(column, "compute") else column
        return np.asarray(column.toarray() if sparse.issparse(column) else column, np.float32).ravel()
    counts = np.zeros(matrix.shape[0], np.float32)
    indptr = matrix.indptr
    for start in range(0, matrix.shape[0], _ROWS_A_GATHER):
        first = indptr[start : start + _ROWS_A_GATHER + 1]
        hits = np.flatnonzero(matrix.indices[first[0] : first[-1]] == gene) + first[0]
        rows = start + np.searchsorted(first, hits, side="right") - 1
        counts[rows] = matrix.data[hits]
    return counts
