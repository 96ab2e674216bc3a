"""Which genes spoke for one cell's class: what goes to the worker process, what it does, what comes back. No Qt.

The cell goes with those around it that decide what the classifier sees of it; never the whole table. A few-shot head
sees a cell's nearest cells at most. A fine-tuned model may look at the whole tile of tissue that the cell lies in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.progress import Progress, no_progress
from stplm_napari.handover import hand_over
from stplm_napari.runs import KeptModel

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stplm_napari.process import WorkerProcess

NEAR = 128
"""Cells sent along: more than any model looks at."""
_CELLS, _HEAD, _FOUND = "cells.h5ad", "head", "why.json"


@dataclass(frozen=True)
class GenePart:
    """A gene that the cell expresses: its counts, and by how much it raises the log-odds of the class."""

    symbol: str
    counts: int
    attribution: float


@dataclass(frozen=True)
class Why:
    """Log-odds of a cell's class against all others, and the genes, those that speak for it the most first."""

    class_name: str
    log_odds: float
    genes: tuple[GenePart, ...]


def explain_in_worker(
    table: AnnData,
    row: int,
    classifier: Any,
    model: str,
    folder: Path,
    worker: WorkerProcess,
    progress: Progress = no_progress,
) -> Why:
    """``stplm.attribute`` of the cell in a row of the table, in the worker process. Files go to ``folder``.

    ``classifier``: a few-shot head, with the ``model`` of its vectors; or a fine-tuned model that was kept.
    """
    tuned = isinstance(classifier, KeptModel)
    rows = tile_cells(table, row, reach_of(classifier.folder)) if tuned else _nearest(table, row)
    hand_over(some_cells(table, rows), folder / _CELLS)
    if tuned:
        model = str(classifier.folder)
    else:
        classifier.save(folder / _HEAD)
    worker.call("stplm_napari.explain_worker:explain_in_folder", folder, {"model": model}, progress)
    found = json.loads((folder / _FOUND).read_text(encoding="utf-8"))
    return Why(found["class_name"], found["log_odds"], tuple(GenePart(*gene) for gene in found["genes"]))


def explain_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`explain_in_worker`; the first cell is the one that is asked for."""
    import anndata

    import stplm

    cells = anndata.read_h5ad(folder / _CELLS)
    head = folder / _HEAD
    found = stplm.attribute(cells, head if head.is_dir() else params["model"], [0], params["model"], progress=progress)
    genes = [
        [str(gene), int(counts), float(part)]
        for gene, counts, part in zip(found["gene"], found["counts"], found["attribution"], strict=True)
    ]
    first = found.iloc[0] if len(found) else None
    about = {
        "class_name": "" if first is None else str(first["of"]),
        "log_odds": 0.0 if first is None else float(first["log_odds"]),
    }
    (folder / _FOUND).write_text(json.dumps({**about, "genes": genes}), encoding="utf-8")


def reach_of(model: Path) -> float:
    """How far from a cell, along x or y, a cell can lie that a model folder's model looks at, in µm."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))["model"]
    return float(config["tile_size"] + config["halo"] + config["neighbour_radius"])


def tile_cells(table: AnnData, row: int, reach: float) -> NDArray[np.int64]:
    """Rows of the cell, first, of all in the square of ``reach`` µm around it, and of the section's lowest in x and y,
    where its tiles start from."""
    if keys.SPATIAL not in table.obsm:
        return np.array([row])
    xy = np.asarray(table.obsm[keys.SPATIAL])[:, :2]
    near = (np.abs(xy - xy[row]) <= reach).all(1)
    near[np.argmin(np.where(np.isfinite(xy), xy, np.inf), axis=0)] = True
    near[row] = False
    return np.concatenate([[row], np.flatnonzero(near)])


def near_cells(table: AnnData, row: int) -> AnnData:
    """The cell in a row, first, and those nearest to it, as :func:`some_cells` gives them."""
    return some_cells(table, _nearest(table, row))


def some_cells(table: AnnData, rows: NDArray[np.int64]) -> AnnData:
    """A table of some cells: counts, genes, positions, where vectors are from."""
    import anndata
    import pandas as pd

    about = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    made = anndata.AnnData(
        table.X[rows],
        obs=pd.DataFrame(index=table.obs_names[rows]),
        var=table.var.copy(),
        uns={keys.UNS: {keys.UNS_EMBEDDING: dict(about)}},
    )
    if keys.SPATIAL in table.obsm:
        made.obsm[keys.SPATIAL] = np.asarray(table.obsm[keys.SPATIAL][rows], dtype=np.float64)
    return made


def _nearest(table: AnnData, row: int) -> NDArray[np.int64]:
    if keys.SPATIAL not in table.obsm:
        return np.array([row])
    xy = np.asarray(table.obsm[keys.SPATIAL])[:, :2]
    squared = ((xy - xy[row]) ** 2).sum(1)
    squared[row] = -1.0
    squared[~np.isfinite(squared)] = np.inf
    few = np.argpartition(squared, NEAR)[:NEAR] if len(xy) > NEAR else np.arange(len(xy))
    return np.asarray(few[np.argsort(squared[few], kind="stable")])
