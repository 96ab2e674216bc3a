"""What other programs drew: every variant of their files, units, and round trips exact to 0.01 µm."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from exportable import PIXEL, make_section, make_table

from stplm import keys
from stplm.errors import ExportError
from stplm.io.exchange import Exchange, Outline, point_rows, read_exchange
from stplm.io.explorer import write_explorer_groups
from stplm.io.outlines import pixels_a_micron
from stplm.io.region_geojson import write_regions
from stplm.io.rings import area, keyhole, parts
from stplm.io.selections import write_selections
from stplm.io.units import find_units, in_microns, section_bounds

EXACT_UM = 0.01
SQUARE = np.array([[10.0, 10], [40, 10], [40, 40], [10, 40]])
HOLE = np.array([[20.0, 20], [30, 20], [30, 30], [20, 30]])
FAR = SQUARE + np.array([40.125, 3.0625])


def written(tmp_path: Path, text: str, name: str = "drawn.csv", encoding: str = "utf-8") -> Exchange:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return read_exchange(path)


def regions() -> list[Outline]:
    lasso = np.random.default_rng(0).uniform(5, 60, (40, 2))
    return [
        Outline("DCIS, left", (SQUARE,), "Tumour", "#D55E00", "seen by two"),
        Outline("Ring", (SQUARE, HOLE, FAR), "Stróma", "#112233"),
        Outline("Lasso", (lasso,)),
    ]


def even_odd(rings: Any) -> Any:
    """What rings cover; by another way than the code under test takes."""
    covered = shapely.Polygon()
    for ring in rings:
        covered = covered.symmetric_difference(shapely.make_valid(shapely.Polygon(ring)))
    return covered


# --- Xenium Explorer's CSV ---

ONE = "#Selection name: Tumour nest\n#Area (µm^2): 900.00\nX,Y\n10,10\n40,10\n40,40\n10,40\n10,10\n"
SEVERAL = (
    "#Selection names: A, B\n#Areas (µm^2): 900.0, 100.0\nSelection,X,Y\n"
    "A,10,10\nA,40,10\nA,40,40\nA,10,40\nB,20,20\nB,30,20\nB,30,30\nB,20,30\n"
)
CLASSES = (
    '"#Selection names: A, B"\n"#Areas (µm^2): 900.0, 100.0"\n\nSelection,X,Y,Class,Color\n'
    "A,10,10,Tumour,#D55E00\nA,40,10,Tumour,#D55E00\nA,40,40,Tumour,#D55E00\nA,10,40,Tumour,#D55E00\n"
    "B,20,20,Unclassified,#c2c2c2\nB,30,20,Unclassified,#c2c2c2\nB,30,30,Unclassified,#c2c2c2\n"
)


@pytest.mark.parametrize("mangle", ["plain", "BOM", "CRLF", "utf-16", "semicolons"])
def test_one_selection(tmp_path: Path, mangle: str) -> None:
    text = {
        "BOM": "\ufeff" + ONE,
        "CRLF": ONE.replace("\n", "\r\n"),
        "semicolons": ONE.replace(",", ";").replace("40", "40,0"),
    }.get(mangle, ONE)
    found = written(tmp_path, text, encoding="utf-16" if mangle == "utf-16" else "utf-8")
    assert [o.name for o in found.outlines] == ["Tumour nest"]
    np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
    assert found.units == "microns"


def test_several_selections_in_one_file(tmp_path: Path) -> None:
    found = written(tmp_path, SEVERAL)
    assert [o.name for o in found.outlines] == ["A", "B"]
    np.testing.assert_array_equal(found.outlines[1].rings[0], HOLE)


def test_selections_with_classes(tmp_path: Path) -> None:
    found = written(tmp_path, CLASSES)
    assert (found.outlines[0].name, found.outlines[0].group, found.outlines[0].colour) == ("A", "Tumour", "#D55E00")
    assert found.outlines[1].group == ""
    assert found.colours == {"Tumour": "#D55E00"}


def test_files_put_together_by_hand(tmp_path: Path) -> None:
    found = written(tmp_path, ONE + SEVERAL)
    assert [o.name for o in found.outlines] == ["Tumour nest", "A", "B"]


def test_no_remarks_and_columns_in_another_order(tmp_path: Path) -> None:
    found = written(tmp_path, "y (µm),x (µm)\n10,10\n10,40\n40,40\n", "my nest.csv")
    assert found.outlines[0].name == "my nest"
    np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE[:3])


def test_areas_that_do_not_fit_say_that_the_unit_is_not_known(tmp_path: Path) -> None:
    found = written(tmp_path, ONE.replace("900.00", str(900 * PIXEL**2)))
    assert found.units == "unknown"
    assert "areas" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "cells", "source"),
    [
        ("cell_id,group\na-1,T\nb-1,NA\n", {"a-1": "T", "b-1": "NA"}, "groups"),
        ("\ufeffcolor,Group,Cell_ID\n#ff0000,T,a-1\n#00ff00,B,b-1\n", {"a-1": "T", "b-1": "B"}, "groups"),
        ("# made by hand\ncell_id,class\na-1,T\na-1,B\nb-1,Unassigned\n", {"a-1": "T"}, "groups"),
        (
            "#Selection name: Nest 1\n#Area (µm^2): 1\nCell ID,Cluster,Transcripts,Area (µm^2)\na-1,3,2,5\nb-1,4,9,7\n",
            {"a-1": "Nest 1", "b-1": "Nest 1"},
            "selections",
        ),
        ("Selection,Cell ID,Transcripts\nA,a-1,2\nB,b-1,3\n", {"a-1": "A", "b-1": "B"}, "selections"),
        ("Cell ID\na-1\n", {"a-1": "drawn"}, "list"),
    ],
)
def test_cells(tmp_path: Path, text: str, cells: dict[str, str], source: str) -> None:
    found = written(tmp_path, text)
    assert found.cells is not None
    assert found.cells.to_dict() == cells
    assert source in found.source


def test_our_own_cell_groups_read_back(tmp_path: Path) -> None:
    table = make_table()
    write_explorer_groups(table, tmp_path / "groups.csv", colours={"Tumour": "#010203"})
    found = read_exchange(tmp_path / "groups.csv")
    assert found.cells is not None
    assert found.cells.to_dict() == table.obs[keys.CLASS].dropna().astype(str).to_dict()
    assert found.colours["Tumour"] == "#010203"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "x,y\n1,two\n", '{"type":"Topology"}', "[1]", "{"])
def test_what_is_none_of_these_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ExportError):
        written(tmp_path, text)


# --- GeoJSON ---


def test_geojson_however_it_is_wrapped(tmp_path: Path) -> None:
    polygon = {"type": "Polygon", "coordinates": [[*SQUARE.tolist(), SQUARE[0].tolist()], HOLE.tolist()]}
    feature = {"type": "Feature", "geometry": polygon, "properties": None}
    several = {"type": "GeometryCollection", "geometries": [polygon, {"type": "LineString", "coordinates": []}]}
    for document in (polygon, feature, [feature], several, {"type": "FeatureCollection", "features": [feature]}):
        found = written(tmp_path, json.dumps(document), "a.geojson")
        assert [len(ring) for ring in found.outlines[0].rings] == [4, 4]
    (tmp_path / "b.geojson.gz").write_bytes(gzip.compress(json.dumps(feature).encode()))
    assert len(read_exchange(tmp_path / "b.geojson.gz").outlines) == 1


@pytest.mark.parametrize(
    ("properties", "group", "colour"),
    [
        ({"classification": {"name": "Tumour", "color": [213, 94, 0]}}, "Tumour", "#D55E00"),
        ({"classification": {"names": ["Immune", "T cell"], "color": [1, 2, 3]}}, "Immune: T cell", "#010203"),
        ({"classification": {"name": "Tumour", "colorRGB": -3377408}}, "Tumour", "#CC7700"),
        ({"classification": "Stroma", "color": "#00ff00"}, "Stroma", "#00FF00"),
        ({"class": "Nest", "color": "00ff00"}, "Nest", "#00FF00"),
        ({"classification": {"name": "Unclassified"}, "isLocked": True}, "", ""),
    ],
)
def test_classes_as_programs_spell_them(tmp_path: Path, properties: Any, group: str, colour: str) -> None:
    polygon = {"type": "Polygon", "coordinates": [SQUARE.tolist()]}
    found = written(tmp_path, json.dumps({"type": "Feature", "geometry": polygon, "properties": properties}))
    assert (found.outlines[0].group, found.outlines[0].colour) == (group, colour)


def test_points_and_cells_of_another_program_become_points(tmp_path: Path) -> None:
    kind = {"classification": {"name": "T"}}
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [10.5, 22]}, "properties": kind},
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [(SQUARE / 10 + 30).tolist()]},
            "properties": {**kind, "objectType": "detection", "name": "aaaa0007-1"},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}},
    ]
    found = written(tmp_path, json.dumps({"type": "FeatureCollection", "features": features}))
    assert not found.outlines
    np.testing.assert_allclose(found.points, [[10.5, 22], [32.5, 32.5]])
    assert found.point_names == ("", "aaaa0007-1")
    assert "without a class" in found.notes[0]
    rows = point_rows(make_table(), found.points)
    assert rows.tolist() == [6, 2 * 6 + 2]
    assert point_rows(make_table(), np.array([[-50.0, -50.0]])).tolist() == [-1]


def test_parts_that_overlap_are_joined(tmp_path: Path) -> None:
    shape = {"type": "MultiPolygon", "coordinates": [[SQUARE.tolist()], [(SQUARE + 15).tolist()]]}
    found = written(tmp_path, json.dumps(shape))
    assert area(found.outlines[0].rings) == pytest.approx(900 + 900 - 15 * 15)


# --- round trips ---


@pytest.mark.parametrize("how", ["microns", "pixels", "csv"])
def test_regions_round_trip_to_a_hundredth_of_a_micron(tmp_path: Path, how: str) -> None:
    section = make_section()
    table = section[keys.TABLE]
    given = regions()
    path = tmp_path / ("r.csv" if how == "csv" else "r.geojson")
    if how == "csv":
        write_selections(given, path)
    else:
        write_regions(given, path, to_pixels=pixels_a_micron(section, table) if how == "pixels" else None)
    found = read_exchange(path)
    assert found.units == ("pixels" if how == "pixels" else "microns")
    back = {o.name: o for o in in_microns(found, found.units, section, table).outlines}
    for want in given:
        have = back[want.name]
        assert (have.group, have.colour if want.group else "") == (want.group, want.colour)
        if how == "csv":
            rings = [*have.rings, *(o.rings[0] for name, o in back.items() if name.startswith(f"{want.name} ("))]
            assert even_odd(rings).symmetric_difference(even_odd(want.rings)).area < EXACT_UM * 200
            continue
        assert have.note == want.note
        assert len(have.rings) == len(want.rings)
        for a, b in zip(have.rings, want.rings, strict=True):
            np.testing.assert_allclose(a, b, atol=EXACT_UM / 2)


def test_a_hole_in_a_format_without_holes_stays_one(tmp_path: Path) -> None:
    ring = keyhole([SQUARE, HOLE])
    assert shapely.Polygon(ring).buffer(0).area == pytest.approx(800)
    assert [len(p) for p in parts([SQUARE, HOLE, FAR])] == [2, 1]


# --- units ---


def scaled(factor: float, corner: float = 1.0) -> Exchange:
    ring = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]) * corner * 70 * factor
    return Exchange("GeoJSON", outlines=(Outline("a", (ring,)),))


def test_units_are_found_where_only_one_is_possible() -> None:
    section = make_section()
    table = section[keys.TABLE]
    assert section_bounds(section, table)[2] == pytest.approx(80, abs=1)
    found = find_units(scaled(1 / PIXEL), section, table)
    assert (found.units, found.certain) == ("pixels", True)
    moved = in_microns(scaled(1 / PIXEL), found.units, section, table)
    np.testing.assert_allclose(moved.outlines[0].rings[0], scaled(1).outlines[0].rings[0], atol=1e-9)


def test_where_both_units_fit_the_user_is_asked() -> None:
    section = make_section()
    table = section[keys.TABLE]
    wide = find_units(scaled(1), section, table)
    assert (wide.units, wide.certain) == ("microns", False)
    small = scaled(1, corner=0.3)
    assert find_units(small, section, table).units == "microns"
    qupath = Exchange("GeoJSON of QuPath", outlines=small.outlines, from_qupath=True)
    assert (find_units(qupath, section, table).units, find_units(qupath, section, table).certain) == ("pixels", False)


def test_a_drawing_of_another_section_is_told() -> None:
    section = make_section()
    found = find_units(scaled(1000), section, section[keys.TABLE])
    assert not found.certain
    assert "another section" in found.reason


def test_a_file_that_says_pixels_where_only_microns_fit_is_not_believed_blindly() -> None:
    section = make_section()
    said = Exchange("GeoJSON", "microns", scaled(1 / PIXEL).outlines)
    found = find_units(said, section, section[keys.TABLE])
    assert (found.units, found.certain) == ("pixels", False)


def test_pixels_of_another_image() -> None:
    moved = in_microns(scaled(1), "pixels", None, make_table(), pixel_size=0.5)
    np.testing.assert_allclose(moved.outlines[0].rings[0], scaled(0.5).outlines[0].rings[0])
