"""Export a section or its cells: one function over all formats, and h5ad and SpatialData zarr themselves."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stplm.errors import ExportError
from stplm.io.explorer import read_explorer_groups, write_explorer_groups
from stplm.io.geojson import read_geojson, write_geojson
from stplm.io.groups import as_table
from stplm.io.staged import check_target, staged_file, staged_folder

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

__all__ = [
    "check_export",
    "export",
    "read_explorer_groups",
    "read_geojson",
    "with_ending",
    "write_explorer_groups",
    "write_geojson",
    "write_h5ad",
    "write_zarr",
]

Format = Literal["h5ad", "zarr", "explorer", "geojson"]
ENDINGS: dict[Format, tuple[str, ...]] = {
    "h5ad": (".h5ad",),
    "zarr": (".zarr",),
    "explorer": (".csv",),
    "geojson": (".geojson", ".json"),
}
"""Format -> the endings its files may have, the usual one first."""
_OTHER_ENDINGS = frozenset(
    (
        *(".csv", ".tsv", ".txt", ".xlsx", ".xls", ".parquet", ".json", ".geojson", ".xml", ".html"),
        *(".h5ad", ".h5", ".hdf5", ".zarr", ".loom", ".rds", ".xenium", ".zip", ".gz"),
        *(".png", ".svg", ".pdf", ".tif", ".tiff"),
    )
)


def export(
    section: SpatialData | AnnData,
    path: str | Path,
    what: Format | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write a section in a format that other tools read.

    Parameters
    ----------
    section
        SpatialData, or a cell table (every format but zarr).
    path
        The file (zarr: folder) to write; a missing ending is added.
    what
        "h5ad": the cell table. "zarr": the whole section as SpatialData. "explorer": cell groups CSV for Xenium
        Explorer. "geojson": cells by class, for QuPath and others. By default what the ending says.
    overwrite
        Whether what is there may be replaced.
    **options
        ``column`` and ``colours`` (explorer, geojson), ``units`` (geojson); see :func:`write_explorer_groups` and
        :func:`write_geojson`.

    Returns
    -------
    The path written.

    Raises
    ------
    ExportError
        An unknown format, an ending of another format, nothing predicted yet, or a place that cannot be written.
    """
    kind = what or _kind_of(path)
    if kind not in ENDINGS:
        raise ExportError("Unknown export format.", found=repr(kind), expected=", ".join(ENDINGS))
    target = with_ending(path, kind)
    if kind == "h5ad":
        _refuse(options, kind)
        return write_h5ad(section, target, overwrite=overwrite)
    if kind == "zarr":
        _refuse(options, kind)
        return write_zarr(section, target, overwrite=overwrite)
    if kind == "explorer":
        _refuse(options, kind, "column", "colours")
        return write_explorer_groups(as_table(section), target, overwrite=overwrite, **options)
    _refuse(options, kind, "column", "colours", "units")
    return write_geojson(section, target, overwrite=overwrite, **options)


def write_h5ad(section_or_table: SpatialData | AnnData, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write the cell table with everything in it as ``.h5ad`` (AnnData's HDF5 file).

    Raises
    ------
    ExportError
        The table holds something that HDF5 cannot, or the file cannot be written.
    """
    import anndata as ad

    table = as_table(section_or_table)
    with staged_file(path, overwrite=overwrite) as part, ad.settings.override(allow_write_nullable_strings=True):
        try:
            table.write_h5ad(part, compression="gzip")
        except OSError:
            raise
        except Exception as error:  # AnnData's own error for what it cannot store has no public name
            raise ExportError(
                "The cell table holds something that an h5ad file cannot.", where=path, found=str(error)
            ) from error
    return Path(path)


def write_zarr(section: SpatialData | AnnData, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write the whole section as a SpatialData zarr folder; lazy elements are copied piece by piece.

    ``section`` goes on reading from where it was read: its ``path`` does not change.

    Raises
    ------
    ExportError
        A table alone was given, ``path`` is where the section was read from (it would be destroyed while being
        read), a folder there is not a zarr store, or the folder cannot be written.
    """
    from spatialdata import SpatialData

    from stplm.io.zarr import is_zarr

    if not isinstance(section, SpatialData):
        raise ExportError(
            "Only a whole section can be written as SpatialData zarr.",
            found=type(section).__name__,
            mend="Write the cell table as .h5ad instead.",
        )
    target = Path(path)
    _refuse_own_source(section, target)
    if target.is_dir() and not is_zarr(target):
        raise ExportError(
            "The folder there is not a zarr store, so it will not be replaced.",
            where=target,
            mend="Choose another name.",
        )
    with staged_folder(target, overwrite=overwrite) as part:
        _write_store(section, part, target)
    return target


def check_export(path: str | Path, what: Format | None = None, *, overwrite: bool = False) -> Format:
    """The format that :func:`export` would write, or its ExportError about the name and the place: before long work."""
    kind = what or _kind_of(path)
    check_target(with_ending(path, kind), overwrite=overwrite)
    return kind


def with_ending(path: str | Path, what: Format) -> Path:
    """``path`` with the ending of the format: added where it is missing.

    Raises
    ------
    ExportError
        The ending is that of another kind of file, or there is no name at all.
    """
    path = Path(path)
    if not path.name:
        raise ExportError("The export needs a file name.", where=path)
    if path.suffix.lower() in ENDINGS[what]:
        return path
    if path.suffix.lower() in _OTHER_ENDINGS:
        raise ExportError(
            f"A name ending in {path.suffix} does not suit this export.",
            where=path,
            found=path.suffix,
            expected=" or ".join(ENDINGS[what]),
            mend=f"Name it {path.with_suffix(ENDINGS[what][0]).name}.",
        )
    return path.with_name(path.name + ENDINGS[what][0])


def _kind_of(path: str | Path) -> Format:
    ending = Path(path).suffix.lower()
    for kind, endings in ENDINGS.items():
        if ending in endings:
            return kind
    raise ExportError(
        "The name does not say which format to write.",
        where=path,
        expected="a name ending in " + ", ".join(endings[0] for endings in ENDINGS.values()),
        mend=f"Add an ending, or say which: what = {', '.join(ENDINGS)}.",
    )


def _refuse(options: dict[str, Any], kind: str, *known: str) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ExportError(f"The {kind} export has no option {unknown[0]!r}.", expected=", ".join(known) or "no options")


def _refuse_own_source(section: SpatialData, target: Path) -> None:
    from spatialdata import get_dask_backing_files

    goal = os.path.realpath(target)
    sources = [os.fspath(section.path)] if section.path is not None else []
    sources += get_dask_backing_files(section)
    for source in map(os.path.realpath, sources):
        if source == goal or source.startswith(goal + os.sep) or goal.startswith(source + os.sep):
            raise ExportError(
                "The section is being read from this very place, so it cannot be written over.",
                where=target,
                mend="Choose another name.",
            )


def _write_store(section: SpatialData, part: Path, target: Path) -> None:
    import anndata as ad
    import zarr

    try:
        with ad.settings.override(allow_write_nullable_strings=True):
            section.write(part, consolidate_metadata=False, update_sdata_path=False)
        with warnings.catch_warnings():
            # Parquet files inside a store are SpatialData's way; zarr remarks on them.
            warnings.simplefilter("ignore", category=zarr.errors.ZarrUserWarning)
            zarr.consolidate_metadata(zarr.storage.LocalStore(part))
    except OSError:
        raise
    except Exception as error:  # whatever an element's writer makes of content it cannot store
        raise ExportError(
            "The section holds something that a SpatialData zarr cannot.", where=target, found=str(error)
        ) from error
