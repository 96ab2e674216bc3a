"""Reading a Xenium bundle to a usable cell table; against spatialdata-io's reader with its defaults."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

import stplm
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import GENES, LARGE, MULTI, Sections

BAR_S, BAR_TIMES = 10.0, 5
REFERENCE_CELLS = 100_000
LARGEST = 1_000_000
"""spatialdata-io builds a polygon a cell: minutes for a million, so it is run on fewer."""


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row a size and panel. spatialdata-io is extrapolated in proportion to the cells above 100,000."""
    rows = []
    for panel in (MULTI, LARGE):
        ours(sections.bundle(min(sizes), panel))  # what is compiled and imported once
        for cells in sizes:
            path, other = sections.bundle(cells, panel), min(cells, REFERENCE_CELLS)
            theirs_s, theirs = seconds(
                lambda other=other, panel=panel: by_spatialdata_io(sections.bundle(other, panel))
            )
            with memory() as used:
                took, table = seconds(lambda path=path: ours(path), repeats=2)
            compared = table if other == cells else ours(sections.bundle(other, panel))
            row = Row(
                f"reading a bundle, {GENES[panel]:,} genes",
                cells,
                took,
                theirs_s * cells / other,
                "s",
                peak_mb=used.peak_mb,
                agrees=same(compared, theirs),
                reference_cells=other,
                note="Least of 2 runs, files in the page cache. Both read matrix, cells and label images (lazily); "
                "spatialdata-io builds outlines too, its default. Compared: ids, counts and positions of every cell.",
            )
            if cells == LARGEST and panel == MULTI:
                row.bar = f"≤ {BAR_S:g} s, ≥ {BAR_TIMES} ×"
                row.met = bool(took <= BAR_S and (row.ratio or 0) >= BAR_TIMES and row.agrees)
            rows.append(row)
    return rows


def ours(path: Path) -> AnnData:
    """The canonical cell table, of a section read as the window reads it."""
    return stplm.cell_table(stplm.read_section(path))


def by_spatialdata_io(path: Path) -> AnnData:
    """The table of a section that spatialdata-io read with its defaults, of the elements that the bundle has.

    Transcripts and images are asked for by default too; the simulated bundles have none.
    """
    from spatialdata_io import xenium

    has: dict[str, Any] = {"transcripts": (path / "transcripts.parquet").is_file()}
    has["morphology_focus"] = (path / "morphology_focus").is_dir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table: AnnData = xenium(path, morphology_mip=False, aligned_images=False, **has).tables["table"]
    return table


def same(table: AnnData, theirs: AnnData) -> bool:
    """Whether both have the same cells at the same places, with the same counts of the same genes."""
    if not np.array_equal(table.obs_names, theirs.obs["cell_id"].astype(str)):
        return False
    places = np.allclose(table.obsm["spatial"], theirs.obsm["spatial"], atol=1e-3)
    genes = theirs.var_names.get_indexer(table.var_names)
    return bool(places and (genes >= 0).all() and (theirs.X[:, genes].tocsr() != table.X).nnz == 0)
