"""A section on the canvas: everything in µm, DAPI first, the status bar speaks of cells, napari-spatialdata works."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm_napari.layers import CELLS, COLOURS, OUTLINES, make_layers, show_section
from stplm_napari.prepare import Placement, prepare_section


@pytest.mark.gui
def test_dapi_lies_under_the_cells_in_microns_with_a_scale_bar(
    viewer: Any, grid_section: Any, colour_at: Callable[..., np.ndarray]
) -> None:
    layers = show_section(viewer, grid_section)
    assert [layer.name for layer in viewer.layers] == ["DAPI", COLOURS, OUTLINES, CELLS]
    assert viewer.layers.selection.active is layers.cells
    assert viewer.canvas.overlays.scale_bar.visible
    for layer in viewer.layers:
        assert tuple(layer.scale) == (0.5, 0.5)
        assert [str(u) for u in layer.units] == ["micrometer", "micrometer"]
        np.testing.assert_allclose(layer.extent.world, [[0.25, 0.25], [239.75, 239.75]], err_msg=layer.name)
    centres = grid_section.tables[keys.TABLE].obsm[keys.SPATIAL]
    bright, dark = colour_at(viewer, centres), colour_at(viewer, centres[:-13] + 10)
    assert bright.min() > 200, "nuclei are white"
    assert np.median(dark) < 20, "background is black"
    layers.remove()
    assert len(viewer.layers) == 0


@pytest.mark.gui
def test_the_status_bar_speaks_of_the_cell_whichever_layer_is_selected(viewer: Any, grid_section: Any) -> None:
    layers = show_section(viewer, grid_section)
    table = grid_section.tables[keys.TABLE]
    table.obs[keys.CLASS] = pd.Categorical(["Tumour"] * 143 + [None])
    table.obs[keys.CONFIDENCE] = np.linspace(0.5, 1, 144).astype(np.float32)
    layers.overlay.show_classes(np.zeros(144, int), ["#FF0000"])
    x, y = table.obsm[keys.SPATIAL][100]
    for layer in (layers.cells, layers.overlay.layer, layers.outlines.layer):
        status = layer.get_status((y, x), view_direction=None, dims_displayed=[0, 1], world=True)
        assert "cell-100" in status["value"]
        assert "Tumour 0.85" in status["value"]
        assert f"{table.obs[keys.N_COUNTS].iloc[100]} counts" in status["value"]
    nowhere = layers.cells.get_status((y + 10, x + 10), view_direction=None, dims_displayed=[0, 1], world=True)
    assert nowhere["value"] == "no cell"
    assert keys.UNASSIGNED in layers.describe(143)


@pytest.mark.gui
def test_flying_to_a_cell_brings_it_to_the_middle(viewer: Any, grid_section: Any) -> None:
    layers = show_section(viewer, grid_section)
    layers.fly_to(100)
    x, y = grid_section.tables[keys.TABLE].obsm[keys.SPATIAL][100]
    assert tuple(viewer.scene.camera.center[-2:]) == (y, x)
    assert viewer.scene.camera.zoom > 5


def test_without_masks_cells_are_drawn_from_outlines(grid_section: Any) -> None:
    del grid_section.labels[keys.CELL_LABELS]
    table = grid_section.tables[keys.TABLE]
    table.obs = table.obs.drop(columns=keys.LABEL_VALUE)
    layers = make_layers(grid_section)
    assert "outlines" in layers.message
    found = [layers.picker.cell_at(c, reach_um=0) for c in table.obsm[keys.SPATIAL]]
    assert found == list(range(144))
    low, high = layers.cells.extent.world
    np.testing.assert_allclose(low, [2, 2], atol=1)
    np.testing.assert_allclose(high, [238, 238], atol=1)


def test_without_outlines_cells_are_drawn_around_their_centres(grid_section: Any) -> None:
    del grid_section.labels[keys.CELL_LABELS], grid_section.shapes[keys.CELL_BOUNDARIES]
    del grid_section.images[keys.MORPHOLOGY]
    table = grid_section.tables[keys.TABLE]
    table.obsm[keys.SPATIAL] = table.obsm[keys.SPATIAL] + [1000, 3000]
    table.obsm[keys.SPATIAL][5] = np.nan
    layers = make_layers(grid_section)
    assert "discs" in layers.message
    assert layers.images == []
    found = [layers.picker.cell_at(c, reach_um=0) for c in table.obsm[keys.SPATIAL]]
    assert found == [i if i != 5 else -1 for i in range(144)]
    low, _ = layers.cells.extent.world
    np.testing.assert_allclose(low, [3010 - 8, 1010 - 8], atol=1)


@pytest.mark.gui
def test_a_bare_matrix_shows_nothing_and_says_why(viewer: Any, grid_section: Any) -> None:
    for elements in (grid_section.images, grid_section.labels, grid_section.shapes):
        for name in list(elements):
            del elements[name]
    table = grid_section.tables[keys.TABLE]
    del table.obsm[keys.SPATIAL]
    layers = show_section(viewer, grid_section)
    assert len(viewer.layers) == 0
    assert layers.overlay is None
    assert "no cell positions" in layers.message
    layers.fly_to(3)
    assert layers.describe(3).startswith("cell cell-3")


def test_pixels_have_their_centres_where_napari_draws_them() -> None:
    place = Placement(np.array([[0.2, 0, 100], [0, 0.4, 50], [0, 0, 1.0]]))
    assert place.napari() == {"scale": (0.4, 0.2), "translate": (50.2, 100.1), "affine": None}
    np.testing.assert_allclose(place.to_pixel @ [100.1, 50.2, 1], [0, 0, 1], atol=1e-12)
    turned = Placement(np.array([[0, -0.2, 10], [0.2, 0, 20], [0, 0, 1.0]]))
    layer = turned.napari()
    centre = np.array([3.0, 7.0]) * layer["scale"] + layer["translate"]  # row 3, column 7
    y, x, _ = layer["affine"] @ [*centre, 1]
    np.testing.assert_allclose(turned.matrix @ [7.5, 3.5, 1], [x, y, 1])


def test_first_view_is_read_in_the_thread_not_in_the_window(grid_section: Any) -> None:
    prepared = prepare_section(grid_section)
    assert all(isinstance(level, np.ndarray) for level in [*prepared.channels[0].levels, *prepared.cells.levels])
    low, high = prepared.channels[0].contrast
    assert 100 <= low < 150
    assert 2000 <= high < 2050


def test_the_demo_section_is_shown_with_every_cell_in_its_place(demo_path: Path) -> None:
    import stplm

    section = stplm.read_section(demo_path)
    layers = make_layers(section)
    table = section.tables[keys.TABLE]
    assert layers.cells is not None
    np.testing.assert_allclose(layers.cells.scale, 0.2125)
    found = np.array([layers.picker.cell_at(c, reach_um=0) for c in table.obsm[keys.SPATIAL]])
    assert (found == np.arange(table.n_obs)).mean() > 0.98
    assert layers.images[0].name == "DAPI"


@pytest.mark.gui
@pytest.mark.qt_no_exception_capture  # napari-spatialdata's scatter plot raises when it is zoomed before it is drawn
def test_view_scatter_and_annotation_of_napari_spatialdata_work_on_our_cells(
    fresh_viewer: Any, grid_section: Any, colour_at: Callable[..., np.ndarray], qtbot: Any
) -> None:
    if importlib.util.find_spec("napari_spatialdata") is None:
        pytest.skip("napari-spatialdata is not installed")
    viewer, layers = fresh_viewer, show_section(fresh_viewer, grid_section)
    table = grid_section.tables[keys.TABLE]
    centres = table.obsm[keys.SPATIAL]

    _, view = viewer.window.add_plugin_dock_widget("napari-spatialdata", "View")
    assert _items(view.obs_widget) == list(table.obs.columns)
    assert _items(view.var_widget) == list(table.var_names)
    qtbot.wait(100)
    viewer.reset_view()
    layers.images[0].visible = False
    view.obs_widget._onAction(["kind"])
    shown = colour_at(viewer, centres)
    assert len(np.unique(shown[::2], axis=0)) == len(np.unique(shown[1::2], axis=0)) == 1
    assert (shown[0] != shown[1]).any()
    view.var_widget._onAction(["ERBB2"])
    counts = table[:, "ERBB2"].X.toarray().ravel()
    shown = colour_at(viewer, centres).astype(int).sum(axis=1)
    assert len(np.unique(shown)) == len(np.unique(counts)), "one colour per count"
    status = layers.cells.get_status(tuple(centres[9][::-1]), view_direction=None, dims_displayed=[0, 1], world=True)
    assert "cell-9" in status["value"]

    _, scatter = viewer.window.add_plugin_dock_widget("napari-spatialdata", "Scatter")
    for axis, gene in ((scatter.x_widget, "CD3E"), (scatter.y_widget, "LUM")):
        axis.widget.setAttribute("var")
        axis.widget._onAction([gene])
    scatter.plot_button_widget.click()
    np.testing.assert_array_equal(scatter.plot_widget.x_data, table[:, "CD3E"].X.toarray().ravel())

    _, annotation = viewer.window.add_plugin_dock_widget("napari-spatialdata", "Annotation")
    assert annotation.annotation_widget.add_button.isEnabled(), "the layer is linked to the section"

    dock = viewer.window.dock_widgets["SpatialData"]
    dock.show()
    systems = dock._inner.coordinate_system_widget
    systems.setCurrentItem(systems.findItems(keys.MICRONS, _exactly())[0])
    np.testing.assert_allclose(layers.images[0].extent.world[1], [239.75, 239.75], err_msg="scaled twice")
    layers.remove()


def _exactly() -> Any:
    from qtpy.QtCore import Qt

    return Qt.MatchFlag.MatchExactly


def _items(widget: Any) -> list[str]:
    return [widget.item(i).text() for i in range(widget.count())]
