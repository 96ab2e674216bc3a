"""A section as plain arrays in µm, ready to be shown. Reads and computes; runs in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm_napari import spatialdata_dock
from stplm_napari.overlay import warm_up
from stplm_napari.pyramid import TileStore, image_levels, label_levels

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

NO_POSITIONS = (
    "This section has no cell positions, so there is no tissue to show. "
    "Cells can still be embedded, classified and exported."
)
_MAX_PIXELS = 64_000_000
"""Cells painted from outlines or centroids get at most this many pixels: 256 MB."""
_QUICK_PIXELS = 2_000_000
_FINEST_UM = 0.5
"""Pixel size of painted cells where the budget allows."""
_DAPI = ("dapi", "dna", "hoechst", "nuclei")


@dataclass(frozen=True)
class Placement:
    """Where a pixel grid lies in µm.

    ``matrix`` is 3 × 3 from (x, y, 1) in pixels, where pixel i covers [i, i + 1), to (x, y, 1) in µm.
    """

    matrix: NDArray[np.floating] = field(default_factory=lambda: np.eye(3))

    @property
    def to_pixel(self) -> NDArray[np.floating]:
        """3 × 3 from (x, y, 1) in µm to (column, row, 1), with pixel centres at whole numbers."""
        shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        return np.asarray(shift @ np.linalg.inv(self.matrix))

    def napari(self) -> dict[str, Any]:
        """``scale``, ``translate`` and ``affine`` of a napari layer, where pixel centres are at whole numbers."""
        m = self.matrix
        if np.allclose([m[0, 1], m[1, 0]], 0):
            scale = (float(m[1, 1]), float(m[0, 0]))
            return {
                "scale": scale,
                "translate": (float(m[1, 2]) + scale[0] / 2, float(m[0, 2]) + scale[1] / 2),
                "affine": None,
            }
        swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
        return {"scale": (1.0, 1.0), "translate": (0.5, 0.5), "affine": swap @ m @ swap}


@dataclass(frozen=True)
class Channel:
    """One image channel: its levels (finest first), where it lies, and the intensities drawn black and white."""

    name: str
    levels: Sequence[Any]
    placement: Placement
    contrast: tuple[float, float]
    element: str


@dataclass(frozen=True)
class CellImage:
    """The cell label image and how it belongs to the rows of the cell table.

    ``levels`` are 2-D integer images, finest first; ``values`` (n_cells,) the label of each row; ``element`` the
    SpatialData element it comes from, or None where the cells were painted; ``note`` a sentence for the user, or "".
    """

    levels: Sequence[Any]
    values: NDArray[np.int64]
    placement: Placement
    diameter_px: float
    centroids_um: NDArray[np.floating] | None
    element: str | None
    note: str = ""


@dataclass(frozen=True)
class PreparedSection:
    """What :func:`prepare_section` found: channels (DAPI first), cells, and a sentence where something is missing."""

    channels: Sequence[Channel]
    cells: CellImage | None
    message: str = ""


def prepare_section(section: SpatialData) -> PreparedSection:
    """Images and cells of a section, read as far as the first view needs. Call it outside the GUI thread."""
    channels, cells = prepare_images(section), prepare_cells(section)
    return PreparedSection(channels, cells, NO_POSITIONS if cells is None else cells.note)


def prepare_images(section: SpatialData) -> list[Channel]:
    """All channels of the morphology image (or of the only image there is), DAPI first; [] without an image.

    Like :func:`prepare_cells`, it computes for up to seconds: call it outside the GUI thread.
    """
    from spatialdata.models import get_channel_names

    from stplm.io.outlines import levels_of

    images = section.images
    name = keys.MORPHOLOGY if keys.MORPHOLOGY in images else next(iter(images), None)
    if name is None:
        return []
    placement = placement_of(section, images[name])
    if placement is None:
        return []
    names = [str(c) for c in get_channel_names(images[name])]
    names = ["DAPI"] if names in (["0"], [name]) else names
    channels, store = [], TileStore()
    for i, channel in enumerate(names):
        planes = image_levels(_enough_levels([level[i] for level in levels_of(images[name])]), store)
        channels.append(Channel(channel, planes, placement, contrast_of(planes), name))
    _warm_up_image()
    return sorted(channels, key=lambda c: not c.name.lower().startswith(_DAPI))


def prepare_cells(section: SpatialData) -> CellImage | None:
    """The cell label image; painted from outlines or centroids where the section has none; None without positions."""
    cells = _cells(section)
    if cells is not None:
        warm_up(cells.levels[0].dtype)
        spatialdata_dock.make_importable()
    return cells


def _cells(section: SpatialData) -> CellImage | None:
    from stplm.io.outlines import label_values, levels_of

    table = section.tables.get(keys.TABLE)
    if table is None or table.n_obs == 0:
        return None
    centroids = np.asarray(table.obsm[keys.SPATIAL], float)[:, :2] if keys.SPATIAL in table.obsm else None
    values = label_values(table)
    if keys.CELL_LABELS in section.labels and values is not None:
        element = section.labels[keys.CELL_LABELS]
        placement = placement_of(section, element)
        if placement is not None:
            levels = label_levels(levels_of(element), TileStore())
            diameter = _diameter(levels, len(values))
            return CellImage(levels, values, placement, diameter, centroids, keys.CELL_LABELS)
    return _painted(section, table, centroids)


def placement_of(section: SpatialData, element: Any) -> Placement | None:
    """Where an element lies in µm; None when nothing says so."""
    from stplm.io.outlines import affine_to_microns

    matrix = affine_to_microns(element, section.tables.get(keys.TABLE))
    return None if matrix is None else Placement(matrix)


def _painted(section: SpatialData, table: AnnData, centroids: NDArray[np.floating] | None) -> CellImage | None:
    from stplm.spatial.raster import default_radius, rasterise_cells

    outlines = _outlines(section, table)
    if outlines is not None:
        import shapely

        bounds = shapely.bounds(outlines)
        low, high = np.nanmin(bounds[:, :2], axis=0), np.nanmax(bounds[:, 2:], axis=0)
        note = "The cells are drawn from their outlines: the section brings no cell masks."
    elif centroids is not None and np.isfinite(centroids).all(axis=1).any():
        radius = default_radius(centroids)
        low, high = np.nanmin(centroids, axis=0) - radius, np.nanmax(centroids, axis=0) + radius
        note = "The cells are drawn as discs around their centres: the section brings neither masks nor outlines."
    else:
        return None
    pixel = max(_FINEST_UM, float(np.sqrt(np.prod(high - low) / _MAX_PIXELS)))
    size = (int((high[1] - low[1]) / pixel) + 1, int((high[0] - low[0]) / pixel) + 1)
    image = rasterise_cells(
        None if outlines is not None else centroids,
        polygons=outlines,
        pixel_size=pixel,
        shape=size,
        origin=(float(low[0]), float(low[1])),
    )
    placement = Placement(np.array([[pixel, 0, low[0]], [0, pixel, low[1]], [0, 0, 1.0]]))
    levels = label_levels([image], TileStore())
    values = np.arange(1, table.n_obs + 1, dtype=np.int64)
    return CellImage(levels, values, placement, _diameter(levels, table.n_obs), centroids, None, note)


def _outlines(section: SpatialData, table: AnnData) -> NDArray[np.object_] | None:
    """A polygon in µm for every cell that has a place, in table order; None where the section brings no outlines.

    Cells that miss in the outlines of the others become discs.
    """
    import shapely

    from stplm.errors import ExportError
    from stplm.io.outlines import cell_outlines
    from stplm.spatial.raster import MAX_RADIUS_UM

    if keys.CELL_BOUNDARIES not in section.shapes:
        return None
    try:
        outlines = cell_outlines(section, table)
    except ExportError:
        return None
    points = shapely.get_type_id(outlines) == 0
    if points.all():
        return None
    outlines[points] = shapely.buffer(outlines[points], MAX_RADIUS_UM / 2)
    return outlines


def _warm_up_image() -> None:
    """napari reads its table of units at the first layer that has one: here, not while the window waits."""
    from napari.layers import Image

    Image(np.zeros((2, 2), np.uint8), units=("um", "um"))


def _enough_levels(planes: list[Any]) -> list[Any]:
    """A pyramid down to about a thousand pixels, by striding where the element has too few levels of its own."""
    from stplm.spatial.raster import label_pyramid

    return [*planes[:-1], *label_pyramid(planes[-1], 1024)]


def contrast_of(planes: Sequence[Any]) -> tuple[float, float]:
    """Percentiles that make tissue stand out, bright debris or not, from the finest level that is quick to read."""
    quick = [plane for plane in planes if np.prod(plane.shape) <= _QUICK_PIXELS]
    values = np.asarray(quick[0] if quick else planes[-1])
    values = values[values > 0] if (values > 0).any() else values
    low, high = np.percentile(values, (2, 99.7))
    return float(low), float(max(high, low + 1))


def _diameter(levels: Sequence[Any], n_cells: int) -> float:
    """Diameter of a typical cell in pixels of the finest level: labelled area by number of cells."""
    coarse = np.asarray(levels[-1])
    area = float((coarse > 0).mean()) * float(np.prod(levels[0].shape))
    return float(np.sqrt(max(area, 1.0) / max(n_cells, 1)))
