"""Regions as GeoJSON, as QuPath and Xenium Explorer write and read them.

QuPath places its objects in pixels of the full-resolution image, y down, and says so nowhere; other programs write µm.
The files written here record their units. What only QuPath needs (whether an object is locked, its plane) is left out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stplm import __version__
from stplm.errors import ExportError
from stplm.io.exchange import (
    MICRONS,
    PIXELS,
    UNKNOWN,
    Exchange,
    Outline,
    check_outlines,
    class_name,
    hexadecimal,
    moved,
    open_ring,
)
from stplm.io.rings import parts
from stplm.io.staged import staged_file

_NAMESPACE = uuid.UUID("0f6b2a52-7a55-5c1e-8f6f-7e0f4c1b9a33")
RECORD = "stplm"
_DECIMALS = {MICRONS: 3, PIXELS: 4}
_DESCRIPTION = "ANNOTATION_DESCRIPTION"
"""QuPath's name for the note of an annotation."""
_CELLS = frozenset({"cell", "detection", "tile"})
_CLASS_KEYS = ("class", "group", "cell_type", "label")


def write_regions(
    outlines: Sequence[Outline],
    path: str | Path,
    *,
    to_pixels: NDArray[np.floating] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write regions in µm as GeoJSON annotations with name, class, colour and note.

    Parameters
    ----------
    to_pixels
        (3, 3) matrix from µm to image pixels (:func:`stplm.io.outlines.pixels_a_micron`): the file is in pixels then,
        as QuPath wants it. Without it, in µm.

    Raises
    ------
    ExportError
        There is nothing to write, or the file cannot be written.
    """
    check_outlines(outlines)
    units = MICRONS if to_pixels is None else PIXELS
    matrix = np.eye(3) if to_pixels is None else to_pixels
    features = [_feature(outline, matrix, _DECIMALS[units]) for outline in outlines]
    record = {"units": units, "version": __version__}
    with staged_file(path, overwrite=overwrite) as stage, stage.open("w", encoding="utf-8") as handle:
        handle.write(f'{{"type":"FeatureCollection","{RECORD}":{json.dumps(record)},"features":[\n')
        handle.write(",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features) + "\n]}\n")
    return Path(path)


def parse_geojson(text: str, where: Path) -> Exchange:
    """What a GeoJSON file holds: polygons, points, and cells that another program found. Raises ExportError."""
    try:
        document = json.loads(text)
        features = list(_features(document))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            "This is not a GeoJSON file.",
            where=where,
            found=f"{type(error).__name__}: {error}",
            expected="a FeatureCollection, a Feature, or a geometry",
        ) from error
    record = document.get(RECORD) if isinstance(document, dict) else None
    said = record.get("units") if isinstance(record, dict) else None
    found = _Found()
    for number, (geometry, properties) in enumerate(features, 1):
        try:
            found.take(geometry, properties)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ExportError(
                "A shape in the file cannot be read.", where=f"{where}, feature {number}", found=str(error)
            ) from error
    return Exchange(
        "GeoJSON of QuPath" if found.from_qupath and record is None else "GeoJSON",
        MICRONS if said == MICRONS else PIXELS if said == PIXELS else UNKNOWN,
        tuple(found.outlines),
        np.array(found.points, np.float64).reshape(-1, 2),
        tuple(found.point_groups),
        tuple(found.point_names),
        None,
        found.colours,
        found.from_qupath,
        tuple(found.notes()),
    )


def classification(properties: Mapping[str, Any]) -> tuple[str, str]:
    """Class and "#RRGGBB" of a feature, each "" where it has none, however its program spells them."""
    kind = properties.get("classification")
    if isinstance(kind, Mapping):
        names = kind.get("names")
        name = kind.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else "")
        colour = hexadecimal(kind.get("color", kind.get("colorRGB")))
    else:
        name = kind if isinstance(kind, str) else next((properties[k] for k in _CLASS_KEYS if properties.get(k)), "")
        colour = ""
    own = properties.get("color", properties.get("colour", properties.get("fill")))
    return str(name or ""), colour or hexadecimal(own)


class _Found:
    """What the features of a file are, sorted."""

    def __init__(self) -> None:
        self.outlines: list[Outline] = []
        self.points: list[Any] = []
        self.point_groups: list[str] = []
        self.point_names: list[str] = []
        self.colours: dict[str, str] = {}
        self.from_qupath = False
        self._skipped: dict[str, int] = {}

    def take(self, geometry: Mapping[str, Any] | None, properties: Mapping[str, Any]) -> None:
        self.from_qupath |= "objectType" in properties
        group, colour = classification(properties)
        group = class_name(group)
        if group and colour:
            self.colours.setdefault(group, colour)
        kind = str((geometry or {}).get("type", "nothing"))
        if geometry is not None and kind == "GeometryCollection":
            for part in geometry["geometries"]:
                self.take(part, properties)
        elif geometry is not None and kind in ("Point", "MultiPoint"):
            places = [geometry["coordinates"]] if kind == "Point" else geometry["coordinates"]
            self._take_points([place[:2] for place in places], group, str(properties.get("name") or ""))
        elif geometry is not None and kind in ("Polygon", "MultiPolygon"):
            polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
            rings = _rings(polygons)
            if not rings:
                self._skip("empty shapes")
            elif str(properties.get("objectType", "")).lower() in _CELLS:
                centre = rings[0].min(axis=0) / 2 + rings[0].max(axis=0) / 2
                self._take_points([centre.tolist()], group, str(properties.get("name") or ""))
            else:
                self._take_outline(rings, group, colour, properties)
        else:
            self._skip("lines" if "Line" in kind else "features without a shape")

    def _take_points(self, places: list[Any], group: str, name: str) -> None:
        if not group:
            self._skip("points and cells without a class")
            return
        self.points += places
        self.point_groups += [group] * len(places)
        self.point_names += [name] * len(places)

    def _take_outline(
        self, rings: tuple[NDArray[np.float64], ...], group: str, colour: str, properties: Mapping[str, Any]
    ) -> None:
        more = properties.get("metadata")
        note = properties.get("description") or (more.get(_DESCRIPTION) if isinstance(more, Mapping) else "")
        name = str(properties.get("name") or properties.get("selection") or "").strip()
        self.outlines.append(Outline(name, rings, group, colour, str(note or "")))

    def _skip(self, what: str) -> None:
        self._skipped[what] = self._skipped.get(what, 0) + 1

    def notes(self) -> list[str]:
        return [f"{n:,} {what} are left out." for what, n in self._skipped.items()]


def _features(document: Any) -> list[tuple[Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Geometry and properties of each feature, however they are wrapped."""
    if isinstance(document, list):
        return [feature for part in document for feature in _features(part)]
    kind = document["type"]
    if kind == "FeatureCollection":
        return [feature for part in document["features"] for feature in _features(part)]
    if kind == "Feature":
        return [(document.get("geometry"), document.get("properties") or {})]
    if kind == "GeometryCollection":
        return [(part, {}) for part in document["geometries"]]
    if kind in ("Polygon", "MultiPolygon", "Point", "MultiPoint", "LineString", "MultiLineString"):
        return [(document, {})]
    raise ValueError(f"type {kind!r}")


def _rings(polygons: Sequence[Sequence[Any]]) -> tuple[NDArray[np.float64], ...]:
    """The rings of a (multi-)polygon; parts that lie over each other are joined, so that even-odd means the same."""
    per_part = []
    for polygon in polygons:
        rings = [open_ring(np.array([place[:2] for place in ring], np.float64)) for ring in polygon]
        if any(not np.isfinite(ring).all() for ring in rings):
            raise ValueError("a corner is not a number")
        rings = [ring for ring in rings if len(ring) >= 3]
        if rings:
            per_part.append(rings)
    if len(per_part) > 1:
        per_part = _apart(per_part)
    return tuple(ring for rings in per_part for ring in rings)


def _apart(per_part: list[list[NDArray[np.float64]]]) -> list[list[NDArray[np.float64]]]:
    import shapely

    made = [shapely.make_valid(shapely.Polygon(rings[0], rings[1:])) for rings in per_part]
    joined = shapely.union_all(made)
    if abs(joined.area - sum(m.area for m in made)) <= 1e-9 * max(joined.area, 1.0):
        return per_part
    polygons = [p for p in getattr(joined, "geoms", [joined]) if p.geom_type == "Polygon"]
    return [[open_ring(shapely.get_coordinates(ring)) for ring in (p.exterior, *p.interiors)] for p in polygons]


def _feature(outline: Outline, matrix: NDArray[np.floating], decimals: int) -> dict[str, Any]:
    polygons = [[_closed(moved(ring, matrix), decimals) for ring in part] for part in parts(outline.rings)]
    one = len(polygons) == 1
    geometry = {"type": "Polygon" if one else "MultiPolygon", "coordinates": polygons[0] if one else polygons}
    properties: dict[str, Any] = {"objectType": "annotation", "name": outline.name}
    if outline.group:
        rgb = [int((outline.colour or "#C8C8C8")[i : i + 2], 16) for i in (1, 3, 5)]
        properties["classification"] = {"name": outline.group, "color": rgb}
    if outline.note:
        properties["metadata"] = {_DESCRIPTION: outline.note}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, outline.name)),
        "geometry": geometry,
        "properties": properties,
    }


def _closed(ring: NDArray[np.float64], decimals: int) -> list[list[float]]:
    rounded: list[list[float]] = np.round(np.concatenate([ring, ring[:1]]), decimals).tolist()
    return rounded
