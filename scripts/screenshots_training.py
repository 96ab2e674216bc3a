"""Pictures of the Fine-tune and Apply docks on the demo section, in a real window with the training in its own process.

``xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/screenshots_training.py docs/screenshots``
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from screenshots import Stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        os.environ["STPLM_DATA_DIR"] = data
        stage = Stage(options.folder)
        stage.viewer.open_sample("stplm-napari", "breast_tumour_section")
        stage.until(lambda: stage.session.is_open and not stage.workspace.drawing.is_busy)
        stage.dock("Embed").run.click()
        stage.settle()
        finetune(stage)
        apply(stage, Path(data))
        stage.viewer.close()


def finetune(stage: Stage) -> None:
    """Labels of the surest cells of four classes stand for an afternoon's clicking."""
    session, tuning = stage.session, stage.workspace.finetuning
    stage.workspace.classify("profiles", profiles="breast", per_class=20)
    stage.until(lambda: session.is_predicted and not stage.workspace.will_refit)
    obs = session.table.obs
    for name in ("Tumour", "Stromal", "T cell", "Macrophage"):
        sure = (obs["stplm_class"] == name) & (obs["stplm_confidence"] > 0.7)
        session.label(list(obs.index[sure][:120]), name)
    stage.settle()
    dock = stage.dock("Fine-tune")
    dock.settings.show({"epochs": 12, "batch": 32, "block": 50.0})
    stage.save("finetune-form")
    dock.run.click()
    stage.until(lambda: any(t["epoch"] > 2 for t in tuning.run.history.read()), 900)
    stage.save("finetune-running")
    stage.until(lambda: not tuning.training.is_busy, 900)
    stage.save("finetune-compared")
    dock.comparison.keep_tuned.click()
    stage.until(lambda: tuning.is_kept)
    stage.save("finetune-kept")


def apply(stage: Stage, scratch: Path) -> None:
    """Two copies of the demo section, and a file that is none."""
    applying = stage.workspace.applying
    for name in ("patient_1", "patient_2"):
        shutil.copytree(stage.session.path, scratch / "cohort" / name)
    broken = scratch / "cohort" / "broken.h5ad"
    broken.write_bytes(b"not a section")
    dock = stage.dock("Apply")
    applying.add([scratch / "cohort", broken])
    dock.out.value = scratch / "applied"
    dock.run.click()
    stage.until(lambda: max(applying.shares_done) > 0.1, 900)
    stage.save("apply-running")
    stage.until(lambda: not applying.job.is_busy, 900)
    stage.save("apply-done")


if __name__ == "__main__":
    main()
