"""Rank value encoding as published tokenizers do it: blocks of 512 cells, each cell ranked on its own, lists of tokens.

After Geneformer's tokenizer (Theodoris et al. 2023), which STPLM uses: counts over the cell's total, times 10,000,
over the gene's median; genes in descending order; ``<cls>`` in front; cut to the model's length; a Hugging Face data
set of rows. Where ``datasets`` is not installed (the extra ``bench`` brings it) the same rows go into an Arrow table,
which is quicker.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from anndata import AnnData
from scipy import sparse

try:
    import datasets

    datasets.disable_progress_bars()
    LIBRARY = f"datasets {datasets.__version__}"
except ImportError:
    datasets = None
    LIBRARY = "an Arrow table"

BLOCK, TARGET = 512, 10_000


def tokenize(table: AnnData, tokens: np.ndarray, medians: np.ndarray, cls: int, max_length: int) -> Any:
    """A data set of ``input_ids`` and ``length``, a cell a row; ``tokens`` (n_genes,) is -1 for genes without one."""
    kept = np.flatnonzero(tokens >= 0)
    tokens, medians = tokens[kept], medians[kept]
    totals = np.asarray(table.X.sum(axis=1)).ravel()
    cells: list[np.ndarray] = []
    for start in range(0, table.n_obs, BLOCK):
        block = table[start : start + BLOCK, kept].X
        n_counts = totals[start : start + BLOCK, None]
        values = sparse.csr_matrix(block / n_counts * TARGET / medians)
        cells += [ranked(values[i].data, tokens[values[i].indices]) for i in range(values.shape[0])]
    rows = {"input_ids": cells}
    if datasets is not None:
        found = datasets.Dataset.from_dict(rows)
        return found.map(lambda row: finish(row["input_ids"], cls, max_length))
    done = [finish(cell, cls, max_length) for cell in pa.table(rows)["input_ids"].to_pylist()]
    return pa.table({name: [row[name] for row in done] for name in ("input_ids", "length")})


def ranked(values: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Tokens of one cell, the highest value first."""
    return tokens[np.argsort(-values)]


def finish(ids: list[int], cls: int, max_length: int) -> dict[str, Any]:
    """One row as the model takes it."""
    whole = [cls, *ids[: max_length - 1]]
    return {"input_ids": whole, "length": len(whole)}
