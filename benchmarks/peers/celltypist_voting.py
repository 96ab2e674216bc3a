"""CellTypist with majority voting: clusters of the section take the commonest class of their cells.

The clusters are its own over-clustering of every cell, which looks at no label and is made once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import celltypist as plain

SETTINGS = {**plain.SETTINGS, "clusters": "its own over-clustering"}


def prepare(table: Any, folder: Path) -> Any:
    """log1p of counts scaled to 10,000 a cell, and clusters, which are kept in ``folder``."""
    from celltypist.classifier import Classifier

    table, path = plain.prepare(table, folder), folder / "clusters.npy"
    if not path.exists():
        clusters = Classifier(filename=table.copy(), model=None).over_cluster().to_numpy(dtype=str)
        np.save(folder / "clusters.part.npy", clusters)
        (folder / "clusters.part.npy").replace(path)
    return table, np.load(path, allow_pickle=False)


def predict(prepared: Any, labels: Any, seed: int) -> Any:
    """A class name for every cell of the section that was prepared."""
    import celltypist

    table, clusters = prepared
    model = plain.train(table, labels)
    found = celltypist.annotate(table, model=model, majority_voting=True, over_clustering=clusters)
    return found.predicted_labels["majority_voting"].to_numpy(dtype=str)
