"""The 10x HDF5 feature matrix (``cell_feature_matrix.h5``), read straight to CSR with cells as rows.

Format: 10x Genomics' feature-barcode matrix, HDF5 version 2. It is stored by cell, so its compressed columns are
the rows wanted here, and it is read in blocks of cells: the 64-bit indices of a large section are never all in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stplm.errors import SectionError
from stplm.io.hdf5 import as_text, open_hdf5
from stplm.io.tally import Tally
from stplm.io.validate import check_cell_ids, check_counts
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    import h5py

GENE = "Gene Expression"
NO_CONTROLS = {"Protein Expression", "Antibody Capture", "CRISPR Guide Capture", "Custom", "Multiplexing Capture"}
"""Features that are neither genes nor controls: dropped, but not counted as noise of the cell."""
_BLOCK = 1 << 22
_PARTS = ("barcodes", "data", "indices", "indptr", "shape", "features/id", "features/name")
_CONTROL_NAMES = (
    (re.compile(r"^(NegControlProbe|antisense)_"), "Negative Control Probe"),
    (re.compile(r"^NegControlCodeword_"), "Negative Control Codeword"),
    (re.compile(r"^UnassignedCodeword_"), "Unassigned Codeword"),
    (re.compile(r"^DeprecatedCodeword_"), "Deprecated Codeword"),
    (re.compile(r"^(Intergenic_Region_|GenomicControl)"), "Genomic Control"),
    (re.compile(r"^BLANK_", re.IGNORECASE), "Blank Codeword"),
)


@dataclass
class Controls:
    """Features that are no genes: how many of each type, their counts in all, and per cell."""

    features: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    per_cell: NDArray[np.int32] | None = None
    """(n_cells,) counts of control features; None where the source does not tell."""


@dataclass
class FeatureMatrix:
    """Counts (n_cells, n_genes) as int32 CSR, or what they add up to where they were handed on; ids as the file gives
    them. Controls are dropped and summed."""

    counts: sparse.csr_matrix | Tally
    cell_ids: NDArray[np.str_]
    gene_ids: NDArray[np.str_]
    gene_names: NDArray[np.str_]
    controls: Controls


def feature_types_by_name(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Feature types told from the names that 10x gives its controls, for sources that carry no types."""
    types = np.full(len(names), GENE, dtype=object)
    for i, name in enumerate(names):
        for pattern, kind in _CONTROL_NAMES:
            if pattern.match(name):
                types[i] = kind
                break
    return types.astype(str)


def split_controls(
    counts: sparse.csr_matrix, types: NDArray[np.str_]
) -> tuple[sparse.csr_matrix, NDArray[np.bool_], Controls]:
    """Genes of a matrix (cells × features), the mask of gene columns, and what was dropped, by feature type."""
    is_gene = types == GENE
    per_feature = np.asarray(counts.sum(axis=0)).ravel()
    controls = _controls(types, per_feature)
    is_control = ~is_gene & ~np.isin(types, list(NO_CONTROLS))
    if is_gene.all():
        return counts, is_gene, controls
    controls.per_cell = np.asarray(counts[:, np.flatnonzero(is_control)].sum(axis=1)).ravel().astype(np.int32)
    return sparse.csr_matrix(counts[:, np.flatnonzero(is_gene)]), is_gene, controls


def _controls(types: NDArray[np.str_], per_feature: NDArray[np.integer]) -> Controls:
    kinds = sorted(set(types.tolist()) - {GENE})
    return Controls(
        features={kind: int((types == kind).sum()) for kind in kinds},
        totals={kind: int(per_feature[types == kind].sum()) for kind in kinds},
    )


def stored_values(path: Path) -> int:
    """How many values a matrix file stores; 0 where it cannot be told. Reads nothing of them."""
    try:
        with open_hdf5(path) as file:
            return len(_matrix_group(file, path)["data"])
    except SectionError:
        return 0


def read_matrix(
    path: Path, progress: Progress = no_progress, into: Callable[[sparse.csr_matrix], None] | None = None
) -> FeatureMatrix:
    """Read a 10x ``cell_feature_matrix.h5``.

    With ``into``, counts are not kept: it gets them as int32 CSR (m, n_genes), a stretch of cells after the other, and
    the matrix has their :class:`Tally`. ``progress`` counts stored values. Raises SectionError where the file is
    damaged, is not such a matrix, or does not hold counts with unique cell ids.
    """
    with open_hdf5(path) as file:
        group = _matrix_group(file, path)
        names = as_text(group["features/name"][:])
        ids = as_text(group["features/id"][:])
        types = (
            as_text(group["features/feature_type"][:])
            if "feature_type" in group["features"]
            else feature_types_by_name(names)
        )
        cell_ids = as_text(group["barcodes"][:])
        indptr = np.asarray(group["indptr"][:], dtype=np.int64)
        _check_shape(group, path, len(names), len(cell_ids), indptr)
        cell_ids = check_cell_ids(cell_ids, path)
        counts, per_feature, per_cell = _read_genes(group, path, indptr, types, progress, into)
    controls = _controls(types, per_feature)
    controls.per_cell = per_cell
    is_gene = types == GENE
    if not is_gene.any():
        raise SectionError(
            "The matrix has no genes.",
            where=path,
            found=f"feature types {', '.join(controls.features)}",
            expected=f'features of type "{GENE}"',
        )
    return FeatureMatrix(counts, cell_ids, ids[is_gene], names[is_gene], controls)


def _matrix_group(file: h5py.File, path: Path) -> h5py.Group:
    import h5py

    group = file.get("matrix")
    missing = [p for p in _PARTS if not isinstance(group, h5py.Group) or p not in group]
    if missing:
        found = ", ".join(list(file)[:6]) or "an empty file"
        old = any(isinstance(g, h5py.Group) and "gene_names" in g for g in file.values())
        raise SectionError(
            "The file is not a 10x feature matrix."
            if len(missing) == len(_PARTS)
            else "The feature matrix is incomplete.",
            where=path,
            found=f"{found}; missing: {', '.join('matrix/' + p for p in missing)}",
            expected="the group 'matrix' of cell_feature_matrix.h5",
            mend="It is of Cell Ranger 2 or older: convert it with a newer Cell Ranger."
            if old
            else "Take cell_feature_matrix.h5 from the Xenium output folder.",
        )
    assert isinstance(group, h5py.Group)
    return group


def _check_shape(group: h5py.Group, path: Path, n_features: int, n_cells: int, indptr: NDArray[np.int64]) -> None:
    stored = len(group["data"])
    shape = tuple(int(v) for v in group["shape"][:])
    sound = (
        shape == (n_features, n_cells)
        and len(indptr) == n_cells + 1
        and len(group["features/id"]) == n_features
        and len(group["indices"]) == stored
        and indptr[0] == 0
        and indptr[-1] == stored
        and bool((np.diff(indptr) >= 0).all())
    )
    if not sound:
        raise SectionError(
            "The parts of the feature matrix do not fit each other.",
            where=path,
            found=f"shape {shape}, {n_features:,} features, {n_cells:,} cells, {stored:,} values",
            expected="(features, cells) as listed, and one index for each value",
            mend="The file was written incompletely; copy it again.",
        )


def _read_genes(
    group: h5py.Group,
    path: Path,
    indptr: NDArray[np.int64],
    types: NDArray[np.str_],
    progress: Progress,
    into: Callable[[sparse.csr_matrix], None] | None,
) -> tuple[sparse.csr_matrix | Tally, NDArray[np.int64], NDArray[np.int32]]:
    """Counts of genes (cells × genes), counts per feature, control counts per cell; block by block.

    A block is decompressed while the one before it is sorted out.
    """
    from stplm.io.matrix_split import split_block

    is_gene = types == GENE
    is_control = ~is_gene & ~np.isin(types, list(NO_CONTROLS))
    column = np.where(is_gene, np.cumsum(is_gene) - 1, -1).astype(np.int32)
    n_cells, n_features, stored = len(indptr) - 1, len(types), int(indptr[-1])
    per_feature = np.zeros(n_features, dtype=np.int64)
    per_cell = np.zeros(n_cells, dtype=np.int32)
    kept = np.zeros(n_cells + 1, dtype=np.int64)
    blocks = _blocks(indptr)
    room = stored if into is None else max((int(indptr[end] - indptr[start]) for start, end in blocks), default=0)
    data, indices = np.empty(room, np.int32), np.empty(room, np.int32)
    width, used, tallies = int(is_gene.sum()), 0, []

    def read(start: int, end: int) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
        low, high = int(indptr[start]), int(indptr[end])
        return group["indices"][low:high], check_counts(group["data"][low:high], path)

    with ThreadPoolExecutor(1, "stplm matrix") as reader:
        coming = [reader.submit(read, *block) for block in blocks[:1]]
        for number, (start, end) in enumerate(blocks):
            progress(int(indptr[start]), stored)
            feature, value = coming.pop().result()
            coming += [reader.submit(read, *block) for block in blocks[number + 1 : number + 2]]
            part, cells = slice(used, used + len(value)), slice(start, end)
            given = (indptr[start : end + 1], feature, value, column, is_control, per_feature)
            found = split_block(*given, per_cell[cells], kept[1:][cells], indices[part], data[part])
            if found < 0:
                raise SectionError(
                    "The feature matrix is damaged: it points at features that are not listed.",
                    where=path,
                    found=f"feature {int(feature.max()):,}",
                    expected=f"0 to {n_features - 1:,}",
                    mend="Copy the file again from where it was made.",
                )
            if into is None:
                used += found
                continue
            counts = _as_csr(data[:found].copy(), indices[:found].copy(), kept[1:][cells], width)
            tallies.append(Tally.of(counts))
            into(counts)
    progress(stored, stored)
    if into is not None:
        return Tally.joined(tallies), per_feature, per_cell
    return _as_csr(data[:used], indices[:used], kept[1:], width), per_feature, per_cell


def _as_csr(
    data: NDArray[np.int32], indices: NDArray[np.int32], kept: NDArray[np.int64], width: int
) -> sparse.csr_matrix:
    """Canonical CSR of ``kept`` values a row; offsets of 32 bits where they do."""
    offsets = np.concatenate([[0], np.cumsum(kept)])
    offsets = offsets if offsets[-1] > np.iinfo(np.int32).max else offsets.astype(np.int32)
    counts = sparse.csr_matrix((data, indices, offsets), shape=(len(kept), width))
    counts.sum_duplicates()
    return counts


def _blocks(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Stretches of cells with about ``_BLOCK`` values each, at least a cell."""
    found, start, n_cells = [], 0, len(indptr) - 1
    while start < n_cells:
        end = max(start + 1, int(np.searchsorted(indptr, indptr[start] + _BLOCK, side="right")) - 1)
        found.append((start, end))
        start = end
    return found
