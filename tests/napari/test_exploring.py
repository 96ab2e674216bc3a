"""The Explore dock and the report in a real window: what is asked for is what the canvas and the page show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stplm import keys
from stplm.evaluation.learning_curve import HeldOut
from stplm_napari.exploring import imputed
from stplm_napari.jobs import DONE, FAILED
from stplm_napari.results import Result
from stplm_napari.script import script
from stplm_napari.session import Prediction
from stplm_napari.steps import Step

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def opened(window: Any, qapp: Any, demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The demo section's cells in a window, embedded with its clusters, classes from those."""
    import stplm
    from stplm_napari.workspace import Workspace

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STPLM_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        section = stplm.read_section(demo_path)
        table = stplm.cell_table(section)
        stplm.embed(table)
        found = Workspace.of(window)
        found.show(section, table, path=demo_path)
        yield found
        found.close()


@pytest.fixture
def dock(opened: Any, qtbot: Any) -> Callable[[str], Any]:
    from stplm_napari.widgets.common import open_dock

    def open_(name: str) -> Any:
        widget = open_dock(opened.viewer, name)
        qtbot.wait(50)
        return widget

    return open_


def wait(qtbot: Any, slot: Any) -> Any:
    qtbot.waitUntil(lambda: slot.job is not None and not slot.is_busy, timeout=120_000)
    return slot.job


def test_groups_are_compared_and_a_marker_colours_the_tissue(opened: Any, dock: Any, qtbot: Any) -> None:
    explore = dock("Explore")
    assert str(explore.by.choices[0]) == keys.CLUSTER
    explore.run.click()
    assert wait(qtbot, opened.exploring.comparing).state == DONE, opened.exploring.comparing.job.details
    assert len({group for group, _ in explore.markers.links}) >= 8
    group, gene = next(iter(explore.markers.links))
    explore.markers.links[group, gene].click()
    qtbot.waitUntil(lambda: opened.session.colouring.by == f"gene:{gene}", timeout=10_000)
    assert explore.enrichment.isVisible()
    assert "beside" in explore.enrichment.words_at(explore.enrichment.rect().center())
    assert not explore.old.isVisible()


def test_niches_colour_the_tissue_and_are_recorded(opened: Any, dock: Any, colour_at: Any, qtbot: Any) -> None:
    explore = dock("Explore")
    explore.n.value = 4
    explore.find_niches.click()
    assert wait(qtbot, opened.exploring.niching).state == DONE, opened.exploring.niching.job.details
    session = opened.session
    assert session.colouring.by == "niche"
    assert session.table.obs[keys.NICHE].nunique() == 4
    shown = session.sources.of("niche")
    opened.viewer.reset_view()
    opened.canvas.layers.images[0].visible = False
    at = colour_at(opened.viewer, session.table.obsm[keys.SPATIAL]).astype(int)
    opened.canvas.layers.images[0].visible = True
    first, second = (np.median(at[shown.codes == i], axis=0)[:3] for i in (0, 1))
    wanted = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in shown.colours[:2]]
    for seen, colour in ((first, wanted[0]), (second, wanted[1])):
        assert np.corrcoef(seen, colour)[0, 1] > 0.98
    assert session.steps[-1].name == "niches"
    assert "stplm.niches(table, 4, seed=0)" in script(session.steps)
    assert keys.NICHE in [str(c) for c in explore.by.choices]


def test_an_imputed_gene_is_marked_as_imputed(opened: Any, dock: Any, qtbot: Any) -> None:
    explore = dock("Explore")
    explore.genes.setText("EPCAM, CD3E")
    explore.impute.click()
    assert wait(qtbot, opened.exploring.imputing).state == DONE, opened.exploring.imputing.job.details
    session = opened.session
    assert session.colouring.by == "imputed:EPCAM"
    assert list(imputed(session)) == ["EPCAM", "CD3E"]
    view = dock("View")
    assert "(imputed)" in view.colouring.by.currentText()
    assert "not measured" in view.colouring.about.text()
    overlay = opened.canvas.layers.overlay.rgba()[:, :3].sum(1)
    values = session.table.obsm[keys.IMPUTED][:, 0]
    assert overlay[values > np.quantile(values, 0.95)].mean() > overlay[values < np.median(values)].mean() + 0.5
    assert "explore_tasks.impute" in script(session.steps)


def test_a_gene_that_nobody_knows_is_a_sentence_in_the_dock(opened: Any, dock: Any, qtbot: Any) -> None:
    explore = dock("Explore")
    before = opened.session.colouring.by
    explore.genes.setText("NOTAGENE")
    explore.impute.click()
    job = wait(qtbot, opened.exploring.imputing)
    assert job.state == FAILED
    assert "NOTAGENE" in (job.error.found or "")
    assert opened.session.colouring.by == before
    explore.genes.clear()
    explore.impute.click()
    assert "No gene is named" in explore.error.problem.text()


def test_what_was_compared_is_there_in_a_dock_opened_again_and_grows_old(opened: Any, dock: Any, qtbot: Any) -> None:
    session, exploring = opened.session, opened.exploring
    table = session.table.copy()
    table.obs[keys.CLASS] = pd.Categorical(np.where(table.obs[keys.CLUSTER].isin(["1", "2", "4"]), "Tumour", "Stromal"))
    table.obs[keys.CONFIDENCE], table.obs[keys.TUMOUR] = np.float32(0.9), np.float32(0.5)
    made = Prediction("labels", 2, "m", "12:00", session.revision)
    session.put_prediction(Result.prediction_of(table), None, made, Step("classify"))
    explore = dock("Explore")
    explore.by.value = keys.CLASS
    explore.run.click()
    assert wait(qtbot, exploring.comparing).state == DONE, exploring.comparing.job.details
    assert {group for group, _ in explore.markers.links} == {"Tumour", "Stromal"}
    opened.viewer.window._wrapped_dock_widgets["Explore (stplm-napari)"].destroyOnClose()
    qtbot.wait(50)
    again = dock("Explore")
    assert {group for group, _ in again.markers.links} == {"Tumour", "Stromal"}
    made = Prediction("labels", 3, "m", "12:01", session.revision)
    session.put_prediction(Result.prediction_of(table), None, made, Step("classify"))
    qtbot.wait(20)
    assert again.old.isVisible()


def test_the_report_is_one_page_that_says_what_was_done(opened: Any, dock: Any, qtbot: Any, tmp_path: Path) -> None:
    assert opened.session.is_predicted, "by the test before"
    opened.perturbing.run(["EPCAM", "ERBB2"], nulls=0)
    assert wait(qtbot, opened.perturbing.running).state == DONE
    opened.learning.latest = HeldOut(("Stromal", "Tumour"), np.array([6, 9]), np.array([[5, 1], [2, 7]]), True)
    export = dock("Export")
    export.what.value = "report"
    export.path.value = tmp_path / "report.html"
    export.run.click()
    job = wait(qtbot, opened.exporter.writing)
    assert job.state == DONE, (job.error, job.details)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("Niches", "Imputed genes", "Steps", "tell the classes apart", "data:image/png"):
        assert words in page
    for words in ("In-silico perturbation: delete EPCAM, ERBB2", "not a causal claim", "Labels held out in turn"):
        assert words in page
    assert "15 labels, 15 of them held out in turn by squares of tissue" in page
    assert "accuracy 0.800" in page
    step = opened.session.steps[-1]
    assert step.params["perturbations"] == ["A"]
    lines = script(opened.session.steps)
    assert "perturbations=[scenario_A]" in lines
    compile(lines, "steps.py", "exec")
    assert str(tmp_path / "report.html") in export.written.text()
