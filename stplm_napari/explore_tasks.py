"""What the Explore dock asks of the engine: in the worker process, and from a script. No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys
from stplm.progress import Progress, no_progress
from stplm_napari.handover import hand_over
from stplm_napari.results import Result
from stplm_napari.script import writes

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm_napari.process import WorkerProcess
    from stplm_napari.script import Beside

_TABLE, _GENES, _CELLS = "table.h5ad", "genes.parquet", "cells.parquet"
_GRIDS, _ABOUT = ("enrichment.parquet", "interactions.parquet"), "about.json"


@dataclass(frozen=True)
class Comparison:
    """Groups of cells compared.

    ``markers`` as :func:`stplm.rank_genes` gives them; ``enrichment`` and ``interactions`` as
    :func:`stplm.neighbourhoods` does, None where cells have no neighbours (``missing`` says why).
    """

    markers: pd.DataFrame
    enrichment: pd.DataFrame | None
    interactions: pd.DataFrame | None
    missing: str = ""


def compare_in_worker(
    table: AnnData, params: Mapping[str, Any], folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Comparison:
    """Compare the groups of column ``params["by"]``; ``params["radius_um"]``: how far neighbours are."""
    _write(table, [params["by"]], folder)
    worker.call("stplm_napari.explore_tasks:compare_in_folder", folder, params, progress)
    grids = [pd.read_parquet(folder / name) if (folder / name).exists() else None for name in _GRIDS]
    missing = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["missing"]
    return Comparison(pd.read_parquet(folder / _GENES), grids[0], grids[1], missing)


def compare_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`compare_in_worker`."""
    import stplm
    from stplm.errors import SectionError

    table, missing = _read(folder), ""
    progress(0, 2)
    stplm.rank_genes(table, params["by"]).to_parquet(folder / _GENES)
    progress(1, 2)
    try:
        found = stplm.neighbourhoods(table, params["by"], radius_um=params["radius_um"])
    except SectionError as error:
        missing = error.problem
    else:
        for name, grid in zip(_GRIDS, (found.enrichment, found.interactions), strict=True):
            grid.to_parquet(folder / name)
    (folder / _ABOUT).write_text(json.dumps({"missing": missing}), encoding="utf-8")
    progress(2, 2)


def niches_in_worker(
    table: AnnData, params: Mapping[str, Any], folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Result:
    """``stplm.niches`` with ``params`` n and seed."""
    _write(table, [], folder, counts=False, obsm=[keys.X_STPLM])
    worker.call("stplm_napari.explore_tasks:niches_in_folder", folder, params, progress)
    return Result.load(folder)


def niches_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`niches_in_worker`."""
    import stplm

    table = _read(folder)
    stplm.niches(table, params["n"], seed=params["seed"])
    Result.of(table, obs=[keys.NICHE], uns=[keys.UNS_NICHES]).save(folder)


def impute(table: AnnData, params: Mapping[str, Any], progress: Progress = no_progress) -> None:
    """``stplm.impute`` with ``params`` genes, reference (a path or None), model, device and seed."""
    import stplm

    given = dict(params)
    if reference := given.pop("reference", None):
        given["reference"] = stplm.cell_table(stplm.read_section(reference, images=False, labels=False))
    stplm.impute(table, given.pop("model"), **given, progress=progress)


def impute_in_worker(
    table: AnnData, params: Mapping[str, Any], folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Result:
    """:func:`impute` in the worker; the table stays as it is."""
    _write(table, [], folder)
    worker.call("stplm_napari.explore_tasks:impute_in_folder", folder, params, progress)
    return Result.load(folder)


def impute_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`impute_in_worker`."""
    table = _read(folder)
    impute(table, params, progress)
    Result.of(table, obsm=[keys.IMPUTED], uns=[keys.UNS_IMPUTED]).save(folder)


@writes("niches", "Niches: parts of the tissue with like surroundings")
def _niches(params: Mapping[str, Any], beside: Beside) -> list[str]:
    return [f"stplm.niches(table, {params['n']}, seed={params['seed']})"]


@writes("impute", "Expected counts of genes")
def _impute(params: Mapping[str, Any], beside: Beside) -> list[str]:
    return ["from stplm_napari import explore_tasks", f"explore_tasks.impute(table, {dict(params)!r})"]


def _write(
    table: AnnData, obs: Sequence[str], folder: Path, *, counts: bool = True, obsm: Sequence[str] = (keys.SPATIAL,)
) -> None:
    """Only what the task looks at: a million cells have many columns."""
    import anndata

    part = anndata.AnnData(
        table.X if counts else np.zeros((table.n_obs, 0), np.float32),
        obs=table.obs[list(obs)],
        var=table.var if counts else None,
        obsm={name: table.obsm[name] for name in obsm if name in table.obsm},
        uns={keys.UNS: dict(table.uns.get(keys.UNS, {}))},
    )
    hand_over(part, folder / _TABLE)


def _read(folder: Path) -> AnnData:
    import anndata

    return anndata.read_h5ad(folder / _TABLE)
