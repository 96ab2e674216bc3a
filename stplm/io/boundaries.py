"""Cell and nucleus outlines of a Xenium bundle as polygons.

Read here and not by spatialdata-io, because its reader loads the count matrix a second time to get at them, and takes
Parquet only. The index is the same: cell ids for cells, label values for nuclei that have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm import keys
from stplm.errors import SectionError
from stplm.io.frames import read_frame, require_numbers

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


def read_boundaries(path: Path, pixel_size: float) -> GeoDataFrame:
    """Polygons of ``cell_boundaries`` or ``nucleus_boundaries`` (Parquet or CSV), in µm, as a shapes element.

    Raises SectionError where the file is damaged or its columns are not those of Xenium.
    """
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    frame = read_frame(path, ["cell_id", "vertex_x", "vertex_y"])
    require_numbers(frame, ["vertex_x", "vertex_y"], path)
    xy = frame[["vertex_x", "vertex_y"]].to_numpy(dtype=np.float64)
    if not np.isfinite(xy).all():
        raise SectionError("Some outlines have missing coordinates.", where=path, found="NaN in vertex_x or vertex_y")
    cells = frame["cell_id"].to_numpy(dtype=object)
    by_label = "label_id" in frame
    group = frame["label_id"].to_numpy() if by_label else cells
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    ends = np.append(starts[1:], len(group))
    # An outline needs three corners; crops and old versions bring some with fewer.
    whole = np.flatnonzero(ends - starts >= 3)
    starts, ends = starts[whole], ends[whole]
    if not len(starts):
        raise SectionError(f"The file {path.name} has no outlines.", where=path, expected="three points or more a cell")
    rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
    lengths = np.concatenate([[0], np.cumsum(ends - starts)])
    rings = shapely.linearrings(xy[rows], indices=np.repeat(np.arange(len(starts)), np.diff(lengths)))
    polygons = shapely.polygons(rings)
    if by_label and path.name.startswith(keys.NUCLEUS_BOUNDARIES):
        shapes = gpd.GeoDataFrame({"geometry": polygons, keys.CELL_ID: cells[starts]}, index=group[starts])
    else:
        shapes = gpd.GeoDataFrame({"geometry": polygons}, index=cells[starts])
        shapes.index.name = keys.CELL_ID
    # Old versions join the nuclei of one cell into one ring; such outlines cannot be drawn.
    shapes = shapes[shapely.is_valid(shapes.geometry.to_numpy()) & ~shapes.index.duplicated()]
    scale = Scale([1 / pixel_size, 1 / pixel_size], axes=("x", "y"))
    return ShapesModel.parse(shapes, transformations={keys.PIXELS: scale, keys.MICRONS: Identity()})
