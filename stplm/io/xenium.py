"""A Xenium bundle (the instrument's output folder) as SpatialData.

spatialdata-io reads the label images and transcripts. What real bundles bring beyond it is read by the modules beside
this one: the matrix (straight to CSR), cells as compressed CSV, the pyramids in the images, outlines, old versions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import SectionError
from stplm.io.cell_table import build_table
from stplm.io.elements import add_circles, add_microns, annotate, put_table
from stplm.io.frames import find_frame, read_frame, require_numbers
from stplm.io.matrix import FeatureMatrix, read_matrix
from stplm.io.validate import check_cell_ids
from stplm.io.xenium_bundle import (
    MATRIX,
    Bundle,
    base_section,
    check_bundle_positions,
    give_label_values,
    open_bundle,
)
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData


def read_xenium(
    folder: Path,
    *,
    images: bool = True,
    labels: bool = True,
    polygons: bool = False,
    transcripts: bool = False,
    progress: Progress = no_progress,
) -> SpatialData:
    """Read a Xenium bundle; see :func:`stplm.read_section`. Raises SectionError or GeneError."""
    bundle = open_bundle(folder)
    # The matrix is mostly decompressed, without the interpreter: the rest is read beside it.
    with ThreadPoolExecutor(1, "stplm bundle") as beside:
        cells = beside.submit(_cells_frame, bundle)
        base = beside.submit(base_section, bundle, labels=labels, transcripts=transcripts)
        matrix = read_matrix(folder / MATRIX, progress)
        table = _cells_table(bundle, matrix, cells.result())
        section = base.result()
    _compare(bundle, section, table, images=images)
    _add_polygons(bundle, section, all_of_them=polygons, cells=labels and keys.LABEL_VALUE not in table.obs)
    _tie_table(section, table, bundle.pixel_size)
    table.uns[keys.UNS][keys.UNS_QC]["warnings"] += bundle.notes
    add_microns(section, bundle.pixel_size)
    return section


def read_xenium_table(folder: Path, into: Callable[[csr_matrix], None], progress: Progress = no_progress) -> AnnData:
    """The cell table of ``read_xenium(folder)`` without its counts: ``into`` gets those, see
    :func:`stplm.io.matrix.read_matrix`. Outlines are not read. Raises SectionError or GeneError."""
    bundle = open_bundle(folder)
    cells = _cells_frame(bundle)  # first: it takes little, and may be what is wrong
    table = _cells_table(bundle, read_matrix(folder / MATRIX, progress, into), cells)
    _compare(bundle, base_section(bundle, labels=True, transcripts=False), table, images=True)
    table.uns[keys.UNS][keys.UNS_QC]["warnings"] += bundle.notes
    if keys.LABEL_VALUE in table.obs:
        return annotate(table, keys.CELL_LABELS, keys.LABEL_VALUE)
    outlined = find_frame(folder, keys.CELL_BOUNDARIES) is not None
    return annotate(table, keys.CELL_BOUNDARIES if outlined else keys.CELL_CIRCLES)


def _compare(bundle: Bundle, section: SpatialData, table: AnnData, *, images: bool) -> None:
    """Check the cells against images and masks, which are opened; give each cell its value in the mask."""
    if images:
        from stplm.io.images import read_images

        for name, image in read_images(bundle.folder).items():
            section.images[name] = image
        if keys.MORPHOLOGY not in section.images:
            bundle.notes.append("The bundle has no morphology image.")
    check_bundle_positions(bundle, section, table)
    if keys.CELL_LABELS in section.labels:
        give_label_values(bundle, section, table)


def read_bundle_images(folder: Path) -> SpatialData | None:
    """The images of a bundle alone; None where it has none. Raises SectionError."""
    from spatialdata import SpatialData

    from stplm.io.images import read_images

    bundle = open_bundle(folder)
    images = read_images(folder)
    if not images:
        return None
    section = SpatialData()
    for name, image in images.items():
        section.images[name] = image
    add_microns(section, bundle.pixel_size)
    return section


def _cells_frame(bundle: Bundle) -> tuple[Path, pd.DataFrame, NDArray[np.str_]]:
    """The bundle's list of cells: its file, its columns, and the ids."""
    path = find_frame(bundle.folder, "cells")
    assert path is not None
    cells = read_frame(path, [keys.CELL_ID, "x_centroid", "y_centroid"])
    require_numbers(cells, ["x_centroid", "y_centroid"], path)
    return path, cells, cells[keys.CELL_ID].to_numpy().astype(str)


def _cells_table(
    bundle: Bundle, matrix: FeatureMatrix, listing: tuple[Path, pd.DataFrame, NDArray[np.str_]]
) -> AnnData:
    path, cells, listed = listing
    if not np.array_equal(listed, matrix.cell_ids):  # as a rule they are in one order
        order = pd.Index(check_cell_ids(listed, path)).get_indexer(pd.Index(matrix.cell_ids))
        if (order < 0).any() or len(listed) != len(matrix.cell_ids):
            _refuse_mismatch(bundle.folder / MATRIX, path, matrix.cell_ids, listed)
        cells = cells.iloc[order]
    return build_table(
        matrix.counts,
        cell_ids=matrix.cell_ids,
        symbols=matrix.gene_names,
        gene_ids=matrix.gene_ids,
        positions=cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64),
        obs=cells.drop(columns=["x_centroid", "y_centroid"]),
        controls=matrix.controls,
        source=bundle.source,
        # Where they lie on the image says more than their distances, see _check_positions.
        unit_declared=True,
        where=path,
        genes_where=bundle.folder / MATRIX,
    )


def _refuse_mismatch(matrix: Path, cells: Path, counted: NDArray[np.str_], listed: NDArray[np.str_]) -> None:
    only_counted, only_listed = np.setdiff1d(counted, listed), np.setdiff1d(listed, counted)
    raise SectionError(
        f"The cells in {cells.name} are not those in {matrix.name}.",
        where=cells,
        found=f"{len(listed):,} cells, {len(only_listed):,} of them not in the matrix"
        + (f" (e.g. {only_listed[0]})" if len(only_listed) else "")
        + f"; {len(only_counted):,} cells of the matrix not here"
        + (f" (e.g. {only_counted[0]})" if len(only_counted) else ""),
        expected=f"the {len(counted):,} cells of the matrix, each once",
        mend="Take both files from the same run.",
    )


def _add_polygons(bundle: Bundle, section: SpatialData, *, all_of_them: bool, cells: bool) -> None:
    from stplm.io.boundaries import read_boundaries

    wanted = [keys.CELL_BOUNDARIES] if cells or all_of_them else []
    for name in [*wanted, *([keys.NUCLEUS_BOUNDARIES] if all_of_them else [])]:
        path = find_frame(bundle.folder, name)
        if path is not None:
            section.shapes[name] = read_boundaries(path, bundle.pixel_size)
        elif all_of_them:
            bundle.notes.append(f"The bundle has no {name}.")


def _tie_table(section: SpatialData, table: AnnData, pixel_size: float) -> None:
    """Tie the table to the label image, else to outlines that every cell has, else to circles."""
    if keys.LABEL_VALUE in table.obs:
        put_table(section, annotate(table, keys.CELL_LABELS, keys.LABEL_VALUE))
        return
    outlines = section.shapes.get(keys.CELL_BOUNDARIES)
    if outlines is None:
        add_circles(section, table, pixel_size)
    region = keys.CELL_CIRCLES if outlines is None else keys.CELL_BOUNDARIES
    put_table(section, annotate(table, region))
