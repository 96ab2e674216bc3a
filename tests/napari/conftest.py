"""A napari window to draw in, and a small section whose truth is known. Xvfb is started where there is no display."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stplm import keys
from stplm_napari.process import WorkerProcess

if TYPE_CHECKING:
    from napari import Viewer
    from spatialdata import SpatialData


def _start_xvfb() -> str:
    """Start a virtual display that ends with this process. Returns why there is none, or ""."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ""
    program = shutil.which("Xvfb")
    if program is None:
        return "no display, and Xvfb is not installed"
    read, write = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(write), "-screen", "0", "1600x1000x24", "+extension", "GLX", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    atexit.register(server.terminate)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    if not number:
        return "Xvfb did not start"
    os.environ["DISPLAY"] = f":{number}"
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    return ""


_NO_DISPLAY = _start_xvfb()


@contextlib.contextmanager
def _shown_window() -> Iterator[Viewer]:
    """A shown napari window, closed afterwards; skipped where nothing can be drawn."""
    if _NO_DISPLAY:
        pytest.skip(_NO_DISPLAY)
    import napari
    from napari.settings import get_settings

    get_settings().application.confirm_close_window = False
    shown = napari.Viewer(show=True)
    shown.window.resize(*_SIZE)
    yield shown
    shown.close()


_SIZE = (1200, 800)


@pytest.fixture(scope="session")
def _the_window(qapp: Any) -> Iterator[Viewer]:
    """One napari window for all tests of a process: opening one takes longer than most of them."""
    with _shown_window() as shown:
        yield shown


@pytest.fixture(scope="module")
def window(_the_window: Viewer) -> Iterator[Viewer]:
    """The window, empty before and after the tests of a file."""
    _set_aside()
    yield _the_window
    _empty(_the_window)


@pytest.fixture
def viewer(window: Viewer, qtbot: Any) -> Iterator[Viewer]:
    """The window, empty before and after the test."""
    _set_aside()
    yield window
    _empty(window)


@pytest.fixture
def fresh_viewer(qtbot: Any) -> Iterator[Viewer]:
    """A napari window of the test's own."""
    with _shown_window() as shown:
        qtbot.wait(50)
        yield shown


_aside = 0
"""Modules that were there when garbage was looked for in all that there is."""


def _set_aside() -> None:
    """Where many modules came since, leave what is there now out of the search for garbage: napari searches at each
    layer that goes, a third of a second with all that a process of tests imports."""
    global _aside
    if len(sys.modules) > _aside + 50:
        gc.collect()
        gc.freeze()
        _aside = len(sys.modules)


def _empty(viewer: Viewer) -> None:
    """Leave a window as one that was opened just now."""
    from qtpy.QtTest import QTest

    from stplm_napari.workspace import Workspace

    if viewer in Workspace._of:
        Workspace.of(viewer).close()
    for dock in list(viewer.window._wrapped_dock_widgets.values()):
        inner = dock.widget()
        dock.destroyOnClose()
        inner.deleteLater()  # napari leaves it to whoever holds it, and it would go on listening to the window
    viewer.layers.clear()
    for heard in (viewer.mouse_move_callbacks, viewer.mouse_drag_callbacks, viewer.mouse_double_click_callbacks):
        heard[:] = [callback for callback in heard if callback.__module__.startswith("napari.")]
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 0.0, 0.0), 1.0
    if viewer.theme != "dark":
        viewer.theme = "dark"
    if (viewer.window._qt_window.width(), viewer.window._qt_window.height()) != _SIZE:
        viewer.window.resize(*_SIZE)
    QTest.qWait(20)


@pytest.fixture
def workspace(viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The viewer's workspace, with nothing open; what it warms up in the background is left out."""
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(Workspace, "_warm_up", lambda self: None)
    found = Workspace.of(viewer)
    yield found
    found.close()


class _KeptWorker(WorkerProcess):
    """A worker that outlives the workspaces that it works for: to start one and import torch takes many seconds."""

    def stop(self) -> None:
        """Not yet; what its calls find is not waited for."""

    def end(self) -> None:
        """End the process."""
        super().stop()


@pytest.fixture(scope="module")
def kept_worker() -> Iterator[WorkerProcess]:
    """One worker process for all tests of a file that are not about its start or its end."""
    found = _KeptWorker()
    yield found
    found.end()


@pytest.fixture
def screenshot(qtbot: Any) -> Callable[..., np.ndarray]:
    """``screenshot(viewer)``: (rows, columns, 4) uint8 of the canvas; with ``canvas_only=False`` of the window."""

    def take(viewer: Viewer, *, canvas_only: bool = True, path: Path | None = None) -> np.ndarray:
        qtbot.wait(100)
        return viewer.screenshot(None if path is None else str(path), canvas_only=canvas_only, flash=False)

    return take


@pytest.fixture
def colour_at(screenshot: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """``colour_at(viewer, xy_um)``: (n, 3) uint8, what the canvas shows at (n, 2) places in µm."""

    def look(viewer: Viewer, xy_um: np.ndarray) -> np.ndarray:
        image, camera = screenshot(viewer), viewer.scene.camera
        height, width = viewer.canvas.size
        place = (np.atleast_2d(xy_um) - np.array(camera.center[-1:-3:-1])) * camera.zoom + [width / 2, height / 2]
        columns, rows = (place * np.array([image.shape[1] / width, image.shape[0] / height])).astype(int).T
        return image[rows, columns, :3]

    return look


GRID = 12
"""Cells of the small section stand in GRID rows of GRID."""
CELL_PX, PIXEL_UM = 40, 0.5


def grid_labels() -> np.ndarray:
    """(480, 480) uint32: discs of 32 pixels in a grid; label values are shuffled and have gaps."""
    size = GRID * CELL_PX
    y, x = np.mgrid[:size, :size]
    inside = np.hypot(y % CELL_PX - CELL_PX / 2 + 0.5, x % CELL_PX - CELL_PX / 2 + 0.5) < 16
    cell = (y // CELL_PX) * GRID + x // CELL_PX
    return np.where(inside, grid_values()[cell], 0).astype(np.uint32)


def grid_values() -> np.ndarray:
    """(144,) label value of each cell, by row of the table: a shuffle of 3, 6, 9, ..."""
    return 3 * (np.random.default_rng(0).permutation(GRID * GRID) + 1)


def grid_centroids() -> np.ndarray:
    """(144, 2) x, y in µm."""
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    return (np.stack([column, row], axis=1) + 0.5) * CELL_PX * PIXEL_UM


@pytest.fixture
def grid_section() -> SpatialData:
    """A section of 144 round cells with a DAPI image, outlines and cell labels, as the readers return it."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp
    import shapely
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    rng = np.random.default_rng(1)
    n, labels = GRID * GRID, grid_labels()
    to_um = {keys.PIXELS: Identity(), keys.MICRONS: Scale([PIXEL_UM, PIXEL_UM], axes=("x", "y"))}
    dapi = np.where(labels > 0, 2000, 100).astype(np.uint16) + rng.integers(0, 50, labels.shape).astype(np.uint16)
    ids = [f"cell-{i}" for i in range(n)]
    obs = pd.DataFrame(
        {keys.CELL_ID: ids, keys.LABEL_VALUE: grid_values().astype(np.int32), keys.N_COUNTS: rng.integers(5, 300, n)},
        index=ids,
    )
    obs["kind"] = pd.Categorical(np.where(np.arange(n) % 2, "odd", "even"))
    obs[keys.REGION] = pd.Categorical([keys.CELL_LABELS] * n)
    table = anndata.AnnData(
        sp.csr_matrix(rng.poisson(2, (n, 5)).astype(np.int32)),
        obs=obs,
        var=pd.DataFrame(index=["EPCAM", "CD3E", "ERBB2", "LUM", "PECAM1"]),
        obsm={keys.SPATIAL: grid_centroids()},
    )
    table = TableModel.parse(table, region=keys.CELL_LABELS, region_key=keys.REGION, instance_key=keys.LABEL_VALUE)
    outlines = GeoDataFrame(
        geometry=[shapely.Point(x, y).buffer(16) for x, y in grid_centroids() / PIXEL_UM], index=ids
    )
    return SpatialData(
        images={keys.MORPHOLOGY: Image2DModel.parse(dapi[None], dims=("c", "y", "x"), transformations=to_um)},
        labels={
            keys.CELL_LABELS: Labels2DModel.parse(labels, dims=("y", "x"), transformations=to_um, scale_factors=[2])
        },
        shapes={keys.CELL_BOUNDARIES: ShapesModel.parse(outlines, transformations=dict(to_um))},
        tables={keys.TABLE: table},
    )
