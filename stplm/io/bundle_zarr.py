"""``cells.zarr.zip`` of a Xenium bundle: ids, summary, label images and outlines (10x, "Overview of Zarr files").

Zarr format 2 inside an uncompressed zip, as the instrument writes it, so that Xenium Explorer and spatialdata-io read
it. The zip carries no clock times: the same cells give the same bytes.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import zarr

    from stplm.io.bundle_outlines import Outlines

MASK_CHUNK = 1024
SUMMARY_COLUMNS = (
    "cell_centroid_x",
    "cell_centroid_y",
    "cell_area",
    "nucleus_centroid_x",
    "nucleus_centroid_y",
    "nucleus_area",
    "z_level",
    "nucleus_count",
)
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class Raster(Protocol):
    """Anything two-dimensional that gives an array when sliced: NumPy, memory map, Zarr, Dask, or drawn on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> Any: ...


def write_cells_zarr(
    path: Path,
    *,
    cell_id: npt.NDArray[np.uint32],
    summary: npt.NDArray[np.float64],
    pixel_size: float,
    cell_labels: Raster | None,
    nucleus_labels: Raster | None,
    cell_outlines: Outlines | None,
    nucleus_outlines: Outlines | None,
    nucleus_cell: npt.NDArray[np.integer],
    method: str,
) -> None:
    """Write ``cells.zarr.zip``.

    ``cell_id`` is (n, 2), ``summary`` (n, 8) in the order of ``SUMMARY_COLUMNS``; ``nucleus_cell`` (nuclei,) is the
    row of the cell that nucleus label ``i + 1`` belongs to. Label images may be missing; then ``masks`` is left out.
    """
    import zarr

    folder = path.with_name(path.name + ".folder")
    root = zarr.open_group(folder, mode="w", zarr_format=2)
    root.attrs.update(
        {
            "major_version": 6,
            "minor_version": 2,
            "name": "CellSegmentationDataset",
            "number_cells": len(cell_id),
            "polygon_set_descriptions": ["DAPI-based nuclei segmentation", "Cell segmentation"],
            "polygon_set_display_names": ["Nucleus boundaries", "Cell boundaries"],
            "polygon_set_names": ["nucleus", "cell"],
            "segmentation_methods": [method],
            "spatial_units": "microns",
        }
    )
    rows = max(1, min(len(cell_id), 65_536))
    _array(root, "cell_id", cell_id, (rows, 1))
    stored = _array(root, "cell_summary", summary, (rows, 1))
    stored.attrs.update(
        {"column_names": list(SUMMARY_COLUMNS), "column_descriptions": [c.replace("_", " ") for c in SUMMARY_COLUMNS]}
    )
    if cell_labels is not None:
        masks = root.create_group("masks")
        scale = np.diag([1 / pixel_size, 1 / pixel_size, 1.0, 1.0]).astype(np.float32)
        _array(masks, "homogeneous_transform", scale, (4, 4))
        _mask(masks, "1", cell_labels, cell_labels.shape)
        _mask(masks, "0", nucleus_labels, cell_labels.shape)
    sets = root.create_group("polygon_sets")
    _polygons(sets, "0", nucleus_outlines, np.asarray(nucleus_cell))
    _polygons(sets, "1", cell_outlines, np.arange(len(cell_id)))
    _zip(folder, path)
    shutil.rmtree(folder)


def _array(group: zarr.Group, name: str, data: npt.NDArray[Any], chunks: tuple[int, ...]) -> zarr.Array[Any]:
    array = _empty(group, name, data.shape, chunks, data.dtype)
    array[...] = data
    return array


def _empty(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: npt.DTypeLike
) -> zarr.Array[Any]:
    from numcodecs import Blosc

    squeezed = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
    compressor = Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)
    return group.create_array(name, shape=shape, chunks=squeezed, dtype=dtype, compressors=compressor, fill_value=0)


def _mask(group: zarr.Group, name: str, labels: Raster | None, shape: tuple[int, ...]) -> None:
    """Copy a label image chunk by chunk, on all cores, so that one larger than memory passes through."""
    array = _empty(group, name, shape, (MASK_CHUNK, MASK_CHUNK), np.uint32)
    if labels is None:
        return

    def copy(window: tuple[slice, slice]) -> None:
        array[window] = np.asarray(labels[window], dtype=np.uint32)

    each_window(copy, shape, MASK_CHUNK)


def each_window(do: Callable[[tuple[slice, slice]], None], shape: tuple[int, ...], size: int) -> None:
    """Call ``do`` for every window of ``size`` x ``size`` pixels (less at the border) of an image, in threads."""
    windows = [
        (slice(top, min(top + size, shape[0])), slice(left, min(left + size, shape[1])))
        for top in range(0, shape[0], size)
        for left in range(0, shape[1], size)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(do, windows):
            pass


def _polygons(sets: zarr.Group, name: str, outlines: Outlines | None, cell_index: npt.NDArray[np.integer]) -> None:
    """One polygon set: vertices padded with NaN to the longest ring, x and y interleaved."""
    count = len(cell_index)
    numbers = np.zeros(count, dtype=np.int32)
    vertices = np.full((count, 2), np.nan, dtype=np.float32)
    if outlines is not None and len(outlines.labels):
        lengths = np.diff(outlines.offsets)
        rows = outlines.labels - 1
        numbers[rows] = lengths
        padded = np.full((count, int(lengths.max()), 2), np.nan, dtype=np.float32)
        position = np.arange(len(outlines.xy)) - np.repeat(outlines.offsets[:-1], lengths)
        padded[np.repeat(rows, lengths), position] = outlines.xy
        vertices = padded.reshape(count, -1)
    group = sets.create_group(name)
    chunk = max(1, min(count, 65_536))
    _array(group, "cell_index", cell_index.astype(np.uint32), (chunk,))
    _array(group, "method", np.zeros(count, dtype=np.uint32), (chunk,))
    _array(group, "num_vertices", numbers, (chunk,))
    _array(group, "vertices", vertices, (chunk, vertices.shape[1]))


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=_LONG_AGO)
            entry.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)
