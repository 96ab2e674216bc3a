"""Niches: parts of the tissue where cells have like surroundings, from the tissue part of the vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stplm import keys
from stplm.errors import ModelError
from stplm.io.groups import as_table
from stplm.tasks.clusters import cluster

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

NICHES = 8


def niches(table: AnnData | SpatialData, n: int = NICHES, *, seed: int = 0) -> AnnData:
    """Write ``obs["stplm_niche"]``: k-means of what surrounds each cell.

    A niche is told by the tissue part of the cell's vector (its neighbours and its place among them), so unlike cells
    that lie side by side share one. Niches are named "1", "2", ... by size; the same table and seed give the same.

    Parameters
    ----------
    table
        An embedded section or cell table; the embedding must have its tissue part.
    n
        Number of niches.

    Raises
    ------
    ModelError
        The cells are not embedded, or without their neighbours (no positions, a model or an embedding without).
    """
    table = as_table(table)
    about = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    if keys.X_STPLM not in table.obsm:
        raise ModelError("These cells are not embedded yet.", mend="Run stplm.embed (the Embed dock) first.")
    vectors = np.asarray(table.obsm[keys.X_STPLM], np.float32)[:, int(about.get("own_dim", 0)) :]
    if not about.get("tissue") or not vectors.shape[1]:
        raise ModelError(
            "The embedding says nothing of what surrounds a cell.",
            found=f"model {about.get('model', 'unknown')}",
            expected="a section with positions, embedded with its neighbours by a model with a tissue part",
            mend="Embed again with the default model and its neighbours.",
        )
    table.obs[keys.NICHE] = cluster(vectors, n, seed)
    table.uns.setdefault(keys.UNS, {})[keys.UNS_NICHES] = {"n": int(n), "seed": int(seed), "model": about["model"]}
    return table
