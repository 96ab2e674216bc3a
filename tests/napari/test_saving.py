"""A session saved and opened again: the same picture, to the last bit; moved, changed and damaged ones are told."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm.errors import ExportError
from stplm_napari.fingerprint import cells_fingerprint, files_fingerprint
from stplm_napari.plain import restored
from stplm_napari.results import Result
from stplm_napari.session import CLASS, TUMOUR, Embedding, Prediction, Revision
from stplm_napari.session_file import (
    Saved,
    SectionChanged,
    SectionMoved,
    SessionError,
    find_section,
    read_session,
    write_session,
)
from stplm_napari.steps import Step
from stplm_napari.workspace import Workspace

pytestmark = pytest.mark.gui


@pytest.fixture
def at(grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small section as a file that can be opened; what a window warms up in the background is left out."""
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(Workspace, "_warm_up", lambda self: None)
    grid_section.write(tmp_path / "grid.zarr")
    return tmp_path / "grid.zarr"


def opened(viewer: Any, qtbot: Any, path: Path) -> Workspace:
    workspace = Workspace.of(viewer)
    workspace.open(path)
    settle(workspace, qtbot)
    return workspace


def settle(workspace: Workspace, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not workspace.opening.is_busy, timeout=90_000)
    assert workspace.opening.job.error is None, workspace.opening.job.details
    qtbot.waitUntil(lambda: not workspace.drawing.is_busy and not workspace.sessions.saving.is_busy, timeout=90_000)


def work(workspace: Workspace) -> None:
    """An afternoon's work: embedding, labels, classes, a region, a prediction, a column, a view of one's own."""
    session = workspace.session
    n, rng = session.table.n_obs, np.random.default_rng(3)
    vectors = Result(
        {}, {keys.X_STPLM: rng.normal(size=(n, 4)).astype(np.float32)}, {keys.UNS_EMBEDDING: {"model": "m"}}
    )
    session.put_embedding(vectors, session.revision, Embedding("m", "09:30", 2.5), Step("embed", {"model": "m"}))
    workspace.live = False
    session.label(list(session.table.obs_names[:5]), "Tumour")
    session.label(list(session.table.obs_names[40:60]), "Stromal")
    session.annotations.change_class("Stromal", colour="#00FFAA", new_name="Stroma, loose")
    session.annotations.add_region([(5, 5), (60, 5), (60, 60), (5, 60)], class_name="Tumour", note="seen by two")
    names = pd.Series(pd.Categorical(np.where(np.arange(n) % 3, "Tumour", "Stroma, loose")))
    made = Prediction("5 labels of yours", 5, "m", "09:31", session.revision)
    predicted = Result(
        {
            keys.CLASS: names,
            keys.CONFIDENCE: pd.Series(rng.uniform(0.5, 1, n).astype(np.float32)),
            keys.TUMOUR: pd.Series(rng.uniform(0, 1, n).astype(np.float32)),
        },
        {keys.PROBA: rng.uniform(0, 1, (n, 2)).astype(np.float32)},
        {keys.UNS_PREDICTION: {"classes": ["Stroma, loose", "Tumour"], "tumour_classes": ["Tumour"]}},
    )
    params = {"source": "labels", "labels": session.annotations.by_class(), "tumour": {}, "seed": 0}
    session.put_prediction(predicted, None, made, Step("classify", params))
    session.label(list(session.table.obs_names[6:7]), "Tumour")  # the prediction is out of date now
    session.table.obs["expert"] = ["a"] * (n - 1) + [float("nan")]
    session.colour(by=CLASS, unsure_below=0.7, hidden=frozenset({"Tumour"}), opacity={"Stroma, loose": 0.5})
    session.use(shape="lasso", radius_um=33.0)
    session.choose_class("Stroma, loose")
    layers = workspace.canvas.layers
    layers.images[0].contrast_limits, layers.images[0].gamma = (150.0, 900.0), 1.5
    layers.outlines.layer.visible = False
    camera = workspace.viewer.scene.camera
    camera.center, camera.zoom = (0.0, 70.0, 90.0), 4.25


@pytest.mark.parametrize("read", ["anew", "not again"])
def test_the_whole_session_comes_back_as_the_same_picture(
    viewer: Any,
    qtbot: Any,
    at: Path,
    tmp_path: Path,
    colour_at: Any,
    screenshot: Any,
    read: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session of the section that is open is put back onto it; of another, its section is read."""
    workspace = opened(viewer, qtbot, at)
    work(workspace)
    session = workspace.session
    centres = session.table.obsm[keys.SPATIAL]
    places = centres[(abs(centres - [90, 70]) < 40).all(axis=1)]
    colours, whole = colour_at(viewer, places), screenshot(viewer)
    table, annotations = session.table, session.annotations.to_records()
    state = asdict(session.prediction) | {"section": None}, session.colouring, session.tool, session.active_class
    outdated, steps = session.outdated, list(session.steps)
    workspace.sessions.save(tmp_path / "afternoon")
    settle(workspace, qtbot)
    assert workspace.sessions.saving.job.error is None, workspace.sessions.saving.job.details
    saved = tmp_path / "afternoon.stplm"
    assert workspace.sessions.path == saved

    # Something else meanwhile: other labels in the journal of the section, another view.
    session.label(list(table.obs_names[100:110]), "T cell")
    session.colour(by=TUMOUR)
    viewer.scene.camera.zoom = 1.0
    table.obs["meanwhile"] = 1.0
    if read == "anew":
        monkeypatch.setattr("stplm_napari.workspace.held", lambda workspace, path: None)
    else:
        monkeypatch.setattr("stplm.read_section", None)
    workspace.sessions.open(saved)
    settle(workspace, qtbot)

    assert session.table is not table
    assert session.table is session.section.tables[keys.TABLE]
    assert set(session.table.obs) == set(table.obs) - {"meanwhile"}
    assert session.annotations.to_records() == annotations
    for name in (keys.CLASS, keys.CONFIDENCE, keys.TUMOUR, "expert"):
        assert session.table.obs[name].astype(str).tolist() == table.obs[name].astype(str).tolist()
    for name in (keys.X_STPLM, keys.PROBA):
        assert session.table.obsm[name].tobytes() == table.obsm[name].tobytes()
    now = asdict(session.prediction) | {"section": None}
    now["revision"]["section"] = state[0]["revision"]["section"]
    assert (now, session.colouring, session.tool, session.active_class) == state
    assert session.outdated == outdated == "labels changed since"
    assert session.steps == steps
    assert not workspace.live
    assert viewer.scene.camera.center == (0.0, 70.0, 90.0)
    assert viewer.scene.camera.zoom == 4.25
    layers = workspace.canvas.layers
    assert layers.images[0].contrast_limits == [150.0, 900.0]
    assert not layers.outlines.layer.visible
    np.testing.assert_array_equal(colour_at(viewer, places), colours)
    again = screenshot(viewer)
    if again.shape == whole.shape:
        assert (again != whole).any(axis=2).mean() < 0.002
    else:  # a line under the canvas took a pixel more, so every outline lies half a pixel elsewhere
        assert abs(len(again) - len(whole)) <= 2
        rows = min(len(again), len(whole))
        assert (again[:rows] != whole[:rows]).any(axis=2).mean() < 0.05

    # What the section's journal had is an undo away.
    assert "undo" in workspace.sessions.note
    session.annotations.undo()
    assert session.annotations.counts()["T cell"] == 10
    workspace.close()


def test_a_killed_save_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Saved(None, "", "", {"mark": 1})
    path = write_session(saved, tmp_path / "s")

    class Dies:
        def save(self, folder: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_session(Saved(None, "", "", {"mark": 2}, classifier=Dies()), path)
    assert read_session(path).plain["mark"] == 1
    # Killed between the two renames, the former one is put back by whoever reads.
    path.rename(tmp_path / ".s.stplm.stplm-old")
    assert read_session(path).plain["mark"] == 1
    assert not list(tmp_path.glob(".*part*"))


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.stplm").mkdir()
    (tmp_path / "thesis.stplm" / "chapter1.txt").write_text("years of work")
    with pytest.raises(ExportError):
        write_session(Saved(None, "", ""), tmp_path / "thesis.stplm")


@pytest.mark.parametrize("damage", ["manifest", "labels", "results", "format", "nothing"])
def test_a_damaged_session_is_told(tmp_path: Path, damage: str) -> None:
    path = write_session(Saved(None, "", ""), tmp_path / "s")
    if damage == "manifest":
        (path / "manifest.json").write_text("{")
    elif damage == "labels":
        (path / "labels.json").unlink()
    elif damage == "results":
        (path / "results" / "result.npz").write_bytes(b"PK")
    elif damage == "format":
        (path / "manifest.json").write_text(json.dumps({"stplm_session": 99}))
    else:
        shutil.rmtree(path)
    with pytest.raises(SessionError):
        read_session(path)


def test_a_section_that_moved_is_found_beside_or_asked_for(tmp_path: Path) -> None:
    home = tmp_path / "disk"
    home.mkdir()
    section = home / "cells.h5ad"
    section.write_bytes(b"cells" * 50_000)
    path = write_session(Saved(section, files_fingerprint(section), ""), home / "s")
    assert find_section(path) == section.resolve()
    # The whole disk goes elsewhere: session and section still lie beside each other.
    home.rename(tmp_path / "other")
    path = tmp_path / "other" / "s.stplm"
    assert find_section(path) == (tmp_path / "other" / "cells.h5ad").resolve()
    (tmp_path / "other" / "cells.h5ad").rename(tmp_path / "renamed.h5ad")
    with pytest.raises(SectionMoved):
        find_section(path)
    assert find_section(path, at=tmp_path / "renamed.h5ad").name == "renamed.h5ad"
    (tmp_path / "renamed.h5ad").write_bytes(b"other" * 50_000)
    with pytest.raises(SectionChanged):
        find_section(path, at=tmp_path / "renamed.h5ad")
    assert find_section(path, at=tmp_path / "renamed.h5ad", accept_changed=True).name == "renamed.h5ad"


def test_of_a_changed_section_only_labels_come_back(viewer: Any, qtbot: Any, at: Path, tmp_path: Path) -> None:
    workspace = opened(viewer, qtbot, at)
    work(workspace)
    workspace.sessions.save(tmp_path / "s.stplm")
    settle(workspace, qtbot)
    manifest = tmp_path / "s.stplm" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "cells": "others"}))
    workspace.sessions.open(tmp_path / "s.stplm")
    settle(workspace, qtbot)
    assert not workspace.session.is_embedded
    assert workspace.session.annotations.counts()["Tumour"] == 6
    assert "cells differ" in workspace.sessions.note
    workspace.close()


def test_cells_tell_sections_apart(grid_section: Any) -> None:
    table = grid_section.tables[keys.TABLE]
    same = table.copy()
    same.obs["more"] = 1
    assert cells_fingerprint(same) == cells_fingerprint(table)
    assert cells_fingerprint(table[::-1].copy()) != cells_fingerprint(table)


def test_fields_of_later_versions_are_passed_over_and_missing_ones_as_they_are() -> None:
    record = {"source": "s", "n_labels": 1, "model": "m", "at": "", "revision": {"labels": 4}, "new": 1}
    assert restored(Prediction, record).revision == Revision(labels=4)
    assert restored(Revision, {"classes": 2}, Revision(section=7)) == Revision(section=7, classes=2)
