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
"""spatialdata-io takes in the transcripts: a hundred million for a million cells, so it is run on fewer."""
LARGEST = 1_000_000


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row a size and panel; and one without transcripts, which is less than an instrument writes.

    spatialdata-io is extrapolated in proportion to the cells above 100,000.
    """
    rows = []
    for panel, transcripts in ((MULTI, True), (MULTI, False), (LARGE, False)):
        ours(sections.bundle(min(sizes), panel))  # what is compiled and imported once
        for cells in sizes:
            path, other = sections.bundle(cells, panel), min(cells, REFERENCE_CELLS)
            whole = sections.bundle(other, panel, transcripts=transcripts)
            theirs_s, theirs = seconds(lambda whole=whole: by_spatialdata_io(whole))
            with memory() as used:
                took, _ = seconds(lambda path=path: ours(path), repeats=2)
            row = Row(
                f"reading a bundle, {GENES[panel]:,} genes" + ("" if transcripts else ", without transcripts"),
                cells,
                took,
                theirs_s * cells / other,
                "s",
                peak_mb=used.peak_mb,
                agrees=same(ours(whole), theirs),
                reference_cells=other,
                note="Least of 2 runs, files in the page cache. Both read matrix, cells and label images (lazily); "
                "spatialdata-io by its defaults outlines too, and transcripts where there are any. Compared: ids, "
                "counts and positions of every cell.",
            )
            if cells == LARGEST and transcripts:
                row.bar = f"≤ {BAR_S:g} s, ≥ {BAR_TIMES} ×"
                row.met = bool(took <= BAR_S and (row.ratio or 0) >= BAR_TIMES and row.agrees)
            rows.append(row)
    return rows


def ours(path: Path) -> AnnData:
    """The canonical cell table, of a section read as the window reads it."""
    return stplm.cell_table(stplm.read_section(path))


def by_spatialdata_io(path: Path) -> AnnData:
    """The table of a section that spatialdata-io read with its defaults, of the elements that the bundle has.

    Images are asked for by default too; the bundles simulated for this have none.
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
