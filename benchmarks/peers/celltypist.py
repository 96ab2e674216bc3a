"""CellTypist (Domínguez Conde et al. 2022, Science 376:eabl5197): logistic regression on scaled log1p(CP10k).

Trained on the labelled cells, then every cell is annotated by its best match; with majority voting, clusters of the
section (its own over-clustering, made once) then take their commonest class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {"target_sum": 10_000, "clusters": "its own over-clustering"}


def prepare(table: Any, folder: Path) -> Any:
    """log1p of counts scaled to 10,000 a cell."""
    import scanpy

    table.X = table.X.astype(np.float32)
    scanpy.pp.normalize_total(table, target_sum=SETTINGS["target_sum"])
    scanpy.pp.log1p(table)
    return table


def predict(prepared: Any, labels: Any, seed: int, *, majority_voting: bool) -> Any:
    """A class name for every cell of the section that was prepared."""
    import celltypist

    some = np.array([name is not None for name in labels])
    model = celltypist.train(prepared[some].copy(), labels[some].astype(str), n_jobs=1)
    if not majority_voting:
        return celltypist.annotate(prepared, model=model).predicted_labels["predicted_labels"].to_numpy(dtype=str)
    if "over_clustering" not in prepared.uns:
        found = celltypist.annotate(prepared.copy(), model=model, majority_voting=True).predicted_labels
        prepared.uns["over_clustering"] = found["over_clustering"].to_numpy(dtype=str)
    found = celltypist.annotate(
        prepared, model=model, majority_voting=True, over_clustering=prepared.uns["over_clustering"]
    )
    return found.predicted_labels["majority_voting"].to_numpy(dtype=str)
