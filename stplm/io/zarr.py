"""A SpatialData ``.zarr``: written by STPLM, by spatialdata-io, or by anyone else's tools."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import GeneError, SectionError
from stplm.io.cell_table import is_canonical, table_of
from stplm.io.elements import add_circles, add_microns, annotate, put_table, vector_pixel_size
from stplm.io.masks import mask_agreement
from stplm.io.tables import canonical_copy
from stplm.io.validate import reason

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
"""Files that only the root of a Zarr store or a group in it has."""
_USUAL_PIXEL_SIZES = (0.2125, 1.0)


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((folder / name).is_file() for name in MARKS)


def read_zarr(
    path: Path, *, images: bool = True, labels: bool = True, polygons: bool = True, transcripts: bool = True
) -> SpatialData:
    """Read a SpatialData zarr and make its cell table canonical; see :func:`stplm.read_section`.

    Outlines come along when asked for, and when there is no label image to draw cells from. Nothing is written.
    """
    import spatialdata

    if not is_zarr(path):
        there = sorted(p.name for p in path.iterdir())[:10] if path.is_dir() else []
        raise SectionError(
            "This is not a Zarr store.",
            where=path,
            found=", ".join(there) or ("an empty folder" if path.is_dir() else "a file"),
            expected="a folder written by SpatialData",
        )
    wanted = {"tables": True, "images": images, "labels": labels, "points": transcripts}
    has_labels = labels and (path / "labels").is_dir() and any(p.is_dir() for p in (path / "labels").iterdir())
    wanted["shapes"] = polygons or not has_labels
    try:
        with warnings.catch_warnings():
            # The table may annotate an element that was not asked for.
            warnings.simplefilter("ignore")
            section = spatialdata.read_zarr(path, selection=tuple(k for k, v in wanted.items() if v))
    except Exception as error:  # what a damaged store raises differs by element, version and codec
        raise SectionError(
            "The SpatialData store cannot be read: it is damaged, or of another version.",
            where=path,
            found=f"{type(error).__name__}: {reason(error)}",
            expected="a store that spatialdata.read_zarr reads",
            mend="Write it again, or copy it again from where it was made.",
        ) from error
    try:
        canonicalise(section)
    except (SectionError, GeneError) as error:
        if error.where is not None and str(path) in error.where:
            raise
        raise type(error)(
            error.problem, where=path, found=error.found, expected=error.expected, mend=error.mend
        ) from error
    return section


def canonicalise(section: SpatialData) -> AnnData:
    """Make the cell table of a section canonical and tie it to its cells, in place (in memory). Returns the table.

    Adds the coordinate system "microns" to elements without it. Raises SectionError or GeneError.
    """
    where = str(section.path) if section.path is not None else "the section"
    original = table_of(section)
    element, instance = _annotated(section, original)
    if is_canonical(original):
        table = original
    else:
        table = canonical_copy(original, where=where, source={"kind": "spatialdata"})
        if element is not None and element in section.labels and instance is not None:
            table.obs[keys.LABEL_VALUE] = original.obs[instance].to_numpy().astype(np.int32)
    if element is not None and element in section.labels and keys.CELL_LABELS not in section.labels:
        section.labels[keys.CELL_LABELS] = section.labels[element]
        element = keys.CELL_LABELS
    pixel_size = _pixel_size(section, table)
    source = table.uns[keys.UNS].setdefault(keys.UNS_SOURCE, {})
    source["path"], source["kind"] = where, "spatialdata"
    source.setdefault("pixel_size", pixel_size)
    add_microns(section, pixel_size)
    _tie(section, table, element)
    for name in [name for name, other in section.tables.items() if other is original and name != keys.TABLE]:
        del section.tables[name]
    return section.tables[keys.TABLE]


def _annotated(section: SpatialData, table: AnnData) -> tuple[str | None, str | None]:
    """The one element that a table annotates, where it is in the section, and the obs column of its instances."""
    attrs = table.uns.get(keys.ANNOTATION)
    if attrs is None:
        return None, None
    regions = attrs["region"]
    regions = [regions] if isinstance(regions, str) else list(regions)
    if len(regions) != 1 or (regions[0] not in section.labels and regions[0] not in section.shapes):
        return None, str(attrs["instance_key"])
    return str(regions[0]), str(attrs["instance_key"])


def _pixel_size(section: SpatialData, table: AnnData) -> float:
    """µm per unit of "global": as noted, as the elements stored in µm tell, or as the masks under the cells tell."""
    noted = table.uns[keys.UNS].get(keys.UNS_SOURCE, {}).get("pixel_size")
    if noted is not None:
        return float(noted)
    told = vector_pixel_size(section)
    if told is not None:
        return told
    if keys.CELL_LABELS in section.labels and keys.LABEL_VALUE in table.obs and keys.SPATIAL in table.obsm:
        element = section.labels[keys.CELL_LABELS]
        mask = element["scale0"]["image"].data if hasattr(element, "children") and element.children else element.data
        values, xy = table.obs[keys.LABEL_VALUE].to_numpy(), np.asarray(table.obsm[keys.SPATIAL])
        for candidate in _USUAL_PIXEL_SIZES:
            if mask_agreement(mask, values, xy, candidate) > 0.5:
                return candidate
    if section.images or section.labels:
        qc = table.uns[keys.UNS][keys.UNS_QC]
        note = "The store does not say how large its pixels are: its coordinates are taken to be µm."
        qc["warnings"] = [*map(str, qc.get("warnings", [])), note]
    return 1.0


def _tie(section: SpatialData, table: AnnData, element: str | None) -> None:
    if element == keys.CELL_LABELS and keys.LABEL_VALUE in table.obs:
        put_table(section, annotate(table, keys.CELL_LABELS, keys.LABEL_VALUE))
        return
    if keys.LABEL_VALUE in table.obs and keys.CELL_LABELS in section.labels:
        put_table(section, annotate(table, keys.CELL_LABELS, keys.LABEL_VALUE))
        return
    for name in dict.fromkeys([element, keys.CELL_BOUNDARIES, keys.CELL_CIRCLES]):
        if name is not None and name in section.shapes:
            ids = pd.Index(section.shapes[name].index.astype(str))
            if table.obs_names.isin(ids).mean() > 0.5:
                put_table(section, annotate(table, name))
                return
    if keys.SPATIAL in table.obsm and keys.CELL_CIRCLES not in section.shapes:
        add_circles(section, table)
        put_table(section, annotate(table, keys.CELL_CIRCLES))
        return
    put_table(section, annotate(table, None))
