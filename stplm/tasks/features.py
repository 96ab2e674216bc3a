"""What the few-shot head looks at: the model's own-cell vectors, fit to reference profiles, log-normalised counts.

The tissue part of the vectors is left to maps and clusters: with few labels, what surrounds a cell misleads more often
than it helps (measured; see docs/benchmarks.md).

Features of a section depend on its counts and its embedding, never on labels. Who fits again and again (the window, at
every click) makes them once, with a :class:`FeatureCache`, and hands them to ``fit_classifier`` and ``predict``; what a
head derives from them alone belongs here too, as a cached property of :class:`Features`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import ModelError
from stplm.evidence import PROFILE_WEIGHT, TARGET_SUM
from stplm.io.validate import counts_csr
from stplm.tasks.classifier_scores import log_levels, weigh_counts
from stplm.tasks.profiles import load_profiles
from stplm.tasks.shares import share_sample

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.tasks.design import Design
    from stplm.tasks.prototypes import SectionKinds

_CHUNK = 65_536


@dataclass(frozen=True)
class Features:
    """Blocks of one section's features; a row is a cell. Not to be written to.

    Attributes
    ----------
    own
        float32 (n, own_dim), the model's vectors of the cells themselves.
    fit
        float32 (n, n_profiles), no column when the panel does not fit the profiles.
    level
        CSR float32 (n, n_genes), log-normalised.
    genes
        Ensembl ids of its columns, names where a gene has none.
    depth
        float64 (n,) counts.
    counts
        CSR integers (n, all genes), the section's own.
    gene_columns
        int64 (n_genes,) which columns of ``counts`` the ``genes`` are.
    own_share, fit_share
        Shares of the section's genes that the model and the profiles know.
    """

    own: NDArray[np.float32]
    fit: NDArray[np.float32]
    level: sparse.csr_matrix
    genes: NDArray[np.str_]
    depth: NDArray[np.float64]
    counts: sparse.csr_matrix
    gene_columns: NDArray[np.int64]
    own_share: float = 1.0
    fit_share: float = 1.0
    made_from: tuple[object, object] | None = None
    """The arrays of vectors and counts, by which :meth:`are_of` knows its table."""
    _kinds: dict[int, SectionKinds] = field(init=False, repr=False, compare=False, default_factory=dict)
    _designs: dict[int, Design] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.own)

    @property
    def dense_width(self) -> int:
        """Number of columns of the two dense blocks."""
        return int(self.own.shape[1] + self.fit.shape[1])

    def dense(self, cells: slice = slice(None)) -> NDArray[np.float32]:
        """The two dense blocks, (n, dense_width), of all cells or a stretch of them."""
        return np.hstack([self.own[cells], self.fit[cells]])

    def take(self, cells: NDArray[np.int64]) -> Features:
        """Some of the cells."""
        return replace(
            self,
            own=self.own[cells],
            fit=self.fit[cells],
            level=self.level[cells],
            depth=self.depth[cells],
            counts=self.counts[cells],
            made_from=None,
        )

    def are_of(self, table: AnnData) -> bool:
        """Whether they were made from the very vectors and counts that the table (or a snapshot of it) holds now."""
        if self.made_from is None or keys.X_STPLM not in table.obsm:
            return False
        return table.obsm[keys.X_STPLM] is self.made_from[0] and table.X is self.made_from[1]

    @cached_property
    def scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and divisor of the dense columns over the section.

        Profile columns weigh twice as much as vector columns. Either block weighs less where the model or the profiles
        know only a part of the panel; then the counts themselves say more.
        """
        mean = np.concatenate([_mean(self.own), _mean(self.fit)])
        width = self.own.shape[1]
        squares = _mean(self.own, mean[:width]), _mean(self.fit, mean[width:])
        return mean, divisors(*squares, self.own_share, self.fit_share)

    @cached_property
    def sample_cells(self) -> NDArray[np.int64]:
        """Which cells :attr:`sample` holds, ascending."""
        return share_sample(np.flatnonzero(self.depth > 0))

    @cached_property
    def sample(self) -> Features:
        """Cells with counts, evenly from the section, that are enough to estimate the classes' shares."""
        return self.take(self.sample_cells)

    def kinds(self, seed: int = 0) -> SectionKinds:
        """The section's typical cells, in the scale of :attr:`scale`; found once a seed."""
        from stplm.tasks.prototypes import find_kinds

        if seed not in self._kinds:
            middle, scale = self.scale
            self._kinds[seed] = find_kinds(self.dense(), self.counts, middle=middle, scale=scale, seed=seed)
        return self._kinds[seed]

    def design(self, seed: int = 0) -> Design:
        """How they stand before a head while it is fitted; found once a seed, that of :meth:`kinds`."""
        from stplm.tasks.design import section_design

        if seed not in self._designs:
            self._designs[seed] = section_design(self.sample, self.scale, self.kinds(seed))
        return self._designs[seed]


class FeatureCache:
    """Features of the section that was asked for last, made once for all who look at it. Any thread may ask.

    They belong to the arrays of vectors and counts that a table holds: after another embedding, or for another section,
    they are made anew. Snapshots of a table share its arrays, and so its features.
    """

    def __init__(self) -> None:
        self._features: Features | None = None
        self._making = threading.Lock()

    def of(self, table: AnnData) -> Features:
        """Features of every cell of an embedded table. Raises ModelError when it is not embedded."""
        with self._making:
            if self._features is None or not self._features.are_of(table):
                self._features = None
                self._features = cell_features(table)
            return self._features

    def clear(self) -> None:
        """Let go of them and of the memory they take."""
        self._features = None


def cell_features(table: AnnData, profiles: str = "breast") -> Features:
    """Features of every cell of an embedded table. Raises ModelError when it is not embedded."""
    from stplm.tasks.cells import table_columns

    if keys.X_STPLM not in table.obsm:
        raise ModelError("These cells are not embedded yet.", mend="Run stplm.embed (the Embed dock) first.")
    made_from = (table.obsm[keys.X_STPLM], table.X)
    vectors = np.asarray(made_from[0], dtype=np.float32)
    embedding = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    own_dim = int(embedding.get("own_dim", vectors.shape[1]))
    own_share = float(embedding.get("genes_known", 1)) / max(float(embedding.get("genes_total", 1)), 1.0)
    found = count_features(counts_csr(table.X, "X"), table_columns(table), vectors[:, :own_dim], own_share, profiles)
    return replace(found, made_from=made_from)


def count_features(
    counts: sparse.csr_matrix,
    genes: NDArray[np.str_],
    own: NDArray[np.float32],
    own_share: float = 1.0,
    profiles: str = "breast",
) -> Features:
    """The features that go with ``counts`` (n, n_genes) of ``genes`` (:func:`stplm.tasks.cells.table_columns`) and the
    vectors ``own`` (n, own_dim).

    Counts need not be whole: perturbation asks for what was never measured.
    """
    depth = weigh_counts(counts, np.ones((1, len(genes))))[:, 0]
    columns, log_ratio = load_profiles(profiles).restrict(genes)
    fit = np.zeros((len(own), 0), dtype=np.float32)
    if len(columns):
        weights = np.zeros((len(log_ratio), len(genes)))
        weights[:, columns] = log_ratio
        # Over the root of the depth: the noise of a log-likelihood ratio grows with it.
        ratios = weigh_counts(counts, weights)
        ratios /= np.sqrt(depth + 10)[:, None]
        fit = (ratios - ratios.mean(1, keepdims=True)).astype(np.float32)
    level = sparse.csr_matrix((log_levels(counts, TARGET_SUM, depth), counts.indices, counts.indptr), counts.shape)
    known = np.flatnonzero(genes != "")
    if len(known) < len(genes):
        level = level[:, known].tocsr()
    return Features(own, fit, level, genes[known], depth, counts, known, own_share, len(columns) / len(genes))


def divisors(
    own: NDArray[np.float64], fit: NDArray[np.float64], own_share: float, fit_share: float
) -> NDArray[np.float64]:
    """What the columns of both dense blocks are divided by, from their variances."""
    spread: NDArray[np.float64] = np.sqrt(np.concatenate([own, fit])) + 1e-6
    spread[: len(own)] /= max(own_share, 0.01)
    spread[len(own) :] /= PROFILE_WEIGHT * max(fit_share, 0.01)
    return spread


def _mean(block: NDArray[np.float32], about: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean of each column, or mean square about ``about``, in float64 and in little room."""
    total = np.zeros(block.shape[1])
    for start in range(0, len(block), _CHUNK):
        part = block[start : start + _CHUNK].astype(np.float64)
        total += part.sum(0) if about is None else ((part - about) ** 2).sum(0)
    return np.asarray(total / max(len(block), 1))
