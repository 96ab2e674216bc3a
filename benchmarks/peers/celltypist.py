"""CellTypist (Domínguez Conde et al. 2022, Science 376:eabl5197): logistic regression on scaled log1p(CP10k).

Trained on the labelled cells with its defaults, then every cell is annotated by its best match.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {"target_sum": 10_000}


def prepare(table: Any, folder: Path) -> Any:
    """log1p of counts scaled to 10,000 a cell."""
    import scanpy

    table.X = table.X.astype(np.float32)
    scanpy.pp.normalize_total(table, target_sum=SETTINGS["target_sum"])
    scanpy.pp.log1p(table)
    return table


def predict(prepared: Any, labels: Any, seed: int) -> Any:
    """A class name for every cell of the section that was prepared."""
    import celltypist

    found = celltypist.annotate(prepared, model=train(prepared, labels))
    return found.predicted_labels["predicted_labels"].to_numpy(dtype=str)


def train(table: Any, labels: Any) -> Any:
    """Its model of the labelled cells."""
    import celltypist

    some = np.array([name is not None for name in labels])
    return celltypist.train(table[some].copy(), labels[some].astype(str), n_jobs=1)
