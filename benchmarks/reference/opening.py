"""Opening a bundle with spatialdata-io and napari-spatialdata: image and cell labels, until they are drawn; and ours.

A script, since each needs a window: ``python -m benchmarks.reference.opening SECTION ours|theirs``. It prints seconds
and MB.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

from benchmarks.heartbeat import resident_mb

IMAGE, LABELS = "morphology_focus", "cell_labels"


def theirs(path: Path) -> float:
    """Read with spatialdata-io's defaults, show in napari through napari-spatialdata."""
    import napari

    from stplm_napari.spatialdata_dock import make_importable

    make_importable()
    from napari_spatialdata import Interactive
    from qtpy.QtWidgets import QApplication
    from spatialdata_io import xenium

    viewer = napari.Viewer(show=True)  # ours has a window too before it opens anything
    frames = 0

    def drawn(_: object) -> None:
        nonlocal frames
        frames += 1

    start = time.perf_counter()
    has = (path / "transcripts.parquet").is_file()
    section = xenium(path, morphology_mip=False, aligned_images=False, transcripts=has)
    shown = Interactive(section, headless=True)
    shown._viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(drawn, position="last")
    for number, name in enumerate((IMAGE, LABELS), 1):
        shown.add_element(name, "global")
        while len(shown._viewer.layers) < number:  # it takes one at a time
            QApplication.processEvents()
    before = frames
    shown._viewer.window._qt_viewer.canvas.native.update()
    while frames == before:
        QApplication.processEvents()
    took = time.perf_counter() - start
    viewer.close()
    return took


def ours(path: Path) -> float:
    """Open in the plugin's window, until image and every cell are drawn (the first picture is there long before)."""
    from benchmarks.window import Window

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STPLM_DATA_DIR"] = scratch
        journal = Path(scratch) / "labels.jsonl"
        with mock.patch("stplm_napari.session.journal_path", return_value=journal):
            window = Window()
            window.rest(1.0)
            start = time.perf_counter()
            job = window.workspace.open(path)
            window.until(lambda: not job.is_running)
            if job.error is not None:
                raise SystemExit(str(job.error))
            window.until(lambda: not window.workspace.drawing.is_busy)
            window.painted(lambda: None)
            return time.perf_counter() - start


def main() -> None:
    """Measure one way, in this process."""
    path, way = Path(sys.argv[1]), {"ours": ours, "theirs": theirs}[sys.argv[2]]
    warnings.simplefilter("ignore")
    took = way(path)
    sys.stdout.write(json.dumps({"seconds": took, "mb": resident_mb()}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Qt may take its time to end


if __name__ == "__main__":
    main()
