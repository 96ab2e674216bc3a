"""Images of a Xenium bundle as lazy multiscale elements, from the pyramid that the OME-TIFF itself holds.

spatialdata-io reads the full-resolution plane as one chunk and computes a pyramid from it (its issue 407), so that
the overview of a section would first decode gigabytes. Here every level comes from the file, tile by tile.
"""

from __future__ import annotations

import re
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm import keys
from stplm.errors import SectionError
from stplm.io.validate import reason

if TYPE_CHECKING:
    import dask.array as da
    from xarray import DataTree

CHUNK = 1024
MIP = "morphology_mip"
_SINGLE_FILES = ("morphology_focus.ome.tif", "morphology_mip.ome.tif", "morphology.ome.tif")
# The four stains of the cell segmentation kit, in the order of the files (XOA 2 and 3 do not always name them).
_KIT = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
_ALIGNED = ("he_image", "if_image")


def read_images(folder: Path) -> dict[str, DataTree]:
    """The morphology image, and images that were aligned to it, of a Xenium bundle: element name -> lazy pyramid.

    The morphology image is ``morphology_focus``, from a folder of channels (XOA 2 and later), a single file, the
    maximum projection (``morphology_mip``), or the middle plane of the stack, the first of these that is there.

    Raises
    ------
    SectionError
        An image cannot be opened, or the channels do not have the same size.
    """
    images: dict[str, DataTree] = {}
    channel_files = sorted(f for f in (folder / keys.MORPHOLOGY).glob("*.ome.tif") if not f.name.startswith("."))
    if channel_files:
        images[keys.MORPHOLOGY] = _channels(channel_files)
    else:
        single = [folder / name for name in _SINGLE_FILES if (folder / name).is_file()]
        if single:
            images[keys.MORPHOLOGY] = _channels(single[:1])
            if single[0].name == _SINGLE_FILES[0] and len(single) > 1 and single[1].name == _SINGLE_FILES[1]:
                images[MIP] = _channels(single[1:2])
    for suffix in _ALIGNED:
        for file in sorted(folder.glob(f"*{suffix}.ome.tif")):
            if not file.name.startswith("."):
                images[suffix if suffix not in images else file.name.removesuffix(".ome.tif")] = _aligned(file)
    return images


def _channels(files: Sequence[Path]) -> DataTree:
    """One image of the channels in ``files``, one file or several."""
    import dask.array as da

    parts = [_levels(file) for file in files]
    shapes = {levels[0].shape[1:] for levels in parts}
    if len(shapes) > 1:
        raise SectionError(
            "The channels of the morphology image do not have the same size.",
            where=files[0].parent,
            found=", ".join(f"{file.name} {levels[0].shape[1:]}" for file, levels in zip(files, parts, strict=True)),
            expected="one size",
        )
    depth = min(len(levels) for levels in parts)
    merged = [da.concatenate([levels[i] for levels in parts], axis=0) for i in range(depth)]
    return multiscale(merged, _channel_names(files, merged[0].shape[0]))


def _aligned(file: Path) -> DataTree:
    """An H&E or IF image, with the affine transformation of its alignment file where there is one."""
    import pandas as pd
    from spatialdata.transformations import Affine, set_transformation

    levels = _levels(file)
    count = levels[0].shape[0]
    tree = multiscale(levels, ["r", "g", "b", "a"][:count] if count in (3, 4) else _channel_names([file], count))
    alignment = file.with_name(file.name.removesuffix(".ome.tif") + "alignment.csv")
    if alignment.is_file():
        try:
            matrix = pd.read_csv(alignment, header=None).to_numpy(dtype=float)
            affine = Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
        except ValueError as error:
            raise SectionError(
                "The alignment of an image cannot be read.",
                where=alignment,
                found=reason(error),
                expected="a 3 × 3 matrix as CSV",
            ) from error
        set_transformation(tree, affine, keys.PIXELS)
    return tree


def _levels(file: Path) -> list[da.Array]:
    """The pyramid levels in a TIFF as lazy arrays (channels, y, x), largest first."""
    import dask.array as da
    import tifffile
    import zarr

    try:
        # The OME metadata names the other channels' files, which would be opened too; each file is read by itself.
        tiff = tifffile.TiffFile(file, is_ome=False)
        series = tiff.series[0]
        stores = [series.aszarr(level=i) for i in range(len(series.levels))]
        # The file stays open for the lazy levels, which hold it, and is closed after the last of them.
        weakref.finalize(tiff, tiff.filehandle.close)
        arrays = [zarr.open_array(store, mode="r") for store in stores]
        levels = [_planes(da.from_array(a, chunks=_chunks(a.shape, a.chunks)), series.axes, file) for a in arrays]
        # A truncated file still has its header: the last tile written shows whether the pixels are there.
        np.asarray(arrays[-1][..., -1:, -1:] if series.axes[-1] == "X" else arrays[-1][-1:, -1:])
        _check_complete(tiff, file)
    except PermissionError:
        raise
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, RuntimeError, KeyError) as error:
        raise SectionError(
            "An image cannot be opened: it is truncated, damaged or of an unknown format.",
            where=file,
            found=f"{file.stat().st_size:,} bytes; {reason(error)}",
            expected="a complete OME-TIFF",
            mend="Copy it again, or open the section without images.",
        ) from error
    return levels


def _check_complete(tiff: object, file: Path) -> None:
    size = file.stat().st_size
    for page in getattr(tiff, "pages", []):
        for part in (page, *(page.pages or ())):
            ends = np.asarray(part.dataoffsets, dtype=np.int64) + np.asarray(part.databytecounts, dtype=np.int64)
            if ends.size and int(ends.max()) > size:
                raise ValueError(f"pixels are expected up to byte {int(ends.max()):,}")


def _chunks(shape: tuple[int, ...], tiles: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of whole tiles near ``CHUNK`` pixels wide: one plane each, and not thousands of tiny ones."""
    return tuple(
        min(n, max(t, CHUNK // t * t)) if n > 64 and i >= len(shape) - 3 else min(n, t)
        for i, (n, t) in enumerate(zip(shape, tiles, strict=True))
    )


def _planes(array: da.Array, axes: str, file: Path) -> da.Array:
    """An image with whatever axes as (channels, y, x); of a stack (many unnamed planes) the middle one."""
    import dask.array as da

    if axes[-1] == "S":
        array, axes = da.moveaxis(array, -1, 0), axes[-1] + axes[:-1]
    if axes[-2:] != "YX":
        raise ValueError(f"axes {axes}")
    planes = array.reshape((-1, *array.shape[-2:])) if array.ndim != 3 else array
    if file.name == _SINGLE_FILES[2] and planes.shape[0] > 1:
        middle = planes.shape[0] // 2
        planes = planes[middle : middle + 1]
    return planes


def _channel_names(files: Sequence[Path], count: int) -> list[str]:
    """Names from the OME metadata, else those of the segmentation kit, else from the file names; all different."""
    import tifffile

    names: list[str] = []
    with tifffile.TiffFile(files[0]) as tiff:
        if tiff.ome_metadata:
            try:
                tree = ElementTree.fromstring(tiff.ome_metadata)
                names = [e.get("Name", "") for e in tree.iter() if e.tag.endswith("}Channel") or e.tag == "Channel"]
            except ElementTree.ParseError:
                names = []
    indices = [int(m.group(1)) if (m := re.search(r"(?:ch|_)(\d{4})", f.name)) else i for i, f in enumerate(files)]
    if len(files) == count and names and max(indices) < len(names):
        names = [names[i] for i in indices]
    if len(names) != count or len(set(names)) != count or not all(names):
        if count <= len(_KIT) and (count in (1, len(_KIT)) or all(i < len(_KIT) for i in indices)):
            names = [_KIT[i] for i in indices] if len(indices) == count else list(_KIT[:count])
        else:
            names = [f"channel {i}" for i in range(count)]
    return names


def multiscale(levels: Sequence[da.Array], channels: Sequence[str] | None) -> DataTree:
    """A multiscale image (channels given, levels (c, y, x)) or label image (levels (y, x)) from ready levels."""
    from spatialdata.models import Image2DModel, Labels2DModel
    from spatialdata.transformations import Identity, set_transformation
    from xarray import DataArray, Dataset, DataTree

    dims = ("y", "x") if channels is None else ("c", "y", "x")
    base = levels[0].shape[-2:]
    nodes = {}
    for i, level in enumerate(levels):
        steps = [base[j] / level.shape[j - 2] for j in (0, 1)]
        coordinates = {d: (np.arange(level.shape[j - 2]) + 0.5) * steps[j] for j, d in enumerate(("y", "x"))}
        if channels is not None:
            coordinates["c"] = np.asarray(channels)
        nodes[f"scale{i}"] = Dataset({"image": DataArray(level, dims=dims, coords=coordinates, name="image")})
    tree = DataTree.from_dict(nodes)
    set_transformation(tree, {keys.PIXELS: Identity()}, set_all=True)
    (Labels2DModel if channels is None else Image2DModel)().validate(tree)
    return tree
