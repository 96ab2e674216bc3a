"""The colours on the canvas are the colours of the cells, and only the pixels that are asked for are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stplm import keys
from stplm.errors import LabelError
from stplm.palette import TUMOUR_COLOUR, UNASSIGNED_COLOUR
from stplm_napari.overlay import MAX_CLASSES, CellOverlay, colour_steps
from stplm_napari.pyramid import CachedLevel, TileStore, boundaries, label_levels

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
HEX = ["#FF0000", "#00FF00", "#0000FF"]


class Counting:
    """A label image that counts how many of its pixels were read."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.read = array, 0
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self._array[key]
        self.read += part.size
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :]


@pytest.fixture
def labels(grid_section: Any) -> np.ndarray:
    return np.asarray(grid_section.labels[keys.CELL_LABELS]["scale0"].image)


@pytest.fixture
def values(grid_section: Any) -> np.ndarray:
    return grid_section.tables[keys.TABLE].obs[keys.LABEL_VALUE].to_numpy()


@pytest.fixture
def centres(grid_section: Any) -> np.ndarray:
    return grid_section.tables[keys.TABLE].obsm[keys.SPATIAL]


@pytest.fixture
def overlay(labels: np.ndarray, values: np.ndarray) -> CellOverlay:
    """Pixels of 0.5 µm, opaque, so that colours come out as they went in."""
    made = CellOverlay([labels, labels[::2, ::2]], values, scale_um=(0.5, 0.5), translate_um=(0.25, 0.25))
    made.layer.opacity = 1
    return made


@pytest.mark.gui
def test_each_cell_shows_the_colour_of_its_class(
    viewer: Any, overlay: CellOverlay, centres: np.ndarray, colour_at: Callable[..., np.ndarray]
) -> None:
    viewer.add_layer(overlay.layer)
    codes = np.arange(144) % 3
    overlay.show_classes(codes, HEX)
    assert np.abs(colour_at(viewer, centres).astype(int) - np.array([RED, GREEN, BLUE])[codes]).max() <= 2
    overlay.show_classes((codes + 1) % 3, HEX)
    assert np.abs(colour_at(viewer, centres).astype(int) - np.array([GREEN, BLUE, RED])[codes]).max() <= 2
    between = centres[:-13] + 10  # corners of the grid, where no cell is
    assert colour_at(viewer, between[np.arange(131) % 12 < 11]).max() <= 2


@pytest.mark.gui
def test_the_same_colours_when_zoomed_into_another_level(
    viewer: Any, overlay: CellOverlay, centres: np.ndarray, colour_at: Callable[..., np.ndarray]
) -> None:
    viewer.add_layer(overlay.layer)
    overlay.show_classes(np.arange(144) % 3, HEX)
    seen = set()
    for zoom in (0.9, 3.0, 12.0):
        viewer.scene.camera.zoom = zoom
        viewer.scene.camera.center = (0, *centres[65][::-1])
        assert np.abs(colour_at(viewer, centres[65])[0].astype(int) - HEX_RGB[65 % 3]).max() <= 2
        seen.add(overlay.layer.data_level)
    assert seen == {0, 1}


HEX_RGB = np.array([RED, GREEN, BLUE])


@pytest.mark.gui
def test_values_run_through_the_colour_map_and_missing_ones_are_grey_or_gone(
    viewer: Any, overlay: CellOverlay, centres: np.ndarray, colour_at: Callable[..., np.ndarray]
) -> None:
    viewer.add_layer(overlay.layer)
    values = np.linspace(0, 1, 144)
    values[7] = np.nan
    overlay.show_values(values, cmap="tumour", missing="grey")
    shown = colour_at(viewer, centres).astype(int)
    assert np.abs(shown[0] - _rgb("#2166AC")).max() <= 2
    assert np.abs(shown[-1] - _rgb(TUMOUR_COLOUR)).max() <= 2
    assert np.abs(shown[7] - _rgb(UNASSIGNED_COLOUR)).max() <= 2
    overlay.show_values(values, cmap="viridis")
    shown = colour_at(viewer, centres).astype(int)
    assert np.abs(shown[-1] - np.round(colour_steps("viridis")[-1, :3] * 255)).max() <= 2
    assert shown[7].max() <= 2


@pytest.mark.gui
def test_a_recolour_shows_at_once_without_touching_the_view(
    viewer: Any, overlay: CellOverlay, centres: np.ndarray, colour_at: Callable[..., np.ndarray]
) -> None:
    viewer.add_layer(overlay.layer)
    overlay.show_classes(np.zeros(144, int), HEX)
    colour_at(viewer, centres[:1])
    viewer.scene.camera.zoom = 9
    before = (viewer.scene.camera.zoom, tuple(viewer.scene.camera.center))
    overlay.show_classes(np.ones(144, int), HEX)
    assert (viewer.scene.camera.zoom, tuple(viewer.scene.camera.center)) == before
    assert np.abs(colour_at(viewer, centres[65])[0].astype(int) - GREEN).max() <= 2


def test_hidden_unsure_and_classless_cells(overlay: CellOverlay) -> None:
    codes = np.arange(144) % 3
    codes[0] = -1
    unsure = np.zeros(144, bool)
    unsure[[0, 1, 2]] = True
    overlay.show_classes(codes, HEX, visible=[True, True, False], unsure=unsure, opacities=[1, 0.5, 1])
    rgba = overlay.rgba()
    assert rgba[0, 3] == 0, "a cell without a class stays transparent, sure or not"
    np.testing.assert_allclose(rgba[1], [*_rgb(UNASSIGNED_COLOUR) / 255, 1], atol=0.01)
    assert (rgba[2::3, 3] == 0).all(), "a hidden class stays hidden, sure or not"
    np.testing.assert_allclose(rgba[4], [0, 1, 0, 0.5])


def test_a_ring_marks_a_cell_and_its_colour_stays(overlay: CellOverlay, labels: np.ndarray, values: np.ndarray) -> None:
    overlay.show_classes(np.zeros(144, int), HEX)
    plain = np.asarray(overlay.layer.data[0])
    overlay.highlight([17])
    marked = np.asarray(overlay.layer.data[0])
    changed = marked != plain
    assert set(np.unique(labels[changed])) == {values[17]}
    assert 0.1 < changed.sum() / (labels == values[17]).sum() < 0.7
    overlay.highlight([])
    np.testing.assert_array_equal(np.asarray(overlay.layer.data[0]), plain)


def test_labels_that_belong_to_no_cell_stay_transparent(labels: np.ndarray, values: np.ndarray) -> None:
    stray = labels.copy()
    stray[:10, :10] = values.max() + 1000
    stray[:10, 10:20] = 1  # below, in a gap
    overlay = CellOverlay([stray], values)
    overlay.show_classes(np.zeros(144, int), HEX)
    assert np.asarray(overlay.layer.data)[:10, :20].max() == 0


def test_only_the_window_is_read(labels: np.ndarray, values: np.ndarray) -> None:
    big = Counting(labels)
    overlay = CellOverlay([big, labels[::4, ::4]], values)
    big.read = 0
    window = overlay.layer.data[0][100:140, 200:260]
    assert window.shape == (40, 60)
    assert window.dtype == np.uint8
    assert big.read == 40 * 60


def test_outlines_are_closed_and_windows_have_no_frame(labels: np.ndarray, values: np.ndarray) -> None:
    outlines = CellOverlay([labels], values, outline=1, diameter_px=32)
    outlines.show_uniform("#FFFFFF")
    whole = np.asarray(outlines.layer.data)
    assert (whole[labels == 0] == 0).all()
    np.testing.assert_array_equal(whole > 0, boundaries(labels))
    np.testing.assert_array_equal(outlines.layer.data[13:77, 51:143], whole[13:77, 51:143])


def test_from_afar_outlines_give_way_instead_of_covering_the_tissue(labels: np.ndarray, values: np.ndarray) -> None:
    coarse = labels[::8, ::8]
    outlines = CellOverlay([labels, coarse], values, outline=1, diameter_px=32, hide_small=True)
    outlines.show_uniform("#FFFFFF")
    drawn = np.asarray(outlines.layer.data[1])
    assert drawn.max() == 0, "outlines of cells 4 pixels wide would be a white sheet"


def test_what_cannot_be_shown_is_refused(overlay: CellOverlay) -> None:
    with pytest.raises(LabelError, match="300 classes"):
        overlay.show_classes(np.zeros(144, int), ["#000000"] * 300)
    with pytest.raises(ValueError, match="one value per cell"):
        overlay.show_values(np.zeros(143))
    with pytest.raises(ValueError, match="range is empty"):
        overlay.show_values(np.zeros(144), lo=1, hi=1)
    with pytest.raises(ValueError, match="has no colour"):
        overlay.show_classes(np.full(144, 3), HEX)
    overlay.show_classes(np.arange(144), ["#123456"] * MAX_CLASSES)


def test_cached_windows_equal_the_source_and_are_read_once(labels: np.ndarray) -> None:
    source = Counting(np.tile(labels, (5, 5)))
    level = CachedLevel(source, TileStore())
    for key in (np.s_[900:1200, 1000:1100], np.s_[:, 2300:], np.s_[5:5, 0:3], np.s_[7], np.s_[-1, 0:9], np.s_[3, 4]):
        np.testing.assert_array_equal(level[key], source._array[key])
    read = source.read
    level[950:1150, 1010:1090]
    assert source.read == read


def test_tiles_stay_within_their_budget(labels: np.ndarray) -> None:
    tile_bytes = 1024 * 1024 * 4
    source = Counting(np.tile(labels, (9, 9)))
    level = CachedLevel(source, TileStore(budget=3 * tile_bytes))
    level[:, :]
    read = source.read
    level[:1024, :1024]
    assert source.read > read, "the first tile had to make room"


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def test_a_label_image_is_read_once_for_all_its_coarse_levels(labels: np.ndarray) -> None:
    import dask.array as da

    source = Counting(np.tile(labels, (4, 4)))
    lazy = da.from_array(source, chunks=480, meta=np.zeros((0, 0), source.dtype))
    levels = label_levels([lazy, lazy[::2, ::2], lazy[::4, ::4]], TileStore(), whole=source._array.nbytes // 4)
    assert [type(level) for level in levels] == [CachedLevel, np.ndarray, np.ndarray]
    assert source.read <= source._array.size
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(np.asarray(level), source._array[:: 2**i, :: 2**i])
