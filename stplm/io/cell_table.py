"""The canonical cell table: what it holds, how one is built, and how it is got from a section or any AnnData.

See docs/architecture.md. Every task starts with :func:`cell_table`, so what it checks no task need check again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import SectionError
from stplm.io.genes import identify_genes
from stplm.io.matrix import Controls
from stplm.io.tally import Tally
from stplm.io.validate import check_cell_ids, check_positions, counts_csr

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def cell_table(section: SpatialData | AnnData) -> AnnData:
    """The cells of a section: integer counts (CSR, int32) in X, µm in obsm["spatial"], var["ensembl_id"].

    For a SpatialData this is the very table in ``section.tables["table"]``, made canonical there if it is not, so
    that what the engine writes stays in the section. A canonical AnnData is returned itself; of any other AnnData
    with integer counts (in X, ``layers["counts"]`` or ``raw``) a canonical copy.

    Raises
    ------
    SectionError
        No table, or more than one without one named "table"; counts that are not integers; duplicate cell ids;
        positions that are not µm.
    GeneError
        The genes are not human, or none is known.
    """
    from anndata import AnnData

    if isinstance(section, AnnData):
        if is_canonical(section):
            return section
        from stplm.io.tables import canonical_copy

        return canonical_copy(section, where="the AnnData given")
    table = table_of(section)
    if is_canonical(table):
        return table
    from stplm.io.zarr import canonicalise

    return canonicalise(section)


def table_of(section: SpatialData) -> AnnData:
    """The table of a section as it is: the one named "table", or else the only one. Raises SectionError."""
    from spatialdata import SpatialData

    if not isinstance(section, SpatialData):
        raise SectionError(
            "This is not a section.", found=type(section).__name__, expected="a SpatialData or an AnnData"
        )
    tables = section.tables
    if keys.TABLE in tables:
        return tables[keys.TABLE]
    if len(tables) == 1:
        return next(iter(tables.values()))
    raise SectionError(
        "The section has no cell table." if not tables else "The section has several tables; which holds the cells?",
        where=None if section.path is None else str(section.path),
        found=", ".join(tables) or "no table",
        expected=f"a table named '{keys.TABLE}', or just one",
        mend=f"Name the table of the cells '{keys.TABLE}'.",
    )


def is_canonical(table: AnnData) -> bool:
    """Whether a table is as :func:`build_table` makes it. Looks at its form, not at every value."""
    columns = (keys.CELL_ID, keys.N_COUNTS, keys.N_GENES, keys.LOW_COUNTS)
    stplm = table.uns.get(keys.UNS)
    return (
        isinstance(stplm, Mapping)
        and keys.UNS_QC in stplm
        and sparse.issparse(table.X)
        and table.X.format == "csr"
        and table.X.dtype == np.int32
        and keys.ENSEMBL_ID in table.var
        and all(column in table.obs for column in columns)
        and table.obs_names.is_unique
        and table.var_names.is_unique
    )


def counts_matrix(table: AnnData) -> sparse.csr_matrix:
    """Counts of a table as float32 CSR (n_cells, n_genes) with sorted indices; a copy, so it may be changed.

    Raises SectionError when X does not hold integer counts.
    """
    return sparse.csr_matrix(counts_csr(table.X, "X"), dtype=np.float32, copy=True)


def build_table(
    counts: sparse.csr_matrix | Tally,
    *,
    cell_ids: NDArray[np.str_],
    symbols: NDArray[np.str_],
    gene_ids: NDArray[np.str_] | None,
    source: dict[str, Any],
    positions: NDArray[Any] | None = None,
    obs: pd.DataFrame | None = None,
    var: pd.DataFrame | None = None,
    controls: Controls | None = None,
    warnings: list[str] | None = None,
    unit_declared: bool = False,
    where: str | Path = "",
    genes_where: str | Path | None = None,
) -> AnnData:
    """A canonical cell table from its parts.

    Parameters
    ----------
    counts
        (n_cells, n_genes) int32 CSR, genes only; or their tally, and the table has no ``X``.
    cell_ids, symbols, gene_ids
        As the source gives them; ``gene_ids`` None where there are none.
    source
        Plain values for ``uns["stplm"]["source"]``.
    positions
        (n_cells, 2) in µm, or None.
    obs, var
        Further columns, rows in the order of ``counts``.
    controls
        What was dropped; None where the source does not say.
    warnings
        What the user should know, for ``uns["stplm"]["qc"]["warnings"]``.
    unit_declared
        The source says that positions are µm: only their shape and finiteness are checked.
    where
        The file, for error messages.
    genes_where
        The file that names the genes, where it is another one.

    Raises
    ------
    SectionError, GeneError
        As :func:`cell_table`.
    """
    from anndata import AnnData

    notes = list(warnings or [])
    ids = check_cell_ids(cell_ids, where)
    genes = identify_genes(symbols, gene_ids, genes_where or where)
    notes += genes.warnings
    obs = pd.DataFrame(index=pd.Index(ids)) if obs is None else obs.set_axis(pd.Index(ids), axis=0)
    obs = _plain_columns(obs.drop(columns=[c for c in _OWN_COLUMNS if c in obs]))
    obs.insert(0, keys.CELL_ID, ids.astype(object))
    tally = counts if isinstance(counts, Tally) else Tally.of(counts)
    n_counts = tally.n_counts
    obs[keys.N_COUNTS] = n_counts.astype(np.int32)
    obs[keys.N_GENES] = tally.n_genes
    if controls is not None and controls.per_cell is not None:
        obs[keys.CONTROL_COUNTS] = controls.per_cell.astype(np.int32)
    obs[keys.LOW_COUNTS] = n_counts < keys.MIN_COUNTS
    index = pd.Index(genes.symbols.astype(object))
    var = pd.DataFrame(index=index) if var is None else _plain_columns(var.set_axis(index, axis=0))
    var[keys.ENSEMBL_ID] = genes.ensembl_ids.astype(object)
    table = AnnData(X=None if counts is tally else counts, obs=obs, var=var)
    if positions is not None:
        table.obsm[keys.SPATIAL], sparse_note = check_positions(positions, where, unit_declared=unit_declared)
        notes += sparse_note
    low = int((n_counts < keys.MIN_COUNTS).sum())
    table.uns[keys.UNS] = {
        keys.UNS_SOURCE: source,
        keys.UNS_QC: {
            "n_cells": len(ids),
            "n_genes": len(genes.symbols),
            "n_known_genes": genes.n_known,
            "median_counts": float(np.median(n_counts)),
            "n_low": low,
            "n_empty": int((n_counts == 0).sum()),
            "control_features": dict(controls.features) if controls else {},
            "control_counts": dict(controls.totals) if controls else {},
            "warnings": notes,
        },
    }
    return table


_OWN_COLUMNS = (keys.CELL_ID, keys.N_COUNTS, keys.N_GENES, keys.CONTROL_COUNTS, keys.LOW_COUNTS)


def _plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy whose column names and types every store can hold: text as categories, names of letters, digits, _.-"""
    frame = frame.copy()
    seen: set[str] = set()
    names = []
    for column in frame.columns:
        name = store_name(str(column))
        while name.lower() in seen:
            name += "_"
        seen.add(name.lower())
        names.append(name)
    frame.columns = pd.Index(names)
    for name in names:
        if frame[name].dtype == object or isinstance(frame[name].dtype, pd.StringDtype):
            codes, values = pd.factorize(frame[name])  # each different value is looked at once; -1 is missing
            frame[name] = pd.Categorical(np.array([*map(str, values), None], dtype=object)[codes])
    return frame


def store_name(name: str) -> str:
    """A column or key name as SpatialData allows it: letters, digits, underscore, dot, hyphen."""
    cleaned = "".join(c if c.isalnum() or c in "_-." else "_" for c in name).lstrip("_") or "column"
    return cleaned if cleaned not in (".", "..", "index") else f"{cleaned}_"
