"""What an encoder knows of each gene before it is trained: base rate, spread of its expression, median.

Sections are read in blocks, one after the other, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import Tensor

    from stplm.nn.encoder import GeneDecoder
    from stplm.tasks.cells import Cells

_BLOCK = 8192


def set_gene_statistics(encoder: GeneDecoder, tables: Sequence[Cells], rows: Tensor | None = None) -> None:
    """Set, from the data, what of these the encoder has, of all genes or of ``rows`` (int64) only.

    ``gene_bias``: log of a gene's share of all molecules. ``gene_spread``: standard deviation of its log-normalised
    expression. ``gene_median``: median of its size-normalised counts where it is found (``tokens/medians.py``); genes
    found nowhere get the median of the others.
    """
    import torch

    n = len(encoder.genes)
    total, square, count, molecules = (np.zeros(n) for _ in range(4))
    for cells in tables:
        for start in range(0, len(cells), _BLOCK):
            x = cells.dense(slice(start, start + _BLOCK)).astype(np.float64)
            level = np.log1p(x * (encoder.config.target_sum / np.maximum(x.sum(1, keepdims=True), 1)))
            total[cells.rows] += level.sum(0)
            square[cells.rows] += (level**2).sum(0)
            count[cells.rows] += len(x)
            molecules[cells.rows] += x.sum(0)
    seen = np.maximum(count, 1)
    found = {"gene_bias": np.log((molecules + 1) / (molecules + 1).sum())}
    if hasattr(encoder, "gene_spread"):
        found["gene_spread"] = np.sqrt(np.maximum(square / seen - (total / seen) ** 2, 0)) + 0.1
    if hasattr(encoder, "gene_median"):
        found["gene_median"] = _medians(encoder.genes, tables)
    chosen = torch.arange(n) if rows is None else rows
    with torch.no_grad():
        for name, figures in found.items():
            current = getattr(encoder, name)
            current[chosen] = torch.as_tensor(figures, dtype=current.dtype)[chosen]


def _medians(genes: list[str], tables: Sequence[Cells]) -> np.ndarray:
    from stplm.tokens.medians import compute_medians, medians_of

    found = compute_medians(_as_tables(genes, tables), min_counts=1)
    return medians_of(np.array(genes), found["median"])


def _as_tables(genes: list[str], tables: Sequence[Cells]) -> Iterator[AnnData]:
    """Blocks of cells as small tables, which is what medians are computed of."""
    import pandas as pd
    from anndata import AnnData

    from stplm import keys

    for cells in tables:
        names = [genes[row] for row in cells.rows]
        for start in range(0, len(cells), _BLOCK):
            counts = cells.counts[start : start + _BLOCK]
            obs = pd.DataFrame(index=pd.RangeIndex(counts.shape[0]).astype(str))
            yield AnnData(counts, obs=obs, var=pd.DataFrame({keys.ENSEMBL_ID: names}, index=names))
