"""Drawn regions as files that other programs read. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stplm.io.exchange import Outline

QUPATH, GEOJSON, SELECTIONS = "regions_qupath", "regions_geojson", "regions_csv"


def write_regions(
    section: Any,
    table: Any,
    path: str | Path,
    what: str,
    regions: Sequence[Mapping[str, Any]],
    colours: Mapping[str, str],
    *,
    overwrite: bool,
) -> Path:
    """Write regions (as :meth:`stplm_napari.regions.Region.to_json`) as GeoJSON in pixels or µm, or as selections.

    Raises ExportError.
    """
    from stplm.io import region_geojson, selections
    from stplm.io.outlines import pixels_a_micron

    outlines = [
        Outline(
            str(r["name"]),
            tuple(np.array(ring, np.float64) for ring in r["rings"]),
            str(r.get("class_name", "")),
            colours.get(str(r.get("class_name", "")), ""),
            str(r.get("note", "")),
        )
        for r in regions
    ]
    if what == SELECTIONS:
        return selections.write_selections(outlines, path, overwrite=overwrite)
    to_pixels = pixels_a_micron(section, table) if what == QUPATH else None
    return region_geojson.write_regions(outlines, path, to_pixels=to_pixels, overwrite=overwrite)
