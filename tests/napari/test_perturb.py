"""The Perturb dock in a real window: genes of the panel, a run, the tissue in its colours, a table, scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from stplm import keys
from stplm_napari import perturb_tasks, perturbing
from stplm_napari.results import Result
from stplm_napari.script import script
from stplm_napari.session import Embedding, Prediction
from stplm_napari.steps import Step

pytestmark = pytest.mark.gui

N = 144
GENES = ["EPCAM", "CD3E", "ERBB2", "LUM", "PECAM1"]


class Answer:
    """The far end of the worker, called in this process."""

    def call(self, task: str, folder: Path, params: Any, progress: Any) -> None:
        getattr(perturb_tasks, task.removeprefix("stplm_napari.perturb_tasks:"))(folder, params, progress)

    def stop(self) -> None:
        """Nothing to end."""


@pytest.fixture
def workspace(viewer: Any, grid_section: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "outs").mkdir()
    found = Workspace.of(viewer)
    found.worker.stop()
    found.worker = Answer()
    found.show(grid_section, grid_section.tables["table"], path=tmp_path / "outs")
    found.canvas.layers.images[0].visible = False
    yield found
    found.close()


@pytest.fixture
def dock(workspace: Any, qtbot: Any) -> Callable[[], Any]:
    from stplm_napari.widgets.common import open_dock

    def open_() -> Any:
        widget = open_dock(workspace.viewer, "Perturb")
        qtbot.wait(50)
        return widget

    return open_


def embed(workspace: Any) -> None:
    """Vectors and classes: rows of the upper half are Tumour."""
    session = workspace.session
    table = session.table.copy()
    table.obsm[keys.X_STPLM] = np.zeros((N, 96), dtype=np.float32)
    table.uns.setdefault(keys.UNS, {})[keys.UNS_EMBEDDING] = {"model": "tissue-breast", "own_dim": 64}
    step = Step("embed", {"model": "default"})
    session.put_embedding(Result.embedding_of(table), session.revision, Embedding("m", "12:00", 1.0), step)
    table = session.table.copy()
    table.obs[keys.CLASS] = pd.Categorical(np.where(np.arange(N) < N // 2, "Tumour", "Stromal"))
    table.obs[keys.CONFIDENCE] = np.full(N, 0.9, dtype=np.float32)
    table.obs[keys.TUMOUR] = np.linspace(0, 1, N, dtype=np.float32)
    made = Prediction("labels", 2, "m", "12:00", session.revision)
    session.put_prediction(Result.prediction_of(table), None, made, Step("classify"))


def run(perturb: Any, qtbot: Any, scenarios: int) -> None:
    perturb.run.click()
    job = perturb.workspace.perturbing.running.job
    qtbot.waitUntil(lambda: not job.is_running, timeout=60_000)  # the first loads torch
    assert job.error is None, job.details or job.error
    assert len(perturb.workspace.perturbing.scenarios) == scenarios
    key = f"shift:{'AB'[scenarios - 1]}"
    qtbot.waitUntil(lambda: perturb.session.colouring.by == key, timeout=10_000)


def test_what_is_missing_is_said_and_offered(workspace: Any, dock: Any) -> None:
    perturb = dock()
    assert perturb.unembedded.isVisible()
    assert not perturb.content.isVisible()
    embed(workspace)
    assert perturb.content.isVisible()
    assert not perturb.run.isEnabled(), "no gene yet"
    assert perturb.claim.text() == "The model's response, not a causal claim."
    assert "Classify the cells first" in perturb.hint.text()
    perturb.genes.search.take("EPCAN")
    assert "no gene EPCAN" in perturb.error.problem.text()
    assert not perturb.run.isEnabled()


def test_a_run_colours_the_tissue_fills_the_table_and_is_recorded(
    workspace: Any, dock: Any, qtbot: Any, colour_at: Any
) -> None:
    embed(workspace)
    perturb, session = dock(), workspace.session
    for gene in ("erbb2", "EPCAM"):
        perturb.genes.search.take(gene)
    perturb.cells.value = ("class", "Tumour")
    run(perturb, qtbot, 1)
    found = workspace.perturbing.shown.result
    assert set(found.genes["genes"]) == {"ERBB2", "EPCAM"}
    shown = workspace.perturbing.gene
    values = found.per_cell(shown)
    assert np.isnan(values[N // 2 :]).all()
    assert perturb.table.gene_at(0) == shown
    session.colour(style="fill", ranges={"shift:A": (0.0, float(np.nanmax(values)))})
    workspace.viewer.reset_view()
    seen = colour_at(workspace.viewer, session.table.obsm[keys.SPATIAL]).astype(int)
    shift = np.nan_to_num(values / np.nanmax(values))
    for row in (int(np.nanargmax(values)), int(np.nanargmin(values))):
        expected = 0.7 * 255 * np.array(colormaps["magma"](shift[row])[:3])
        np.testing.assert_allclose(seen[row], expected, atol=14)
    assert perturb.scale.isVisible()
    step = session.steps[-1]
    assert (step.name, step.params["genes"], step.params["cells"]["name"]) == ("perturb", ["ERBB2", "EPCAM"], "Tumour")
    lines = script(session.steps)
    assert "scenario_A = stplm.perturb(table, 'default', cells=perturbed, genes=['ERBB2', 'EPCAM']" in lines
    compile(lines, "steps.py", "exec")


def test_neighbours_answer_beside_the_selected_cells(workspace: Any, dock: Any, qtbot: Any) -> None:
    embed(workspace)
    perturb = dock()
    workspace.session.select(np.arange(30, 40))
    perturb.genes.search.take("LUM")
    perturb.cells.value = ("selected", "")
    run(perturb, qtbot, 1)
    assert "Shift of the cells around, LUM" in perturb.rings.text()
    perturb.by.setCurrentIndex(perturb.by.findText("Response of the cells around"))
    perturb.by.activated.emit(perturb.by.currentIndex())
    qtbot.waitUntil(lambda: workspace.session.colouring.by == "response:A", timeout=10_000)
    values = workspace.session.sources.of("response:A").values  # noqa: PD011
    assert np.isfinite(values[50])
    perturbed = np.isfinite(workspace.perturbing.shown.result.per_cell("LUM"))
    assert np.isnan(values[perturbed]).all()
    ids = workspace.session.steps[-1].params["cells"]["ids"]
    assert ids == [f"cell-{i}" for i in range(30, 40)]


def test_a_screen_stands_beside_a_second_scenario_and_can_be_filtered_and_saved(
    workspace: Any, dock: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    embed(workspace)
    perturb = dock()
    perturb.every_gene.value = True
    perturb.max_cells.value = 40
    run(perturb, qtbot, 1)
    assert perturb.table.view.model().rowCount() == 5
    assert perturb.scenario.currentText() == "A: delete every gene in 40 of all cells"
    assert np.isfinite(workspace.perturbing.shown.result.per_cell("LUM")).sum() <= 40
    perturb.max_cells.value = 0
    perturb.mode.value = "overexpress"
    run(perturb, qtbot, 2)
    state = workspace.perturbing
    assert (state.shown.name, state.compared.name) == ("B", "A")
    titles = [perturb.table.model.headerData(i, perturbing_horizontal()) for i in range(6)]
    assert "A: Shift" in titles
    perturb.switch.click()
    qtbot.waitUntil(lambda: workspace.session.colouring.by == "shift:A", timeout=10_000)
    perturb.table.filter.setText("lum")
    assert [perturb.table.gene_at(i) for i in range(perturb.table.view.model().rowCount())] == ["LUM"]
    for name in ("genes.csv", "genes.parquet"):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, name=name: (str(tmp_path / name), ""))
        perturb.table.save.click()
    read = pd.read_csv(tmp_path / "genes.csv")
    assert set(read["genes"]) == set(GENES)
    assert list(pd.read_parquet(tmp_path / "genes.parquet").columns) == list(read.columns)


def test_a_dock_that_was_closed_shows_the_same_again(workspace: Any, dock: Any, qtbot: Any) -> None:
    embed(workspace)
    first = dock()
    first.genes.search.take("CD3E")
    first.mode.value = "inhibit"
    first.cells.value = ("class", "Stromal")
    run(first, qtbot, 1)
    workspace.viewer.window._wrapped_dock_widgets["Perturb (stplm-napari)"].destroyOnClose()
    qtbot.wait(50)
    again = dock()
    assert again.genes.genes == ["CD3E"]
    assert again.mode.value == "inhibit"
    assert again.cells.value == ("class", "Stromal")
    assert again.table.gene_at(0) == "CD3E"
    folder = workspace.perturbing._home.name
    workspace.show(workspace.session.section, workspace.session.table)
    assert not workspace.perturbing.scenarios
    assert not Path(folder).exists()
    assert not again.results.isVisible()


def perturbing_horizontal() -> Any:
    from qtpy.QtCore import Qt

    assert perturbing.MEASURES
    return Qt.Orientation.Horizontal


def test_arrows_lie_on_the_map_of_the_cells(
    workspace: Any, dock: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stplm
    from stplm.tasks.perturb_arrows import Arrows
    from stplm_napari.mapping import CellMap
    from stplm_napari.widgets.common import open_dock

    embed(workspace)
    session, maker = workspace.session, workspace.mapping
    places = np.stack([np.arange(N) % 12, np.arange(N) // 12], axis=1).astype(np.float32)
    session.table.obsm[keys.UMAP] = places
    maker._take(CellMap.of(places))
    asked = []

    def arrows(table: Any, found: Any, name: str) -> Arrows:
        cells, _ = found.kept_vectors(name)
        asked.append((name, len(cells)))
        here = np.asarray(table.obsm[keys.UMAP])[cells]
        return Arrows(here, here + np.float32([0, 3]), cells)

    monkeypatch.setattr(stplm, "map_arrows", arrows, raising=False)
    perturb, on_map = dock(), open_dock(workspace.viewer, "Map")
    perturb.genes.search.take("ERBB2")
    perturb.cells.value = ("class", "Tumour")
    run(perturb, qtbot, 1)
    qtbot.waitUntil(lambda: workspace.arrows.shown is not None, timeout=30_000)
    assert asked[0][0] == "ERBB2"
    assert 0 < asked[0][1] <= N // 2
    assert "after delete ERBB2 (A)" in on_map.arrows.text()
    assert len(on_map.view._arrows) == 1
    # Another section has none of it.
    workspace.show(session.section, session.table)
    assert workspace.arrows.shown is None
    assert not on_map.view._arrows


def test_a_kept_model_is_asked_itself(workspace: Any, tmp_path: Path) -> None:
    from stplm_napari.runs import KeptModel, keep_adapted

    embed(workspace)
    state, session = workspace.perturbing, workspace.session
    assert state._model() == {"model": "default"}
    session.table.uns[keys.UNS][keys.UNS_EMBEDDING]["adapted"] = True
    assert state._model() == {"model": "default"}, "an older session kept no adapted model"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    keep_adapted(tmp_path / "made", session.path)
    assert (Path(state._model()["folder"]) / "config.json").is_file()
    session.classifier = KeptModel(tmp_path / "tuned")
    assert state._model() == {"model": "tuned", "folder": str(tmp_path / "tuned")}
    assert not state.without_probabilities
    from stplm_napari.script import Beside, parts

    asked = {"name": "A", "genes": ["EPCAM"], "mode": "delete", "cells": {"from": "all", "name": ""}, **state._model()}
    lines = parts([Step("perturb", asked)], Beside("steps"))[-1].lines
    assert any("stplm.perturb(table, tuned, " in line for line in lines)
