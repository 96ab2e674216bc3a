"""An embedded section of any size in little time: vectors of like cells of a small section that was really embedded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from anndata import AnnData

import stplm
from benchmarks.sections import SMALL, Sections
from stplm import keys
from stplm.simulation import TRUTH

SOURCE_CELLS = 10_000
NOISE = 0.15
"""Of a column's spread, added so that no two cells are the same."""


@lru_cache(maxsize=1)
def source(sections: Sections) -> tuple[AnnData, np.ndarray]:
    """The small section, embedded by the default model, and the true class of each cell."""
    table = sections.table(SOURCE_CELLS)
    stplm.embed(table)
    return table, truth(sections, table, SOURCE_CELLS)


def truth(sections: Sections, table: AnnData, cells: int) -> np.ndarray:
    """True class of each cell of a section."""
    frame = pd.read_parquet(sections.bundle(cells, SMALL) / TRUTH).set_index("cell_id")
    return frame.loc[table.obs_names, "class"].to_numpy(dtype=str)


def embedded(sections: Sections, cells: int) -> tuple[AnnData, np.ndarray]:
    """A section whose cells have vectors (and clusters) of random cells of their class; true classes beside it."""
    table, random = sections.table(cells), np.random.default_rng(0)
    kinds = truth(sections, table, cells)
    model, known = source(sections)
    rows = np.zeros(cells, dtype=np.int64)
    for name in np.unique(kinds):
        like = np.flatnonzero(known == name)
        rows[kinds == name] = random.choice(like if len(like) else len(known), int((kinds == name).sum()))
    vectors = np.asarray(model.obsm[keys.X_STPLM], dtype=np.float32)
    noise = random.standard_normal((cells, vectors.shape[1]), dtype=np.float32)
    noise *= NOISE * vectors.std(axis=0)
    noise += vectors[rows]
    table.obsm[keys.X_STPLM] = noise
    table.uns[keys.UNS][keys.UNS_EMBEDDING] = model.uns[keys.UNS][keys.UNS_EMBEDDING]
    table.obs[keys.CLUSTER] = model.obs[keys.CLUSTER].to_numpy()[rows]
    table.obs[keys.CLUSTER] = table.obs[keys.CLUSTER].astype("category")
    return table, kinds
