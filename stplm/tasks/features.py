"""What the few-shot head looks at: the model's own-cell vectors, fit to reference profiles, log-normalised counts.

The tissue part of the vectors is left to maps and clusters: with few labels, what surrounds a cell misleads more often
than it helps (measured; see docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import ModelError
from stplm.evidence import PROFILE_WEIGHT, TARGET_SUM
from stplm.io.cell_table import counts_matrix
from stplm.tasks.profiles import load_profiles, log_likelihood_ratios

if TYPE_CHECKING:
    from anndata import AnnData

_CHUNK = 65_536


@dataclass(frozen=True)
class Features:
    """Blocks of one section's features; a row is a cell.

    ``own`` float32 (n, own_dim); ``fit`` float64 (n, n_profiles), no column when the panel does not fit the profiles;
    ``level`` CSR (n, n_genes), log-normalised; ``genes`` Ensembl ids of its columns; ``depth`` float64 (n,) counts;
    ``own_share`` and ``fit_share``: shares of the section's genes that the model and the profiles know.
    """

    own: NDArray[np.float32]
    fit: NDArray[np.float64]
    level: sparse.csr_matrix
    genes: NDArray[np.str_]
    depth: NDArray[np.float64]
    own_share: float = 1.0
    fit_share: float = 1.0

    def __len__(self) -> int:
        return len(self.own)

    @property
    def dense_width(self) -> int:
        """Number of columns of the two dense blocks."""
        return int(self.own.shape[1] + self.fit.shape[1])

    def dense(self) -> NDArray[np.float64]:
        """The two dense blocks, (n, dense_width)."""
        return np.hstack([self.own, self.fit])

    def take(self, cells: NDArray[np.int64]) -> Features:
        """Some of the cells."""
        return replace(self, own=self.own[cells], fit=self.fit[cells], level=self.level[cells], depth=self.depth[cells])

    def chunks(self) -> Iterator[tuple[slice, Features]]:
        """All cells, a bounded number at a time."""
        for start in range(0, len(self), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(self)))
            yield part, self.take(np.arange(part.start, part.stop))


def cell_features(table: AnnData, profiles: str = "breast") -> Features:
    """Features of every cell of an embedded table. Raises ModelError when it is not embedded."""
    from stplm.tasks.cells import table_genes

    if keys.X_STPLM not in table.obsm:
        raise ModelError("These cells are not embedded yet.", mend="Run stplm.embed (the Embed dock) first.")
    vectors = np.asarray(table.obsm[keys.X_STPLM], dtype=np.float32)
    embedding = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    own_dim = int(embedding.get("own_dim", vectors.shape[1]))
    own_share = float(embedding.get("genes_known", 1)) / max(float(embedding.get("genes_total", 1)), 1.0)
    genes = table_genes(table)
    counts = counts_matrix(table)
    depth = np.asarray(counts.sum(1), dtype=np.float64).ravel()
    columns, log_ratio = load_profiles(profiles).restrict(genes)
    fit = np.zeros((len(vectors), 0))
    if len(columns):
        # Over the root of the depth: the noise of a log-likelihood ratio grows with it.
        fit = log_likelihood_ratios(counts[:, columns], log_ratio) / np.sqrt(depth + 10)[:, None]
        fit = fit - fit.mean(1, keepdims=True)
    known = np.flatnonzero(genes != "")
    level = counts[:, known].astype(np.float64)
    level.data *= np.repeat(TARGET_SUM / np.maximum(depth, 1), np.diff(level.indptr))
    np.log1p(level.data, out=level.data)
    return Features(vectors[:, :own_dim], fit, level.tocsr(), genes[known], depth, own_share, len(columns) / len(genes))


def column_scale(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and divisor of the dense columns over the section.

    Profile columns weigh twice as much as vector columns. Either block weighs less where the model or the profiles know
    only a part of the panel; then the counts themselves say more.
    """
    dense = features.dense()
    spread = dense.std(0) + 1e-6
    width = features.own.shape[1]
    spread[:width] /= max(features.own_share, 0.01)
    spread[width:] /= PROFILE_WEIGHT * max(features.fit_share, 0.01)
    return dense.mean(0), spread
