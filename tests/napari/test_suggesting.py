"""Cells worth labelling in a real window: N flies, keys answer, the queue follows the prediction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from stplm import keys
from stplm_napari.results import Result
from stplm_napari.session import Embedding, Prediction
from stplm_napari.shortcuts import ACCEPT_KEY, HELP, NEXT_KEY, SKIP_KEY
from stplm_napari.steps import Step
from stplm_napari.suggesting import RING_COLOUR

pytestmark = pytest.mark.gui
N_CELLS = 144


@pytest.fixture
def workspace(viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A workspace in the window, which is empty again after the test. It does not fit by itself."""
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    made = Workspace.of(viewer)
    made.live = False
    yield made
    made.close()


@pytest.fixture
def embedded(workspace: Any, grid_section: Any, tmp_path: Path) -> Any:
    """The small section, whose left and right half are of different kinds."""
    workspace.show(grid_section, grid_section.tables[keys.TABLE], path=tmp_path / "outs")
    session = workspace.session
    vectors = np.random.default_rng(0).normal(size=(N_CELLS, 8)).astype(np.float32) * 0.2
    vectors[is_right(session.table), 0] += 3
    about = {keys.UNS_EMBEDDING: {"model": "made", "sha256": "x"}}
    result = Result({}, {keys.X_STPLM: vectors}, about)
    session.put_embedding(result, session.revision, Embedding("made", "12:00", 1.0), Step("embed"))
    return workspace


@pytest.fixture
def predicted(embedded: Any) -> Any:
    """The same with labels of two classes, and a prediction by half."""
    session = embedded.session
    right = np.flatnonzero(is_right(session.table))
    left = np.flatnonzero(~is_right(session.table))
    session.label_rows(left[:3], "Tumour")
    session.label_rows(right[:3], "Stromal")
    put_prediction(session)
    return embedded


def is_right(table: Any) -> np.ndarray:
    x = table.obsm[keys.SPATIAL][:, 0]
    return x > np.median(x)


def put_prediction(session: Any) -> None:
    """Right is Stromal and left is Tumour, as ``stplm.predict`` would write it."""
    stromal = is_right(session.table)
    proba = np.where(stromal, 0.1, 0.8)[:, None] * [1.0, -1.0] + [0.0, 1.0]
    result = Result(
        {
            keys.CLASS: pd.Series(pd.Categorical.from_codes(stromal.astype(int), ["Tumour", "Stromal"])),
            keys.CONFIDENCE: pd.Series(proba.max(1).astype(np.float32)),
        },
        {keys.PROBA: proba.astype(np.float32)},
        {keys.UNS_PREDICTION: {"classes": ["Tumour", "Stromal"]}},
    )
    made = Prediction("6 labels of yours", 6, "made", "12:00", session.revision)
    assert session.put_prediction(result, None, made, Step("classify"))


@pytest.fixture
def press(window: Any, qtbot: Any) -> Callable[[Any], None]:
    """Press a key in the window."""

    def do(key: Any) -> None:
        QTest.keyClick(window.window._qt_window, key)
        qtbot.wait(10)

    return do


def settle(workspace: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not workspace.suggesting.is_making, timeout=20_000)


def at_centre(workspace: Any, row: int) -> bool:
    y, x = workspace.viewer.scene.camera.center[-2:]
    return bool(np.allclose((x, y), workspace.canvas.layers.centroids_um[row]))


def white_around(workspace: Any, row: int, colour_at: Any) -> float:
    """Which share of a ring around a cell is white on the canvas."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = workspace.canvas.layers.centroids_um[row] + 9 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return float((colour_at(workspace.viewer, ring) > 230).all(axis=1).mean())


def test_n_flies_to_the_cell_and_rings_it(predicted: Any, qtbot: Any, press: Any, colour_at: Any) -> None:
    asks = predicted.suggesting
    settle(predicted, qtbot)
    assert len(asks.queue) == 20
    said: list[str] = []  # napari empties the status as soon as the mouse is elsewhere
    predicted.viewer.events.status.connect(lambda event: said.append(str(event.value).lower()))
    press(NEXT_KEY)
    first = asks.current
    assert first == asks.queue[0]
    assert at_centre(predicted, first.row)
    assert any(words.startswith(first.reason.lower()) for words in said)
    assert RING_COLOUR == "#FFFFFF"
    assert white_around(predicted, first.row, colour_at) > 0.5
    press(NEXT_KEY)
    assert asks.current == asks.queue[1]
    assert at_centre(predicted, asks.queue[1].row)
    press(Qt.Key.Key_Escape)
    assert asks.current is None
    assert white_around(predicted, asks.queue[1].row, colour_at) == 0


def test_keys_accept_relabel_and_skip_and_each_is_undone(predicted: Any, qtbot: Any, press: Any) -> None:
    asks, annotations = predicted.suggesting, predicted.session.annotations
    settle(predicted, qtbot)
    press(NEXT_KEY)
    first, second, third = asks.queue[:3]
    called = predicted.session.table.obs[keys.CLASS].iloc[first.row]
    press(ACCEPT_KEY)
    assert annotations.labels[first.cell].name == called
    assert asks.current == second
    assert at_centre(predicted, second.row)
    press("4")
    assert annotations.labels[second.cell].name == "T cell"
    assert predicted.session.active_class == "T cell"
    assert asks.current == third
    press(SKIP_KEY)
    assert annotations.skipped == {third.cell}
    assert third.cell not in annotations.labels
    assert asks.current not in (None, third)
    settle(predicted, qtbot)
    assert not {s.cell for s in asks.queue} & {first.cell, second.cell, third.cell}
    # What is taken back is asked again.
    press(Qt.Key.Key_Escape)
    predicted.undo()
    assert not annotations.skipped
    assert asks.current == third
    predicted.undo()
    assert second.cell not in annotations.labels
    assert asks.current == second
    records = annotations.journal.read()
    assert [r["step"] for r in records][-5:] == ["set_labels", "set_labels", "skip_cells", "undo", "undo"]


def test_enter_accepts_and_digits_choose_classes_only_while_no_cell_is_looked_at(
    predicted: Any, qtbot: Any, press: Any
) -> None:
    asks, session = predicted.suggesting, predicted.session
    settle(predicted, qtbot)
    n = len(session.annotations.labels)
    press("4")
    press(ACCEPT_KEY)
    press(SKIP_KEY)
    assert (session.active_class, len(session.annotations.labels)) == ("T cell", n)
    press(NEXT_KEY)
    cell = asks.current.cell
    press(Qt.Key.Key_Return)
    press(Qt.Key.Key_Enter)
    assert cell in session.annotations.labels
    # Going over to clicking ends it: the digits are the tools' again.
    session.label_rows([N_CELLS - 1], "B cell")
    assert asks.current is None


def test_the_queue_is_renewed_after_a_prediction_and_dropped_with_the_section(
    predicted: Any, qtbot: Any, grid_section: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stplm_napari import tasks

    asks, session = predicted.suggesting, predicted.session
    settle(predicted, qtbot)
    rows = [s.row for s in asks.queue]
    session.label_rows(rows[:5], "Stromal")
    assert [s.row for s in asks.queue] == rows[5:]  # at once, without those that have an answer
    put_prediction(session)
    settle(predicted, qtbot)
    assert len(asks.queue) == 20
    opened, suggest = threading.Event(), tasks.suggest

    def late(*given: Any, **options: Any) -> Any:
        opened.wait(20)
        return suggest(*given, **options)

    monkeypatch.setattr(tasks, "suggest", late)
    put_prediction(session)
    qtbot.waitUntil(lambda: asks.making.is_busy, timeout=10_000)
    running = asks.making.job
    predicted.show(grid_section, grid_section.tables[keys.TABLE])
    assert asks.queue == ()
    assert asks.current is None
    opened.set()
    qtbot.waitUntil(lambda: not running.is_running, timeout=20_000)
    assert running.state in ("stale", "cancelled")


def test_the_card_says_why_and_its_keys_outlive_the_dock(predicted: Any, qtbot: Any, press: Any, window: Any) -> None:
    from stplm_napari.widgets.common import open_dock

    asks = predicted.suggesting
    settle(predicted, qtbot)
    card = open_dock(window, "Annotate").next_cell
    assert card.isVisible()
    card.next.click()
    name, sure = asks.called(asks.current.row)
    assert asks.current.reason.lower() in card.why.text().lower()
    assert f"<b>{name}</b> {sure:.2f}" in card.why.text()
    assert card.place.text() == "1 of 20"
    card.accept.click()
    assert card.place.text() == "1 of 19"
    window.window._wrapped_dock_widgets["Annotate (stplm-napari)"].destroyOnClose()
    open_dock(window, "Annotate")
    cell = asks.current.cell
    press(ACCEPT_KEY)
    assert cell in predicted.session.annotations.labels
    listed = {key for _, lines in HELP for key, _ in lines}
    assert {NEXT_KEY, SKIP_KEY} <= listed


def test_skips_are_remembered_and_cleared(
    predicted: Any, qtbot: Any, press: Any, grid_section: Any, window: Any
) -> None:
    from stplm_napari.widgets.common import open_dock

    asks, session = predicted.suggesting, predicted.session
    settle(predicted, qtbot)
    press(NEXT_KEY)
    cell = asks.current.cell
    press(SKIP_KEY)
    predicted.show(grid_section, grid_section.tables[keys.TABLE], path=session.path)
    assert session.annotations.skipped == {cell}
    settle(predicted, qtbot)
    assert cell not in {s.cell for s in asks.queue}
    queue = open_dock(window, "Learn").queue
    assert queue.again.text().startswith("1 skipped")
    queue.again.click()
    settle(predicted, qtbot)
    assert not session.annotations.skipped
    assert cell in {s.cell for s in asks.queue}


def test_before_any_label_the_queue_covers_the_kinds_of_cells(embedded: Any, qtbot: Any, press: Any) -> None:
    asks = embedded.suggesting
    settle(embedded, qtbot)
    right = is_right(embedded.session.table)
    assert {bool(right[s.row]) for s in asks.queue[:3]} == {True, False}
    press(NEXT_KEY)
    press(ACCEPT_KEY)
    assert not embedded.session.annotations.labels  # nothing is called yet
    cell = asks.current.cell
    press("1")
    assert embedded.session.annotations.labels[cell].name == "Tumour"


def test_the_learn_dock_shows_scores_and_flies_on_a_click(predicted: Any, qtbot: Any, window: Any) -> None:
    from stplm_napari.widgets.common import open_dock

    session, learning = predicted.session, predicted.learning
    learn = open_dock(window, "Learn")
    qtbot.waitUntil(lambda: learning.latest is not None and not learning.is_scoring, timeout=30_000)
    assert learn.scores.isVisible()
    assert learning.points[-1].n_labels == 6
    assert "From 6 labels of yours" in learn.made_from.text()
    right = np.flatnonzero(is_right(session.table))
    session.label_rows(right[3:9], "Stromal")
    assert learn.old.text() == "Out of date: labels changed since."
    learn.score_now.click()
    qtbot.waitUntil(lambda: not learning.is_scoring and not learning.outdated, timeout=30_000)
    assert [p.n_labels for p in learning.points][-2:] == [6, 12]
    assert not learn.old.isVisible()
    matrix = learn.confusion
    assert matrix.words_at(matrix.rect().center()) != ""
    assert len(np.unique(pixels(learn.curve).reshape(-1, 4), axis=0)) > 10  # lines and numbers are drawn
    shown = learn.queue.rows[2]
    qtbot.mouseClick(shown, Qt.MouseButton.LeftButton)
    assert predicted.suggesting.current == predicted.suggesting.queue[2]
    assert at_centre(predicted, predicted.suggesting.queue[2].row)
    # A label taken back leaves the curve.
    predicted.undo()
    put_prediction(session)
    qtbot.waitUntil(lambda: not learning.is_scoring and not learning.outdated, timeout=30_000)
    assert learning.points[-1].n_labels == 6


def pixels(widget: Any) -> np.ndarray:
    from qtpy.QtGui import QImage

    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGBA8888)
    return np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.width(), 4)


def test_the_learn_dock_says_what_to_do_next(workspace: Any, window: Any) -> None:
    from stplm_napari.widgets.common import open_dock

    learn = open_dock(window, "Learn")
    assert learn.empty.isVisible()
    assert not learn.scores.isVisible()
    assert not learn.not_embedded.isVisible()
