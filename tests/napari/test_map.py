"""The map beside the tissue: same colours, same selection, labels from either; in a real window."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from stplm import keys
from stplm_napari.mapping import Places

pytestmark = pytest.mark.gui

GRID, STEP_UM = 12, 20.0
"""The small section of conftest: 12 rows of 12 cells."""
N = GRID * GRID


def grid_centroids() -> np.ndarray:
    """(144, 2) x, y in µm."""
    row, column = np.divmod(np.arange(N), GRID)
    return (np.stack([column, row], axis=1) + 0.5) * STEP_UM


def places() -> np.ndarray:
    """(144, 2): cells of even rows in a square on the left, of odd rows on the right."""
    x, y = grid_centroids().T
    return np.stack([x / 200 + 3 * (np.arange(N) % 2), y / 200], axis=1).astype(np.float32)


@pytest.fixture
def opened(
    viewer: Any, qtbot: Any, grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A workspace whose section is embedded and has a map."""
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path))
    table = grid_section.tables[keys.TABLE]
    table.obsm[keys.X_STPLM] = np.concatenate([places(), grid_centroids()], axis=1).astype(np.float32)
    table.obsm[keys.UMAP] = places()
    table.obs[keys.CLUSTER] = pd.Categorical(np.where(np.arange(N) % 2, "2", "1"))
    workspace = Workspace.of(viewer)
    workspace.show(grid_section, table)
    qtbot.waitUntil(lambda: workspace.mapping.current is not None, timeout=30_000)
    yield workspace
    workspace.close()


def open_map(workspace: Any, qtbot: Any) -> Any:
    from stplm_napari.widgets.common import open_dock

    made = open_dock(workspace.viewer, "Map")
    qtbot.waitUntil(lambda: made.view.canvas.n_frames > 0, timeout=10_000)
    qtbot.wait(200)
    return made


@pytest.fixture
def dock(opened: Any, qtbot: Any) -> Any:
    return open_map(opened, qtbot)


def shown_at(view: Any, place: Any) -> np.ndarray:
    """(3,) uint8: what the map shows at a place."""
    picture = view.canvas.render()
    across, down = np.array(picture.shape[1::-1]) / view.canvas.size
    x, y = view.pixel_of(place)
    return picture[int(y * down), int(x * across), :3]


def drag(dock: Any, corners: np.ndarray, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    native = dock.view.canvas.native
    pixels = [QPoint(*np.round(dock.view.pixel_of(corner)).astype(int)) for corner in corners]
    QTest.mousePress(native, Qt.MouseButton.LeftButton, modifier, pixels[0])
    for pixel in pixels[1:]:
        QTest.mouseMove(native, pixel)
        QApplication.processEvents()  # Qt would join moves that nobody has seen
    QTest.mouseRelease(native, Qt.MouseButton.LeftButton, modifier, pixels[-1])


def around(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0 + 0.02]])


LEFT, RIGHT = around(-0.3, -0.3, 1.6, 1.6), around(2.6, -0.3, 4.5, 1.6)
EVEN, ODD = np.arange(0, N, 2), np.arange(1, N, 2)


def test_a_cell_has_the_colour_that_it_has_on_the_tissue(opened: Any, dock: Any, qtbot: Any) -> None:
    session, overlay = opened.session, opened.canvas.layers.overlay
    assert session.colouring.by == "cluster"
    drawn = np.round(overlay.rgba() * 255).astype(int)
    for row in (0, 1, 77, 100):
        assert np.abs(shown_at(dock.view, places()[row]) - drawn[row, :3]).max() <= 2
    assert len(np.unique(drawn[:, :3], axis=0)) == 2
    # A label recolours the cell on both.
    session.label_rows([77], "T cell")
    qtbot.wait(200)
    after = np.round(overlay.rgba()[77] * 255).astype(int)
    assert np.abs(shown_at(dock.view, places()[77]) - after[:3]).max() <= 2
    assert np.abs(after - drawn[77]).max() > 50
    # Cells without a colour are a faint grey, not gone.
    session.colour(by="cells")
    qtbot.wait(200)
    grey = shown_at(dock.view, places()[100]).astype(int)
    assert np.ptp(grey) == 0
    assert 40 < grey[0] < 200


def test_a_lasso_selects_and_shows_on_the_tissue(opened: Any, dock: Any, qtbot: Any) -> None:
    session = opened.session
    with qtbot.waitSignal(dock.view.lassoed):
        drag(dock, LEFT)
    qtbot.waitUntil(lambda: len(session.selected) > 0, timeout=10_000)
    assert np.array_equal(session.selected, EVEN)
    selected = opened.canvas.layers.selected
    assert np.array_equal(np.flatnonzero(selected.rgba()[:, 3]), EVEN)
    qtbot.wait(200)
    assert np.abs(shown_at(dock.view, places()[2]).astype(int) - [0xB6, 0xFF, 0x00]).max() <= 2
    # Shift adds; Escape clears.
    drag(dock, RIGHT, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: len(session.selected) == N, timeout=10_000)
    QTest.keyClick(dock.view.canvas.native, Qt.Key.Key_Escape)
    assert len(session.selected) == 0
    # And the other way round.
    session.select([5])
    qtbot.wait(200)
    assert np.abs(shown_at(dock.view, places()[5]).astype(int) - [0xB6, 0xFF, 0x00]).max() <= 2


def test_selected_cells_are_labelled_from_the_map(opened: Any, dock: Any, qtbot: Any) -> None:
    session, native = opened.session, dock.view.canvas.native
    drag(dock, RIGHT)
    qtbot.waitUntil(lambda: len(session.selected) > 0, timeout=10_000)
    QTest.keyClick(native, "4")
    assert session.active_class == "T cell"
    QTest.keyClick(native, Qt.Key.Key_Return)
    assert session.annotations.counts() == {"T cell": len(ODD)}
    QTest.keyClick(native, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.annotations.counts() == {}
    assert dock.selection.label.isVisible()
    dock.selection.label.click()
    assert session.annotations.counts() == {"T cell": len(ODD)}
    action = next(a for a in dock.menu().actions() if a.text() == "Label Stromal")
    action.trigger()
    assert session.annotations.counts() == {"Stromal": len(ODD)}


def test_what_is_hidden_cannot_be_selected(opened: Any, dock: Any, qtbot: Any) -> None:
    session = opened.session
    table = session.table
    table.obs[keys.CLASS] = pd.Categorical(np.where(np.arange(N) % 2, "Tumour", "Stromal"))
    table.obs[keys.CONFIDENCE] = np.ones(N, np.float32)
    session.sources.renew()
    session.colour(by="class", hidden=frozenset(["Tumour"]))
    qtbot.wait(300)
    assert shown_at(dock.view, places()[1]).max() < 30
    drag(dock, around(-0.3, -0.3, 4.5, 1.6))
    qtbot.waitUntil(lambda: len(session.selected) > 0, timeout=10_000)
    assert np.array_equal(session.selected, EVEN)
    session.select([])
    dock.view.clicked.emit(*places()[1].tolist(), False)
    assert len(session.selected) == 0
    dock.view.clicked.emit(*places()[2].tolist(), False)
    assert session.selected.tolist() == [2]


def test_a_double_click_flies_to_the_cell_and_the_wheel_zooms(opened: Any, dock: Any) -> None:
    row, native = 130, dock.view.canvas.native
    x, y = np.round(dock.view.pixel_of(places()[row])).astype(int)
    QTest.mouseDClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(x, y))
    assert np.allclose(opened.viewer.scene.camera.center[-2:], grid_centroids()[row][::-1], atol=0.5)
    before = dock.view.visible
    dock.moving.click()
    drag(dock, np.array([[0.0, 0.0], [0.5, 0.2], [1.0, 0.5]]))
    after = dock.view.visible
    assert after[0] == pytest.approx(before[0] - 1.0, abs=0.05)
    assert after[1] == pytest.approx(before[1] - 0.5, abs=0.05)
    assert len(opened.session.selected) == 0


def test_a_closed_dock_comes_back_as_it_was_and_leaves_nothing(opened: Any, qtbot: Any) -> None:
    dock = open_map(opened, qtbot)
    opened.session.select([4, 6])
    dock.view.visible = (0.0, 0.0, 0.5, 0.5)
    window = dock.view.visible
    dock.moving.click()
    dock.neighbours.value = 30
    canvas = weakref.ref(dock.view.canvas)
    opened.viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    del dock
    qtbot.wait(200)
    gc.collect()
    assert canvas() is None
    again = open_map(opened, qtbot)
    assert again.view.visible == pytest.approx(window)
    assert again.moving.isChecked()
    assert again.neighbours.value == 30
    assert again.content.isVisible()
    assert np.abs(shown_at(again.view, places()[4]).astype(int) - [0xB6, 0xFF, 0x00]).max() <= 2


def test_a_picture_and_arrows(dock: Any, qtbot: Any, tmp_path: Path) -> None:
    from PIL import Image

    before = dock.view.canvas.render()
    dock.view.show_arrows(np.array([[1.2, 0.5]]), np.array([[2.8, 0.5]]), "#FFFFFF")
    qtbot.wait(50)
    assert (shown_at(dock.view, (2.0, 0.5)) > 150).all()
    dock.view.show_arrows(np.zeros((0, 2)), np.zeros((0, 2)))
    assert np.array_equal(dock.view.canvas.render(), before)
    dock.save_picture(tmp_path / "map.png")
    assert np.asarray(Image.open(tmp_path / "map.png")).shape == (*before.shape[:2], 3)
    assert not dock.error.isVisible()
    dock.save_picture(tmp_path / "nowhere" / "map.png")
    assert "cannot be written" in dock.error.problem.text()


def test_of_many_cells_a_part_is_drawn_while_the_view_moves(dock: Any, qtbot: Any) -> None:
    n = 400_000
    xy = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    view = dock.view
    view.show_places(Places.of(xy, np.random.default_rng(1).permutation(n)))
    view.canvas.events.mouse_wheel(pos=np.array([100, 100]), delta=(0.0, 1.0), modifiers=())
    assert view.n_drawn <= 40_000
    qtbot.waitUntil(lambda: view.n_drawn >= 100_000, timeout=10_000)
    view.visible = (0.0, 0.0, 0.2, 0.2)
    left, bottom, width, height = view._in_view()
    inside = ((xy >= (left, bottom)) & (xy <= (left + width, bottom + height))).all(axis=1)
    assert view.n_drawn == inside.sum()


def test_the_map_follows_the_embedding_and_is_recorded(
    viewer: Any, qtbot: Any, grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stplm.tasks import umap
    from stplm_napari import tasks
    from stplm_napari.process import WorkerProcess
    from stplm_napari.results import Result
    from stplm_napari.script import script
    from stplm_napari.session import Embedding
    from stplm_napari.steps import Step
    from stplm_napari.widgets.common import open_dock
    from stplm_napari.workspace import Workspace

    def call(_: Any, task: str, *given: Any) -> None:
        """Here, without starting a process."""
        getattr(tasks, task.partition(":")[2])(*given)

    monkeypatch.setattr(WorkerProcess, "call", call)
    # umap-learn is half a minute of compiling, and the engine's tests run it.
    monkeypatch.setattr(umap, "_fit", lambda points, *_: np.asarray(points[:, :2], np.float32))
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path))
    workspace = Workspace.of(viewer)
    session, maker = workspace.session, workspace.mapping
    dock = open_dock(viewer, "Map")
    assert dock.empty.isVisible()
    workspace.show(grid_section, grid_section.tables[keys.TABLE])
    assert dock.not_embedded.isVisible()

    def embed(how: float) -> None:
        vectors = {keys.X_STPLM: np.concatenate([places(), how * grid_centroids()], axis=1).astype(np.float32)}
        session.put_embedding(Result(obsm=vectors), session.revision, Embedding("m", "", 0.0), Step("embed"))

    embed(1.0)
    assert maker.making.is_busy
    first = maker.making.job
    embed(0.1)  # again, before the map is there: the first one is dropped
    qtbot.waitUntil(lambda: not maker.making.is_busy, timeout=300_000)
    assert first.state in ("cancelled", "stale")
    assert maker.making.job.error is None, maker.making.job.details
    qtbot.waitUntil(lambda: dock.content.isVisible(), timeout=5_000)
    xy = session.table.obsm[keys.UMAP]
    assert np.array_equal(maker.current.xy, xy)
    assert [s.name for s in session.steps].count("umap") == 1
    assert "stplm.umap(table)" in script([s for s in session.steps if s.name == "umap"])
    assert "144 cells, drawn at" in dock.result.text()
    # The same vectors keep their map; a map of others: cancelled, there is none, and a button for it.
    embed(0.1)
    assert maker.current is not None
    assert not maker.making.is_busy
    embed(0.2)
    assert keys.UMAP not in session.table.obsm
    maker.making.job.cancel()
    qtbot.waitUntil(lambda: not maker.making.is_busy, timeout=60_000)
    assert maker.current is None
    assert dock.no_map.isVisible()
    workspace.close()


def test_the_button_saves_the_map_where_exports_go(
    opened: Any, dock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    asked = []

    def choose(parent: Any, title: str, start: str, kinds: str) -> tuple[str, str]:
        asked.append(Path(start))
        return str(tmp_path / "here.png"), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    dock.save.click()
    assert asked[0].name == "map.png"
    assert (tmp_path / "here.png").stat().st_size > 1000
