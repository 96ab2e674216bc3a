"""The docks in a real window, on a small section: what is shown, clicked, undone, kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm.errors import StplmError
from stplm_napari import process
from stplm_napari.jobs import CANCELLED
from stplm_napari.results import Result
from stplm_napari.session import CLASS, CLUSTER, Embedding
from stplm_napari.steps import Step

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def workspace(viewer: Any) -> Iterator[Any]:
    from stplm_napari.workspace import Workspace

    found = Workspace.of(viewer)
    yield found
    found.close()


@pytest.fixture
def opened(workspace: Any, grid_section: Any, tmp_path: Path) -> Any:
    """A workspace with the small section open."""
    workspace.show(grid_section, grid_section.tables["table"], path=tmp_path / "outs")
    return workspace


@pytest.fixture
def embedded(opened: Any) -> Any:
    """The same with an embedding in which cells of the left and the right half differ."""
    table = opened.session.table
    right = table.obsm[keys.SPATIAL][:, 0] > np.median(table.obsm[keys.SPATIAL][:, 0])
    vectors = np.random.default_rng(0).normal(size=(table.n_obs, 8)).astype(np.float32) * 0.2
    vectors[right, 0] += 3
    result = Result(
        {keys.CLUSTER: pd.Series(pd.Categorical(np.where(right, "2", "1")))},
        {keys.X_STPLM: vectors},
        {keys.UNS_EMBEDDING: {"model": "made", "sha256": "x"}},
    )
    session = opened.session
    session.put_embedding(result, session.revision, Embedding("made", "12:00", 1.0), Step("embed"))
    return opened


@pytest.fixture
def dock(viewer: Any) -> Callable[[str], Any]:
    from stplm_napari.widgets.common import open_dock

    return lambda name: open_dock(viewer, name)


@pytest.fixture
def click(viewer: Any, workspace: Any, qtbot: Any) -> Callable[..., None]:
    """A real mouse click on the canvas, on the cell of a row."""
    from qtpy.QtCore import QPoint, Qt

    def press(row: int, button: Any = Qt.MouseButton.LeftButton) -> None:
        native, camera = viewer.window._qt_viewer.canvas.native, viewer.scene.camera
        x, y = (workspace.canvas.layers.centroids_um[row] - np.array(camera.center[-1:-3:-1])) * camera.zoom
        place = QPoint(round(native.width() / 2 + x), round(native.height() / 2 + y))
        qtbot.mouseMove(native, place)
        qtbot.mouseClick(native, button, pos=place)

    return press


def settle(qtbot: Any, workspace: Any) -> None:
    qtbot.waitUntil(lambda: not workspace.will_refit, timeout=30_000)


def ids(workspace: Any, *rows: int) -> list[str]:
    return [workspace.session.table.obs_names[row] for row in rows]


def test_opening_the_docks_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from stplm_napari.widgets import annotate, classify, embed, export, section\n"
        "import stplm_napari.reader, stplm_napari.sample\n"
        "assert not {'torch', 'spatialdata', 'anndata', 'sklearn'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("name", ["Section", "Embed", "Annotate", "Classify", "Export"])
def test_an_empty_dock_says_what_to_do_next(dock: Callable[[str], Any], name: str) -> None:
    widget = dock(name)
    assert widget.empty.isVisible()
    assert "No section is open" in widget.empty.words.text()
    assert "Open" in widget.empty.button.text()
    assert not widget.content.isVisible()


def test_the_section_dock_says_what_is_in_the_section(dock: Callable[[str], Any], opened: Any) -> None:
    from qtpy.QtWidgets import QLabel

    widget = dock("Section")
    words = " ".join(label.text() for label in widget.facts.findChildren(QLabel))
    assert "144" in words
    assert "Under 10 counts" in words
    assert widget.action.text() == "Embed cells"
    assert "under the cut of 10 counts" in widget.histogram.toolTip()


def test_the_section_dock_leads_on_once_cells_are_embedded(dock: Callable[[str], Any], embedded: Any) -> None:
    assert dock("Section").action.text() == "Label cells"
    assert embedded.session.colouring.by == CLUSTER


def test_a_section_that_cannot_be_read_is_a_sentence_in_the_dock(
    dock: Callable[[str], Any], workspace: Any, qtbot: Any, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    widget = dock("Section")
    widget.open_path(tmp_path / "nothing")
    qtbot.waitUntil(lambda: not workspace.opening.is_busy, timeout=30_000)
    error = widget.opening.error
    assert error.isVisible()
    assert error.problem.text()
    assert "Traceback" not in error.problem.text() + error.mend.text()
    assert not error.details.isVisible()
    assert "nothing" in error.details.toPlainText()
    assert widget.empty.isVisible()


def state(session: Any) -> tuple[Any, ...]:
    return (list(session.table.obs.columns), list(session.table.obsm), list(session.table.uns), session.revision)


def test_cancelling_an_embedding_leaves_the_section_as_it_was(
    dock: Callable[[str], Any], opened: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.1)  # the worker may be importing torch: do not wait for it
    widget, before = dock("Embed"), state(opened.session)
    widget.run.click()
    assert not widget.run.isEnabled()
    qtbot.waitUntil(lambda: widget.progress.cancel.isVisible(), timeout=10_000)
    widget.progress.cancel.click()
    assert "cancelling" in widget.progress.words.text()
    qtbot.waitUntil(lambda: not opened.embedding.is_busy, timeout=10_000)
    assert opened.embedding.job.state == CANCELLED
    assert "as it was" in widget.progress.note.text()
    assert state(opened.session) == before
    assert widget.run.isEnabled()


def test_a_model_folder_goes_before_the_bundled_models(dock: Callable[[str], Any], opened: Any, tmp_path: Any) -> None:
    table = opened.session.table
    table.var["ensembl_id"] = [f"ENSG{i:011d}" for i in range(table.n_vars)]
    widget = dock("Embed")
    known = widget.about.text()
    (tmp_path / "vocabulary.json").write_text('{"genes": ["ENSG00000000000"]}')
    widget.folder.value = tmp_path
    assert widget.chosen_model == str(tmp_path)
    assert " 1 of " in widget.about.text()
    widget.folder.value = None
    assert widget.chosen_model == widget.model.value
    assert widget.about.text() == known


def test_a_worker_that_dies_is_a_sentence_in_the_dock(dock: Callable[[str], Any], opened: Any, qtbot: Any) -> None:
    widget, before = dock("Embed"), state(opened.session)
    widget.run.click()
    qtbot.waitUntil(lambda: opened.worker.is_busy and opened.worker.pid is not None, timeout=10_000)
    os.kill(opened.worker.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: not opened.embedding.is_busy, timeout=10_000)
    assert "stopped unexpectedly" in widget.progress.error.problem.text()
    assert "Run it again" in widget.progress.error.mend.text()
    assert state(opened.session) == before


def test_clicks_label_and_the_tissue_recolours_from_the_second_class_on(
    dock: Callable[[str], Any], embedded: Any, click: Callable[..., None], qtbot: Any
) -> None:
    session = embedded.session
    widget = dock("Annotate")
    qtbot.wait(200)
    qtbot.keyClick(widget, "1")
    for row in (0, 13, 25):
        click(row)
    qtbot.wait(150)
    assert session.annotations.counts() == {"Tumour": 3}
    assert not session.is_predicted
    qtbot.keyClick(widget, "3")
    for row in (11, 22, 35):
        click(row)
    settle(qtbot, embedded)
    assert session.annotations.counts() == {"Tumour": 3, "Stromal": 3}
    assert session.colouring.by == CLASS
    called = session.table.obs[keys.CLASS].to_numpy()
    right = session.table.obs[keys.CLUSTER].to_numpy() == "2"
    stromal = called == "Stromal"
    assert stromal[right].mean() > stromal[~right].mean(), "not by much: the counts of this section are noise"
    drawn = embedded.canvas.layers.overlay.rgba()
    sure = session.table.obs[keys.CONFIDENCE].to_numpy() >= 0.6
    assert sure.sum() >= 20, "enough cells to look at: the counts of this section are noise"
    assert np.allclose(drawn[sure & (called == "Tumour")], drawn[0])
    assert np.allclose(drawn[sure & (called == "Stromal")], drawn[11])
    assert not np.allclose(drawn[0], drawn[11])
    row = widget.legend.rows["Tumour"]
    assert row.own.text() == "3"
    assert row.cells.text() == f"{session.predicted_counts()['Tumour']}"
    assert "6 labels of yours" in widget.result.words.text()


def test_a_right_click_clears_and_undo_brings_back(
    dock: Callable[[str], Any], embedded: Any, click: Callable[..., None], qtbot: Any
) -> None:
    from qtpy.QtCore import Qt

    dock("Annotate")
    qtbot.wait(200)
    annotations = embedded.session.annotations
    click(5)
    click(5, Qt.MouseButton.RightButton)
    assert not annotations.labels
    window = embedded.viewer.window._qt_window
    qtbot.keyClick(window, "z", Qt.KeyboardModifier.ControlModifier)
    assert list(annotations.labels) == ids(embedded, 5)
    qtbot.keyClick(window, "z", Qt.KeyboardModifier.ControlModifier)
    assert not annotations.labels
    shift = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(window, "z", shift)
    assert list(annotations.labels) == ids(embedded, 5)


def test_keys_choose_the_class_whichever_layer_is_selected(opened: Any, qtbot: Any) -> None:
    viewer, window = opened.viewer, opened.viewer.window._qt_window
    for key, layer in (("2", None), ("4", viewer.layers[0]), ("5", viewer.layers["Cells"])):
        viewer.layers.selection.active = layer
        qtbot.keyClick(window, key)
        assert opened.session.active_class == opened.session.classes[int(key) - 1].name
    assert str(viewer.layers["Cells"].mode) == "pan_zoom"


def test_clicks_label_only_while_the_annotate_dock_is_in_front(
    dock: Callable[[str], Any], opened: Any, click: Callable[..., None], qtbot: Any
) -> None:
    click(3)
    dock("Annotate")
    dock("Export")
    qtbot.wait(150)
    click(3)
    assert not opened.session.annotations.labels


def test_a_dock_that_is_closed_and_opened_again_shows_the_same(
    viewer: Any, dock: Callable[[str], Any], embedded: Any, qtbot: Any
) -> None:
    session = embedded.session
    first = dock("Classify")
    first.source.value = "profiles"
    first.per_class.value = 33
    session.label(ids(embedded, 0, 1, 2), "Tumour")
    session.label(ids(embedded, 10, 11), "B cell")
    settle(qtbot, embedded)
    session.colour(unsure_below=0.4)
    gone = []
    first.destroyed.connect(lambda: gone.append("first"))
    place = viewer.window._wrapped_dock_widgets["Classify (stplm-napari)"]
    place.destroyOnClose()
    qtbot.waitUntil(lambda: bool(gone), timeout=2000)  # it no longer listens
    session.label(ids(embedded, 12), "B cell")
    again = dock("Classify")
    assert again is not first
    assert (again.source.value, again.per_class.value) == ("profiles", 33)
    assert again.legend.rows["B cell"].own.text() == "3"
    assert "0.40" in again.colouring.words.text()


def test_labels_that_change_after_a_prediction_make_it_out_of_date(
    dock: Callable[[str], Any], embedded: Any, qtbot: Any
) -> None:
    session = embedded.session
    session.label(ids(embedded, 0, 1), "Tumour")
    session.label(ids(embedded, 10, 11), "Stromal")
    settle(qtbot, embedded)
    embedded.live = False
    widget = dock("Annotate")
    assert not widget.result.old.isVisible()
    session.label(ids(embedded, 20), "Stromal")
    assert "Out of date" in widget.result.old.text()
    assert widget.result.old.isVisible()
    qtbot.mouseClick(widget.update_now, _left())
    settle(qtbot, embedded)
    assert not widget.result.old.isVisible()


def test_the_slider_greys_what_the_model_does_not_know(dock: Callable[[str], Any], embedded: Any, qtbot: Any) -> None:
    session = embedded.session
    session.label(ids(embedded, 0, 1), "Tumour")
    session.label(ids(embedded, 10, 11), "Stromal")
    settle(qtbot, embedded)
    widget = dock("Classify")
    confidence = session.table.obs[keys.CONFIDENCE].to_numpy()
    middle = float(np.quantile(confidence, 0.5))
    widget.colouring.slider.setValue(round(middle * 100))
    grey = np.isclose(embedded.canvas.layers.overlay.rgba()[:, :3], 0x9A / 255, atol=0.01).all(axis=1)
    labelled = session.table.obs_names.isin(list(session.annotations.labels))
    expected = (confidence < session.colouring.unsure_below) & ~labelled
    assert expected.any()
    assert np.array_equal(grey, expected)


def test_the_eye_hides_a_class(dock: Callable[[str], Any], embedded: Any, qtbot: Any) -> None:
    session = embedded.session
    session.label(ids(embedded, 0, 1), "Tumour")
    session.label(ids(embedded, 10, 11), "Stromal")
    settle(qtbot, embedded)
    qtbot.mouseClick(dock("Annotate").legend.rows["Tumour"].eye, _left())
    gone = embedded.canvas.layers.overlay.rgba()[:, 3] == 0
    called = session.table.obs[keys.CLASS].to_numpy().astype(object)
    called[[10, 11]] = "Stromal"
    called[[0, 1]] = "Tumour"
    assert np.array_equal(gone, called == "Tumour")


def test_the_classify_dock_learns_from_a_column(dock: Callable[[str], Any], embedded: Any, qtbot: Any) -> None:
    widget = dock("Classify")
    widget.source.value = "column"
    assert widget.column.value == "kind"
    qtbot.mouseClick(widget.run, _left())
    settle(qtbot, embedded)
    assert set(embedded.session.predicted_classes) == {"even", "odd"}
    assert {"even", "odd"} <= set(widget.legend.rows)
    assert "144 labels of column kind" in widget.result.words.text()


def test_the_classify_dock_says_what_is_missing(dock: Callable[[str], Any], embedded: Any) -> None:
    widget = dock("Classify")
    assert not widget.run.isEnabled()
    assert "at least two classes" in widget.explain.text()
    widget.source.value = "profiles"
    assert widget.run.isEnabled()
    assert "Nobody has looked at these cells" in widget.explain.text()


def test_what_cannot_be_learnt_from_is_not_tried_again_at_the_next_click(embedded: Any, qtbot: Any) -> None:
    session = embedded.session
    embedded.classify("profiles", profiles="breast", per_class=20)
    settle(qtbot, embedded)
    assert "do not fit" in embedded.classifying.job.error.problem or embedded.classifying.job.error.mend
    session.label(ids(embedded, 0, 1), "Tumour")
    session.label(ids(embedded, 10, 11), "Stromal")
    settle(qtbot, embedded)
    assert embedded.classifying.job.error is None
    assert session.prediction.source == "4 labels of yours"


def test_an_export_says_where_it_is_and_an_existing_file_is_not_replaced(
    dock: Callable[[str], Any], embedded: Any, qtbot: Any, tmp_path: Path
) -> None:
    from stplm.io.explorer import read_explorer_groups

    session = embedded.session
    session.label(ids(embedded, 0, 1), "Tumour")
    session.label(ids(embedded, 10), "Stromal")
    widget = dock("Export")
    widget.what.value, widget.of.value = "explorer", "own"
    assert Path(widget.path.value) == tmp_path / "outs_stplm.csv"
    qtbot.mouseClick(widget.run, _left())
    qtbot.waitUntil(lambda: not embedded.exporter.writing.is_busy, timeout=10_000)
    assert str(tmp_path / "outs_stplm.csv") in widget.written.text()
    groups = read_explorer_groups(tmp_path / "outs_stplm.csv")
    assert groups["group"].value_counts().to_dict() == {"Unassigned": 141, "Tumour": 2, "Stromal": 1}
    assert groups["color"].loc[ids(embedded, 0)[0]] == session.annotations.get("Tumour").colour
    qtbot.mouseClick(widget.run, _left())
    assert widget.refused.isVisible()
    assert "is there already" in widget.refused.problem.text()


def test_a_problem_with_saving_is_shown_in_the_annotate_dock(dock: Callable[[str], Any], opened: Any) -> None:
    widget = dock("Annotate")
    opened.session.failed.emit(StplmError("Your labels are not being saved.", mend="Free some space."))
    assert widget.error.isVisible()
    assert widget.error.mend.text() == "Free some space."


def _left() -> Any:
    from qtpy.QtCore import Qt

    return Qt.MouseButton.LeftButton
