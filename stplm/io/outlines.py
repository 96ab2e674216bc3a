"""Where cells lie and what outlines they have, in µm, whatever a section brings: polygons, labels or centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ExportError
from stplm.io.groups import cell_ids

if TYPE_CHECKING:
    from anndata import AnnData

_MAX_TRACED_PIXELS = 2**28
"""Larger label images are traced at a coarser step, so that tracing stays within about 2 GB of memory."""


class Grid(NamedTuple):
    """How the pixels of an image lie in µm: ``x = x0 + column * dx``, ``y = y0 + row * dy`` at upper left corners."""

    dx: float
    dy: float
    x0: float
    y0: float


def pixel_size_of(table: AnnData) -> float | None:
    """µm a pixel as the reader noted it, or None."""
    source = table.uns.get(keys.UNS, {}).get(keys.UNS_SOURCE, {})
    size = source.get("pixel_size")
    return None if size is None else float(size)


def affine_to_microns(element: Any, table: AnnData | None = None) -> NDArray[np.floating] | None:
    """The (3, 3) matrix from an element's own coordinates to µm; None where nothing says how large a pixel is."""
    from spatialdata.transformations import get_transformation

    known = get_transformation(element, get_all=True)
    axes = ("x", "y")
    if keys.MICRONS in known:
        return np.asarray(known[keys.MICRONS].to_affine_matrix(input_axes=axes, output_axes=axes))
    size = None if table is None else pixel_size_of(table)
    if size is None or keys.PIXELS not in known:
        return None
    matrix = np.array(known[keys.PIXELS].to_affine_matrix(input_axes=axes, output_axes=axes))
    matrix[:2] *= size
    return matrix


def pixels_a_micron(section: Any, table: AnnData) -> NDArray[np.floating]:
    """The (3, 3) matrix from µm to full-resolution image pixels.

    Raises
    ------
    ExportError
        The section does not say how large its pixels are.
    """
    if section is not None:
        for group in (section.labels, section.images):
            for name in (keys.CELL_LABELS, keys.NUCLEUS_LABELS, keys.MORPHOLOGY):
                if name in group and (matrix := affine_to_microns(group[name], table)) is not None:
                    return np.linalg.inv(matrix)
    if (size := pixel_size_of(table)) is None:
        raise ExportError(
            "The section does not say how large its pixels are.",
            where=f'uns["{keys.UNS}"]["{keys.UNS_SOURCE}"]["pixel_size"]',
            mend="Export in µm instead (units='microns').",
        )
    return np.diag([1 / size, 1 / size, 1.0])


def transformed(geometries: NDArray[np.object_], matrix: NDArray[np.floating]) -> NDArray[np.object_]:
    """Shapely geometries moved by an affine (3, 3) matrix."""
    import shapely

    return np.asarray(shapely.transform(geometries, lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2]))


def base_level(element: Any) -> Any:
    """The full-resolution array (dask) of an image or label element, be it one array or a pyramid."""
    return levels_of(element)[0]


def levels_of(element: Any) -> list[Any]:
    """All levels of an image or label element, finest first, as lazy arrays."""
    if hasattr(element, "children") and element.children:
        return [next(iter(child.data_vars.values())).data for child in element.children.values()]
    return [element.data]


def grid_of(element: Any, table: AnnData | None = None) -> Grid | None:
    """How the pixels of the finest level lie in µm; None where unknown, rotated or mirrored."""
    matrix = affine_to_microns(element, table)
    if matrix is None:
        return None
    (dx, xy, x0), (yx, dy, y0) = matrix[0], matrix[1]
    if abs(xy) > 1e-9 * abs(dx) or abs(yx) > 1e-9 * abs(dy) or dx <= 0 or dy <= 0:
        return None
    return Grid(float(dx), float(dy), float(x0), float(y0))


def label_values(table: AnnData) -> NDArray[np.int64] | None:
    """Each cell's value in the cell label image, or None where the table has none."""
    if keys.LABEL_VALUE not in table.obs:
        return None
    return np.asarray(table.obs[keys.LABEL_VALUE], dtype=np.int64)


def cell_outlines(section: Any, table: AnnData) -> NDArray[np.object_]:
    """The outline of every cell in µm, in the order of the table.

    Polygons of ``shapes["cell_boundaries"]`` come first; a cell without one is traced from the cell label image, and
    one that is not there either becomes a point.

    Parameters
    ----------
    section
        SpatialData, or None when there is only a table.
    table
        Its cell table.

    Returns
    -------
    (n_cells,) shapely geometries: Polygon, MultiPolygon or Point.

    Raises
    ------
    ExportError
        Neither outlines nor positions.
    """
    import shapely

    outlines = np.full(table.n_obs, None, dtype=object)
    if section is not None and keys.CELL_BOUNDARIES in section.shapes:
        _take_polygons(section, table, outlines)
    missing = _is_none(outlines)
    if missing.any() and section is not None and keys.CELL_LABELS in section.labels:
        _take_traced(section, table, outlines, missing)
        missing = _is_none(outlines)
    if missing.any():
        if keys.SPATIAL not in table.obsm:
            raise ExportError(
                "The cells have no positions.",
                where=f'obsm["{keys.SPATIAL}"]',
                mend="Open the whole Xenium bundle instead of its matrix alone.",
            )
        outlines[missing] = shapely.points(np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[missing, :2])
    return outlines


def _is_none(outlines: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.fromiter((outline is None for outline in outlines), dtype=bool, count=len(outlines))


def _take_polygons(section: Any, table: AnnData, outlines: NDArray[np.object_]) -> None:
    import pandas as pd
    import shapely

    shapes = section.shapes[keys.CELL_BOUNDARIES]
    matrix = affine_to_microns(shapes, table)
    if matrix is None:
        return
    index = pd.Index(shapes.index.astype(str))
    rows = index.get_indexer(cell_ids(table)) if index.is_unique else np.full(table.n_obs, -1)
    values = label_values(table)
    if (rows < 0).all() and values is not None and index.is_unique:
        rows = index.get_indexer(pd.Index(values.astype(str)))
    found = rows >= 0
    geometries = shapes.geometry.to_numpy()[rows[found]]
    usable = np.isin(shapely.get_type_id(geometries), (3, 6)) & ~shapely.is_empty(geometries)
    if not np.allclose(matrix, np.eye(3)):
        geometries = transformed(geometries, matrix)
    outlines[np.flatnonzero(found)[usable]] = geometries[usable]


def _take_traced(section: Any, table: AnnData, outlines: NDArray[np.object_], missing: NDArray[np.bool_]) -> None:
    import shapely

    from stplm.spatial.trace import trace_labels

    element, wanted = section.labels[keys.CELL_LABELS], label_values(table)
    grid = grid_of(element, table)
    if grid is None or wanted is None:
        return
    array = base_level(element)
    step = max(1, int(np.ceil(np.sqrt(array.shape[0] * array.shape[1] / _MAX_TRACED_PIXELS))))
    values, polygons = trace_labels(np.asarray(array[::step, ::step]))
    if not len(values):
        return
    at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    found = missing & (values[at] == wanted)
    scale = np.array([grid.dx, grid.dy]) * step
    # Stairs of one pixel become slopes; what stays is within a pixel of the label image.
    smooth = shapely.simplify(polygons[at[found]], 0.75)
    outlines[found] = shapely.transform(smooth, lambda xy: xy * scale + np.array([grid.x0, grid.y0]))
