"""Cell tables in one file: AnnData's ``.h5ad`` and ``.loom``, and any AnnData made canonical.

Loom is read with h5py alone: here it is one dense dataset and its columns, for which loompy would be one more
dependency with dependencies of its own, and AnnData's reader on top of it loads the dense matrix whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import SectionError
from stplm.io.cell_table import build_table, is_canonical, store_name
from stplm.io.genes import looks_like_ensembl
from stplm.io.hdf5 import as_text, damaged, open_hdf5, require_groups
from stplm.io.matrix import GENE, feature_types_by_name, split_controls
from stplm.io.validate import counts_csr, is_counts
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData

COUNT_LAYERS = ("counts", "raw_counts", "raw", "count")
_ID_COLUMNS = (
    keys.ENSEMBL_ID,
    "gene_ids",
    "gene_id",
    "ensembl_ids",
    "ensembl",
    "Ensembl",
    "ENSEMBL",
    "Accession",
    "feature_id",
    "id",
)
_SYMBOL_COLUMNS = (
    "gene_symbol",
    "gene_symbols",
    "gene_name",
    "gene_names",
    "feature_name",
    "symbol",
    "Symbol",
    "SYMBOL",
    "Gene",
    "name",
)
_TYPE_COLUMNS = ("feature_types", "feature_type")
_POSITION_ARRAYS = (keys.SPATIAL, "X_spatial")
_POSITION_COLUMNS = (("x_centroid", "y_centroid"), ("cell_centroid_x", "cell_centroid_y"))
_NO_POSITIONS = 'The cells have no positions (obsm["spatial"]): everything but the tissue view works.'
_UNITS = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers", "micrometres"}
_LOOM_GENES = ("Gene", "var_names", "gene_name", "gene_names", "GeneName", "gene", "Accession")
_LOOM_CELLS = ("CellID", "obs_names", keys.CELL_ID, "cell_names", "barcode")
_LOOM_BLOCK = 1 << 24


def read_h5ad(path: Path) -> AnnData:
    """A canonical cell table from an ``.h5ad``. Raises SectionError or GeneError, as ``cell_table`` does."""
    import anndata as ad

    with open_hdf5(path) as file:
        require_groups(file, path, ("X", "obs", "var"), "an AnnData", "Write it again with adata.write_h5ad().")
    try:
        table = ad.read_h5ad(path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise damaged(path, error) from error
    source = {"path": str(path), "kind": "h5ad"}
    if is_canonical(table):
        table.uns[keys.UNS][keys.UNS_SOURCE] = {**table.uns[keys.UNS].get(keys.UNS_SOURCE, {}), **source}
        return table
    return canonical_copy(table, where=path, source=source)


def read_loom(path: Path, progress: Progress = no_progress) -> AnnData:
    """A canonical cell table from a ``.loom``; ``progress`` counts cells. Raises SectionError or GeneError."""
    from anndata import AnnData

    with open_hdf5(path) as file:
        require_groups(file, path, ("matrix", "row_attrs", "col_attrs"), "a loom")
        n_genes, n_cells = file["matrix"].shape
        genes, _ = _loom_attributes(file["row_attrs"], n_genes)
        cells, arrays = _loom_attributes(file["col_attrs"], n_cells)
        counts = _loom_counts(file, n_genes, n_cells, progress)
    gene_name, cell_name = _first(genes, _LOOM_GENES), _first(cells, _LOOM_CELLS)
    if gene_name is None:
        raise SectionError(
            "The loom file does not name its genes.",
            where=path,
            found=f"row attributes {', '.join(genes.columns) or 'none'}",
            expected=f"one of {', '.join(_LOOM_GENES)}",
        )
    names = cells[cell_name] if cell_name is not None else pd.Series(np.arange(n_cells))
    table = AnnData(
        X=counts,
        obs=cells.set_axis(pd.Index(names.astype(str).to_numpy(dtype=object)), axis=0),
        var=genes.set_axis(pd.Index(genes[gene_name].astype(str).to_numpy(dtype=object)), axis=0),
        obsm=arrays,
    )
    return canonical_copy(table, where=path, source={"path": str(path), "kind": "loom"})


def _loom_attributes(group: h5py.Group, length: int) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """The attributes with one value each as columns, and those with several as arrays."""
    columns, arrays = {}, {}
    for name, data in group.items():
        values = data[:]
        if len(values) != length:
            continue
        if values.ndim == 1:
            columns[name] = as_text(values) if values.dtype.kind in "SO" else values
        elif values.ndim == 2 and values.dtype.kind in "fiu":
            arrays[name] = values
    return pd.DataFrame(columns, index=pd.RangeIndex(length)), arrays


def _loom_counts(file: h5py.File, n_genes: int, n_cells: int, progress: Progress) -> sparse.csr_matrix:
    """The first of the main matrix and its count layers that holds counts (cells × genes); else the main matrix."""
    layers = file.get("layers", {})
    candidates = [file["matrix"], *(layers[name] for name in COUNT_LAYERS if name in layers)]
    probe = slice(0, min(n_cells, 256))
    chosen = next((c for c in candidates if is_counts(c[:, probe])), candidates[0])
    step = max(64, _LOOM_BLOCK // max(n_genes, 1) // 64 * 64)
    blocks = []
    for start in range(0, n_cells, step):
        progress(start, n_cells)
        blocks.append(sparse.csr_matrix(chosen[:, start : start + step].T))
    progress(n_cells, n_cells)
    return sparse.csr_matrix(sparse.vstack(blocks)) if blocks else sparse.csr_matrix((0, n_genes))


def canonical_copy(table: AnnData, where: str | Path, source: dict[str, Any] | None = None) -> AnnData:
    """A canonical table from any AnnData; the input is left as it is.

    Counts are taken from X, or else from ``layers`` (counts, raw_counts, raw) or ``raw``. Columns, embeddings and the
    rest of the AnnData come along. Where obs has unique ``cell_id``, those become the index, and the old index is
    kept as obs["original_index"].

    Raises
    ------
    SectionError, GeneError
        As :func:`stplm.io.cell_table.cell_table`.
    """
    counts, var, origin = _find_counts(table, where)
    if sparse.issparse(table.X) and np.may_share_memory(counts.data, table.X.data):
        counts = counts.copy()
    types = _feature_types(var)
    counts, is_gene, controls = split_controls(counts, types)
    var = var.loc[is_gene]
    symbols, gene_ids = _gene_names(var)
    ids, obs = _cells(table)
    positions = _positions(table)
    plain_source = {"path": str(where), "kind": "anndata", **(source or {}), "counts_from": origin}
    result = build_table(
        counts,
        cell_ids=ids,
        symbols=symbols,
        gene_ids=gene_ids,
        source=plain_source,
        positions=positions,
        obs=obs,
        var=var,
        controls=controls if controls.features else None,
        warnings=[_NO_POSITIONS] if positions is None else None,
        unit_declared=str(table.uns.get("spatial_unit", "")).strip().lower() in _UNITS,
        where=where,
    )
    for name, value in table.uns.items():
        if name == keys.UNS:
            earlier = dict(value) if isinstance(value, Mapping) else {}
            result.uns[keys.UNS] = {**earlier, **result.uns[keys.UNS]}
        else:
            result.uns[store_name(name)] = value
    for name, array in table.obsm.items():
        if name != keys.SPATIAL:
            result.obsm[store_name(name)] = (
                array.set_axis(result.obs_names, axis=0) if hasattr(array, "iloc") else array
            )
    for name, array in table.obsp.items():
        result.obsp[store_name(name)] = array
    if origin != "raw":
        for name, array in table.layers.items():
            if f"layers/{name}" != origin:
                result.layers[store_name(name)] = array[:, np.flatnonzero(is_gene)]
    return result


def _find_counts(table: AnnData, where: str | Path) -> tuple[sparse.csr_matrix, pd.DataFrame, str]:
    """Counts (cells × features), the features they are of, and where they were found."""
    if table.X is not None and is_counts(_values(table.X)):
        return counts_csr(table.X, where), table.var, "X"
    for name in COUNT_LAYERS:
        if name in table.layers and is_counts(_values(table.layers[name])):
            return counts_csr(table.layers[name], where), table.var, f"layers/{name}"
    if table.raw is not None and is_counts(_values(table.raw.X)):
        return counts_csr(table.raw.X, where), table.raw.var, "raw"
    if table.X is None:
        raise SectionError("The table has no matrix (X is empty).", where=where, expected="integer counts in X")
    return counts_csr(table.X, f"{where} (X)"), table.var, "X"


def _values(matrix: Any) -> NDArray[Any]:
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix)


def _feature_types(var: pd.DataFrame) -> NDArray[np.str_]:
    for column in _TYPE_COLUMNS:
        if column in var and (var[column].astype(str) == GENE).any():
            return var[column].astype(str).to_numpy(dtype=str)
    return feature_types_by_name(var.index.astype(str).to_numpy(dtype=str))


def _gene_names(var: pd.DataFrame) -> tuple[NDArray[np.str_], NDArray[np.str_] | None]:
    """Symbols and, where there are some, Ensembl ids: the index is one of them, a column may be the other."""
    index = var.index.astype(str).to_numpy(dtype=str)
    if looks_like_ensembl(index):
        column = _first(var, _SYMBOL_COLUMNS)
        if column is None:
            return index, index
        named = var[column].astype(object).fillna("").astype(str).to_numpy(dtype=str)
        return np.where(named == "", index, named), index
    for name in _ID_COLUMNS:
        if name in var:
            values = var[name].astype(object).fillna("").astype(str).to_numpy(dtype=str)
            if name == keys.ENSEMBL_ID or looks_like_ensembl(values[values != ""]):
                return index, values
    return index, None


def _cells(table: AnnData) -> tuple[NDArray[np.str_], pd.DataFrame]:
    """Cell ids and the other columns of obs; columns whose names mean something else here are renamed."""
    obs = table.obs
    index = table.obs_names.astype(str).to_numpy(dtype=str)
    ids = index
    if keys.CELL_ID in obs:
        column = obs[keys.CELL_ID].astype(object)
        if column.notna().all() and column.is_unique:
            ids = column.map(_decoded).to_numpy(dtype=str)
    obs = obs.copy()
    if not np.array_equal(ids, index):
        obs["original_index"] = index.astype(object)
    clashes = [keys.REGION] if keys.ANNOTATION not in table.uns else []
    if keys.LABEL_VALUE in obs and not pd.api.types.is_integer_dtype(obs[keys.LABEL_VALUE].dtype):
        clashes.append(keys.LABEL_VALUE)
    return ids, obs.rename(columns={name: f"{name}_original" for name in clashes})


def _decoded(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _positions(table: AnnData) -> NDArray[Any] | None:
    for name in _POSITION_ARRAYS:
        if name in table.obsm:
            return np.asarray(table.obsm[name])
    for x, y in _POSITION_COLUMNS:
        if x in table.obs and y in table.obs:
            return np.asarray(table.obs[[x, y]], dtype=float)
    return None


def _first(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in frame), None)
