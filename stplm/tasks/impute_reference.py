"""Imputation of genes outside the panel from a single-cell reference of the same tissue.

Cells of the section and of the reference are encoded by the model from the genes that both have: its vectors say what a
cell is, not how deeply it was sequenced or by which platform. Two predictions from them are averaged: the reference's
cells that point the same way, weighted by their cosine (smooth, but blind beyond the reference's cells), and a ridge
regression (sharp, but linear). Together they were ahead of either on the breast section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.errors import GeneError, SectionError
from stplm.io.cell_table import counts_matrix
from stplm.tasks.cells import prepare_cells, table_genes
from stplm.tasks.device import choose_device
from stplm.tasks.encode import encode
from stplm.tasks.impute_panel import SCALE
from stplm.tokens.vocabulary import gene_places

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import Encoder

_NEAREST, _WIDTH = 200, 0.1
"""Reference cells looked at, and how far below the best cosine one weighs a third."""
_MOST_CELLS = 20_000
_PENALTY = 0.64
"""Of the ridge regression, for each reference cell."""
_FEWEST_SHARED = 20
_BLOCK = 2_048


@dataclass(frozen=True)
class Reference:
    """A reference as imputation needs it: r cells, g genes.

    ``vectors`` float32 (r, own_width); ``counts`` float32 (r, g); ``depth`` (r,): counts of the genes it shares with
    the section; ``weights`` (own_width, g) and ``bias`` (g,) of the regression.
    """

    vectors: NDArray[np.float32]
    counts: NDArray[np.float32]
    depth: NDArray[np.float32]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def of(
        cls, table: AnnData, encoder: Encoder, visible: NDArray[np.str_], wanted: NDArray[np.str_], device: str
    ) -> Reference:
        """From single-cell counts; ``visible`` and ``wanted`` are Ensembl ids. Raises GeneError, SectionError."""
        ids = table_genes(table)
        here = gene_places(visible, ids)
        shared = np.sort(here[(here >= 0) & (gene_places(visible, encoder.genes) >= 0)])
        if len(shared) < _FEWEST_SHARED:
            raise GeneError(
                "The reference shares too few genes with the section.",
                found=f"{len(shared)} genes that the model knows",
                expected=f"at least {_FEWEST_SHARED}",
                mend="Give single-cell counts of all genes, with symbols or Ensembl ids.",
            )
        counts = counts_matrix(table)
        depth = np.asarray(counts[:, shared].sum(1), np.float32).ravel()
        kept = np.flatnonzero(depth > 0)
        kept = kept[:: -(-len(kept) // _MOST_CELLS) or 1]
        if len(kept) < 2:
            raise SectionError("The reference has no cell with counts of the section's genes.")
        cells = prepare_cells(table[kept][:, shared], encoder.genes, encoder.config)
        vectors = encode(encoder, cells, neighbours=False, device=choose_device(device))
        vectors = np.ascontiguousarray(vectors[:, : encoder.config.own_width])
        asked = counts[kept][:, gene_places(wanted, ids)].toarray()
        return cls(vectors, asked, depth[kept], *_ridge(vectors, asked, depth[kept]))

    def predict(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Expected counts for each count of a visible gene, (n, g), of cells with these vectors (n, dim)."""
        own = vectors[:, : self.vectors.shape[1]]
        rate = np.empty((len(own), self.counts.shape[1]), np.float32)
        unit, directions = _unit(self.vectors), _unit(own)
        near = min(_NEAREST, len(unit))
        for start in range(0, len(own), _BLOCK):
            part = slice(start, start + _BLOCK)
            cosine = directions[part] @ unit.T
            best = np.argpartition(-cosine, near - 1, axis=1)[:, :near]
            found = np.take_along_axis(cosine, best, 1)
            weight = np.zeros_like(cosine)
            np.put_along_axis(weight, best, np.exp((found - found.max(1, keepdims=True)) / _WIDTH), 1)
            kernel = (weight @ self.counts) / (weight @ self.depth)[:, None]
            linear = np.expm1(np.maximum(own[part] @ self.weights + self.bias, 0)) / SCALE
            # In logarithms, so that neither's few high values drown the other.
            rate[part] = np.expm1((np.log1p(SCALE * kernel) + np.log1p(SCALE * linear)) / 2) / SCALE
        return rate


def _ridge(
    vectors: NDArray[np.float32], counts: NDArray[np.float32], depth: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of log-normalised counts on vectors; deep cells weigh more, by the root of their depth."""
    level = np.log1p(SCALE * counts / depth[:, None]).astype(np.float64)
    weight = np.sqrt(depth) / np.sqrt(depth).mean()
    middle, mean = np.average(vectors, axis=0, weights=weight), np.average(level, axis=0, weights=weight)
    x = (vectors - middle).astype(np.float64)
    gram = (x * weight[:, None]).T @ x + _PENALTY * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (x * weight[:, None]).T @ (level - mean))
    return weights, mean - middle @ weights


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit
