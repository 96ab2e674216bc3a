"""Colouring by how unlike every label a cell is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QObject

from stplm import keys
from stplm_napari.layers import make_layers
from stplm_napari.paint import paint
from stplm_napari.results import Result
from stplm_napari.session import CLASS, CONFIDENCE, UNKNOWN, Prediction, Session
from stplm_napari.steps import Step
from stplm_napari.widgets.throttle import Throttle

N = 144


def _predict(session: Session, unknown: np.ndarray | None) -> None:
    """Put in a prediction, by way of a table as the engine leaves it and of the files it travels in."""
    table = session.table.copy()
    table.obs = table.obs.drop(columns=keys.UNKNOWN, errors="ignore")
    table.obs[keys.CLASS] = pd.Categorical(["Stromal", "Tumour"] * (N // 2))
    table.obs[keys.CONFIDENCE] = np.full(N, 0.9, np.float32)
    table.obs[keys.TUMOUR] = np.full(N, 0.5, np.float32)
    if unknown is not None:
        table.obs[keys.UNKNOWN] = unknown
    made = Prediction("2 labels of yours", 2, "m", "12:00", session.revision)
    assert session.put_prediction(Result.prediction_of(table), None, made, Step("classify"))


@pytest.fixture
def session(grid_section: Any, tmp_path: Path) -> Session:
    session = Session()
    session.open(grid_section, grid_section.tables[keys.TABLE], path=tmp_path / "outs")
    return session


def test_tissue_shows_the_score_and_cells_without_one_are_grey(session: Session, grid_section: Any) -> None:
    score = np.linspace(0, 1, N, dtype=np.float32)
    score[5] = np.nan
    _predict(session, score)
    overlay = make_layers(grid_section).overlay
    session.colour(by=UNKNOWN)
    paint(overlay, session)
    colours = overlay.rgba()[:, :3]
    assert np.allclose(colours[5], 0x9A / 255, atol=0.01)
    assert colours[-1].sum() > colours[0].sum() + 0.5, "bright is unlike every label"
    session.colour(by=CONFIDENCE)
    paint(overlay, session)
    assert not np.allclose(overlay.rgba()[:, :3], colours)


def test_a_prediction_without_the_score_takes_the_old_one_away(session: Session) -> None:
    _predict(session, np.full(N, 0.4, np.float32))
    session.colour(by=UNKNOWN)
    _predict(session, None)
    assert keys.UNKNOWN not in session.table.obs
    assert UNKNOWN not in session.possible_colourings()
    assert session.colouring.by == CLASS


def test_the_score_survives_the_way_from_the_worker(tmp_path: Path, session: Session) -> None:
    _predict(session, np.linspace(0, 1, N, dtype=np.float32))
    Result.prediction_of(session.table).save(tmp_path)
    back = Result.load(tmp_path).obs[keys.UNKNOWN]
    assert np.array_equal(back, session.table.obs[keys.UNKNOWN])


@pytest.mark.gui
def test_the_choice_is_there_when_the_score_is(session: Session, qtbot: Any) -> None:
    from stplm_napari.jobs import Jobs
    from stplm_napari.viewing import Viewing
    from stplm_napari.widgets.colouring import ColouringBar

    workspace = SimpleNamespace(session=session, jobs=Jobs(), viewer=None, canvas=None)
    workspace.viewing = Viewing(workspace)
    dock = SimpleNamespace(
        session=session, workspace=workspace, listen=lambda signal, slot: signal.connect(lambda *_: slot())
    )
    bar = ColouringBar(dock)  # type: ignore[arg-type]
    qtbot.addWidget(bar)
    _predict(session, None)
    assert bar.by.findData(UNKNOWN) == -1
    _predict(session, np.full(N, 0.4, np.float32))
    bar.by.setCurrentIndex(bar.by.findData(UNKNOWN))
    bar.by.activated.emit(bar.by.currentIndex())
    assert session.colouring.by == UNKNOWN
    assert bar.scale.isVisibleTo(bar)
    assert not bar.unsure.isVisibleTo(bar)


def test_a_dragged_range_is_painted_once_a_frame_and_ends_at_the_last(qtbot: Any) -> None:
    seen: list[int] = []
    parent = QObject()
    throttle = Throttle(seen.append, parent)
    for value in range(50):
        throttle.take(value)
    assert seen == [0], "the first is not waited for"
    qtbot.waitUntil(lambda: seen[-1] == 49, timeout=5_000)
    assert len(seen) <= 3
