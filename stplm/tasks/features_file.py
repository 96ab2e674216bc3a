"""What fitting a head asks of a section's features, gathered from a table that stays on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import ModelError
from stplm.io.table_file import ROWS, TableFile
from stplm.progress import Progress, no_progress
from stplm.tasks.cells import table_columns
from stplm.tasks.design import Design, section_design
from stplm.tasks.features import Features, count_features, divisors
from stplm.tasks.prototypes import SectionKinds, kinds_of, kinds_sample
from stplm.tasks.shares import share_sample


class FileFeatures:
    """Stands in for a section's :class:`~stplm.tasks.features.Features` while a head is fitted, with the same numbers:
    those of the ``labelled`` cells and of the cells that shares and kinds are found from, and the mean and spread of
    all. Two passes over the counts.

    Parameters
    ----------
    table
        Embedded, open.
    labelled
        int64, ascending rows.
    seed
        Of the kinds.
    progress
        Counts cells twice.

    Raises
    ------
    ModelError
        When the table is not embedded.
    """

    def __init__(
        self, table: TableFile, labelled: NDArray[np.int64], seed: int = 0, progress: Progress = no_progress
    ) -> None:
        if keys.X_STPLM not in table.obsm:
            raise ModelError("These cells are not embedded yet.", mend="Run stplm embed first.")
        embedding, genes = table.notes.get(keys.UNS_EMBEDDING, {}), _any(table)
        self._table, self._genes, self._vectors = table, table_columns(genes), table.obsm[keys.X_STPLM]
        self._own_dim = int(embedding.get("own_dim", self._vectors.shape[1]))
        self._own_share = float(embedding.get("genes_known", 1)) / max(float(embedding.get("genes_total", 1)), 1.0)
        n_genes = np.diff(table.counts.indptr)
        self.sample_cells = share_sample(np.flatnonzero(n_genes > 0))
        self._of_kinds, random = kinds_sample(n_genes, seed)
        self._rows = np.unique(np.concatenate([labelled, self.sample_cells, self._of_kinds]))
        self._kept, self.scale = self._gather(progress)
        self.genes, self.dense_width = self._kept.genes, self._kept.dense_width
        self.sample = self.take(self.sample_cells)
        mine, (middle, scale) = self.take(self._of_kinds), self.scale
        self._kinds = kinds_of(mine.dense(), mine.counts, random, middle=middle, scale=scale)
        self._design = section_design(self.sample, self.scale, self._kinds)

    def take(self, cells: NDArray[np.int64]) -> Features:
        """Features of some of the cells that were gathered."""
        return self._kept.take(np.searchsorted(self._rows, cells))

    def kinds(self, seed: int) -> SectionKinds:
        """The section's typical cells, of the seed that it was gathered with."""
        return self._kinds

    def design(self, seed: int) -> Design:
        """How the features stand before a head, with those kinds."""
        return self._design

    def blocks(self, progress: Progress = no_progress) -> Iterator[tuple[slice, Features]]:
        """Features of all cells, a stretch after the other."""
        n = self._table.n_obs
        for start in range(0, n, ROWS):
            progress(start, n)
            part = slice(start, min(start + ROWS, n))
            own = np.asarray(self._vectors[part, : self._own_dim], dtype=np.float32)
            yield part, count_features(self._table.counts[part], self._genes, own, self._own_share)

    def _gather(self, progress: Progress) -> tuple[Features, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        n, kept, total, square = self._table.n_obs, [], 0.0, 0.0
        for part, features in self.blocks(lambda done, _: progress(done, 2 * n)):
            first, last = np.searchsorted(self._rows, [part.start, part.stop])
            kept.append(features.take(self._rows[first:last] - part.start))
            total = total + features.dense().astype(np.float64).sum(0)
        mean = np.asarray(total / n)
        for _, features in self.blocks(lambda done, _: progress(n + done, 2 * n)):
            square = square + ((features.dense().astype(np.float64) - mean) ** 2).sum(0)
        own, fit = np.split(np.asarray(square / n), [self._own_dim])
        return _joined(kept), (mean, divisors(own, fit, self._own_share, kept[0].fit_share))


def _joined(parts: list[Features]) -> Features:
    first = parts[0]
    return Features(
        np.concatenate([p.own for p in parts]),
        np.concatenate([p.fit for p in parts]),
        sparse.csr_matrix(sparse.vstack([p.level for p in parts], format="csr")),
        first.genes,
        np.concatenate([p.depth for p in parts]),
        sparse.csr_matrix(sparse.vstack([p.counts for p in parts], format="csr")),
        first.gene_columns,
        first.own_share,
        first.fit_share,
    )


def _any(table: TableFile) -> Any:
    """It has the names and ids of genes that a table in memory has."""
    return table
