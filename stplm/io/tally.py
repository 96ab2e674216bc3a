"""What counts add up to in each cell: all that the description of a cell table needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm.io.matrix_split import row_sums


@dataclass(frozen=True)
class Tally:
    """``n_counts`` int64 (n_cells,): counts of genes; ``n_genes`` int32 (n_cells,): genes with any. It stands for
    counts that lie elsewhere."""

    n_counts: NDArray[np.int64]
    n_genes: NDArray[np.int32]

    @classmethod
    def of(cls, counts: sparse.csr_matrix) -> Tally:
        """Of CSR counts (n_cells, n_genes) without stored zeros."""
        n_counts = np.empty(counts.shape[0], dtype=np.int64)
        row_sums(counts.indptr, counts.data, n_counts)
        return cls(n_counts, np.diff(counts.indptr).astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Tally]) -> Tally:
        """Of stretches of cells, in order."""
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(part.n_counts for part in parts)]),
            np.concatenate([np.zeros(0, np.int32), *(part.n_genes for part in parts)]),
        )
