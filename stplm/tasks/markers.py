"""Genes that tell each group of cells from the others: Wilcoxon's rank-sum test, by scanpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.evidence import TARGET_SUM
from stplm.io.cell_table import counts_matrix
from stplm.io.groups import as_table
from stplm.tasks.groups import group_codes, need

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

CELLS_A_GROUP = 5_000


def rank_genes(
    table: AnnData | SpatialData, by: str = keys.CLASS, *, cells_a_group: int = CELLS_A_GROUP, seed: int = 0
) -> pd.DataFrame:
    """Rank the panel's genes for each group of cells against all others.

    Wilcoxon's rank-sum test with tie correction on log-normalised counts, p-values adjusted after Benjamini and
    Hochberg, as ``scanpy.tl.rank_genes_groups`` does it. Groups that the same counts have defined (predicted classes,
    clusters) differ in expression by construction: rank with it, do not read the p-values as tests of discovery.

    Parameters
    ----------
    table
        A section or its cell table.
    by
        A categorical column of obs; cells without a value are left out. Groups of fewer than three cells are left out.
    cells_a_group
        At most so many cells of each group are compared, drawn with ``seed``.

    Returns
    -------
    A row a group and gene, groups in their order, genes by descending score: ``group``, ``gene``, ``score`` (z of the
    test), ``log2_fold_change``, ``p``, ``p_adjusted``, ``share`` and ``share_others`` (of cells that have the gene).

    Raises
    ------
    LabelError
        No such column, or not 2 to 200 groups of three cells or more.
    MissingPackage
        Without scanpy.
    """
    need("scanpy")
    import scanpy
    from anndata import AnnData

    table = as_table(table)
    names, codes = group_codes(table, by)
    random = np.random.default_rng(seed)
    chosen = []
    for code in range(len(names)):
        cells = np.flatnonzero(codes == code)
        if len(cells) >= 3:
            chosen.append(cells if len(cells) <= cells_a_group else random.choice(cells, cells_a_group, replace=False))
    rows = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
    part = AnnData(counts_matrix(table[rows]), var=pd.DataFrame(index=table.var_names.astype(str)))
    part.obs["group"] = pd.Categorical.from_codes(codes[rows], pd.Index(names)).remove_unused_categories()
    kept, _ = group_codes(part, "group")
    scanpy.pp.normalize_total(part, target_sum=TARGET_SUM)
    scanpy.pp.log1p(part)
    with np.errstate(invalid="ignore"):  # a gene that nobody has: 0 by 0
        scanpy.tl.rank_genes_groups(part, "group", method="wilcoxon", tie_correct=True, pts=True)
    frames = []
    for name in kept:
        found = scanpy.get.rank_genes_groups_df(part, group=name)
        frames.append(
            pd.DataFrame(
                {
                    "group": name,
                    "gene": found["names"],
                    "score": found["scores"].fillna(0.0),
                    "log2_fold_change": found["logfoldchanges"],
                    "p": found["pvals"].fillna(1.0),
                    "p_adjusted": found["pvals_adj"].fillna(1.0),
                    "share": found["pct_nz_group"],
                    "share_others": found["pct_nz_reference"],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
