"""Pictures of the Perturb dock on the demo section, in a real window with the model in its own process.

``xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/screenshots_perturb.py docs/screenshots``
"""

from __future__ import annotations

import argparse
import os
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
        stage.until(lambda: stage.session.is_embedded, 300)
        stage.workspace.classify("profiles", profiles="breast", per_class=20)
        stage.until(lambda: stage.session.is_predicted and not stage.workspace.will_refit, 300)
        perturb(stage)
        stage.viewer.close()


def perturb(stage: Stage) -> None:
    """Luminal genes out of tumour cells; then every gene, beside it."""
    session, state = stage.session, stage.workspace.perturbing
    dock = stage.dock("Perturb")
    for gene in ("ERBB2", "EPCAM", "KRT8", "GATA3"):
        dock.genes.search.take(gene)
    dock.cells.value = ("class", "Tumour")
    dock.run.click()
    stage.until(lambda: session.colouring.by == "shift:A", 300)
    stage.save("perturb-genes")
    stage.dock("Map").draw()
    stage.until(lambda: stage.workspace.arrows.shown is not None, 300)
    stage.wait(1500)
    stage.save("perturb-arrows")
    dock = stage.dock("Perturb")
    dock.by.setCurrentIndex(dock.by.findText("Response of the cells around"))
    dock.by.activated.emit(dock.by.currentIndex())
    stage.until(lambda: session.colouring.by == "response:A", 60)
    stage.save("perturb-neighbours")
    dock.every_gene.value = True
    dock.run.click()
    stage.until(lambda: len(state.scenarios) == 2 and session.colouring.by == "shift:B", 300)
    stage.save("perturb-screen")


if __name__ == "__main__":
    main()
