"""Transcripts of a bundle that spatialdata-io cannot read: compressed CSV, or Parquet without ``cells.zarr.zip``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys
from stplm.io.frames import read_frame, require_numbers

if TYPE_CHECKING:
    import dask.dataframe as dd

_ROWS = 1_000_000
"""A partition: about 100 MB."""


def read_transcripts(path: Path, pixel_size: float) -> dd.DataFrame:
    """Transcripts with x, y, z in µm as a points element. Read into memory. Raises SectionError."""
    import dask.dataframe as dd
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity, Scale

    frame = read_frame(path, ["feature_name", "x_location", "y_location"])
    require_numbers(frame, ["x_location", "y_location"], path)
    frame["feature_name"] = frame["feature_name"].astype("category")
    coordinates = {axis: f"{axis}_location" for axis in "xyz" if f"{axis}_location" in frame}
    keywords: dict[str, Any] = {"instance_key": keys.CELL_ID} if keys.CELL_ID in frame else {}
    points: dd.DataFrame = PointsModel.parse(
        dd.from_pandas(frame, npartitions=1 + len(frame) // _ROWS),
        coordinates=coordinates,
        feature_key="feature_name",
        transformations={
            keys.PIXELS: Scale([1 / pixel_size, 1 / pixel_size], axes=("x", "y")),
            keys.MICRONS: Identity(),
        },
        **keywords,
    )
    return points
