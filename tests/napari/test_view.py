"""The View and Inspect docks in a real window: what is chosen is what the canvas shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from stplm import keys
from stplm_napari.disagreements import NAMES
from stplm_napari.results import Result
from stplm_napari.session import Prediction
from stplm_napari.steps import Step

pytestmark = pytest.mark.gui

N = 144


@pytest.fixture
def workspace(viewer: Any, grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "outs").mkdir()
    found = Workspace.of(viewer)
    found.show(grid_section, grid_section.tables["table"], path=tmp_path / "outs")
    found.canvas.layers.images[0].visible = False
    yield found
    found.close()


@pytest.fixture
def dock(workspace: Any, qtbot: Any) -> Callable[[str], Any]:
    from stplm_napari.widgets.common import open_dock

    def open_(name: str) -> Any:
        widget = open_dock(workspace.viewer, name)
        qtbot.wait(50)
        return widget

    return open_


@pytest.fixture
def colours(workspace: Any, colour_at: Any) -> Callable[..., np.ndarray]:
    """What the canvas shows at the middle of each cell, or beside it; by default, all cells are brought into view."""

    def look(rows: Any = None, offset: tuple[float, float] = (0, 0)) -> np.ndarray:
        if rows is None:
            workspace.viewer.reset_view()
        places = workspace.session.table.obsm[keys.SPATIAL][slice(None) if rows is None else rows]
        return colour_at(workspace.viewer, places + offset).astype(int)

    return look


def predict(workspace: Any, names: list[str], tumour: np.ndarray) -> None:
    table = workspace.session.table.copy()
    table.obs[keys.CLASS] = pd.Categorical(names)
    table.obs[keys.CONFIDENCE] = np.linspace(0.7, 0.99, N, dtype=np.float32)
    table.obs[keys.TUMOUR] = tumour.astype(np.float32)
    made = Prediction("labels", 2, "m", "12:00", workspace.session.revision)
    workspace.session.put_prediction(Result.prediction_of(table), None, made, Step("classify"))


def test_a_gene_is_searched_and_its_counts_are_the_colours(workspace: Any, dock: Any, colours: Any, qtbot: Any) -> None:
    view = dock("View")
    view.colouring.by.setCurrentIndex(view.colouring.by.findText("Gene…"))
    view.colouring.by.activated.emit(view.colouring.by.currentIndex())
    assert view.colouring.gene.isVisible()
    view.colouring.gene.setText("erbb2")
    view.colouring.gene.returnPressed.emit()
    qtbot.waitUntil(lambda: workspace.session.colouring.by == "gene:ERBB2", timeout=5000)
    workspace.session.colour(style="fill", ranges={"gene:ERBB2": (0.0, 4.0)})
    counts = workspace.session.table.X[:, 2].toarray().ravel()
    seen = colours()
    for value in (0, 2, 4):
        expected = 0.7 * 255 * np.array(colormaps["magma"](value / 4)[:3])
        assert np.abs(seen[counts == value] - expected).max() < 8
    assert view.colouring.range.isVisible()
    assert not view.categories.isVisible()
    view.colouring.gene.setText("NOPE")
    view.colouring.gene.returnPressed.emit()
    assert view.error.problem.text() == "The panel has no gene NOPE."
    assert workspace.session.colouring.by == "gene:ERBB2"


def test_the_legend_of_a_column_hides_shows_and_selects(workspace: Any, dock: Any, colours: Any, qtbot: Any) -> None:
    session, view = workspace.session, dock("View")
    workspace.viewing.colour_by("obs:kind")
    qtbot.waitUntil(lambda: session.colouring.by == "obs:kind", timeout=5000)
    session.colour(style="fill")
    rows = view.categories.rows
    assert {name: row.cells.text() for name, row in rows.items()} == {"even": "72", "odd": "72"}
    seen = colours()
    assert np.ptp(seen[0::2], axis=0).max() < 4
    assert np.abs(seen[0] - seen[1]).max() > 60
    rows["odd"].eye.click()
    assert colours()[1::2].max() == 0
    assert list(session.shown(np.arange(4))) == [0, 2]
    menu = rows["even"].menu()
    next(a for a in menu.actions() if a.text().startswith("Select all")).trigger()
    assert len(session.selected) == 72
    session.select([])
    rows["odd"]._solo()
    assert session.colouring.hidden_now == {"even"}
    rows["odd"]._solo()
    assert not session.colouring.hidden_now


def test_outlines_leave_the_inside_free(workspace: Any, dock: Any, colours: Any, qtbot: Any) -> None:
    view = dock("View")
    workspace.canvas.layers.fly_to_box((0, 0, 60, 60))
    workspace.session.colour(by="obs:kind", outline_px=4)
    view.draw_style.styles["outline"].click()
    inside = np.flatnonzero(workspace.session.table.obsm[keys.SPATIAL].max(axis=1) < 55)
    assert colours(inside).max() < 5
    assert (colours(inside, (7.2, 0)).max(axis=1) > 100).all(), "a disc of 8 µm radius has its border there"
    view.draw_style.styles["fill"].click()
    assert (colours(inside).max(axis=1) > 50).all()
    view.draw_style.styles["both"].click()
    assert workspace.canvas.layers.outlines.layer.visible


def test_disagreements_are_listed_and_visited_with_a_key(workspace: Any, dock: Any, colours: Any, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    session, view = workspace.session, dock("View")
    tumour = np.zeros(N)
    tumour[:10] = 0.9
    tumour[20] = 0.95
    predict(workspace, ["Tumour"] * 10 + ["Stromal"] * (N - 10), tumour)
    index = view.colouring.by.findText("Tumour call and type")
    assert index >= 0
    workspace.viewing.colour_by("compare:types")
    qtbot.waitUntil(lambda: session.colouring.by == "compare:types", timeout=5000)
    session.colour(style="fill")
    assert "1 disagreement" in view.disagreements.title.text()
    assert "tumour by its probability, not tumour by its type" in view.disagreements.pairs.text()
    assert list(view.categories.rows) == list(NAMES)
    seen = colours()
    assert seen[20][0] > seen[21][0] + 80
    qtbot.keyClick(workspace.viewer.window._qt_window, Qt.Key.Key_D)
    assert workspace.viewing.watch.pinned == 20
    assert "1 of 1: cell cell-20" in view.disagreements.cell.text()
    center = workspace.viewer.scene.camera.center[-2:]
    assert np.allclose(center[::-1], session.table.obsm[keys.SPATIAL][20])


def test_own_labels_and_drawn_regions_against_the_prediction(workspace: Any, qtbot: Any) -> None:
    session, sources = workspace.session, workspace.session.sources
    workspace.live = False
    predict(workspace, ["Tumour", "Stromal"] * (N // 2), np.full(N, 0.5))
    assert "compare:labels" not in session.possible_colourings()
    session.label_rows([0, 1, 2], "Tumour")
    assert "compare:labels" in session.possible_colourings()
    found = sources.of("compare:labels").found
    assert list(found.rows) == [1]
    session.label_rows([1], "Stromal")
    assert len(sources.of("compare:labels").found.rows) == 0, "a new label is a new comparison"
    box = [(0, 0), (240, 0), (240, 120), (0, 120)]
    session.annotations.add_region(box, class_name="Tumour")
    found = sources.of("compare:regions").found
    assert set(found.rows) == set(range(72, N, 2))


def test_a_cell_is_inspected(workspace: Any, dock: Any, qtbot: Any) -> None:
    from qtpy.QtWidgets import QApplication, QLabel

    session, inspect = workspace.session, dock("Inspect")
    predict(workspace, ["Tumour", "Stromal"] * (N // 2), np.full(N, 0.25))
    workspace.live = False
    session.label_rows([30], "Tumour")
    assert inspect.hint.isVisible()
    x, y = session.table.obsm[keys.SPATIAL][30]
    camera, native = workspace.viewer.scene.camera, workspace.viewer.window._qt_viewer.canvas.native
    from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
    from qtpy.QtGui import QMouseEvent

    def at() -> QPoint:  # the canvas may still be given its size
        place = (np.array([x, y]) - np.array(camera.center[-1:-3:-1])) * camera.zoom
        return QPoint(round(native.width() / 2 + place[0]), round(native.height() / 2 + place[1]))

    def hovers() -> bool:
        # Sent to the canvas itself: Qt's own test moves the pointer of the display, and whatever lies over the window
        # there gets the move.
        place, none = QPointF(at()), Qt.MouseButton.NoButton
        move = QMouseEvent(
            QEvent.Type.MouseMove, place, native.mapToGlobal(place), none, none, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(native, move)
        return bool(workspace.viewing.watch.hovered == 30)

    qtbot.waitUntil(hovers, timeout=5000)
    qtbot.waitUntil(lambda: inspect.cell_id.text() == "cell-30", timeout=3000)
    qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=at())
    assert workspace.viewing.watch.pinned == 30
    assert "Cell looked at" in workspace.viewer.layers
    words = " ".join(label.text() for label in inspect.facts.findChildren(QLabel))
    for part in (f"{x:,.1f}, {y:,.1f} µm", "Tumour, by ", "0.25", f"{session.table.X[30].sum():,} in "):
        assert part in words
    counts = dict(zip(session.table.var_names, session.table.X[30].toarray().ravel(), strict=True))
    best = max(counts, key=counts.get)
    assert inspect.top.text().startswith(f"{best}\u00a0{counts[best]}")
    inspect.radius.setValue(21)
    assert inspect.neighbours.text().startswith("4 cells; the nearest at 20.0 µm")
    assert [(b.name, b.share) for b in inspect.around.bars] == [("Stromal", 0.5), ("Tumour", 0.5)]
    inspect.copy.click()
    assert QApplication.clipboard().text() == "cell-30"
    inspect.search.setText("cell-99")
    inspect.search.returnPressed.emit()
    assert inspect.cell_id.text() == "cell-99"
    inspect.search.setText("cell-x")
    inspect.search.returnPressed.emit()
    assert "There is no cell cell-x" in inspect.error.problem.text()
    inspect.follow.click()
    assert "Cell looked at" not in workspace.viewer.layers


def test_transcripts_are_read_for_the_view_only(workspace: Any, dock: Any, qtbot: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    points, view = workspace.viewing.transcripts, dock("View")
    view.folded["Transcripts"].toggle.setChecked(True)
    assert view.transcripts.none.isVisible()
    rng = np.random.default_rng(0)
    n = 3000
    x, y = np.sort(rng.uniform(0, 240, n)), rng.uniform(0, 240, n)
    names = np.where(np.arange(n) % 2, "ERBB2", "LUM")
    table = pa.table({"feature_name": names, "x_location": x, "y_location": y, "qv": np.full(n, 30.0)})
    pq.write_table(table, workspace.session.path / "transcripts.parquet", row_group_size=300)
    view.transcripts.refresh()
    workspace.canvas.layers.fly_to_box((100, 100, 140, 140))
    view.transcripts.search.take("lum")
    qtbot.waitUntil(lambda: points.layer is not None, timeout=5000)
    xy = points.layer.data[:, ::-1]
    x0, y0, x1, y1 = points._shown[-1]
    inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & (names == "LUM")
    assert 0 < len(xy) == inside.sum() < n // 4
    assert f"{len(xy):,} transcripts in and around the view" in view.transcripts.words.text()
    workspace.canvas.layers.fly_to_box((0, 0, 40, 40))
    qtbot.waitUntil(lambda: points._shown and points._shown[-1][0] < 0, timeout=5000)
    assert points.layer.data[:, 1].max() < 140, "what left the view is gone"
    workspace.viewer.scene.camera.zoom = 0.5
    qtbot.waitUntil(lambda: points.layer is None, timeout=5000)
    assert "Zoom in to see transcripts" in view.transcripts.words.text()
    points.choose([])
    assert points.words == ""


def test_image_channels_are_switched_coloured_and_stretched(workspace: Any, dock: Any, qtbot: Any) -> None:
    view, image = dock("View"), workspace.canvas.layers.images[0]
    row = view.channels.rows[0]
    row.eye.setChecked(True)
    assert image.visible
    image.contrast_limits = (0, 50)
    row.auto.click()
    qtbot.waitUntil(lambda: image.contrast_limits[1] > 1900, timeout=5000)
    row.set_colour("#0000ff")
    assert list(image.colormap.map(np.array([1.0]))[0][:3]) == [0, 0, 1]


def test_disagreements_are_corrected_with_the_keys_of_suggestions(workspace: Any, dock: Any, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    session, annotate = workspace.session, dock("Annotate")
    workspace.live = False
    predict(workspace, ["Tumour"] * 3 + ["Stromal"] * (N - 3), np.full(N, 0.5))
    far = session.table.obsm[keys.SPATIAL].max() + 10
    session.annotations.add_region([(far, far), (far + 9, far), (far, far + 9)], class_name="Tumour")
    workspace.viewing.colour_by("compare:regions")
    qtbot.waitUntil(lambda: session.colouring.by == "compare:regions", timeout=5000)
    walk, asks, window = workspace.viewing.disagreements, workspace.suggesting, workspace.viewer.window._qt_window
    assert list(walk.rows) == [2, 1, 0], "the surest first"
    qtbot.keyClick(window, Qt.Key.Key_N)
    assert walk.row == asks.current.row == 2
    assert annotate.next_cell.place.text() == "disagreement 1 of 3"
    stromal = next(c for c in session.classes if c.name == "Stromal")
    qtbot.keyClick(window, stromal.key)
    assert session.annotations.labels["cell-2"].name == "Stromal"
    assert list(walk.rows) == [1, 0], "what was corrected disagrees no more, before any new fit"
    assert walk.row == asks.current.row == 1, "the next one came by itself"
    qtbot.keyClick(window, Qt.Key.Key_Y)
    assert session.annotations.labels["cell-1"].name == "Tumour"
    assert list(walk.rows) == [0, 1], "a cell that was looked at comes last"
    assert walk.row == 0
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert asks.current is None
    session.colour(by="class")
    assert walk.shown is None
