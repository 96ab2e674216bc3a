"""Which groups of cells lie beside which: neighbourhood enrichment and interactions, by squidpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import SectionError
from stplm.io.groups import as_table
from stplm.tasks.groups import group_codes, need

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

RADIUS_UM = 30.0


@dataclass(frozen=True)
class Neighbourhoods:
    """Groups by groups, rows and columns in the groups' order.

    ``enrichment``: z-scores of the number of neighbouring pairs against shuffled groups; ``interactions``: share of a
    group's neighbours (a row) that are of each group, rows add up to 1; ``cells`` of each group; ``radius_um``.
    """

    enrichment: pd.DataFrame
    interactions: pd.DataFrame
    cells: pd.Series
    radius_um: float


def neighbourhoods(
    table: AnnData | SpatialData,
    by: str = keys.CLASS,
    *,
    radius_um: float = RADIUS_UM,
    permutations: int = 200,
    seed: int = 0,
) -> Neighbourhoods:
    """Count which groups of cells are neighbours, and how that differs from chance.

    Neighbourhood enrichment as in squidpy (Palla et al., 2022): groups are shuffled over the cells, places stay. A
    tissue has structure at every scale, so nearly everything is far from chance; compare z-scores with each other.

    Parameters
    ----------
    table
        A section or its cell table, with positions in µm.
    by
        A categorical column of obs; cells without a value are left out.
    radius_um
        Cells at most this far are neighbours.
    permutations
        Shuffles that chance is told from.

    Raises
    ------
    LabelError
        No such column, or not 2 to 200 groups.
    SectionError
        No positions, or no two cells within the radius.
    MissingPackage
        Without squidpy.
    """
    need("squidpy")
    from anndata import AnnData

    from stplm.spatial.graph import neighbour_graph

    table = as_table(table)
    names, codes = group_codes(table, by)
    if keys.SPATIAL not in table.obsm:
        raise SectionError("These cells have no positions, so nobody is anybody's neighbour.")
    rows = np.flatnonzero(codes >= 0)
    graph = neighbour_graph(np.asarray(table.obsm[keys.SPATIAL])[rows], radius=radius_um)
    if not graph.n_edges:
        raise SectionError(
            "No two cells are neighbours.", found=f"none within {radius_um:g} µm", mend="Choose a larger radius."
        )
    cells = AnnData(np.zeros((len(rows), 0), np.float32))
    cells.obs["group"] = pd.Categorical.from_codes(codes[rows], pd.Index(names))
    cells.obsp["spatial_connectivities"] = graph.to_sparse()
    squidpy = _squidpy()
    enriched = squidpy.gr.nhood_enrichment(
        cells, "group", n_perms=permutations, seed=seed, copy=True, n_jobs=1, show_progress_bar=False
    )
    counted = squidpy.gr.interaction_matrix(cells, "group", copy=True)
    counted = np.asarray(counted, float)
    share = np.divide(counted, counted.sum(1, keepdims=True), out=np.zeros_like(counted), where=counted > 0)
    index = pd.Index(names, name=by)
    return Neighbourhoods(
        pd.DataFrame(np.nan_to_num(np.asarray(enriched[0], float)), index, names),
        pd.DataFrame(share, index, names),
        pd.Series(np.bincount(codes[rows], minlength=len(names)), index),
        float(radius_um),
    )


def _squidpy() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstring templates warn at import
        import squidpy
    return squidpy
