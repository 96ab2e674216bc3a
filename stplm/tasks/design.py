"""How a section's features stand before a head while it is fitted: scaled, genes weighted by what they tell.

A head is linear, and its penalty takes each column for as likely to matter as any other of the same spread. So the
columns are laid out to make that true as far as a section shows it without labels:

- the dense blocks as :attr:`stplm.tasks.features.Features.scale` has them;
- *directions*: what tells the section's typical cells (:mod:`stplm.tasks.prototypes`) apart, as sums of gene levels at
  unit spread. On a panel that the model hardly knows these are what the dense blocks lack;
- each gene's level, weighted by the root of the share of its variance that is no counting noise.

All of it is linear in the features, so a fitted head is folded back and sees no more than those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm.evidence import TARGET_SUM
from stplm.tasks.classifier_scores import log_levels

if TYPE_CHECKING:
    from stplm.tasks.features import Features
    from stplm.tasks.prototypes import SectionKinds

Floats = NDArray[np.float64]
_TOGETHER = 24.0
"""Variance of all directions together; a column of the vectors has 1."""


@dataclass(frozen=True)
class Design:
    """Made by :func:`section_design`.

    Attributes
    ----------
    mean, scale
        (dense_width,) of the dense columns.
    own_width
        How many of these are the model's vectors.
    weight
        (n_genes,) what levels are multiplied by.
    directions, middle
        (n_genes, q) and (q,): sums of levels, and what they are on average.
    """

    mean: Floats
    scale: Floats
    own_width: int
    weight: Floats
    directions: Floats
    middle: Floats

    def rows(self, features: Features) -> NDArray[np.float32]:
        """(n, width) what the head looks at: dense columns, directions, genes."""
        dense = (features.dense() - self.mean) / self.scale
        along = features.level @ self.directions - self.middle
        return np.hstack([dense, along, features.level.toarray() * self.weight], dtype=np.float32, casting="same_kind")

    def heads(self) -> list[NDArray[np.int64]]:
        """Columns of the heads whose mean is taken: all, those without the model's vectors, those without the
        profiles."""
        width, dense = len(self.mean) + len(self.middle) + len(self.weight), len(self.mean)
        every = np.arange(width)
        parts = [every, every[self.own_width :], np.delete(every, slice(self.own_width, dense))]
        return [part for i, part in enumerate(parts) if i == 0 or 0 < len(part) < width]

    def unfold(self, coefficients: Floats, bias: Floats) -> tuple[Floats, Floats, Floats]:
        """Of (k, width) coefficients and (k,) bias on :meth:`rows`: those of the dense columns (k, dense_width) and of
        the levels (k, n_genes) as they are, and the bias that goes with them."""
        first, last = len(self.mean), coefficients.shape[1] - len(self.weight)
        dense, along = coefficients[:, :first] / self.scale, coefficients[:, first:last]
        level = coefficients[:, last:] * self.weight + along @ self.directions.T
        return dense, np.ascontiguousarray(level), bias - dense @ self.mean - along @ self.middle


def section_design(sample: Features, scale: tuple[Floats, Floats], kinds: SectionKinds) -> Design:
    """From cells with counts, evenly from a section, the mean and the divisor of its dense columns, and its typical
    cells."""
    tell = np.log(kinds.profiles / kinds.average)[:, sample.gene_columns]
    # About the section's average, so that what all kinds share is in none of them.
    directions = (tell - kinds.common @ tell).T
    along = np.asarray(sample.level @ directions, dtype=np.float64)
    spread = along.std(0) if len(along) else np.zeros(len(tell))
    kept = spread > 1e-9
    directions = directions[:, kept] / spread[kept] * np.sqrt(_TOGETHER / max(kept.sum(), 1))
    middle = np.asarray(sample.level.mean(0), dtype=np.float64).ravel() @ directions
    return Design(*scale, sample.own.shape[1], gene_weights(sample), directions, middle)


def gene_weights(sample: Features) -> Floats:
    """(n_genes,) root of the share of each level's variance that is no counting noise; the variances of the weighted
    levels add up to those of the levels.

    By halving: counts are thinned to two halves, whose levels have in common what is no noise. The share in the whole
    follows from their correlation (Spearman, 1910; Brown, 1910).
    """
    counts = sparse.csr_matrix(sample.counts[:, sample.gene_columns])
    whole = np.asarray(counts.data, dtype=np.int64)
    first = np.random.default_rng(0).binomial(whole, 0.5)
    halves = [_levels(counts, data, sample.depth / 2) for data in (first, whole - first)]
    means = [np.asarray(half.mean(0), dtype=np.float64).ravel() for half in halves]
    squares = [_mean_product(half, half) - mean**2 for half, mean in zip(halves, means, strict=True)]
    common = _mean_product(*halves) - means[0] * means[1]
    shared = np.clip(common / np.sqrt(squares[0] * squares[1] + 1e-9), 0.0, 1.0)
    weight = np.sqrt(2 * shared / (1 + shared))
    spread = _mean_product(sample.level, sample.level) - np.asarray(sample.level.mean(0), dtype=np.float64).ravel() ** 2
    total = float((weight**2 * spread).sum())
    return np.asarray(weight * np.sqrt(spread.sum() / total)) if total > 0 else np.ones(len(weight))


def _levels(counts: sparse.csr_matrix, data: NDArray[np.int64], depth: Floats) -> sparse.csr_matrix:
    half = sparse.csr_matrix((data, counts.indices, counts.indptr), counts.shape)
    half.data = log_levels(half, TARGET_SUM, depth)
    return half


def _mean_product(a: sparse.csr_matrix, b: sparse.csr_matrix) -> Floats:
    return np.asarray(a.multiply(b).mean(0), dtype=np.float64).ravel()
