"""Imputation of genes that the section measures: each from a cell's other genes and from its neighbours.

A ridge regression a gene, of its log-normalised count on the model's vector of the other genes (which holds what
surrounds the cell too), on what the model's decoder expects, and on the neighbours' counts of the gene. The first two
carry what goes with what; the last what lies where, segmentation errors included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from stplm.tasks.impute import Visible

SCALE = 100.0
"""Counts that a cell's visible genes are scaled to before the logarithm."""
_FIT_CELLS = 20_000
_CHECK_SHARE = 5
"""One in so many of the cells that may be looked at is kept from the fit, to tell how well it does."""
_PENALTY = 30.0
"""Of standardised columns; from 10 to 100 nothing changes on the breast section."""


@dataclass(frozen=True)
class Regression:
    """A fitted ridge regression of g genes.

    ``weights`` float64 (g, dim + 2), ``bias`` (g,) on standardised columns; ``factor`` (g,) makes the sum of the
    expected counts that of the observed ones; ``r`` (g,) Pearson's r on cells that the fit did not see.
    """

    columns: _Columns
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    factor: NDArray[np.float64]
    r: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        visible: Visible,
        counts: NDArray[np.float32],
        rows: NDArray[np.int64],
        hidden: NDArray[np.bool_],
        seed: int,
    ) -> Regression:
        """Learn from the cells that are not ``hidden`` (n,).

        ``counts`` (n, g) of the genes, ``rows`` (g,) theirs in the model, -1 where it does not know them.
        """
        level = np.log1p(SCALE * counts / np.maximum(visible.depth, 1)[:, None])
        usable = np.flatnonzero(~hidden & (visible.depth > 0))
        random = np.random.default_rng(seed)
        if len(usable) > _FIT_CELLS:
            usable = np.sort(random.choice(usable, _FIT_CELLS, replace=False))
        check = np.zeros(len(usable), bool)
        check[random.permutation(len(usable))[: len(usable) // _CHECK_SHARE]] = True
        columns = _Columns.of(visible, level, rows, hidden, usable[~check])
        design, truth = columns.take(usable), level[usable]
        weights, bias = _ridge(design, truth, ~check)
        predicted = _apply(design, weights, bias)
        rate = np.expm1(np.maximum(predicted, 0)) / SCALE * visible.depth[usable, None]
        factor = counts[usable].sum(0) / np.maximum(rate.sum(0), 1e-9)
        return cls(columns, weights, bias, factor, _pearson(predicted[check], truth[check]))

    def predict(self, part: slice) -> NDArray[np.float32]:
        """Expected counts of the genes for each count of a visible gene, (cells, g), of a slice of the cells."""
        design = self.columns.take(np.arange(part.start, part.stop))
        level = np.maximum(_apply(design, self.weights, self.bias), 0)
        return np.asarray(np.expm1(level) / SCALE * self.factor, np.float32)


@dataclass(frozen=True)
class _Design:
    """Standardised columns of some cells: ``shared`` (n, dim) of all genes, ``own`` (n, g, 2) of each."""

    shared: NDArray[np.float64]
    own: NDArray[np.float64]


@dataclass(frozen=True)
class _Columns:
    """What a cell's gene is regressed on, made for the cells that are asked for."""

    visible: Visible
    level: NDArray[np.float32]
    rows: NDArray[np.int64]
    near: csr_matrix | None
    """(n, n) weights of each cell's neighbours whose counts may be looked at, adding up to 1."""
    scaling: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def of(
        cls,
        visible: Visible,
        level: NDArray[np.float32],
        rows: NDArray[np.int64],
        hidden: NDArray[np.bool_],
        fitted: NDArray[np.int64],
    ) -> _Columns:
        width, genes = visible.vectors.shape[1], level.shape[1]
        plain = (np.zeros(width), np.ones(width), np.zeros((genes, 2)), np.ones((genes, 2)))
        raw = cls(visible, level, rows, _near(visible, hidden), plain)
        found = raw.take(fitted)
        scaling = (found.shared.mean(0), found.shared.std(0) + 1e-6, found.own.mean(0), found.own.std(0) + 1e-6)
        return cls(visible, level, rows, raw.near, scaling)

    def take(self, cells: NDArray[np.int64]) -> _Design:
        own = np.zeros((len(cells), len(self.rows), 2))
        known = np.flatnonzero(self.rows >= 0)
        own[:, known, 0] = np.log1p(SCALE * self.visible.decoded(self.rows[known], cells))
        if self.near is not None:
            own[:, :, 1] = self.near[cells] @ self.level
        middle, spread, own_middle, own_spread = self.scaling
        return _Design((self.visible.vectors[cells] - middle) / spread, (own - own_middle) / own_spread)


def _near(visible: Visible, hidden: NDArray[np.bool_]) -> csr_matrix | None:
    cells = visible.cells
    if cells.neighbours is None or cells.weights is None:
        return None
    weights = np.where(hidden[cells.neighbours], np.float32(0), cells.weights)
    total = weights.sum(1, keepdims=True)
    weights = np.divide(weights, total, out=weights, where=total > 0)
    n, k = weights.shape
    return csr_matrix((weights.ravel(), cells.neighbours.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def _ridge(
    design: _Design, truth: NDArray[np.float32], fitted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (g, dim + 2) and bias (g,) from the ``fitted`` rows; the Gram matrix of the shared columns once."""
    shared, own, truth = design.shared[fitted], design.own[fitted], truth[fitted].astype(np.float64)
    bias = truth.mean(0)
    width, genes = shared.shape[1], truth.shape[1]
    gram = np.empty((width + 2, width + 2))
    gram[:width, :width] = shared.T @ shared
    moment = shared.T @ (truth - bias)
    weights = np.empty((genes, width + 2))
    for gene in range(genes):
        extra = own[:, gene]
        gram[:width, width:] = shared.T @ extra
        gram[width:, :width] = gram[:width, width:].T
        gram[width:, width:] = extra.T @ extra
        target = np.concatenate([moment[:, gene], extra.T @ (truth[:, gene] - bias[gene])])
        weights[gene] = np.linalg.solve(gram + _PENALTY * np.eye(width + 2), target)
    return weights, bias


def _apply(design: _Design, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    width = design.shared.shape[1]
    level = design.shared @ weights[:, :width].T + np.einsum("ngc,gc->ng", design.own, weights[:, width:]) + bias
    return np.asarray(level)


def _pearson(a: NDArray[np.float64], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each column; NaN where one of the two does not vary."""
    a, c = a - a.mean(0), b - b.mean(0)
    spread = np.sqrt((a * a).sum(0) * (c * c).sum(0))
    r: NDArray[np.float64] = np.divide((a * c).sum(0), spread, out=np.full(len(spread), np.nan), where=spread > 0)
    return r
