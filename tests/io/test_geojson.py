"""Cells by class as GeoJSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from exportable import CLASSES, PIXEL, make_section, make_table

from stplm import keys
from stplm.errors import ExportError
from stplm.io.geojson import read_geojson, write_geojson
from stplm.palette import class_colours


def test_reads_back_equal(tmp_path: Path) -> None:
    section = make_section()
    table = section[keys.TABLE]
    rng = np.random.default_rng(0)
    # Outlines that are neither whole numbers nor in the order of the table.
    shapes = section[keys.CELL_BOUNDARIES].sample(frac=1, random_state=1)
    shapes["geometry"] = shapely.transform(shapes.geometry.to_numpy(), lambda xy: xy + rng.uniform(0, 1, xy.shape[1]))
    section.shapes[keys.CELL_BOUNDARIES] = shapes
    write_geojson(section, tmp_path / "cells.geojson")
    frame, units = read_geojson(tmp_path / "cells.geojson")
    assert units == "microns"
    assert list(frame.index) == list(table.obs_names)
    assert frame["group"].tolist() == table.obs[keys.CLASS].astype(object).fillna("Unassigned").tolist()
    assert set(frame.loc[frame["group"] == "Tumour", "color"]) == {class_colours(CLASSES)["Tumour"]}
    np.testing.assert_allclose(frame["Confidence"], table.obs[keys.CONFIDENCE], atol=1e-6)
    np.testing.assert_allclose(frame["Tumour probability"], table.obs[keys.TUMOUR], atol=1e-6)
    np.testing.assert_array_equal(frame["Counts"], table.obs[keys.N_COUNTS])
    want = shapes.geometry.loc[frame.index]
    assert shapely.equals_exact(frame.geometry.to_numpy(), want.to_numpy(), tolerance=0.01).all()


def test_is_what_qupath_reads(tmp_path: Path) -> None:
    write_geojson(make_section(), tmp_path / "cells.geojson")
    document = json.loads((tmp_path / "cells.geojson").read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    feature = document["features"][0]
    assert feature["geometry"]["type"] == "Polygon"
    properties = feature["properties"]
    assert properties["objectType"] == "cell"
    assert properties["classification"]["name"] == "Tumour"
    assert properties["classification"]["color"] == [0xD5, 0x5E, 0x00]
    assert all(isinstance(value, float) for value in properties["measurements"].values())
    ids = [f["id"] for f in document["features"]]
    assert len(set(ids)) == len(ids)


def test_pixels(tmp_path: Path) -> None:
    section = make_section()
    write_geojson(section, tmp_path / "um.geojson")
    write_geojson(section, tmp_path / "px.geojson", units="pixels")
    microns, _ = read_geojson(tmp_path / "um.geojson")
    pixels, units = read_geojson(tmp_path / "px.geojson")
    assert units == "pixels"
    np.testing.assert_allclose(pixels.geometry.bounds.to_numpy() * PIXEL, microns.geometry.bounds, atol=0.01)


def test_pixels_of_a_table_need_their_size(tmp_path: Path) -> None:
    table = make_table()
    write_geojson(table, tmp_path / "px.geojson", units="pixels")
    frame, _ = read_geojson(tmp_path / "px.geojson")
    np.testing.assert_allclose(frame.geometry.x * PIXEL, table.obsm[keys.SPATIAL][:, 0], atol=0.01)
    del table.uns[keys.UNS][keys.UNS_SOURCE]["pixel_size"]
    with pytest.raises(ExportError, match="how large its pixels"):
        write_geojson(table, tmp_path / "px.geojson", units="pixels")


def test_outlines_are_traced_where_only_labels_are_there(tmp_path: Path) -> None:
    write_geojson(make_section(shapes=False), tmp_path / "cells.geojson")
    frame, _ = read_geojson(tmp_path / "cells.geojson")
    want = make_section()[keys.CELL_BOUNDARIES].geometry.loc[frame.index].to_numpy()
    assert (shapely.hausdorff_distance(frame.geometry.to_numpy(), want) <= PIXEL).all()


def test_cell_without_outline_becomes_a_point(tmp_path: Path) -> None:
    section = make_section(labels=False)
    section.shapes[keys.CELL_BOUNDARIES] = section[keys.CELL_BOUNDARIES].iloc[1:]
    write_geojson(section, tmp_path / "cells.geojson")
    frame, _ = read_geojson(tmp_path / "cells.geojson")
    assert frame.geometry.geom_type.tolist() == ["Point"] + ["Polygon"] * (len(frame) - 1)
    assert (frame.geometry.iloc[0].x, frame.geometry.iloc[0].y) == (10.0, 10.0)


def test_same_section_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_geojson(make_section(), tmp_path / f"{name}.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()


def test_no_positions(tmp_path: Path) -> None:
    table = make_table()
    del table.obsm[keys.SPATIAL]
    with pytest.raises(ExportError, match="no positions"):
        write_geojson(table, tmp_path / "cells.geojson")


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "regions.geojson"
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
    path.write_text(json.dumps([{"type": "Feature", "geometry": square, "properties": {"objectType": "annotation"}}]))
    frame, units = read_geojson(path)
    assert units == "unknown"
    assert frame.geometry.iloc[0].area == 16
    whole = tmp_path / "cells.geojson"
    write_geojson(make_table(), whole)
    whole.write_text(whole.read_text(encoding="utf-8")[:-500], encoding="utf-8")
    with pytest.raises(ExportError, match="not a GeoJSON"):
        read_geojson(whole)
