"""The first two minutes of a user, on the demo section, in a real window with the real model in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stplm import keys

pytestmark = pytest.mark.gui


def test_from_an_empty_window_to_tumour_calls_in_a_file(
    fresh_viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stplm_napari.widgets.common import open_dock
    from stplm_napari.workspace import Workspace

    monkeypatch.setenv("STPLM_DATA_DIR", str(tmp_path / "data"))
    viewer, workspace = fresh_viewer, Workspace.of(fresh_viewer)
    session = workspace.session

    def wait_for(slot: Any, seconds: int = 90) -> Any:
        qtbot.waitUntil(lambda: not slot.is_busy, timeout=seconds * 1000)
        return slot.job

    viewer.open_sample("stplm-napari", "breast_tumour_section")
    wait_for(workspace.opening)
    wait_for(workspace.drawing)
    section = open_dock(viewer, "Section")
    assert section.name.text() == "demo_section"

    # Embedding, and something is seen at once.
    embed = open_dock(viewer, "Embed")
    embed.run.click()
    job = wait_for(workspace.embedding)
    assert job.error is None, job.details
    assert not embed.progress.error.isVisible()
    assert session.table.obsm[keys.X_STPLM].shape[0] == 1135
    assert "1,135 cells embedded with tissue-breast" in embed.result.text()
    drawn = workspace.canvas.layers.overlay.rgba()
    assert len(np.unique(drawn[:, :3], axis=0)) > 3

    # Reference profiles name the cells without a click, and the dock says where the names come from.
    classify = open_dock(viewer, "Classify")
    classify.source.value = "profiles"
    classify.run.click()
    job = wait_for(workspace.classifying)
    assert job.error is None, job.details
    assert "reference profiles" in classify.result.words.text()
    counts = session.predicted_counts()
    assert 300 < counts["Tumour"] < 800
    colour = classify.colouring.by
    colour.setCurrentIndex(colour.findText("Tumour probability"))
    colour.activated.emit(colour.currentIndex())
    tumour = session.table.obs[keys.TUMOUR].to_numpy()
    red = workspace.canvas.layers.overlay.rgba()[:, 0]
    assert red[tumour > 0.9].mean() > red[tumour < 0.1].mean() + 0.3

    # A correction by hand refits from profiles and hand together.
    wrong = session.table.obs_names[session.table.obs[keys.CLASS] == "Stromal"][0]
    session.label([wrong], "T cell")
    qtbot.waitUntil(lambda: not workspace.will_refit, timeout=30_000)
    assert "1 label of yours among them" in classify.result.words.text()

    # The export reads back equal, with the labels in it.
    export = open_dock(viewer, "Export")
    export.path.value = tmp_path / "result.h5ad"
    export.run.click()
    job = wait_for(workspace.exporter.writing)
    assert job.error is None, job.details
    import anndata

    back = anndata.read_h5ad(tmp_path / "result.h5ad")
    assert (back.obs[keys.CLASS].astype(str) == session.table.obs[keys.CLASS].astype(str)).all()
    assert np.array_equal(back.obs[keys.TUMOUR], session.table.obs[keys.TUMOUR])
    assert back.obs[keys.LABEL].dropna().to_dict() == {wrong: "T cell"}

    # Opened again, the section has its labels; the steps replay without a window.
    steps = list(session.steps)
    section.open_demo()
    wait_for(workspace.opening)
    wait_for(workspace.drawing)
    assert session.annotations.series().to_dict() == {wrong: "T cell"}
    assert not session.is_predicted
    replay(steps, tmp_path, back)
    workspace.close()


def replay(steps: list[Any], folder: Path, expected: Any) -> None:
    """Run the exported script, without the window's session, and compare: executed equals recorded."""
    import anndata

    from stplm_napari.script import script

    source = script(steps, "again.py")
    exec(compile(source, "again.py", "exec"), {"__name__": "again", "__file__": str(folder / "again.py")})
    back = anndata.read_h5ad(folder / "again_output" / "result.h5ad")
    assert (back.obs[keys.CLASS].astype(str) == expected.obs[keys.CLASS].astype(str)).all()
    assert np.array_equal(back.obsm[keys.X_STPLM], expected.obsm[keys.X_STPLM])
