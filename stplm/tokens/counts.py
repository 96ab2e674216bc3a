"""Counts of a table, block by block: the same checks and the same form whatever the storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import sparse

from stplm.io.validate import counts_csr

if TYPE_CHECKING:
    from anndata import AnnData

ROWS_A_BLOCK = 16_384


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
        part = matrix[start:stop]
        yield CountBlock(start, stop, counts_csr(part.compute() if hasattr(part, "compute") else part, where))
