"""The interactive loop on a large section, in a real window: open, embed, click, recolour, lasso, map, session.

Prints a table, and writes ``benchmarks/interactive.json``: rows of ``name, cells, ours, reference, unit, ratio,
peak_mb, agrees``. Needs a display:

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/interactive.py --section SIMULATED

Without ``--section`` one of ``--cells`` cells is simulated first (of a million, that takes minutes). ``--vectors FILE``
keeps the embedding for the next run.

"Painted" is the end of the frame that shows it. A reference recolours the same cells in the same window. Blocks of the
window's thread come from a timer that should fire every 5 ms; "ours" are blocks in which it was in the plugin's or the
engine's code all the time, the rest is napari's and the renderer's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.heartbeat import Phase
from benchmarks.interactive_docks import docks, sessions, with_map
from benchmarks.window import Row, Window, told

LASSO_CELLS = 100_000


def main() -> None:
    """Run it all and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", type=Path, help="a simulated section")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=Path, help="an .npz file to keep the embedding in, and to take it from")
    parser.add_argument("--clicks", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-references", action="store_true", help="leave the two napari ways of recolouring out")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STPLM_DATA_DIR"] = scratch
        # Labels of this run are written to disk as always, but neither beside the section nor for the next run.
        mock.patch("stplm_napari.session.journal_path", return_value=Path(scratch) / "labels.jsonl").start()
        section = options.section or _simulated(Path(scratch), options.cells)
        measure(section, options)


def _simulated(folder: Path, cells: int) -> Path:
    from stplm.simulation import simulate_section

    start = time.monotonic()
    path = simulate_section(folder / "section", cells=cells)
    print(f"simulated {cells:,} cells in {time.monotonic() - start:.0f} s", flush=True)
    return path


def measure(path: Path, options: argparse.Namespace) -> None:
    """All phases, one after the other."""
    window = Window()
    beat = window.beat
    window.rest(1.0)
    rows = told(opening(window, path))
    rows += told(embedding(window, options.vectors))
    rows += told(clicking(window, path, options.clicks))
    rows += told(recolouring(window, options.repeats))
    rows += told(lassoing(window))
    rows += told(docks(window, options.repeats))
    n, mine, both = window.session.table.n_obs, beat.peak_mb, beat.peak_with_others_mb
    last = [
        Row("peak resident memory of the window", n, mine, "MB", 6000, peak_mb=mine),
        Row("peak resident memory of window and worker", n, both, "MB", 6000, peak_mb=both),
    ]
    rows += told(sessions(window, Path(os.environ["STPLM_DATA_DIR"])))
    last.append(Row("the same while a session of as many cells is opened beside", n, beat.peak_with_others_mb, "MB"))
    for phase in beat.phases:
        last.append(
            Row(f"longest block by our code: {phase.name}", n, phase.worst_ours_ms, "ms", 100, cpu=phase.worst_cpu_ms)
        )
    rows += told(last)
    beat.stop()
    report(rows, beat.phases, options.out)
    if not options.no_references:
        rows += told(references(window, rows))
        keep(rows, options.out)
    window.viewer.close()


def opening(window: Window, path: Path) -> list[Row]:
    """From the wish to open until the image is drawn, and until the cells are."""
    workspace, beat = window.workspace, window.beat
    with beat.phase("open"):
        start = time.perf_counter()
        job = workspace.open(path, also=with_map)
        window.until(lambda: bool(window.viewer.layers) or not job.is_running)
        window.painted(lambda: None)
        first = time.perf_counter() - start
        window.until(lambda: not job.is_running)
        if job.error is not None:
            sys.exit(str(job.error))
        window.until(lambda: not workspace.drawing.is_busy)
        window.painted(lambda: None)
        drawn = time.perf_counter() - start
    n = window.session.table.n_obs
    window.rest(1.0)
    return [
        Row("opened to first picture", n, first, "s", 10, peak_mb=beat.peak_mb),
        Row("opened to cells drawn", n, drawn, "s", peak_mb=beat.peak_mb),
    ]


def embedding(window: Window, kept: Path | None) -> list[Row]:
    """Embed in the worker process, or take vectors that were kept."""
    from stplm import keys
    from stplm_napari.results import Result
    from stplm_napari.session import Embedding
    from stplm_napari.steps import Step

    session, workspace = window.session, window.workspace
    n, found = session.table.n_obs, []
    with window.beat.phase("embed"):
        if kept is not None and kept.is_file():
            with np.load(kept) as arrays:
                about = json.loads(str(arrays["about"]))
                result = Result(obsm={keys.X_STPLM: arrays["vectors"]}, uns={keys.UNS_EMBEDDING: about})
            session.put_embedding(result, session.revision, Embedding(about["model"], "", 0.0), Step("embed", {}))
        else:
            start = time.perf_counter()
            job = workspace.embed()
            window.until(lambda: not job.is_running, 3600)
            if job.error is not None:
                sys.exit(str(job.error))
            seconds = time.perf_counter() - start
            found = [Row("embedded in the worker", n, n / seconds, "cells/s", 10_000)]
            if kept is not None:
                about = json.dumps(session.table.uns[keys.UNS][keys.UNS_EMBEDDING], default=str)
                np.savez(kept, vectors=session.table.obsm[keys.X_STPLM], about=about)
        window.rest(1.0)
    # What is prepared for the first fit is prepared while the user looks for a cell.
    workspace.features.of(session.table).kinds(0)
    return found


def clicking(window: Window, path: Path, clicks: int) -> list[Row]:
    """Real clicks on the canvas, one after the other: each is labelled, learnt from and painted."""
    import pandas as pd
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from stplm import keys
    from stplm.simulation import TRUTH
    from stplm_napari.widgets.common import open_dock

    session, workspace, beat = window.session, window.workspace, window.beat
    truth = pd.read_parquet(path / TRUTH).set_index("cell_id").loc[session.table.obs_names, "class"].to_numpy()
    names = [c.name for c in session.classes if (truth == c.name).sum() > clicks]
    open_dock(window.viewer, "Annotate")
    window.rest(1.0)
    session.annotating = True
    window.workspace.canvas.layers.fly_to(len(truth) // 2, width_um=400)
    window.rest(1.0)
    for name in names:  # two of each by the session, the first prediction with it
        session.label_rows(np.flatnonzero(truth == name)[:2], name)
    window.rest(1.0)
    seconds, cpu = [], []
    with beat.phase("click"):
        for i, row in enumerate(in_view(window)[:clicks]):
            session.choose_class(truth[row] if truth[row] in names else names[i % len(names)])
            before = session.prediction
            place = window.place(session.table.obsm[keys.SPATIAL][row])

            def click(place: Any = place) -> None:
                QTest.mouseClick(window.canvas.native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)

            def learnt(before: Any = before) -> bool:
                return session.prediction is not before and not session.outdated

            seconds.append(window.painted(click, learnt))
            cpu.append(window.cpu)
            window.rest(0.2)
    agrees = bool(len(seconds) == clicks and len(session.annotations.labels) >= 2 * len(names))
    right = float((session.table.obs[keys.CLASS].astype(str).to_numpy() == truth).mean())
    print(f"called right after these labels: {right:.3f}; clicks {[round(s, 2) for s in seconds]} s", flush=True)
    window.until(lambda: not workspace.unlike.is_missing)
    n = len(truth)
    return [
        Row(
            "label to retrained and repainted, median",
            n,
            statistics.median(seconds),
            "s",
            1.0,
            cpu=statistics.median(cpu),
            agrees=agrees,
        ),
        Row("label to retrained and repainted, slowest", n, max(seconds), "s", agrees=agrees),
    ]


def in_view(window: Window, margin: int = 60) -> Any:
    """Rows of unlabelled cells on the canvas, nearest to its middle first."""
    from stplm import keys

    camera, native = window.viewer.scene.camera, window.canvas.native
    away = (window.session.table.obsm[keys.SPATIAL] - np.array(camera.center[-1:-3:-1])) * camera.zoom
    there = (np.abs(away) < [native.width() / 2 - margin, native.height() / 2 - margin]).all(axis=1)
    there[window.session.annotations.labels.rows] = False
    rows = np.flatnonzero(there)
    return rows[np.argsort(np.abs(away[rows]).max(axis=1))]


def lassoing(window: Window) -> list[Row]:
    """A lasso around 100,000 cells, drawn with the mouse; from its end until they are labelled and painted."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    from stplm_napari.tools import LABEL, LASSO

    session, workspace, layers = window.session, window.workspace, window.workspace.canvas.layers
    n, live = session.table.n_obs, workspace.live
    workspace.live = False  # what learns from them is measured apart
    around = layers.centroids_um
    middle = np.median(around, axis=0)
    wanted = min(LASSO_CELLS, n // 2)
    half = float(np.partition(np.abs(around - middle).max(axis=1), wanted)[wanted])
    layers.fly_to_box((*(middle - half), *(middle + half)))
    session.use(shape=LASSO, does=LABEL)
    session.choose_class(session.classes[0].name)
    window.rest(1.0)
    before, native = len(session.annotations.labels), window.canvas.native
    corners = [
        window.place(middle + half * np.array(corner)) for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    ]
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    with window.beat.phase("lasso"):
        QTest.mousePress(native, left, none, corners[0])
        for a, b in pairwise(corners):
            for t in np.linspace(0, 1, 12)[1:]:
                QTest.mouseMove(native, QPoint(round(a.x() + t * (b.x() - a.x())), round(a.y() + t * (b.y() - a.y()))))
                window.turn()
        seconds = window.painted(
            lambda: QTest.mouseRelease(native, left, none, corners[-1]),
            lambda: len(session.annotations.labels) > before + wanted // 2 and not workspace.picking.is_busy,
        )
    given, used = len(session.annotations.labels) - before, 1000 * window.cpu
    agrees = abs(given - wanted) < 0.03 * wanted
    rows = [
        Row(f"lasso of {given:,} cells, labelled and painted", n, 1000 * seconds, "ms", 300, cpu=used, agrees=agrees)
    ]
    with window.beat.phase("fit on the lasso"):
        start = time.perf_counter()
        workspace.live = live
        workspace.refit()
        window.rest(0.0)
        rows.append(Row(f"learnt from {len(session.annotations.labels):,} labels", n, time.perf_counter() - start, "s"))
    with window.beat.phase("undo the lasso"):
        workspace.live = False
        seconds = window.painted(workspace.undo)
        rows.append(Row(f"undo of {given:,} labels, painted", n, 1000 * seconds, "ms", 300))
        workspace.live = live
    window.rest(1.0)
    return rows


def recolouring(window: Window, repeats: int) -> list[Row]:
    """All cells in other colours: by class and by tumour in turn, far and near."""
    session, layers = window.session, window.workspace.canvas.layers
    rows = []
    for view in ("whole section", "100 µm"):
        window.viewer.reset_view()
        if view != "whole section":
            layers.fly_to(session.table.n_obs // 2, width_um=100)
        window.rest(1.0)
        seconds, cpu = [], []
        with window.beat.phase(f"recolour, {view}"):
            for i in range(2 * repeats):
                by = ("tumour", "class")[i % 2]
                seconds.append(window.painted(lambda by=by: session.colour(by=by)))
                cpu.append(window.cpu)
        took, used = 1000 * statistics.median(seconds), 1000 * statistics.median(cpu)
        rows.append(Row(f"recolour all cells, {view}", session.table.n_obs, took, "ms", 150, cpu=used))
    return rows


def references(window: Window, rows: list[Row]) -> list[Row]:
    """The same cells in the same window: a direct colormap of the label image, and points."""
    from napari.utils.colormaps import DirectLabelColormap

    session, viewer, layers = window.session, window.viewer, window.workspace.canvas.layers
    colours = layers.overlay.rgba()
    place, levels = layers.overlay, layers.overlay.levels
    names = np.asarray(place.values).tolist()
    centroids = layers.centroids_um[:, ::-1]
    for layer in list(viewer.layers):
        layer.visible = False
    viewer.reset_view()
    mine = next(row for row in rows if row.name == "recolour all cells, whole section")
    labels = viewer.add_labels(list(levels), multiscale=True, scale=place.scale_um, translate=place.translate_um)

    def direct() -> None:
        table = dict(zip(names, colours, strict=True))
        labels.colormap = DirectLabelColormap(color_dict={None: np.zeros(4), 0: np.zeros(4), **table})

    def as_points() -> None:
        points.face_color = colours

    n = session.table.n_obs
    window.rest()
    direct_took = [(window.painted(direct), window.cpu) for _ in range(2)]
    viewer.layers.remove(labels)
    points = viewer.add_points(centroids, size=8, border_width=0)
    window.rest()
    points_took = [(window.painted(as_points), window.cpu) for _ in range(2)]
    rows = []
    for name, took in (("DirectLabelColormap", direct_took), ("Points layer", points_took)):
        wall, cpu = (1000 * min(times) for times in zip(*took, strict=True))
        words = f"recolour all cells, against a {name}"
        rows.append(Row(words, n, mine.ours, "ms", None, wall, wall / mine.ours))
        if mine.cpu is not None:
            rows.append(Row(f"{words}, processor time", n, mine.cpu, "ms", None, cpu, cpu / mine.cpu))
    return rows


def report(rows: list[Row], phases: list[Phase], out: Path) -> None:
    """Say where the window was blocked, and keep the rows."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{rows[0].cells:,} cells; load {load} on {os.cpu_count()} cores")
    print("\nBlocks of the window's thread over 50 ms: where it was, in looks 10 ms apart")
    for phase in phases:
        longest = f"longest {phase.worst_ms:.0f} ms (processor {phase.worst_cpu_ms:.0f} ms)"
        print(f"  {phase.name}: {longest}, ours {phase.worst_ours_ms:.0f} ms")
        for place, looks in phase.places.most_common(6):
            print(f"    {looks:4d}  {place}")
    keep(rows, out)


def keep(rows: list[Row], out: Path) -> None:
    """Write the rows."""
    out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
