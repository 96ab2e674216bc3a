"""``cells.zarr.zip`` of a Xenium bundle: label images as lazy pyramids, and which value is which cell.

The value of a cell follows spatialdata-io, which knows the versions of the format: from XOA 2 on a polygon's place in
``polygon_sets/1/cell_index``, in 1.3 to 1.x ``seg_mask_value``. XOA 1.0 writes neither; there the value is looked for
in the mask under the cells' centroids.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import SectionError
from stplm.io.cell_ids import encode_cell_ids
from stplm.io.validate import reason

if TYPE_CHECKING:
    import dask.array as da
    import zarr
    from xarray import DataTree

CHUNK = 2048
_NAMES = (keys.NUCLEUS_LABELS, keys.CELL_LABELS)
_SMALLEST = 512
_PROBES = 60


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError) as error:
        raise SectionError(
            "The cell masks cannot be read: cells.zarr.zip is truncated, damaged or of an unknown version.",
            where=path,
            found=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {reason(error)}",
            expected="a Zarr archive with masks and cell_id",
            mend="Copy it again. Without the file the section opens too, with cells drawn from their boundaries.",
        ) from error


def open_masks(path: Path) -> zarr.Group:
    """The group in ``cells.zarr.zip``, checked to have a cell mask. Raises SectionError."""
    import zarr

    with _damage(path):
        group = zarr.open_group(zarr.storage.ZipStore(path, mode="r", read_only=True), mode="r")
        # A damaged archive shows here, not when the user looks.
        _array(group, "masks/1")
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    array = group[name]
    if not isinstance(array, zarr.Array):
        raise KeyError(f"{name} is not an array")
    return array


def mask_count(group: zarr.Group) -> list[int]:
    """Which masks there are: 0 nuclei, 1 cells."""
    return [i for i in (0, 1) if f"masks/{i}" in group]


def label_values(group: zarr.Group, cell_ids: NDArray[np.str_], path: Path) -> NDArray[np.int32] | None:
    """The value in the cell mask of every cell, int32 of shape (n_cells,), all different and at least 1.

    Cells without a mask get values above all that occur in the image. None where the format does not tell (XOA 1.0).
    """
    with _damage(path):
        raw = np.asarray(_array(group, "cell_id")[...])
        if raw.ndim != 2:
            return None
        stored = id_strings(raw)
        if "polygon_sets/1/cell_index" in group:
            owner = np.asarray(_array(group, "polygon_sets/1/cell_index")[...], dtype=np.int64)
            values = np.arange(1, len(owner) + 1)
        elif "seg_mask_value" in group:
            values = np.asarray(_array(group, "seg_mask_value")[...], dtype=np.int64)
            owner = np.arange(len(values))
        else:
            return None
        if np.array_equal(stored[owner], cell_ids):  # as a rule: a polygon a cell, in the cells' order
            return values.astype(np.int32)
        first = pd.Series(values, index=stored[owner])
    first = first[~first.index.duplicated()]
    found = first.reindex(cell_ids)
    missing = found.isna().to_numpy()
    if missing.all():
        raise SectionError(
            "The cell ids in the masks are not those in the matrix.",
            where=path,
            found=f"cells such as {', '.join(stored[:3])}",
            expected=f"cells such as {', '.join(cell_ids[:3])}",
            mend="Take cells.zarr.zip and cell_feature_matrix.h5 from the same run.",
        )
    result = found.to_numpy(dtype=float, na_value=0.0).astype(np.int64)
    result[missing] = int(values.max()) + 1 + np.arange(missing.sum())
    return result.astype(np.int32)


def probed_values(
    mask: Any, cell_ids: NDArray[np.str_], xy: NDArray[np.float64], pixel_size: float
) -> NDArray[np.int32] | None:
    """Label values of integer cell ids (XOA 1.0), told by looking under centroids: the id itself, or the row + 1.

    None when neither agrees with the mask.
    """
    rows = np.arange(1, len(cell_ids) + 1)
    try:
        numbers = cell_ids.astype(np.int64)
    except ValueError:
        numbers = rows
    for candidate in (numbers, rows):
        if candidate.min() >= 1 and mask_agreement(mask, candidate, xy, pixel_size) > 0.5:
            return candidate.astype(np.int32)
    return None


def mask_agreement(mask: Any, values: NDArray[Any], xy: NDArray[np.float64], pixel_size: float) -> float:
    """Share of some cells whose centroid (µm) lies on their own value in the mask; 0 if all lie outside the image.

    Cells are chosen from few places, so that only a few chunks of a large mask are decompressed.
    """
    pixels = np.floor(xy / pixel_size).astype(np.int64)
    inside = np.flatnonzero((pixels >= 0).all(axis=1) & (pixels < np.array(mask.shape)[::-1]).all(axis=1))
    if not inside.size:
        return 0.0
    hits = total = 0
    for seed in inside[np.linspace(0, inside.size - 1, 3).astype(int)]:
        near = inside[np.argsort(np.abs(pixels[inside] - pixels[seed]).max(axis=1), kind="stable")[: _PROBES // 3]]
        low, high = pixels[near].min(axis=0), pixels[near].max(axis=0) + 1
        if (high - low).max() > 2 * CHUNK:
            near, low, high = near[:1], pixels[seed], pixels[seed] + 1
        window = np.asarray(mask[low[1] : high[1], low[0] : high[0]])
        hits += int((window[pixels[near, 1] - low[1], pixels[near, 0] - low[0]] == values[near]).sum())
        total += len(near)
    return hits / total


def pyramids(path: Path, present: Iterable[int]) -> dict[str, DataTree]:
    """The label images of a bundle that are ``present`` (:func:`mask_count`), by the names of their elements.

    Read from the archive itself: a view of every 4th pixel takes every 4th pixel out of each chunk, where the arrays of
    spatialdata-io, put together into other chunks, copy all of them first (1.2 s against 2.7 s of processor time for
    the coarse view of 19,362 x 22,237 pixels).
    """
    import dask.array as da

    group = open_masks(path)
    return {
        _NAMES[i]: label_pyramid(da.from_array(_array(group, f"masks/{i}"), chunks=(CHUNK, CHUNK))) for i in present
    }


def label_pyramid(levels0: da.Array) -> DataTree:
    """A label image as a lazy multiscale element: every 2nd, 4th, ... pixel, so that a level never invents a value.

    Strided views cost a tenth of spatialdata's interpolating pyramid (measured 0.13 s against 1.47 s for the smallest
    level of 8192 × 8192 pixels), and no level converts labels to floating point.
    """
    from stplm.io.images import multiscale

    levels, factor = [levels0], 1
    height, width = levels0.shape
    while max(height, width) // factor > _SMALLEST and min(height, width) // factor > 1:
        factor *= 2
        rows, columns = height // factor, width // factor
        levels.append(levels0[factor // 2 :: factor, factor // 2 :: factor][:rows, :columns])
    return multiscale(levels, channels=None)


def id_strings(raw: NDArray[Any]) -> NDArray[np.str_]:
    """Ids of ``cell_id`` in the archive, (n, 2) number and dataset suffix, as the strings of the other files."""
    suffixes = raw[:, 1].astype(np.int64)
    ids = np.empty(len(raw), dtype=object)
    for suffix in np.unique(suffixes):
        rows = suffixes == suffix
        ids[rows] = encode_cell_ids(raw[rows, 0], int(suffix))
    return ids.astype(str)
