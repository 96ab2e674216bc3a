"""``read_section``: find out what a path is, and hand it to the module that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stplm import keys
from stplm.errors import SectionError
from stplm.io.staged import restore_interrupted
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

_UPWARDS = 2
"""A file dropped from inside a bundle (morphology_focus/..., cells.parquet) lies at most so deep in it."""
_HDF5 = {".h5", ".hdf5"}
_EXPECTED = "a Xenium folder, a SpatialData .zarr, an .h5ad, a .loom, or a cell_feature_matrix.h5"


def read_section(
    path: str | Path,
    *,
    images: bool = True,
    labels: bool = True,
    polygons: bool = False,
    transcripts: bool = False,
    progress: Progress = no_progress,
) -> SpatialData:
    """Read a section: a Xenium bundle, a SpatialData ``.zarr``, an ``.h5ad``, a ``.loom``, or a 10x matrix.

    The cells are in ``section.tables["table"]``, always canonical (docs/architecture.md): integer counts of genes,
    positions in µm, Ensembl ids. Images and label images are lazy pyramids. Every element has the coordinate system
    "microns". What was found and dropped is in ``table.uns["stplm"]["qc"]``, what the user should know in its
    "warnings".

    Parameters
    ----------
    path
        The folder or file. A file inside a bundle, such as experiment.xenium, opens the bundle; its
        cell_feature_matrix.h5 opens the counts alone, without positions.
    images
        Read the morphology image, and H&E or IF images aligned to it.
    labels
        Read cell and nucleus masks. A bundle without masks gets its cell outlines instead.
    polygons
        Read cell and nucleus outlines as shapes.
    transcripts
        Read transcripts as points.
    progress
        Called with (done, total); may raise :class:`stplm.errors.Cancelled`.

    Raises
    ------
    SectionError
        There is nothing at ``path``, it is not a section, a file is truncated or missing, counts are not integers,
        ids occur twice or do not match, positions are not in µm.
    GeneError
        The genes are of another species, or none is known.
    """
    target = Path(path).expanduser()
    restore_interrupted(target)
    if not target.exists():
        raise SectionError(
            "There is no such file or folder.",
            where=target,
            found=_nearest(target),
            expected=_EXPECTED,
            mend="Check the spelling, and that the disk is connected.",
        )
    progress(0, 1)
    try:
        return _read(target, images, labels, polygons, transcripts, progress)
    except PermissionError as error:
        raise SectionError(
            "You may not read this.",
            where=error.filename or target,
            found="no permission",
            expected="files that you may read",
            mend="Ask the owner for permission, or copy the section to a folder of yours.",
        ) from error


def read_images_only(path: str | Path) -> SpatialData | None:
    """A Xenium bundle's images alone, placed in µm, without its cells: the quickest look at a section.

    None where ``path`` is no bundle, or one without images. Raises SectionError where they cannot be read.
    """
    from stplm.io.xenium import read_bundle_images
    from stplm.io.xenium_bundle import is_bundle

    target = Path(path).expanduser()
    folder = target if target.is_dir() else _bundle_around(target)
    return None if folder is None or not is_bundle(folder) else read_bundle_images(folder)


def _read(
    target: Path, images: bool, labels: bool, polygons: bool, transcripts: bool, progress: Progress
) -> SpatialData:
    if target.is_dir():
        return _read_folder(target, images, labels, polygons, transcripts, progress)
    if (store := _store_around(target)) is not None:
        return _read_folder(store, images, labels, polygons, transcripts, progress)
    suffix = target.suffix.lower()
    if suffix in {".h5ad", ".loom", *_HDF5}:
        return _as_section(_read_hdf5(target, suffix, progress))
    if (bundle := _bundle_around(target)) is not None:
        return _read_folder(bundle, images, labels, polygons, transcripts, progress)
    raise SectionError(
        "This file is not a section.",
        where=target,
        found=f"a file {target.name}",
        expected=_EXPECTED,
        mend=_hint(suffix),
    )


def _read_folder(
    folder: Path, images: bool, labels: bool, polygons: bool, transcripts: bool, progress: Progress
) -> SpatialData:
    from stplm.io.xenium import read_xenium
    from stplm.io.xenium_bundle import is_bundle
    from stplm.io.zarr import is_zarr, read_zarr

    if is_bundle(folder):
        return read_xenium(
            folder, images=images, labels=labels, polygons=polygons, transcripts=transcripts, progress=progress
        )
    if is_zarr(folder) or folder.suffix == ".zarr":
        return read_zarr(folder, images=images, labels=labels, polygons=polygons, transcripts=transcripts)
    inside = [f for f in sorted(folder.iterdir()) if f.is_dir() and is_bundle(f)]
    if len(inside) == 1:
        return _read_folder(inside[0], images, labels, polygons, transcripts, progress)
    if (bundle := _bundle_around(folder)) is not None:
        return _read_folder(bundle, images, labels, polygons, transcripts, progress)
    raise _no_bundle(folder, inside)


def _no_bundle(folder: Path, inside: list[Path]) -> SectionError:
    from stplm.io.frames import find_frame
    from stplm.io.xenium_bundle import EXPERIMENT, MATRIX

    if inside:
        return SectionError(
            "The folder holds several sections.",
            where=folder,
            found=", ".join(f.name for f in inside[:8]),
            expected="one section",
            mend="Open one of these folders.",
        )
    there = sorted(f.name for f in folder.iterdir() if not f.name.startswith("."))
    missing = [name for name in (EXPERIMENT, MATRIX) if name not in there]
    if find_frame(folder, "cells") is None:
        missing.append("cells.parquet (or cells.csv.gz)")
    openable = [name for name in there if Path(name).suffix in (".h5ad", ".loom", ".zarr") or name == MATRIX]
    more = f" and {len(there) - 12} more" if len(there) > 12 else ""
    return SectionError(
        "The folder is not a Xenium bundle.",
        where=folder,
        found=(", ".join(there[:12]) + more if there else "an empty folder") + f"; missing: {', '.join(missing)}",
        expected=_EXPECTED,
        mend=f"Open {openable[0]} in it" + (", which has counts without positions." if openable[0] == MATRIX else ".")
        if openable
        else "Choose the instrument's output folder: the one with experiment.xenium in it.",
    )


def _read_hdf5(path: Path, suffix: str, progress: Progress) -> AnnData:
    """A table from an HDF5 file: by what is in it, as the ending .h5 says little."""
    import h5py

    from stplm.io.hdf5 import open_hdf5
    from stplm.io.tables import read_h5ad, read_loom

    if suffix in _HDF5:
        with open_hdf5(path) as file:
            if isinstance(file.get("matrix"), h5py.Dataset) and "row_attrs" in file:
                suffix = ".loom"
            elif "X" in file and "obs" in file:
                suffix = ".h5ad"
    if suffix == ".h5ad":
        return read_h5ad(path)
    return read_loom(path, progress) if suffix == ".loom" else _read_matrix(path, progress)


def _read_matrix(path: Path, progress: Progress) -> AnnData:
    from stplm.io.cell_table import build_table
    from stplm.io.matrix import read_matrix
    from stplm.io.xenium_bundle import EXPERIMENT

    matrix = read_matrix(path, progress)
    note = "The matrix has no positions: everything but the tissue view works."
    if (path.parent / EXPERIMENT).is_file():
        note += " Open its folder to see the tissue."
    return build_table(
        matrix.counts,
        cell_ids=matrix.cell_ids,
        symbols=matrix.gene_names,
        gene_ids=matrix.gene_ids,
        controls=matrix.controls,
        source={"path": str(path), "kind": "matrix"},
        warnings=[note],
        where=path,
    )


def _as_section(table: AnnData) -> SpatialData:
    """A section of a table alone; where it has positions, cells are circles."""
    from spatialdata import SpatialData

    from stplm.io.elements import add_circles, annotate, put_table

    section = SpatialData()
    region = None
    if keys.SPATIAL in table.obsm:
        add_circles(section, table)
        region = keys.CELL_CIRCLES
    put_table(section, annotate(table, region))
    return section


def _bundle_around(path: Path) -> Path | None:
    from stplm.io.xenium_bundle import is_bundle

    return next((folder for folder in list(path.parents)[: _UPWARDS + 1] if is_bundle(folder)), None)


def _store_around(path: Path) -> Path | None:
    """The SpatialData store that a file (zarr.json) was dropped from."""
    from stplm.io.zarr import MARKS

    return path.parent if path.name in MARKS else None


def _nearest(path: Path) -> str:
    """The part of a path that does exist."""
    there = next((p for p in path.parents if p.exists()), None)
    return "nothing" if there is None else f"nothing; {there} exists"


def _hint(suffix: str) -> str:
    if suffix in (".tif", ".tiff"):
        return "An image alone has no cells; open the folder it came with."
    if suffix in (".rds", ".rdata", ".h5seurat"):
        return "Convert the R object to .h5ad first."
    if suffix in (".zip", ".gz", ".tar", ".tgz"):
        return "Unpack the archive and open the folder in it."
    return "Open the folder that the instrument wrote."
