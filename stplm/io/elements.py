"""Elements of a section around its table: the coordinate system in µm, cell circles, and what the table annotates."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

_RADIUS = (2.0, 8.0)


def add_microns(section: SpatialData, pixel_size: float) -> None:
    """Give every image, label image, shape and point element the coordinate system "microns", where it lacks it.

    ``pixel_size`` is µm per unit of the coordinate system "global" (pixels of the full-resolution image).
    """
    for _, _, element in section.gen_spatial_elements():
        _add_microns(element, pixel_size)


def _add_microns(element: Any, pixel_size: float) -> None:
    from spatialdata.transformations import Identity, Scale, Sequence, get_transformation, set_transformation

    known = get_transformation(element, get_all=True)
    assert isinstance(known, dict)
    if keys.MICRONS in known or not known:
        return
    first = known.get(keys.PIXELS) or next(iter(known.values()))
    factor = _uniform_scale(first)
    if factor is not None and np.isclose(factor * pixel_size, 1.0, rtol=1e-4):
        to_microns: Any = Identity()
    elif isinstance(first, Identity):
        to_microns = Scale([pixel_size, pixel_size], axes=("x", "y"))
    else:
        to_microns = Sequence([first, Scale([pixel_size, pixel_size], axes=("x", "y"))])
    set_transformation(element, to_microns, keys.MICRONS)


def _uniform_scale(transformation: Any) -> float | None:
    """The factor of a transformation that only scales x and y alike, else None."""
    matrix = transformation.to_affine_matrix(("x", "y"), ("x", "y"))
    factor = matrix[0, 0]
    return float(factor) if np.allclose(matrix, np.diag([factor, factor, 1.0])) else None


def vector_pixel_size(section: SpatialData) -> float | None:
    """µm per pixel told by shapes and points that are stored in µm and scaled to pixels; None where none is."""
    from spatialdata.transformations import get_transformation

    for elements in (section.shapes, section.points):
        for element in elements.values():
            known = get_transformation(element, get_all=True)
            assert isinstance(known, dict)
            if keys.PIXELS in known:
                factor = _uniform_scale(known[keys.PIXELS])
                if factor is not None and factor > 1.0:
                    return 1.0 / factor
    return None


def add_circles(section: SpatialData, table: AnnData, pixel_size: float | None = None) -> None:
    """Add ``cell_circles``: a circle for every cell, of the cell's area where that is known, else so that they touch.

    Needs positions in ``table.obsm["spatial"]``. Circles are stored in µm.
    """
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    from stplm.io.validate import nearest_distances

    xy = np.asarray(table.obsm[keys.SPATIAL], dtype=float)
    area = table.obs.get("cell_area")
    if area is not None and (np.asarray(area, dtype=float) > 0).all():
        radius: Any = np.sqrt(np.asarray(area, dtype=float) / np.pi)
    elif len(xy) > 1:
        radius = float(np.clip(np.median(nearest_distances(xy)) / 2, *_RADIUS))
    else:
        radius = _RADIUS[1]
    to_pixels: Any = Identity() if pixel_size is None else Scale([1 / pixel_size, 1 / pixel_size], axes=("x", "y"))
    section.shapes[keys.CELL_CIRCLES] = ShapesModel.parse(
        xy,
        geometry=0,
        radius=radius,
        index=pd.Index(table.obs_names.to_numpy(dtype=object), name=keys.CELL_ID),
        transformations={keys.PIXELS: to_pixels, keys.MICRONS: Identity()},
    )


def annotate(table: AnnData, region: str | None, instance: str = keys.CELL_ID) -> AnnData:
    """Tie a table to an element (in place): ``region`` is its name, ``instance`` the obs column with its ids or values.

    With ``region`` None the table is left tied to nothing.
    """
    from spatialdata.models import TableModel

    table.uns.pop(keys.ANNOTATION, None)
    if region is None:
        if keys.REGION in table.obs:
            del table.obs[keys.REGION]
        return table
    table.obs[keys.REGION] = pd.Categorical([region] * table.n_obs)
    return TableModel.parse(table, region=region, region_key=keys.REGION, instance_key=instance)


def put_table(section: SpatialData, table: AnnData) -> None:
    """Make ``table`` the section's cell table, replacing the one there."""
    with warnings.catch_warnings():
        # The table may annotate an element that was not asked for.
        warnings.simplefilter("ignore", UserWarning)
        if keys.TABLE in section.tables:
            del section.tables[keys.TABLE]
        section.tables[keys.TABLE] = table
