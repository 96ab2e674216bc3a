"""Small inputs for the reading tests: a 10x matrix and an AnnData of six genes."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

GENES = {
    "EPCAM": "ENSG00000119888",
    "ERBB2": "ENSG00000141736",
    "CD3E": "ENSG00000198851",
    "CD8A": "ENSG00000153563",
    "PECAM1": "ENSG00000261371",
    "LUM": "ENSG00000139329",
}


def write_matrix(
    path: Path,
    counts: np.ndarray,
    names: list[str],
    ids: list[str],
    types: list[str] | None = None,
    cells: list[str] | None = None,
) -> Path:
    """A 10x matrix as the instrument's software writes it; ``counts`` is (cells, features)."""
    csr = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(cells or [f"cell-{i}" for i in range(csr.shape[0])], dtype="S")
        group["data"] = csr.data
        group["indices"] = csr.indices.astype(np.int64)
        group["indptr"] = csr.indptr.astype(np.int64)
        group["shape"] = np.array(csr.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array(ids, dtype="S")
        features["name"] = np.array(names, dtype="S")
        features["feature_type"] = np.array(types or ["Gene Expression"] * len(names), dtype="S")
    return path


def small_counts(n_cells: int = 60, n_genes: int = len(GENES), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(3.0, (n_cells, n_genes)).astype(np.int32)


def small_table(n_cells: int = 60, spacing: float = 10.0) -> ad.AnnData:
    """An AnnData as a user may bring it: float32 counts, symbols, positions in µm."""
    rng = np.random.default_rng(1)
    side = int(np.ceil(np.sqrt(n_cells)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:n_cells] * spacing
    return ad.AnnData(
        X=sparse.csr_matrix(small_counts(n_cells).astype(np.float32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=list(GENES)),
        obsm={"spatial": grid + rng.normal(0, spacing / 10, grid.shape)},
    )
