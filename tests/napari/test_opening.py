"""Opening sections in a real window: DAPI first, cells after; what cannot be opened leaves what is open alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stplm import keys
from stplm.errors import SectionError
from stplm_napari import prepare
from stplm_napari.jobs import CANCELLED, FAILED
from stplm_napari.journal import journal_path

pytestmark = pytest.mark.gui

LAYERS = ["DAPI", "Cell colours", "Cell outlines", "Cells"]


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch, grid_section: Any) -> None:
    """``stplm.read_section`` reads the small section from a path that ends in "outs", and nothing else."""
    import stplm

    def read(path: Path, **_: Any) -> Any:
        if path.name != "outs":
            raise SectionError("The folder is not a Xenium bundle.", where=path, mend="Choose another folder.")
        return grid_section

    monkeypatch.setattr(stplm, "read_section", read)


@pytest.fixture
def open_and_wait(workspace: Any, qtbot: Any, readable: None) -> Callable[[Path], None]:
    def open_it(path: Path) -> None:
        workspace.open(path)
        qtbot.waitUntil(lambda: not (workspace.opening.is_busy or workspace.drawing.is_busy), timeout=30_000)

    return open_it


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_dapi_appears_first_and_cells_follow(
    workspace: Any, viewer: Any, qtbot: Any, readable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from stplm_napari.widgets.common import open_dock

    go = threading.Event()
    plain = prepare.prepare_cells
    monkeypatch.setattr(prepare, "prepare_cells", lambda section: plain(section) if go.wait(20) else None)
    section = open_dock(viewer, "Section")
    workspace.open(tmp_path / "outs")
    qtbot.waitUntil(lambda: workspace.session.is_open, timeout=20_000)
    assert names(viewer) == LAYERS[:1]
    assert section.content.isVisible(), "the dock tells what is open while the cells are drawn"
    qtbot.waitUntil(lambda: "Drawing the cells" in section.drawing.words.text(), timeout=5_000)
    camera = viewer.scene.camera
    camera.zoom = zoom = camera.zoom * 3
    go.set()
    qtbot.waitUntil(lambda: not workspace.drawing.is_busy, timeout=20_000)
    assert names(viewer) == LAYERS
    assert viewer.layers.selection.active.name == "Cells"
    assert camera.zoom == pytest.approx(zoom), "the view that the user chose meanwhile stays"
    assert not any(layer.help for layer in viewer.layers), "napari's keys of paint modes are not announced"


def test_cells_that_cannot_be_drawn_leave_the_section_open_without_them(
    workspace: Any, viewer: Any, open_and_wait: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(section: Any) -> None:
        raise SectionError("The cell masks cannot be read.", mend="Copy them again.")

    monkeypatch.setattr(prepare, "prepare_cells", fail)
    open_and_wait(tmp_path / "outs")
    assert workspace.drawing.job.state == FAILED
    assert workspace.session.is_open
    assert names(viewer) == LAYERS[:1]


def test_a_section_that_is_cancelled_or_broken_leaves_the_last_one_open(
    workspace: Any, viewer: Any, qtbot: Any, open_and_wait: Callable[[Path], None], tmp_path: Path
) -> None:
    open_and_wait(tmp_path / "outs")
    session, table = workspace.session, workspace.session.table
    session.label([table.obs_names[0]], "Tumour")
    open_and_wait(tmp_path / "something else")
    assert workspace.opening.job.state == FAILED
    workspace.open(tmp_path / "again" / "outs").cancel()
    qtbot.waitUntil(lambda: not workspace.opening.is_busy, timeout=20_000)
    assert workspace.opening.job.state == CANCELLED
    journal = journal_path(tmp_path / "unreadable" / "outs")
    journal.mkdir(parents=True)
    open_and_wait(tmp_path / "unreadable" / "outs")
    assert "saved labels cannot be read" in workspace.opening.job.error.problem
    assert session.table is table
    assert session.path == tmp_path / "outs"
    assert session.annotations.counts() == {"Tumour": 1}
    assert names(viewer) == LAYERS
    session.label([table.obs_names[1]], "Tumour")
    assert len(workspace.canvas.layers.overlay.rgba()) == table.n_obs


def test_what_the_last_section_left_to_say_is_gone(
    workspace: Any, viewer: Any, qtbot: Any, open_and_wait: Callable[[Path], None], tmp_path: Path
) -> None:
    from stplm_napari.widgets.common import open_dock

    open_and_wait(tmp_path / "outs")
    export = open_dock(viewer, "Export")
    workspace.exporter.export(tmp_path / "missing" / "folder" / "x.csv", "explorer")
    qtbot.waitUntil(lambda: not workspace.exporter.writing.is_busy, timeout=20_000)
    assert export.progress.error.isVisible()
    open_and_wait(tmp_path / "b" / "outs")
    assert not export.progress.error.isVisible()


def test_without_positions_the_docks_lead_past_the_tissue(
    workspace: Any, viewer: Any, grid_section: Any, open_and_wait: Callable[[Path], None], tmp_path: Path
) -> None:
    from stplm_napari.widgets.common import open_dock

    del grid_section.tables[keys.TABLE].obsm[keys.SPATIAL]
    del grid_section.labels[keys.CELL_LABELS], grid_section.shapes[keys.CELL_BOUNDARIES]
    open_and_wait(tmp_path / "outs")
    notes = open_dock(viewer, "Section").notes.text()
    assert notes.count("tissue") == 1, "the missing positions are told once"
    annotate = open_dock(viewer, "Annotate")
    assert annotate.no_tissue.isVisible()
    assert not annotate.content.isVisible()
    assert annotate.no_tissue.button.text() == "Classify cells"
