"""The live loop: labels are learnt from without waiting, and what nobody waits for comes later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stplm import keys
from stplm.errors import SectionError
from stplm_napari import tasks
from stplm_napari.jobs import CANCELLED, FAILED
from stplm_napari.session import UNKNOWN

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def demo(demo_path: Path) -> Any:
    """The demo section without its image."""
    import stplm

    return stplm.read_section(demo_path, images=False)


@pytest.fixture
def embedded(workspace: Any, demo: Any) -> Any:
    """The demo section with made-up vectors, two classes labelled, no fit yet."""
    from spatialdata import SpatialData

    from stplm_napari.results import Result
    from stplm_napari.session import Embedding
    from stplm_napari.steps import Step

    table = demo.tables[keys.TABLE].copy()
    workspace.live = False
    workspace.show(SpatialData(labels=demo.labels, shapes=demo.shapes, tables={keys.TABLE: table}), table)
    session = workspace.session
    vectors = np.random.default_rng(0).normal(0, 1, (session.table.n_obs, 8)).astype(np.float32)
    made = Result(obsm={keys.X_STPLM: vectors}, uns={keys.UNS_EMBEDDING: {"model": "m", "own_dim": 8, "sha256": ""}})
    session.put_embedding(made, session.revision, Embedding("m", "12:00", 1.0), Step("embed"))
    session.label_rows(np.arange(6), "Tumour")
    session.label_rows(np.arange(6, 12), "Stromal")
    return workspace


@pytest.fixture
def settle(qtbot: Any) -> Callable[[Any], None]:
    def wait(workspace: Any) -> None:
        qtbot.waitUntil(lambda: not (workspace.will_refit or workspace.unlike.is_missing), timeout=60_000)

    return wait


def test_the_unknown_score_follows_a_live_fit_and_is_that_of_the_engine(
    embedded: Any, settle: Callable[[Any], None]
) -> None:
    import stplm

    session, seen = embedded.session, []
    session.predicted.connect(lambda: seen.append(keys.UNKNOWN in session.table.obs))
    embedded.live = True
    settle(embedded)
    assert seen == [False], "the classes do not wait for it"
    assert session.sources.find(UNKNOWN) is not None
    whole = stplm.predict(session.table.copy(), session.classifier)
    for column in (keys.CLASS, keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN):
        assert whole.obs[column].equals(session.table.obs[column]), column


def test_where_the_tissue_shows_it_the_score_comes_with_the_classes(
    embedded: Any, settle: Callable[[Any], None]
) -> None:
    session = embedded.session
    embedded.live = True
    settle(embedded)
    session.colour(by=UNKNOWN)
    seen = []
    session.predicted.connect(lambda: seen.append(keys.UNKNOWN in session.table.obs))
    session.label_rows([20], "Tumour")
    settle(embedded)
    assert seen == [True]
    assert session.colouring.by == UNKNOWN


def test_a_score_of_an_older_classifier_is_dropped(embedded: Any, settle: Callable[[Any], None]) -> None:
    session = embedded.session
    embedded.live = True
    settle(embedded)
    before = session.table.obs[keys.UNKNOWN].to_numpy()
    assert not session.put_unknown(np.zeros(session.table.n_obs, np.float32), object())
    np.testing.assert_array_equal(session.table.obs[keys.UNKNOWN], before)


def test_a_label_goes_before_the_score(
    embedded: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, settle: Callable[[Any], None]
) -> None:
    from stplm.tasks.classifier import Classifier

    score, held = Classifier.unknown_scores, threading.Event()

    def wait(self: Any, features: Any, progress: Any) -> Any:
        if not held.is_set():
            for _ in range(2000):
                progress(0, 1)
                held.wait(0.01)
        return score(self, features, progress)

    monkeypatch.setattr(Classifier, "unknown_scores", wait)
    embedded.live = True
    qtbot.waitUntil(lambda: embedded.unlike.scoring.is_busy, timeout=60_000)
    first = embedded.unlike.scoring.job
    embedded.session.label_rows([50], "Tumour")
    qtbot.waitUntil(lambda: not first.is_running, timeout=30_000)
    assert first.state == CANCELLED
    held.set()
    settle(embedded)
    assert keys.UNKNOWN in embedded.session.table.obs
    assert embedded.session.prediction.n_labels == 13


def test_features_are_made_once_an_embedding(
    embedded: Any, monkeypatch: pytest.MonkeyPatch, settle: Callable[[Any], None]
) -> None:
    from stplm.tasks import features

    made, make = [], features.cell_features

    def count(table: Any) -> Any:
        made.append(table.n_obs)
        return make(table)

    monkeypatch.setattr(features, "cell_features", count)
    embedded.live = True
    settle(embedded)
    for row in (30, 31, 32):
        embedded.session.label_rows([row], "Tumour")
        settle(embedded)
    assert made.count(embedded.session.table.n_obs) == 1, "held-out scores make those of their cells"


def test_the_window_goes_on_while_labels_are_learnt_from(
    embedded: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import QTimer

    go, classify = threading.Event(), tasks.classify
    monkeypatch.setattr(tasks, "classify", lambda *args, **how: classify(*args, **how) if go.wait(30) else None)
    beats = []
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(1))
    timer.start(5)
    embedded.live = True
    qtbot.waitUntil(lambda: embedded.classifying.is_busy, timeout=30_000)
    beats.clear()
    embedded.session.label_rows([40], "Tumour")
    qtbot.waitUntil(lambda: len(beats) >= 20, timeout=30_000)
    assert embedded.classifying.is_busy
    go.set()
    qtbot.waitUntil(lambda: not embedded.will_refit and not embedded.session.outdated, timeout=60_000)
    assert embedded.session.prediction.n_labels == 13, "the label given meanwhile counts"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """``stplm.read_section`` waits for this event."""
    import stplm

    go, read = threading.Event(), stplm.read_section

    def wait(path: Path, **how: Any) -> Any:
        go.wait(30)
        if (path / "broken").exists():
            raise SectionError("The matrix is broken.", where=path)
        return read(path, **how)

    monkeypatch.setattr(stplm, "read_section", wait)
    return go


def test_the_image_is_there_before_the_cells_are_read(
    workspace: Any, viewer: Any, qtbot: Any, demo_path: Path, held: threading.Event
) -> None:
    workspace.open(demo_path)
    qtbot.waitUntil(lambda: len(viewer.layers) > 0, timeout=60_000)
    assert not workspace.session.is_open
    dapi = viewer.layers["DAPI"]
    viewer.scene.camera.zoom = zoom = 3.3
    held.set()
    qtbot.waitUntil(lambda: workspace.session.is_open and not workspace.drawing.is_busy, timeout=60_000)
    assert [layer.name for layer in viewer.layers].count("DAPI") == 1
    assert viewer.layers["DAPI"] is dapi
    assert viewer.scene.camera.zoom == pytest.approx(zoom), "the user's view is kept"
    assert dapi.metadata["sdata"] is workspace.session.section


def test_the_image_of_a_section_that_cannot_be_read_goes(
    workspace: Any, viewer: Any, qtbot: Any, demo_path: Path, held: threading.Event, tmp_path: Path
) -> None:
    import shutil

    broken = shutil.copytree(demo_path, tmp_path / "section")
    (broken / "broken").touch()
    job = workspace.open(broken)
    qtbot.waitUntil(lambda: len(viewer.layers) > 0, timeout=60_000)
    held.set()
    qtbot.waitUntil(lambda: not job.is_running, timeout=60_000)
    assert job.state == FAILED
    assert not viewer.layers
