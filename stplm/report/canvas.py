"""The picture of a tissue as arrays: cells and stain, both sampled onto the pixels of the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ExportError
from stplm.io.outlines import Grid, cell_outlines, grid_of, label_values, levels_of
from stplm.spatial.raster import MAX_RADIUS_UM, rasterise_cells

if TYPE_CHECKING:
    from anndata import AnnData

_CONTRAST = (5.0, 99.7)
_GAMMA = 0.8
_SAMPLE = 400_000


@dataclass(frozen=True)
class Field:
    """A rectangle of tissue in µm and the size in µm of the figure's pixels."""

    x0: float
    y0: float
    width: float
    height: float
    pixel: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the picture."""
        return max(1, round(self.height / self.pixel)), max(1, round(self.width / self.pixel))


def field_of(
    section: Any, table: AnnData, pixels: int, region: tuple[float, float, float, float] | None = None
) -> Field:
    """What to show: the region asked for, else the label image or stain, else the cells with a margin.

    Parameters
    ----------
    section, table
        SpatialData or None, and the cell table.
    pixels
        Pixels on the longer side of the picture.
    region
        (x0, y0, x1, y1) in µm.

    Raises
    ------
    ExportError
        The section has no positions, or the region is empty.
    """
    if region is None:
        region = _image_extent(section, table) or _cell_extent(table)
    x0, y0, x1, y1 = region
    if not (x1 > x0 and y1 > y0):
        raise ExportError("The region to show is empty.", found=str(region), expected="(x0, y0, x1, y1) in µm")
    return Field(x0, y0, x1 - x0, y1 - y0, max(x1 - x0, y1 - y0) / pixels)


def paint_cells(section: Any, table: AnnData, field: Field) -> NDArray[np.int64]:
    """Which cell each pixel shows: (rows, columns) of the cell's row in the table, -1 for none.

    From the label image where there is one, else from the outlines, else as dots around the centroids.
    """
    rows = _from_labels(section, table, field)
    if rows is not None:
        return rows
    origin = (field.x0, field.y0)
    if section is not None and keys.CELL_BOUNDARIES in section.shapes:
        outlines = cell_outlines(section, table)
        image = rasterise_cells(polygons=outlines, pixel_size=field.pixel, shape=field.shape, origin=origin)
    else:
        xy = _positions(table)
        image = rasterise_cells(xy, pixel_size=field.pixel, shape=field.shape, origin=origin)
    return image.astype(np.int64) - 1


def stain(section: Any, table: AnnData, field: Field) -> NDArray[np.float32] | None:
    """The nuclear stain in [0, 1], (rows, columns), stretched between percentiles; None where there is no image."""
    if section is None:
        return None
    name = next((n for n in (keys.MORPHOLOGY, "morphology_mip") if n in section.images), None)
    if name is None or (grid := grid_of(section.images[name], table)) is None:
        return None
    levels = levels_of(section.images[name])
    channel = _nuclear_channel(section.images[name])
    fine = levels[0].shape
    chosen, factor = levels[0], 1.0
    for level in levels:  # the coarsest level that is still finer than the figure
        ratio = fine[-1] / level.shape[-1]
        if grid.dx * ratio <= field.pixel * 1.01:
            chosen, factor = level, ratio
    plane = chosen[channel]
    scaled = Grid(grid.dx * factor, grid.dy * factor, grid.x0, grid.y0)
    block = max(1, int(field.pixel / scaled.dx))
    sampled, inside = _sample(plane, scaled, field, block, average=True)
    values = sampled[inside].astype(np.float32)
    if not values.size:
        return None
    step = max(1, values.size // _SAMPLE)
    low, high = np.percentile(values[::step], _CONTRAST)
    grey: NDArray[np.float32] = np.clip((sampled.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) ** _GAMMA
    grey[~inside] = 0
    return grey.astype(np.float32)


def edges(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels of cells whose right or lower neighbour shows something else."""
    edge = np.zeros(rows.shape, dtype=bool)
    edge[:, :-1] |= rows[:, :-1] != rows[:, 1:]
    edge[:-1] |= rows[:-1] != rows[1:]
    return edge & (_grown(rows) >= 0)


def _grown(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest row at a pixel, its right and its lower neighbour: 0 or more where a cell touches."""
    out = rows.copy()
    out[:, :-1] = np.maximum(out[:, :-1], rows[:, 1:])
    out[:-1] = np.maximum(out[:-1], rows[1:])
    return out


def _positions(table: AnnData) -> NDArray[np.float64]:
    if keys.SPATIAL not in table.obsm:
        raise ExportError(
            "The cells have no positions, so there is no tissue to show.",
            where=f'obsm["{keys.SPATIAL}"]',
            mend="Open the whole Xenium bundle instead of its matrix alone.",
        )
    return np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[:, :2]


def _cell_extent(table: AnnData) -> tuple[float, float, float, float]:
    xy = _positions(table)
    xy = xy[np.isfinite(xy).all(axis=1)]
    if not len(xy):
        raise ExportError("No cell has a position.", where=f'obsm["{keys.SPATIAL}"]')
    low, high = xy.min(axis=0) - 1.5 * MAX_RADIUS_UM, xy.max(axis=0) + 1.5 * MAX_RADIUS_UM
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _image_extent(section: Any, table: AnnData) -> tuple[float, float, float, float] | None:
    if section is None:
        return None
    for group in (section.labels, section.images):
        for name in (keys.CELL_LABELS, keys.MORPHOLOGY):
            if name in group and (grid := grid_of(group[name], table)) is not None:
                rows, columns = levels_of(group[name])[0].shape[-2:]
                return grid.x0, grid.y0, grid.x0 + columns * grid.dx, grid.y0 + rows * grid.dy
    return None


def _from_labels(section: Any, table: AnnData, field: Field) -> NDArray[np.int64] | None:
    values = label_values(table)
    if section is None or values is None or keys.CELL_LABELS not in section.labels:
        return None
    grid = grid_of(section.labels[keys.CELL_LABELS], table)
    if grid is None:
        return None
    array = levels_of(section.labels[keys.CELL_LABELS])[0]
    step = max(1, int(field.pixel / max(grid.dx, grid.dy) / 2))
    sampled, inside = _sample(array, grid, field, step, average=False)
    labels = np.where(inside, sampled, 0).astype(np.int64)
    row_of = np.full(int(max(labels.max(initial=0), values.max(initial=0))) + 1, -1, dtype=np.int64)
    row_of[values[values > 0]] = np.flatnonzero(values > 0)
    return row_of[labels]


def _sample(
    array: Any, grid: Grid, field: Field, step: int, *, average: bool
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Nearest source pixel for each pixel of the field, reading no more of a lazy array than is shown.

    ``step`` source pixels are averaged (stain) or skipped (labels) first. Also returns what lies inside the array.
    """
    rows, columns = field.shape
    y = (field.y0 + (np.arange(rows) + 0.5) * field.height / rows - grid.y0) / grid.dy
    x = (field.x0 + (np.arange(columns) + 0.5) * field.width / columns - grid.x0) / grid.dx
    inside = ((y >= 0) & (y < array.shape[0]))[:, None] & ((x >= 0) & (x < array.shape[1]))[None, :]
    iy, ix = np.clip(y.astype(np.int64), 0, array.shape[0] - 1), np.clip(x.astype(np.int64), 0, array.shape[1] - 1)
    top, left = int(iy.min() // step * step), int(ix.min() // step * step)
    part = array[top : int(iy.max()) + 1, left : int(ix.max()) + 1]
    if average and step > 1 and min(part.shape) >= step:
        import dask.array as da

        part = np.asarray(da.coarsen(np.mean, da.asarray(part), {0: step, 1: step}, trim_excess=True))
    else:
        part = np.asarray(part[::step, ::step])
    iy = np.minimum((iy - top) // step, part.shape[0] - 1)
    ix = np.minimum((ix - left) // step, part.shape[1] - 1)
    return part[iy[:, None], ix[None, :]], inside


def _nuclear_channel(element: Any) -> int:
    from spatialdata.models import get_channel_names

    names = [str(name).lower() for name in get_channel_names(element)]
    return next((i for i, name in enumerate(names) if "dapi" in name), 0)
