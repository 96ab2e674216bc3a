"""Regions and labels of other programs, through the Import dock in a real window: one step, undone as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stplm import keys
from stplm.io.exchange import read_exchange
from stplm_napari.annotations import Annotations
from stplm_napari.changes import CellClass
from stplm_napari.importing import NEW, suggest_class
from stplm_napari.journal import Journal
from stplm_napari.script import script
from stplm_napari.widgets.annotate import step_words
from stplm_napari.widgets.common import open_dock
from stplm_napari.workspace import Workspace

pytestmark = pytest.mark.gui

PIXEL_UM = 0.5
"""Of the small section: 240 µm wide, cells 20 µm apart."""
RING = [[25.0, 25.0], [135.0, 25.0], [135.0, 135.0], [25.0, 135.0]]
HOLE = [[55.0, 55.0], [105.0, 55.0], [105.0, 105.0], [55.0, 105.0]]


@pytest.fixture
def workspace(viewer: Any, grid_section: Any) -> Any:
    workspace = Workspace.of(viewer)
    workspace.show(grid_section, grid_section.tables[keys.TABLE])
    yield workspace
    workspace.close()


def wait(workspace: Workspace, qtbot: Any) -> None:
    importer = workspace.importer
    qtbot.waitUntil(lambda: not importer.reading.is_busy and not importer.putting.is_busy, timeout=30_000)
    for slot in (importer.reading, importer.putting):
        assert slot.job is None or slot.job.error is None, slot.job.details


def looked_at(workspace: Workspace, qtbot: Any, path: Path) -> Any:
    dock = open_dock(workspace.viewer, "Import")
    workspace.importer.read(path)
    wait(workspace, qtbot)
    return dock


def qupath(path: Path) -> Path:
    """What QuPath writes of a region with a hole, one without a name, and a point; in pixels."""
    pixels = [(np.array(ring) / PIXEL_UM).tolist() for ring in (RING, HOLE)]
    right = (np.array([[150, 150], [230, 150], [230, 230]]) / PIXEL_UM).tolist()
    kinds = [{"name": "Tumor", "color": [200, 0, 0]}, {"name": "Nerve", "color": [1, 2, 3]}]
    features = [
        ({"type": "Polygon", "coordinates": pixels}, {"name": "DCIS", "classification": kinds[0], "isLocked": True}),
        ({"type": "Polygon", "coordinates": [right]}, {"classification": kinds[1]}),
        ({"type": "Point", "coordinates": [10 / PIXEL_UM, 230 / PIXEL_UM]}, {"classification": kinds[1]}),
    ]
    written = [
        {"type": "Feature", "geometry": shape, "properties": {"objectType": "annotation", **about}}
        for shape, about in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": written}))
    return path


def test_a_pathologists_regions_come_in_as_one_step_on_the_right_cells(
    workspace: Workspace, qtbot: Any, tmp_path: Path, colour_at: Any
) -> None:
    session = workspace.session
    classes = session.annotations.classes
    dock = looked_at(workspace, qtbot, qupath(tmp_path / "regions.geojson"))
    assert dock.units.in_pixels
    assert "beyond the section" in dock.units.reason.text()
    assert not dock.units.check.isVisible()
    assert dock.classes.chosen() == {"Tumor": "Tumour", "Nerve": NEW}
    assert not session.annotations.regions
    dock.inside.value = True
    dock.run.click()
    wait(workspace, qtbot)
    regions = {r.name: r for r in session.annotations.regions}
    assert list(regions) == ["DCIS", "Nerve 1"]
    assert regions["DCIS"].class_name == "Tumour"
    np.testing.assert_allclose(regions["DCIS"].rings[1], HOLE, atol=0.01)
    nerve = session.annotations.get("Nerve")
    assert (nerve.colour, nerve.tumour) == ("#010203", False)
    xy = session.table.obsm[keys.SPATIAL]
    inside = ((xy > 25) & (xy < 135)).all(axis=1) & ~((xy > 55) & (xy < 105)).all(axis=1)
    labelled = session.annotations.by_class()
    assert set(labelled["Tumour"]) == set(session.table.obs_names[inside])
    at_point = session.table.obs_names[np.hypot(*(xy - [10, 230]).T).argmin()]
    assert at_point in labelled["Nerve"]
    workspace.canvas.layers.fly_to_box((0, 0, 240, 240))
    seen = colour_at(workspace.viewer, xy[inside])
    assert (seen[:, 0] > seen[:, 2] + 60).all()

    dock.undo.click()
    assert session.annotations.classes == classes
    assert not session.annotations.regions
    assert not len(session.annotations.labels)
    session.annotations.redo()
    assert len(session.annotations.regions) == 2


def test_both_units_fit_so_the_user_decides(workspace: Workspace, qtbot: Any, tmp_path: Path) -> None:
    shape = {"type": "Polygon", "coordinates": [(np.array(RING) / 2).tolist()]}
    (tmp_path / "a.geojson").write_text(json.dumps(shape))
    dock = looked_at(workspace, qtbot, tmp_path / "a.geojson")
    assert dock.units.check.isVisible()
    assert dock.units.microns.isChecked()
    dock.units.pixels.setChecked(True)
    dock.run.click()
    wait(workspace, qtbot)
    np.testing.assert_allclose(workspace.session.annotations.regions[0].rings[0], np.array(RING) / 4, atol=0.01)


@pytest.mark.parametrize("how", ["As labels", "As a column"])
def test_cell_groups_become_labels_or_a_column(workspace: Workspace, qtbot: Any, tmp_path: Path, how: str) -> None:
    session = workspace.session
    ids = session.table.obs_names
    rows = "".join(f"#00FF00,{['T-cell', 'Unassigned', 'Nerve'][i % 3]},{cell}\n" for i, cell in enumerate(ids[:30]))
    path = tmp_path / "groups.csv"
    path.write_text(f"\ufeff# by hand\ncolor,Group,Cell_ID\n{rows}#00FF00,Nerve,elsewhere-1\n")
    dock = looked_at(workspace, qtbot, path)
    assert "1 of its cells" in dock.notes.text()
    dock.cells_as.setCurrentText(how)
    dock.classes.choose("Nerve", "")
    dock.run.click()
    wait(workspace, qtbot)
    if how == "As labels":
        assert session.annotations.by_class() == {"T cell": list(ids[:30:3])}
    else:
        assert session.table.obs["groups"].dropna().to_dict() == dict.fromkeys(ids[:30:3], "T cell")
        assert not len(session.annotations.labels)
        assert "replay.put_column(table" in script(session.steps)
        session.colour(by="obs:groups")
        assert step_words(session.annotations.can_undo) == "import the column groups"
        workspace.undo()
        assert "groups" not in session.table.obs
        assert session.colouring.by != "obs:groups"
        assert "put_column" not in script(session.steps)
        path.unlink()  # what was undone comes back without its file
        workspace.redo()
        assert session.table.obs["groups"].dropna().to_dict() == dict.fromkeys(ids[:30:3], "T cell")
        assert "replay.put_column(table" in script(session.steps)


def test_a_file_that_is_none_is_told_in_the_dock(workspace: Workspace, qtbot: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    dock = open_dock(workspace.viewer, "Import")
    workspace.importer.read(tmp_path / "a.csv")
    qtbot.waitUntil(lambda: not workspace.importer.reading.is_busy, timeout=30_000)
    assert dock.reading.error.isVisible()
    assert "Xenium Explorer" in dock.reading.error.problem.text()


@pytest.mark.parametrize("what", ["regions_qupath", "regions_geojson", "regions_csv"])
def test_drawn_regions_go_out_and_come_back(workspace: Workspace, qtbot: Any, tmp_path: Path, what: str) -> None:
    session = workspace.session
    session.annotations.add_region([RING, HOLE], "DCIS", class_name="Tumour", note="seen by two")
    dock = open_dock(workspace.viewer, "Export")
    dock.what.value = what
    path = tmp_path / f"out{'.csv' if what == 'regions_csv' else '.geojson'}"
    dock.path.value = path
    dock.run.click()
    qtbot.waitUntil(lambda: not workspace.exporter.writing.is_busy, timeout=30_000)
    assert workspace.exporter.writing.job.error is None, workspace.exporter.writing.job.details
    found = read_exchange(path)
    assert found.units == ("pixels" if what == "regions_qupath" else "microns")
    assert (found.outlines[0].group, found.outlines[0].colour) == ("Tumour", "#D55E00")
    looked_at(workspace, qtbot, path).run.click()
    wait(workspace, qtbot)
    again = session.annotations.regions[1]
    assert again.name == "DCIS 1"
    assert again.area_um2 == pytest.approx(session.annotations.regions[0].area_um2, abs=0.01)
    assert "regions=" in script(session.steps)


def test_an_import_survives_in_the_journal_and_is_undone_there(tmp_path: Path) -> None:
    cells = [f"c{i}" for i in range(1_000)]
    first = Annotations(cells, Journal(tmp_path / "j.jsonl"), [CellClass("A", "#010101", "1")])
    first.set_labels(cells[:3], "A")
    region = {"name": "n", "rings": [RING], "class_name": "B"}
    first.take_in([CellClass("B", "#020202", "1")], [{"name": "B", "cells": cells[2:900]}], [region])
    again = Annotations(cells, Journal(tmp_path / "j.jsonl"))
    assert again.to_records() == first.to_records()
    assert again.get("B").key == ""
    again.undo()
    assert again.counts() == {"A": 3}
    assert [c.name for c in again.classes] == ["A"]
    assert again.regions == ()


def test_classes_are_matched_by_what_they_mean() -> None:
    own = [CellClass("Tumour", "#010101"), CellClass("T cell", "#020202")]
    assert suggest_class("tumor", own) == "Tumour"
    assert suggest_class("T_Cell", own) == "T cell"
    assert suggest_class("T", own) == NEW
