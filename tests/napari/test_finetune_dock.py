"""Fine-tuning and applying to other sections, in a real window, with the training in its own process."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stplm
from stplm import keys
from stplm_napari.jobs import CANCELLED, DONE, FAILED
from stplm_napari.script import script

pytestmark = pytest.mark.gui
TINY = {"method": "head", "neighbours": False, "epochs": 2, "batch": 32, "block": 50.0, "buffer": 10.0}
WAIT_S = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's data folder."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STPLM_DATA_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def workspace(window: Any, data: Path, demo_path: Path) -> Any:
    """The demo section, embedded, with a hundred labels or so in three classes."""
    from stplm_napari.steps import Step
    from stplm_napari.workspace import Workspace

    section = stplm.read_section(demo_path)
    table = stplm.embed(stplm.cell_table(section), clusters=0)
    found = Workspace.of(window)
    found.applying.worker = found.finetuning.worker  # one process less to start
    found.show(section, table, path=demo_path)
    found.session.record(Step("embed", {"clusters": 0}))
    seeds = stplm.seed_labels(table, per_class=40)
    for name in ("Tumour", "Stromal", "Macrophage"):
        found.session.label(list(seeds.index[seeds == name]), name)
    return found


@pytest.fixture
def until(qtbot: Any) -> Callable[..., None]:
    def wait(done: Callable[[], Any], seconds: int = WAIT_S) -> None:
        qtbot.waitUntil(lambda: bool(done()), timeout=1000 * seconds)

    return wait


@pytest.fixture
def dock(workspace: Any, window: Any) -> Any:
    from stplm_napari.widgets.common import open_dock

    if workspace.finetuning.run is not None:
        workspace.finetuning.discard()
    found = open_dock(window, "Fine-tune")
    found.settings.reset()
    found.settings.show(TINY)
    return found


def test_the_form_is_the_engines_config(dock: Any) -> None:
    from dataclasses import replace

    from stplm.tasks.finetune_config import FinetuneConfig, settings

    dock.settings.reset()
    dock.more.toggle.setChecked(True)
    assert dock.settings.config() == FinetuneConfig()
    assert not dock.settings.fields["focal_gamma"].visible
    dock.settings.show({"learning_rate": 1e-3, "loss": "focal", "minutes": 2.5})
    assert dock.settings.config() == replace(FinetuneConfig(), learning_rate=1e-3, loss="focal", minutes=2.5)
    assert dock.settings.fields["focal_gamma"].visible
    for name, setting in settings().items():
        assert setting.help in dock.settings.fields[name].tooltip
        assert (setting.unit or "none") in dock.settings.fields[name].tooltip
    dock.more.toggle.setChecked(False)


def test_from_labels_to_a_compared_model_on_the_tissue(
    dock: Any, workspace: Any, window: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, tuning = workspace.session, workspace.finetuning
    until(lambda: session.is_predicted and not workspace.will_refit)
    assert not dock.short.isVisible()
    dock.run.click()
    until(lambda: not tuning.training.is_busy)
    assert tuning.training.job.state == DONE, tuning.training.job.details
    assert tuning.worker.pid != workspace.worker.pid
    assert {"macro-F1", "balanced accuracy", "tumour F1"} == set(dock.scores.names)
    epochs, f1 = dock.scores.points("macro-F1")
    assert epochs.tolist() == [0, 1, 2]
    assert f1.min() > 0.5

    # Nothing changed on the tissue; held-out cells of both are shown.
    assert not tuning.is_kept
    assert "finetuned" not in session.table.uns[keys.UNS][keys.UNS_PREDICTION]
    panel, found = dock.comparison, tuning.run.comparison
    assert panel.isVisible()
    assert f"{found.cells:,} held-out cells" in panel.cells.text()
    assert f"same {found.learnt_from:,} labels" in panel.cells.text()
    assert "macro-F1" in panel.verdict.text()
    assert "right" in panel.tuned.toolTip()
    assert panel.tuned.toolTip() != panel.few_shot.toolTip().replace("Few-shot head", "Fine-tuned model") or (
        found.tuned.confusion == found.few_shot.confusion
    )
    expected = tuning.run.result()

    panel.keep_tuned.click()
    until(lambda: tuning.is_kept)
    assert (session.table.obs[keys.CLASS] == expected.obs[keys.CLASS].to_numpy()).all()
    assert session.prediction.source.startswith("the fine-tuned model")
    assert session.table.uns[keys.UNS][keys.UNS_PREDICTION]["finetuned"]
    assert not workspace.live
    assert "Live is off" in dock.verdict.text()
    assert not panel.isVisible()

    # A label does not change it, and what was recorded gives the same classes.
    before = session.table.obs[keys.CLASS].copy()
    session.label([session.table.obs_names[0]], "Tumour")
    assert not workspace.will_refit
    assert (session.table.obs[keys.CLASS] == before).all()
    workspace.undo()
    from stplm_napari.script import script

    monkeypatch.setattr("sys.argv", ["steps.py"])
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script(session.steps), "steps.py", "exec"), names)
    assert (names["table"].obs[keys.CLASS].astype(str).to_numpy() == before.astype(str).to_numpy()).all()

    # Live labels come back with the few-shot head.
    dock.live.click()
    until(lambda: not workspace.will_refit and not tuning.is_kept)
    assert workspace.live
    assert "labels of yours" in session.prediction.source


def test_stop_keeps_the_best_so_far_and_the_run_can_go_on(dock: Any, workspace: Any, until: Any) -> None:
    tuning = workspace.finetuning
    dock.settings.show({"epochs": 60, "patience": 60, "refit": False, "learning_rate": 1e-4, "batch": 8})
    dock.run.click()
    until(lambda: any(t["epoch"] > 1 for t in tuning.run.history.read()))
    dock.progress.cancel.click()
    until(lambda: not tuning.training.is_busy)
    assert tuning.training.job.state == CANCELLED
    note = tuning.run.outcome["note"]
    assert note["stopped_at"] > 0
    f1 = [h["macro_f1"] for h in note["history"]]
    assert note["best_epoch"] == int(np.argmax(f1))
    assert "Ended early" in dock.comparison.verdict.text()
    assert dock.comparison.isVisible()
    assert (tuning.run.model / "config.json").is_file()
    assert dock.go_on.isVisible()
    lines = len(tuning.run.history.read())
    dock.go_on.click()
    until(lambda: len(tuning.run.history.read()) > lines + 2)
    dock.progress.cancel.click()
    until(lambda: not tuning.training.is_busy)
    assert tuning.run.outcome["note"]["stopped_at"] > note["stopped_at"]
    folder = tuning.run.folder
    dock.comparison.keep_few_shot.click()
    assert tuning.run is None
    assert not (folder / "model").exists()
    assert not tuning.is_kept
    assert "few-shot head stays" in dock.verdict.text()


def test_a_killed_run_is_found_again_when_the_section_is_opened(
    dock: Any, workspace: Any, window: Any, until: Any, demo_path: Path
) -> None:
    tuning, session = workspace.finetuning, workspace.session
    dock.settings.show({"epochs": 60, "patience": 60, "refit": False, "batch": 8, "checkpoint_every": 5})
    dock.run.click()
    until(lambda: (tuning.run.folder / "checkpoint" / "select" / "trainer.json").is_file())
    os.kill(tuning.worker.pid, signal.SIGKILL)
    until(lambda: not tuning.training.is_busy)
    assert tuning.training.job.state == FAILED
    assert dock.stopped.isVisible()
    folder = tuning.run.folder

    workspace.show(session.section, session.table, path=demo_path)
    assert tuning.run.folder == folder
    assert dock.stopped.isVisible()
    assert "was cut off" in dock.stopped_words.text()
    dock.take_best.click()
    until(lambda: not tuning.training.is_busy)
    assert tuning.training.job.state == DONE, tuning.training.job.details
    assert tuning.run.comparison is not None
    assert tuning.run.outcome["stopped_at"] > 0
    dock.discard.click() if dock.discard.isVisible() else tuning.discard()


def test_too_few_labels_are_told_by_number(dock: Any, workspace: Any) -> None:
    session = workspace.session
    column = pd.Series(None, index=session.table.obs_names, dtype=object)
    column.iloc[:20], column.iloc[20:24] = "A", "B"
    session.table.obs["few"] = pd.Categorical(column)
    rest = session.annotations.series()
    session.annotations.clear_labels(list(rest.index))
    dock._list_columns()
    dock.source.value, dock.column.value = "column", "few"
    assert "6 more B" in dock.short.text()
    assert dock.run.isEnabled()
    session.table.obs["few"] = pd.Categorical(column.where(column != "B").mask(np.arange(len(column)) == 30, "B"))
    dock.refresh()
    assert "1 more B" in dock.short.text()
    assert not dock.run.isEnabled()
    dock.source.value = "labels"
    workspace.undo()
    assert len(session.annotations.series()) == len(rest)


def test_search_fills_the_form(dock: Any, workspace: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = workspace.finetuning
    dock.minutes.value = 30
    dock.search.click()
    until(lambda: len(tuning.trials()) > 1)
    dock.search_progress.cancel.click()
    until(lambda: not tuning.searching.is_busy)
    assert tuning.found is not None
    assert tuning.found["trials"] >= 1
    assert dock.settings.config().to_dict() == tuning.found["config"]
    assert "few-shot head" in dock.found.text()


def test_apply_to_sections_passes_over_a_broken_one(
    workspace: Any, window: Any, until: Any, demo_path: Path, tmp_path: Path
) -> None:
    from stplm_napari.widgets.common import open_dock

    applying = workspace.applying
    workspace.classify()
    until(lambda: not workspace.will_refit)
    dock = open_dock(window, "Apply")
    for name in ("first", "second"):
        shutil.copytree(demo_path, tmp_path / "cohort" / name)
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(b"no section")
    assert applying.add([tmp_path / "cohort", broken, broken]) == 3
    assert [row.name.text() for row in dock.rows][:2] == ["cohort/first", "cohort/second"]
    assert dock.rows[2].name.text().endswith("/broken.h5ad")
    dock.out.value = tmp_path / "out"
    dock.report.value = False
    dock.run.click()
    until(lambda: not applying.job.is_busy)
    assert applying.job.job.state == DONE, applying.job.job.details
    assert [run.state for run in applying.runs] == ["done", "done", "failed"]
    assert dock.rows[2].error.isVisible()
    assert dock.rows[0].bar.value() == 100
    assert "2 of 3 sections done, 1 failed" in dock.summary.text()
    # The same cells and the same classifier: the same classes as on the tissue, but for the shares.
    classes = pd.read_csv(tmp_path / "out" / "first" / "cell_groups.csv").set_index("cell_id")["group"]
    here = workspace.session.table.obs[keys.CLASS].astype(str)
    assert (classes.reindex(here.index) == here).mean() > 0.99
    heads = [dock.table.horizontalHeaderItem(j).text() for j in range(dock.table.columnCount())]
    assert heads[:4] == ["Section", "Cells", "Tumour", "Unknown"]
    assert dock.table.item(0, heads.index("Tumour", 4)).text() == f"{(classes == 'Tumour').sum():,}"
    dock.run.click()
    until(lambda: not applying.job.is_busy)
    assert [run.state for run in applying.runs] == ["skipped", "skipped", "failed"]
    assert workspace.session.steps[-1].name == "apply"
    dock.rows[2].remove.click()
    assert len(applying.runs) == 2
    applying.clear()


def test_other_sections_are_embedded_by_the_model_that_was_adapted(workspace: Any, until: Any, tmp_path: Path) -> None:
    from stplm.errors import ModelError
    from stplm_napari.runs import keep_adapted

    session, applying = workspace.session, workspace.applying
    vectors, note = session.table.obsm[keys.X_STPLM], session.table.uns[keys.UNS][keys.UNS_EMBEDDING]
    model = stplm.adapt(session.table, steps=2)
    try:
        stplm.embed(session.table, model, clusters=0)
        session.table.uns[keys.UNS][keys.UNS_EMBEDDING]["adapted"] = True
        workspace.classify()
        until(lambda: not workspace.will_refit)
        other = stplm.export(session.table[:200].copy(), tmp_path / "other.h5ad")
        assert applying.add([other]) == 1
        with pytest.raises(ModelError, match="is not kept"):
            applying.start(tmp_path / "out", report=False)
        keep_adapted(model.save(tmp_path / "made"), session.path)
        applying.start(tmp_path / "out", report=False)
        until(lambda: not applying.job.is_busy)
        assert [run.state for run in applying.runs] == ["done"], applying.runs
        (cells,) = (tmp_path / "out").rglob("*.h5ad")
        there = stplm.cell_table(stplm.read_section(cells))
        expected = stplm.embed(session.table[:200].copy(), model, clusters=0)
        np.testing.assert_array_equal(there.obsm[keys.X_STPLM], expected.obsm[keys.X_STPLM])
        step = session.steps[-1]
        assert step.name == "apply"
        assert "model=OUT / 'adapted'" in script([step])
    finally:
        applying.clear()
        session.table.obsm[keys.X_STPLM], session.table.uns[keys.UNS][keys.UNS_EMBEDDING] = vectors, note
