"""Why a cell is called what it is called, in the Inspect dock of a real window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stplm
from stplm import keys
from stplm.errors import StplmError
from stplm_napari import tasks
from stplm_napari.explain_worker import near_cells, tile_cells
from stplm_napari.results import Result, snapshot
from stplm_napari.runs import KeptModel
from stplm_napari.session import Embedding, Prediction
from stplm_napari.steps import Step

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def embedded(demo_path: Path) -> Any:
    """The cells of the demo section, embedded."""
    return stplm.embed(stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False)), clusters=0)


@pytest.fixture
def workspace(
    viewer: Any, kept_worker: Any, embedded: Any, demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The demo section, embedded and classified by seeds."""
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    found = Workspace.of(viewer)
    found.worker = kept_worker
    section = stplm.read_section(demo_path, images=False)
    found.show(section, stplm.cell_table(section))
    found.live = False
    embed(found, embedded)
    classify(found)
    yield found
    found.close()


def embed(workspace: Any, table: Any) -> None:
    session = workspace.session
    step = Step("embed", {"model": "default", "adapt": False})
    session.put_embedding(Result.embedding_of(table), session.revision, Embedding("default", "12:00", 1.0), step)


def classify(workspace: Any) -> None:
    session, table = workspace.session, snapshot(workspace.session.table)
    params = {"source": tasks.FROM_PROFILES, "profiles": "breast", "per_class": 8, "labels": {}, "seed": 0}
    classifier, labels = tasks.classify(table, params)
    made = Prediction("seeds", len(labels), "default", "12:00", session.revision)
    session.put_prediction(Result.prediction_of(table), classifier, made, Step("classify", params))


def cell_of(workspace: Any, name: str) -> int:
    """The cell that is most surely of a class."""
    obs = workspace.session.table.obs
    return int(np.argmax(np.where(obs["stplm_class"] == name, obs["stplm_confidence"], 0)))


def test_a_kept_cell_says_which_genes_were_used(workspace: Any, qtbot: Any) -> None:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtGui import QColor

    from stplm_napari.widgets.common import open_dock
    from stplm_napari.widgets.why import AGAINST, CAVEAT, FOR

    session, watch, asks = workspace.session, workspace.viewing.watch, workspace.viewing.explaining
    inspect = open_dock(workspace.viewer, "Inspect")
    qtbot.waitUntil(lambda: watch.live, timeout=5000)
    why = inspect.why
    watch.hovered = 3
    watch.changed.emit()
    assert not why.isVisible(), "only a cell that is kept is asked about"
    tumour, t_cell = cell_of(workspace, "Tumour"), cell_of(workspace, "T cell")
    watch.pin(tumour)
    qtbot.waitUntil(why.isVisible, timeout=5000)
    assert asks.asking.job is None, "nobody has looked"
    why.toggle.setChecked(True)
    assert asks.asking.is_busy
    watch.pin(t_cell)  # while the answer about the other cell is on its way
    qtbot.waitUntil(lambda: asks.found is not None, timeout=60_000)
    assert asks.found.class_name == "T cell"
    expected = stplm.attribute(session.table, session.classifier, [t_cell])
    assert [g.symbol for g in asks.found.genes[:6]] == list(expected["gene"][:6])
    given = [gene.attribution for gene in asks.found.genes]
    np.testing.assert_allclose(given, expected["attribution"], atol=2e-5)
    genes = why.bars.genes
    assert len(genes) <= FOR + AGAINST
    assert {"CD3E", "TRAC", "IL7R", "CD3D"} & {gene.symbol for gene in genes[:FOR]}
    assert "speak for T cell" in why.words.text()
    assert (why.caveat.text(), why.caveat.isVisible()) == (CAVEAT, True)
    qtbot.wait(100)
    picture = why.bars.grab().toImage()
    scale = picture.width() / why.bars.width()
    colours = {c.name: c.colour for c in session.classes}
    for line in (0, len(genes) - 1):
        middle = why.bars.bar(line).center()
        seen = QColor(picture.pixel(int(middle.x() * scale), int(middle.y() * scale)))
        wanted = QColor(colours["T cell"] if genes[line].attribution > 0 else "#9A9A9A")
        assert max(abs(a - b) for a, b in zip(seen.getRgb()[:3], wanted.getRgb()[:3], strict=True)) < 8
    assert genes[0].symbol in why.bars.tip(0)
    assert "lower" in why.bars.tip(0)
    qtbot.mouseClick(why.bars, Qt.MouseButton.LeftButton, pos=QPoint(20, 8))
    qtbot.waitUntil(lambda: session.colouring.by == f"gene:{genes[0].symbol}", timeout=5000)
    watch.pin(tumour)
    qtbot.waitUntil(lambda: asks.found is not None, timeout=60_000)
    assert {"EPCAM", "GATA3", "FOXA1", "ERBB2", "KRT7", "KRT8"} & {gene.symbol for gene in why.bars.genes[:FOR]}
    first = asks.found
    classify(workspace)
    assert asks.found is None, "another prediction is another question"
    qtbot.waitUntil(lambda: asks.found is not None, timeout=60_000)
    assert asks.found.genes[0] == first.genes[0]
    watch.pin(-1)
    assert not why.isVisible()


def test_what_cannot_be_said_is_said(workspace: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from stplm_napari.widgets.common import open_dock

    session, watch, asks = workspace.session, workspace.viewing.watch, workspace.viewing.explaining
    inspect = open_dock(workspace.viewer, "Inspect")
    why = inspect.why
    watch.pin(5)
    qtbot.waitUntil(why.isVisible, timeout=5000)
    note = session.table.uns[keys.UNS][keys.UNS_EMBEDDING]
    note["adapted"] = True
    why.toggle.setChecked(True)
    qtbot.waitUntil(lambda: not asks.asking.is_busy, timeout=10_000)
    assert "adapted to this section" in why.panel.error.problem.text()
    assert why.panel.error.isVisible()
    job = asks.asking.job
    watch.changed.emit()
    assert asks.asking.job is job, "what failed is not tried again by itself"
    note["adapted"] = False

    def fail(*_: Any, **__: Any) -> None:
        raise StplmError("The worker has no room.", mend="Close something.")

    monkeypatch.setattr("stplm_napari.explaining.explain_in_worker", fail)
    watch.pin(6)
    qtbot.waitUntil(lambda: "no room" in why.panel.error.problem.text(), timeout=10_000)


def test_a_fine_tuned_model_that_was_kept_says_why_as_on_the_whole_section(
    workspace: Any, qtbot: Any, tmp_path: Path
) -> None:
    import torch

    from stplm.nn.heads import ClassHeads, HeadsConfig
    from stplm.tasks.cells import table_genes
    from stplm_napari.widgets.common import open_dock

    session, watch, asks = workspace.session, workspace.viewing.watch, workspace.viewing.explaining
    model = stplm.load_model()
    genes = [g for g in table_genes(session.table) if g][:40]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.heads = ClassHeads(HeadsConfig(model.dim, ("Tumour", "Stromal"), ("Tumour",), genes=tuple(genes))).eval()
        with torch.no_grad():
            model.heads.types.weight.normal_(std=0.3)
            model.heads.skip.weight.normal_(std=0.3)
    session.classifier = KeptModel(model.save(tmp_path / "tuned"))
    cell = 640
    inspect = open_dock(workspace.viewer, "Inspect")
    watch.pin(cell)
    qtbot.waitUntil(inspect.why.isVisible, timeout=5000)
    inspect.why.toggle.setChecked(True)
    qtbot.waitUntil(lambda: asks.found is not None, timeout=120_000)
    expected = stplm.attribute(session.table, model, [cell])
    assert asks.found.class_name == str(expected["of"].iloc[0])
    assert asks.found.log_odds == pytest.approx(float(expected["log_odds"].iloc[0]), abs=1e-4)
    np.testing.assert_allclose([g.attribution for g in asks.found.genes], expected["attribution"], atol=1e-4)


def test_the_tile_of_a_cell_is_sent_and_where_the_tiles_start(demo_path: Path) -> None:
    table = stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))
    rows = tile_cells(table, 40, 50.0)
    xy = table.obsm["spatial"]
    assert rows[0] == 40
    assert len(np.unique(rows)) == len(rows)
    assert {int(row) for row in xy.argmin(0)} <= set(rows.tolist())
    far = np.abs(xy - xy[40]).max(1) > 50
    assert far[rows].sum() <= 2
    assert (~far).sum() == len(rows) - far[rows].sum()


def test_few_cells_are_sent(demo_path: Path) -> None:
    table = stplm.cell_table(stplm.read_section(demo_path, images=False, labels=False))
    few = near_cells(table, 40)
    assert few.n_obs == 128
    assert few.obs_names[0] == table.obs_names[40]
    far = np.hypot(*(few.obsm["spatial"] - few.obsm["spatial"][0]).T)
    assert list(far) == sorted(far)
    np.testing.assert_array_equal(few.X[0].toarray(), table.X[40].toarray())
