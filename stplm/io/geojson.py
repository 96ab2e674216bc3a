"""Cells by class as GeoJSON, with the properties that QuPath reads: class, colour, measurements.

Each feature is on a line of its own. The file records its units: GeoJSON itself knows none.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stplm import __version__, keys
from stplm.errors import ExportError
from stplm.io.groups import as_table, cell_groups, cell_ids
from stplm.io.outlines import cell_outlines, pixel_size_of, pixels_a_micron, transformed
from stplm.io.region_geojson import classification
from stplm.io.staged import staged_file

if TYPE_CHECKING:
    from anndata import AnnData
    from geopandas import GeoDataFrame

Units = Literal["microns", "pixels"]
_NAMESPACE = uuid.UUID("6f0f3c1e-5f0b-5a53-9a43-2d8e6b1d7c10")
_RECORD = "stplm"
_DECIMALS = 3
_CHUNK = 5_000
_POINT = 0
MEASUREMENTS = {
    keys.CONFIDENCE: "Confidence",
    keys.TUMOUR: "Tumour probability",
    keys.UNKNOWN: "Unknown score",
    keys.N_COUNTS: "Counts",
    keys.N_GENES: "Genes",
}
"""Columns of ``obs`` that are written as measurements where they are there, and what the file calls them."""


def write_geojson(
    section: Any,
    path: str | Path,
    column: str = keys.CLASS,
    *,
    units: Units = "microns",
    colours: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write every cell as a GeoJSON feature with its class, colour and measurements.

    Outlines are the section's cell boundaries where it has them, else traced from the cell label image, else points.
    QuPath places objects in image pixels: write ``units="pixels"`` for it.

    Parameters
    ----------
    section
        SpatialData, or a cell table alone (then the cells are points).
    path
        The file to write.
    column
        Column of ``obs`` with the classes. Cells without one are "Unassigned" in grey.
    units
        "microns" (x to the right, y down) or "pixels" of the full-resolution image.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry; others take the palette's colour.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    The file written.

    Raises
    ------
    ExportError
        No such column, no positions, pixels asked for but their size is unknown, or the file cannot be written.
    """

    if units not in ("microns", "pixels"):
        raise ExportError("Unknown units.", found=repr(units), expected="'microns' or 'pixels'")
    table = as_table(section)
    whole = None if section is table else section
    groups, palette = cell_groups(table, column, colours)
    outlines = cell_outlines(whole, table)
    matrix = pixels_a_micron(whole, table) if units == "pixels" else None
    record = {"units": units, "pixel_size_um": pixel_size_of(table), "column": column, "version": __version__}
    with staged_file(path, overwrite=overwrite) as part, part.open("w", encoding="utf-8") as handle:
        handle.write(f'{{"type":"FeatureCollection","{_RECORD}":{json.dumps(record)},"features":[')
        for start in range(0, table.n_obs, _CHUNK):
            stop = min(start + _CHUNK, table.n_obs)
            shapes = outlines[start:stop] if matrix is None else transformed(outlines[start:stop], matrix)
            lines = _features(table, groups.iloc[start:stop].tolist(), palette, shapes, start)
            handle.write(("\n" if start == 0 else ",\n") + ",\n".join(lines))
        handle.write("\n]}\n")
    return Path(path)


def read_geojson(path: str | Path) -> tuple[GeoDataFrame, str]:
    """Read cells or regions from a GeoJSON file, ours or QuPath's.

    Returns
    -------
    frame
        GeoDataFrame indexed by ``cell_id`` (the feature's name, else its id, else its number), with ``group``,
        ``color`` ("#RRGGBB"), one column a measurement, and ``geometry``.
    units
        "microns", "pixels", or "unknown" where the file does not say (files of other programs).

    Raises
    ------
    ExportError
        The file is missing, cut off or not GeoJSON.
    """
    import geopandas as gpd
    import pandas as pd
    import shapely

    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        features = document if isinstance(document, list) else document.get("features", [document])
        geometries = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
        rows = [_row(feature, number) for number, feature in enumerate(features)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ExportError(
            "This is not a GeoJSON file of cells or regions.",
            where=path,
            found=f"{type(error).__name__}: {error}",
            expected="a FeatureCollection of polygons or points",
        ) from error
    columns = ["cell_id", "group", "color"]
    frame = pd.DataFrame(rows, columns=columns if not rows else None).set_index("cell_id")
    units = document.get(_RECORD, {}).get("units", "unknown") if isinstance(document, dict) else "unknown"
    return gpd.GeoDataFrame(frame, geometry=np.asarray(geometries, dtype=object)), str(units)


def _features(
    table: AnnData, groups: list[str], palette: Mapping[str, str], outlines: NDArray[np.object_], start: int
) -> list[str]:
    import shapely

    stop = start + len(groups)
    ids = cell_ids(table[start:stop])
    shapes = shapely.to_geojson(shapely.transform(outlines, lambda xy: np.round(xy, _DECIMALS)))
    points = shapely.get_type_id(outlines) == _POINT
    classes = {
        name: json.dumps({"name": name, "color": [int(colour[i : i + 2], 16) for i in (1, 3, 5)]}, ensure_ascii=False)
        for name, colour in palette.items()
    }
    measured = {
        name: table.obs[column].iloc[start:stop].to_numpy(dtype=np.float64)
        for column, name in MEASUREMENTS.items()
        if column in table.obs
    }
    lines = []
    for i, (cell, group) in enumerate(zip(ids, groups, strict=True)):
        # JSON has no NaN: what was not measured is left out.
        values = {name: round(float(v[i]), 6) for name, v in measured.items() if np.isfinite(v[i])}
        lines.append(
            f'{{"type":"Feature","id":"{uuid.uuid5(_NAMESPACE, cell)}","geometry":{shapes[i]},"properties":'
            f'{{"objectType":"{"detection" if points[i] else "cell"}","name":{json.dumps(cell, ensure_ascii=False)},'
            f'"classification":{classes[group]},"measurements":{json.dumps(values)}}}}}'
        )
    return lines


def _row(feature: dict[str, Any], number: int) -> dict[str, Any]:
    properties = feature.get("properties") or {}
    measurements = properties.get("measurements") or {}
    if isinstance(measurements, list):  # as QuPath wrote them before 0.4
        measurements = {entry["name"]: entry["value"] for entry in measurements}
    group, colour = classification(properties)
    return {
        "cell_id": str(properties.get("name") or feature.get("id") or number),
        "group": group,
        "color": colour,
        **{str(name): float(value) for name, value in measurements.items()},
    }
