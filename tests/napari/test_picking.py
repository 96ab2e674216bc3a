"""A click takes the cell under the mouse; a drag takes none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stplm import keys
from stplm_napari.layers import show_section
from stplm_napari.picking import CellPicker, install_click


@pytest.fixture
def picker(grid_section: Any) -> CellPicker:
    from stplm_napari.prepare import prepare_cells

    cells = prepare_cells(grid_section)
    assert cells is not None
    return CellPicker(cells.levels[0], cells.values, cells.centroids_um, cells.placement.to_pixel)


@pytest.fixture
def centres(grid_section: Any) -> np.ndarray:
    return grid_section.tables[keys.TABLE].obsm[keys.SPATIAL]


def test_every_cell_is_found_at_its_centre_and_near_its_border(picker: CellPicker, centres: np.ndarray) -> None:
    for shift in ((0, 0), (7.4, 0), (-7.4, 0), (0, 7.4), (0, -7.4)):
        assert [picker.cell_at(c + shift, reach_um=0) for c in centres] == list(range(144))


def test_a_click_between_cells_takes_the_nearest_within_reach(picker: CellPicker, centres: np.ndarray) -> None:
    beside = centres[30] + [9, 0]  # the disc ends at 8 µm
    assert picker.cell_at(beside, reach_um=0) == -1
    assert picker.cell_at(beside, reach_um=8.9) == -1
    assert picker.cell_at(beside, reach_um=9.1) == 30


def test_outside_the_image_there_is_no_cell(picker: CellPicker) -> None:
    for place in ((-5, 20), (20, -5), (245, 20), (1e9, 1e9), (np.nan, 3)):
        assert picker.cell_at(place) == -1


def test_cells_known_by_their_centres_only() -> None:
    picker = CellPicker(None, np.array([7, 3]), np.array([[0.0, 0.0], [10.0, 0.0]]))
    assert picker.cell_at((9, 1)) == 1
    assert picker.cell_at((5, 0)) == -1
    picker = CellPicker(None, np.array([1, 2]), np.array([[np.nan, np.nan], [10.0, 0.0]]))
    assert picker.cell_at((9, 1)) == 1, "a cell without a position hinders no other"


def test_a_line_takes_the_cells_it_goes_over(picker: CellPicker, centres: np.ndarray) -> None:
    assert picker.cells_along(centres[[0, 3]]).tolist() == [0, 1, 2, 3]
    assert picker.cells_along([centres[40] + [7, 0]]).tolist() == [40]
    assert picker.cells_along(centres[[12, 131]] + [[-50, 0], [50, 0]]).size > 10
    assert picker.cells_along([(-50, -50), (-20, 500)]).size == 0


class Mouse:
    """Plays press, moves and release through napari's own callback machinery."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def click(self, xy_um: Any, *, button: int = 1, drag_px: float = 0, modifiers: tuple[str, ...] = ()) -> None:
        from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

        y, x = float(xy_um[1]), float(xy_um[0])
        event = SimpleNamespace(
            type="mouse_press", button=button, modifiers=modifiers, pos=np.array([50.0, 50.0]), position=(y, x),
            handled=False, is_dragging=False,
        )  # fmt: skip
        mouse_press_callbacks(self._viewer, event)
        if drag_px:
            event.type, event.pos, event.is_dragging = "mouse_move", np.array([50.0 + drag_px, 50.0]), True
            mouse_move_callbacks(self._viewer, event)
        event.type = "mouse_release"
        mouse_release_callbacks(self._viewer, event)


@pytest.mark.gui
def test_clicks_are_heard_drags_and_other_buttons_are_not(viewer: Any, grid_section: Any, centres: np.ndarray) -> None:
    layers = show_section(viewer, grid_section)
    heard: list[tuple[int, tuple[str, ...]]] = []
    remove = install_click(viewer, layers, lambda row, event: heard.append((row, event.modifiers)))
    mouse = Mouse(viewer)
    mouse.click(centres[40])
    mouse.click(centres[41], drag_px=2, modifiers=("Shift",))
    assert heard == [(40, ()), (41, ("Shift",))], "a hand that trembles by two pixels still clicks"
    mouse.click(centres[42], drag_px=30)
    mouse.click(centres[43], button=2)
    mouse.click((-50, -50))
    assert len(heard) == 2
    layers.cells.visible = False
    viewer.layers.selection.active = layers.images[0]
    mouse.click(centres[44])
    assert heard[-1][0] == 44, "whatever layer is selected or visible"
    remove()
    mouse.click(centres[45])
    assert heard[-1][0] == 44


@pytest.mark.gui
def test_a_real_click_on_the_canvas_reaches_the_cell_under_it(
    viewer: Any, grid_section: Any, centres: np.ndarray, qtbot: Any
) -> None:
    from qtpy.QtCore import QPoint, Qt

    layers = show_section(viewer, grid_section)
    heard: list[int] = []
    install_click(viewer, layers, lambda row, event: heard.append(row))
    qtbot.wait(200)
    native, camera = viewer.window._qt_viewer.canvas.native, viewer.scene.camera
    for row in (0, 77, 143):
        x, y = (centres[row] - np.array(camera.center[-1:-3:-1])) * camera.zoom
        place = QPoint(round(native.width() / 2 + x), round(native.height() / 2 + y))
        qtbot.mouseMove(native, place)
        qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=place)
    assert heard == [0, 77, 143]
