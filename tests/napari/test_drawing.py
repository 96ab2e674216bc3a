"""Lasso, brush and polygon with real mouse and keys in a real window: labels, regions, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm_napari.results import Result
from stplm_napari.session import CLASS, Prediction
from stplm_napari.shortcuts import HELP, MODE_KEYS, TOOL_KEYS
from stplm_napari.steps import Step
from stplm_napari.tools import BRUSH, CLICK, LABEL, LASSO, SELECT

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(
    viewer: Any, grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> Iterator[Any]:
    """A workspace with the small section open and the Annotate dock in front."""
    from stplm_napari.widgets.common import open_dock
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    workspace = Workspace.of(viewer)
    workspace.show(grid_section, grid_section.tables["table"], path=tmp_path / "outs")
    open_dock(viewer, "Annotate")
    qtbot.wait(150)
    yield workspace
    workspace.close()


@pytest.fixture
def hand(opened: Any, qtbot: Any) -> Hand:
    return Hand(opened, qtbot)


class Hand:
    """A mouse on the tissue, in µm, and keys on the window."""

    def __init__(self, workspace: Any, qtbot: Any) -> None:
        self._workspace, self._viewer, self._qtbot = workspace, workspace.viewer, qtbot
        self.native = self._viewer.window._qt_viewer.canvas.native

    def drag(self, path: Any, *, button: int = 1, shift: bool = False, release: bool = True) -> None:
        from qtpy.QtCore import QEvent, Qt

        held = {1: Qt.MouseButton.LeftButton, 3: Qt.MouseButton.MiddleButton}[button]
        none = Qt.MouseButton.NoButton
        places = [self.place(xy) for xy in np.asarray(path, float)]
        self._send(QEvent.Type.MouseButtonPress, places[0], held, held, shift)
        for place in places[1:]:
            self._send(QEvent.Type.MouseMove, place, none, held, shift)
            self._qtbot.wait(11)  # moves that follow closer are dropped
        if release:
            self._send(QEvent.Type.MouseButtonRelease, places[-1], held, none, shift)
            self.wait_for_cells()

    def click(self, xy: Any, *, double: bool = False) -> None:
        from qtpy.QtCore import Qt

        press = self._qtbot.mouseDClick if double else self._qtbot.mouseClick
        press(self.native, Qt.MouseButton.LeftButton, pos=self.place(xy).toPoint())

    def key(self, key: Any, modifier: Any = None) -> None:
        from qtpy.QtCore import Qt

        window = self._viewer.window._qt_window
        self._qtbot.keyClick(window, key, Qt.KeyboardModifier.NoModifier if modifier is None else modifier)

    def wait_for_cells(self) -> None:
        self._qtbot.waitUntil(lambda: not self._workspace.picking.is_busy, timeout=20_000)

    def place(self, xy: Any) -> Any:
        from qtpy.QtCore import QPointF

        camera = self._viewer.scene.camera
        x, y = (np.asarray(xy, float) - np.array(camera.center[-1:-3:-1])) * camera.zoom
        return QPointF(round(self.native.width() / 2 + x), round(self.native.height() / 2 + y))

    def _send(self, kind: Any, place: Any, button: Any, buttons: Any, shift: bool) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        modifier = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        where = self.native.mapToGlobal(place)
        QApplication.sendEvent(self.native, QMouseEvent(kind, place, where, button, buttons, modifier))


def ring(centre: Any, radius: float, n: int = 24) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n)
    return np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def centres(workspace: Any) -> np.ndarray:
    return workspace.session.table.obsm[keys.SPATIAL]


def within(workspace: Any, centre: Any, radius: float) -> set[str]:
    near = np.hypot(*(centres(workspace) - centre).T) < radius
    return set(workspace.session.table.obs_names[near])


def test_a_lasso_labels_what_it_goes_around_in_one_step(
    opened: Any, hand: Hand, colour_at: Callable[..., np.ndarray]
) -> None:
    from matplotlib.colors import to_rgb

    session, viewer = opened.session, opened.viewer
    before = [layer.name for layer in viewer.layers]
    view = viewer.scene.camera.center
    middle = centres(opened)[65] + [3, 3]
    inside = within(opened, middle, 45)
    hand.key("1")
    hand.key(TOOL_KEYS[LASSO].lower())
    dark = colour_at(viewer, centres(opened)[[65]])[0].astype(float)
    hand.drag(ring(middle, 45), release=False)
    line = colour_at(viewer, [np.add(middle, [45, 0])])[0]
    expected = np.multiply(to_rgb(session.annotations.get("Tumour").colour), 255)
    assert np.abs(line - expected).max() < 40, "the outline shows while it is drawn"
    hand.drag(ring(middle, 45))
    assert set(session.annotations.labels) == inside
    assert len(inside) == 17
    shown = colour_at(viewer, centres(opened)[[65]])[0]
    assert np.abs(shown - (0.7 * expected + 0.3 * dark)).max() < 30
    assert viewer.scene.camera.center == view, "the tissue stays where it is"
    assert [layer.name for layer in viewer.layers] == before
    hand.drag(ring(centres(opened)[65], 12), shift=True)
    assert len(inside) - 1 == len(session.annotations.labels), "Shift clears"
    opened.undo()
    opened.undo()
    assert not session.annotations.labels
    hand.click(centres(opened)[3])
    assert list(session.annotations.labels) == ["cell-3"], "a click with the lasso takes one cell"


def test_a_brush_covers_its_radius_and_the_view_can_be_moved_meanwhile(opened: Any, hand: Hand, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    session, viewer = opened.session, opened.viewer
    xy = centres(opened)
    hand.key(TOOL_KEYS[BRUSH].lower())
    session.use(radius_um=20.0)
    hand.key("]")
    assert session.tool.radius_um == 25
    hand.drag(xy[[26, 27, 28, 29]])
    expected = {c for i in (26, 27, 28, 29) for c in within(opened, xy[i], 25)}
    assert set(session.annotations.labels) == expected
    hand.key("[")
    session.use(radius_um=2.0)
    hand.drag([xy[100] + [6, 0]])
    assert "cell-100" in session.annotations.labels, "a brush smaller than a cell takes the cell under it"
    n = len(session.annotations.labels)
    home = np.array(viewer.scene.camera.center[-2:])
    hand.drag(xy[[60, 61]], button=3)
    moved = np.array(viewer.scene.camera.center[-2:])
    assert np.allclose(moved - home, [0, -20], atol=1.5)
    window = viewer.window._qt_window
    qtbot.keyPress(window, Qt.Key.Key_Space)
    hand.drag(xy[[65, 68]])
    qtbot.keyRelease(window, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: not np.allclose(viewer.scene.camera.center[-2:], moved), timeout=5000)
    assert len(session.annotations.labels) == n
    hand.drag(xy[[140]])
    assert len(session.annotations.labels) > n, "and draws again once Space is let go"


def test_a_brush_leaves_no_mark_where_it_ended(
    opened: Any, hand: Hand, colour_at: Callable[..., np.ndarray], qtbot: Any
) -> None:
    session, viewer = opened.session, opened.viewer
    end = centres(opened)[65] + [3, 3]
    untouched = colour_at(viewer, end)
    session.use(shape=BRUSH, does=SELECT, radius_um=25.0)
    hand.drag([end - [60, 0], end])
    session.select([])
    session.use(shape=CLICK, does=LABEL)
    qtbot.wait(50)
    assert np.array_equal(colour_at(viewer, end), untouched)


def test_a_polygon_becomes_a_region_with_an_outline_a_row_and_cells(
    opened: Any, hand: Hand, colour_at: Callable[..., np.ndarray], qtbot: Any
) -> None:
    from matplotlib.colors import to_rgb
    from qtpy.QtCore import Qt

    from stplm_napari.widgets.annotate import AnnotateWidget

    session, viewer = opened.session, opened.viewer
    dock = viewer.window._qt_window.findChild(AnnotateWidget)
    corners = [(31.0, 31.0), (156.0, 31.0), (156.0, 117.0), (31.0, 117.0)]
    for key in ("3", "p", "r"):
        hand.key(key)
    for corner in corners[:2]:
        hand.click(corner)
    hand.key(Qt.Key.Key_Escape)
    hand.key(Qt.Key.Key_Return)
    assert not session.annotations.regions, "Esc drops it"
    for corner in corners:
        hand.click(corner)
    hand.key(Qt.Key.Key_Return)
    (region,) = session.annotations.regions
    assert (region.name, region.class_name) == ("Stromal 1", "Stromal")
    assert np.allclose(region.arrays()[0], corners, atol=1)
    ink = np.multiply(to_rgb(session.annotations.get("Stromal").colour), 255)
    edge = [(90.0, region.arrays()[0][:2, 1].mean())]

    def look() -> np.ndarray:
        return colour_at(viewer, edge)[0]

    assert np.abs(look() - ink).max() < 60
    assert list(dock.regions.rows) == ["Stromal 1"]
    eye = dock.regions.eye.icon().pixmap(16).toImage()
    dock.workspace.viewer.theme = "light"
    assert dock.regions.eye.icon().pixmap(16).toImage() != eye, "the ink is the theme's"
    actions = {action.text(): action for action in dock.regions.rows["Stromal 1"].menu().actions()}
    actions["Label its cells Stromal"].trigger()
    hand.wait_for_cells()
    assert session.annotations.counts() == {"Stromal": 24}
    actions["Select its cells"].trigger()
    hand.wait_for_cells()
    assert len(session.selected) == 24
    assert dock.selection.isVisible()
    assert "Selected cells" in viewer.layers
    hand.key(Qt.Key.Key_Escape)
    assert "Selected cells" not in viewer.layers
    qtbot.wait(50)  # a click before the next frame would find OpenGL buffers of the layer that went
    opened.undo()
    opened.undo()
    assert not session.annotations.regions
    assert np.abs(look() - ink).max() > 60
    assert not dock.regions.isVisible()
    opened.redo()
    assert np.abs(look() - ink).max() < 60
    assert str(viewer.layers.selection.active) == "Cells"
    hand.click((100.0, 40.0))
    hand.click((140.0, 40.0))
    hand.click((140.0, 70.0))
    hand.click((140.0, 70.0), double=True)
    assert len(session.annotations.regions) == 2, "a double click closes"


def test_all_cells_of_a_class_leave_out_what_is_hidden(opened: Any, hand: Hand) -> None:
    from stplm_napari.widgets.annotate import AnnotateWidget

    session = opened.session
    n = session.table.n_obs
    called = np.where(np.arange(n) % 12 < 4, "Tumour", np.where(np.arange(n) % 12 < 8, "Stromal", "T cell"))
    columns = {
        keys.CLASS: pd.Series(pd.Categorical(called)),
        keys.CONFIDENCE: pd.Series(np.ones(n)),
        keys.TUMOUR: pd.Series(np.zeros(n)),
    }
    made = Prediction("test", 3, "made", "12:00", session.revision)
    session.put_prediction(Result(columns, {}, {}), None, made, Step("classify"))
    assert session.colouring.by == CLASS
    session.colour(hidden=frozenset({"Stromal"}))
    hand.key("5")
    hand.key("l")
    corner = np.array([(-5, -5), (245, -5), (245, 245), (-5, 245)])
    hand.drag(np.concatenate([np.linspace(corner[i - 1], corner[i], 5) for i in (1, 2, 3, 0)]))
    assert session.annotations.counts() == {"B cell": n - n // 3}, "hidden cells cannot be labelled by accident"
    opened.undo()
    tools = opened.viewer.window._qt_window.findChild(AnnotateWidget).tools
    tools.fill_menu()
    menus = {action.text(): action.menu() for action in tools.menu.actions() if action.menu()}
    entries = {action.text(): action for action in menus["Predicted class"].actions()}
    entries[f"Tumour  ({n // 3})"].trigger()
    assert session.annotations.counts() == {"B cell": n // 3}


def test_keys_work_after_the_dock_was_closed_and_opened_again(opened: Any, hand: Hand, qtbot: Any) -> None:
    from stplm_napari.widgets.common import open_dock
    from stplm_napari.widgets.keys import KeysPanel

    session, viewer = opened.session, opened.viewer
    window = viewer.window._qt_window
    hand.key("l")
    assert not viewer.scene.camera.mouse_pan
    for dock in list(viewer.window._wrapped_dock_widgets.values()):
        dock.destroyOnClose()
    qtbot.waitUntil(lambda: not session.annotating, timeout=3000)
    assert viewer.scene.camera.mouse_pan, "without the dock the mouse moves the view"
    hand.drag(ring(centres(opened)[65], 50))
    assert not session.annotations.labels
    dock = open_dock(viewer, "Annotate")
    qtbot.wait(150)
    assert dock.tools.shapes[LASSO].isChecked()
    viewer.reset_view()
    hand.key("2")
    hand.drag(ring(centres(opened)[65], 50))
    assert session.annotations.counts() == {"Epithelial": len(within(opened, centres(opened)[65], 50))}
    for key in (*TOOL_KEYS.values(), *MODE_KEYS.values()):
        hand.key(key.lower())
    assert (session.tool.shape, session.tool.does) == (BRUSH, "region")
    hand.key("r")
    hand.key("s")
    assert (session.tool.shape, session.tool.does) == (CLICK, "label")
    hand.key("?")
    panel = window.findChild(KeysPanel)
    assert panel.isVisible()
    panel.close()


def test_the_help_lists_every_tool_key() -> None:
    listed = {key for _, lines in HELP for key, _ in lines}
    assert {*TOOL_KEYS.values(), *MODE_KEYS.values()} <= listed
