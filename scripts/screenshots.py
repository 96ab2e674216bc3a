"""Drive the plugin in a real window on the demo section and save a picture of every dock.

``xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/screenshots.py docs/screenshots``

Clicks are real mouse clicks on the canvas; the cells to click are chosen by the shipped reference profiles.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1360, 860)
COLOURS = 255
"""Each picture is reduced to this many colours: a quarter of the bytes, and nothing that the eye misses."""


class Stage:
    """A napari window with the plugin in it."""

    def __init__(self, folder: Path) -> None:
        import napari
        from napari.settings import get_settings

        from stplm_napari.workspace import Workspace

        get_settings().application.confirm_close_window = False
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self.workspace = Workspace.of(self.viewer)
        self.session = self.workspace.session
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def wait(self, ms: int) -> None:
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(ms, loop.quit)
        loop.exec()

    def until(self, done: Callable[[], bool], seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                sys.exit("screenshots: the plugin did not get ready in time")
            self.wait(50)

    def dock(self, name: str) -> Any:
        from stplm_napari.widgets.common import open_dock

        widget = open_dock(self.viewer, name)
        self.wait(150)
        return widget

    def click(self, cell: str) -> None:
        """A real click on the canvas, on the cell of that id."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        row = self.session.table.obs_names.get_loc(cell)
        native, camera = self.viewer.window._qt_viewer.canvas.native, self.viewer.scene.camera
        x, y = (self.workspace.canvas.layers.centroids_um[row] - np.array(camera.center[-1:-3:-1])) * camera.zoom
        place = QPoint(round(native.width() / 2 + x), round(native.height() / 2 + y))
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        self.wait(60)

    def drag(self, path_um: np.ndarray) -> None:
        """A real drag with the left button along (n, 2) x, y in µm."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        native, camera = self.viewer.window._qt_viewer.canvas.native, self.viewer.scene.camera
        moved = (path_um - np.array(camera.center[-1:-3:-1])) * camera.zoom
        places = [QPointF(native.width() / 2 + x, native.height() / 2 + y) for x, y in moved]
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        steps = [(QEvent.Type.MouseButtonPress, places[0], left, left)]
        steps += [(QEvent.Type.MouseMove, place, none, left) for place in places[1:]]
        steps += [(QEvent.Type.MouseButtonRelease, places[-1], left, none)]
        for kind, place, button, held in steps:
            shown = native.mapToGlobal(place)
            none_held = Qt.KeyboardModifier.NoModifier
            QApplication.sendEvent(native, QMouseEvent(kind, place, shown, button, held, none_held))
            self.wait(15)
        self.until(lambda: not self.workspace.picking.is_busy)

    def label(self, key: str, cells: Sequence[str]) -> None:
        """Press a class's key and click cells."""
        from qtpy.QtTest import QTest

        QTest.keyClick(self.viewer.window._qt_window, key)
        for cell in cells:
            self.click(cell)

    def settle(self) -> None:
        self.until(lambda: not self.workspace.will_refit and not self.workspace.embedding.is_busy)

    def save(self, name: str) -> None:
        from PIL import Image

        self.wait(500)
        picture = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        few_colours = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few_colours.save(self.folder / f"{name}.png", optimize=True)
        print(name)


def clear_cells(stage: Stage, per_class: int) -> dict[str, list[str]]:
    """Cells that a person would recognise: those that the reference profiles are surest of, away from the edge."""
    import stplm

    labels = stplm.seed_labels(stage.session.table, per_class=40).dropna()
    x, y = stage.session.table.obsm["spatial"].T
    inside = stage.session.table.obs_names[(x > 20) & (x < x.max() - 20) & (y > 20) & (y < y.max() - 20)]
    labels = labels[labels.index.isin(inside)]
    return {name: list(part.index[:per_class]) for name, part in labels.groupby(labels)}


def drawn_elsewhere(path: Path) -> Path:
    """Two regions as QuPath would write them, in pixels of 0.2125 µm."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    features = []
    for name, kind, colour, (x, y), radius in (
        ("DCIS, left", "Tumor", [200, 0, 0], (140, 110), 70),
        ("Nodule", "Lymphoid aggregate", [0, 110, 200], (330, 220), 55),
    ):
        ring = np.c_[x + radius * np.cos(turn), y + 0.8 * radius * np.sin(turn)] / 0.2125
        about = {"objectType": "annotation", "name": name, "classification": {"name": kind, "color": colour}}
        shape = {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}
        features.append({"type": "Feature", "geometry": shape, "properties": about})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        os.environ["STPLM_DATA_DIR"] = data
        stage = Stage(options.folder)
        play(stage, Path(data))
        stage.viewer.close()


def play(stage: Stage, scratch: Path) -> None:
    session, workspace = stage.session, stage.workspace
    stage.dock("Section")
    stage.save("01-start")
    stage.viewer.open_sample("stplm-napari", "breast_tumour_section")
    stage.until(lambda: session.is_open and not workspace.drawing.is_busy)
    stage.save("02-section")
    embed = stage.dock("Embed")
    embed.more.toggle.setChecked(True)
    stage.save("10-embed-options")
    embed.run.click()
    stage.wait(700)
    stage.save("03-embedding")
    stage.settle()
    stage.save("04-clusters")
    cells = clear_cells(stage, 5)
    stage.dock("Annotate")
    stage.label("1", cells["Tumour"])
    stage.label("3", cells["Stromal"])
    stage.label("4", cells["T cell"])
    stage.label("6", cells["Macrophage"])
    stage.settle()
    stage.save("05-annotate")
    draw_shapes(stage)
    session.select([])
    workspace.suggesting.next()
    stage.until(lambda: not workspace.suggesting.is_making and not workspace.learning.is_scoring)
    stage.dock("Learn")
    stage.save("10-learn")
    workspace.suggesting.leave()
    classify = stage.dock("Classify")
    classify.source.value = "profiles"
    classify.run.click()
    stage.settle()
    stage.save("06-classify")
    session.colour(by="tumour")
    stage.save("07-tumour")
    session.colour(by="unknown")
    stage.save("12-unknown")
    export = stage.dock("Export")
    export.path.value = scratch / "breast_tumour_section.h5ad"
    export.run.click()
    stage.until(lambda: not workspace.exporter.writing.is_busy)
    session.colour(by="class")
    stage.save("08-export")
    view(stage, cells["Tumour"][0])
    likeness(stage)
    importer = stage.dock("Import")
    workspace.importer.read(drawn_elsewhere(scratch / "pathologist.geojson"))
    stage.until(lambda: not workspace.importer.reading.is_busy)
    stage.save("08-import")
    importer.run.click()
    stage.until(lambda: not workspace.importer.putting.is_busy)
    session.annotations.undo()
    export.run.click()
    stage.dock("Embed")
    workspace.worker.stop()
    workspace.embed()
    stage.until(lambda: workspace.worker.pid is not None)
    stage.wait(500)
    workspace.worker.stop()
    stage.until(lambda: not workspace.embedding.is_busy)
    stage.save("09-error")


def draw_shapes(stage: Stage) -> None:
    """A region by lasso, and cells that a brush selects."""
    session = stage.session
    middle = np.asarray(session.table.obsm["spatial"]).mean(0)
    angle = np.linspace(0, 2 * np.pi, 60)
    round_path = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    session.use(shape="lasso", does="region")
    stage.drag(middle + 70 * round_path * (1 + 0.15 * np.sin(5 * angle))[:, None])
    session.use(shape="brush", does="select", radius_um=15.0)
    stage.drag(middle + np.stack([np.linspace(-180, -90, 20), 40 * np.sin(np.linspace(0, 5, 20))], axis=1))
    stage.save("11-shapes")
    session.use(shape="click", does="label")


def likeness(stage: Stage) -> None:
    """The map with a selection, then marker genes, neighbours and niches."""
    workspace, session = stage.workspace, stage.session
    map_ = stage.dock("Map")
    map_.draw()
    stage.until(lambda: not workspace.mapping.making.is_busy)
    rows = np.flatnonzero(session.table.obs["stplm_class"] == "Myoepithelial")
    session.select(rows)
    stage.viewer.reset_view()
    stage.wait(1500)
    stage.save("16-map")
    session.select([])
    explore = stage.dock("Explore")
    explore.by.value = "stplm_class"
    explore.run.click()
    stage.until(lambda: not workspace.exploring.comparing.is_busy)
    explore.find_niches.click()
    stage.until(lambda: not workspace.exploring.niching.is_busy)
    stage.wait(300)
    stage.save("17-explore")
    session.colour(by="class")


def view(stage: Stage, cell: str) -> None:
    """A gene with transcripts, a comparison, and one cell."""
    viewing, look = stage.workspace.viewing, stage.dock("View")
    viewing.colour_by("gene:ERBB2")
    look.folded["Transcripts"].toggle.setChecked(True)
    viewing.transcripts.choose(["LUM", "PTPRC"])
    viewing.watch.go_to_id(cell)
    stage.wait(1000)
    stage.until(lambda: not viewing.making.is_busy and not viewing.transcripts.reading.is_busy)
    stage.save("13-view")
    viewing.transcripts.choose([])
    look.folded["Transcripts"].toggle.setChecked(False)
    viewing.colour_by("compare:types")
    stage.until(lambda: not viewing.making.is_busy)
    look.disagreements.next.click()
    stage.save("14-disagreements")
    stage.session.colour(by="class")
    inspect = stage.dock("Inspect")
    viewing.watch.go_to_id(cell)
    stage.until(inspect.why.isVisible)
    inspect.why.toggle.setChecked(True)
    stage.until(lambda: viewing.explaining.found is not None)
    stage.wait(1000)
    stage.save("15-inspect")
    viewing.watch.pin(-1)
    stage.viewer.reset_view()


if __name__ == "__main__":
    main()
