"""The docks that show every cell, at the size of a section: the map beside the tissue, colours of a gene, a session."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy.stats import norm

from benchmarks.window import Row, Window

LASSO_SHARE = 0.1


def with_map(table: Any) -> None:
    """Give a table a map as if the section had come with one: a UMAP takes minutes, and the window is what is timed."""
    from stplm import keys

    table.obsm[keys.UMAP] = np.random.default_rng(0).normal(size=(table.n_obs, 2)).astype(np.float32)


def docks(window: Window, repeats: int) -> list[Row]:
    """The map opened, recoloured with the tissue, and lassoed; then the tissue by a gene's counts."""
    from stplm_napari.widgets.common import open_dock

    session, workspace, n = window.session, window.workspace, window.session.table.n_obs
    window.until(lambda: workspace.mapping.current is not None)
    window.viewer.reset_view()
    with window.beat.phase("open the map"):
        seconds = window.painted(lambda: open_dock(window.viewer, "Map"))
        dock = open_dock(window.viewer, "Map")
        window.rest(3.0)  # it draws more points after each quick frame
    rows = [Row("the map opened", n, seconds, "s", cpu=window.cpu)]
    took, used = [], []
    with window.beat.phase("recolour, map beside"):
        for i in range(2 * repeats):
            by = ("tumour", "class")[i % 2]
            took.append(window.painted(lambda by=by: session.colour(by=by)))
            used.append(window.cpu)
            window.rest(0.5)  # the map follows
    rows.append(
        Row(
            "recolour all cells, map beside",
            n,
            1000 * statistics.median(took),
            "ms",
            150,
            cpu=1000 * statistics.median(used),
        )
    )
    rows.append(_lasso(window, dock))
    with window.beat.phase("colour by a gene"):
        seconds = [_by_gene(window, str(gene)) for gene in session.table.var_names[:5]]
        window.rest(0.5)
    rows.append(Row("colour by a gene's counts, median of five genes", n, 1000 * statistics.median(seconds), "ms"))
    session.colour(by="class")
    window.rest(0.5)
    return rows


def sessions(window: Window, folder: Path) -> list[Row]:
    """Everything saved, and opened again as it was: onto the section that is open, and with its section read beside."""
    session, workspace, n = window.session, window.workspace, window.session.table.n_obs
    path = folder / "benchmark.stplm"
    workspace.mapping.by_itself = False  # a map of its vectors would be drawn of each session, for minutes
    labels, called = len(session.annotations.labels), session.prediction.source if session.prediction else ""
    kept = "session opened on its section, which is open, cells drawn"
    read = "session opened, cells drawn"
    rows = []
    for name, act in (
        ("session saved", workspace.sessions.save),
        (kept, workspace.sessions.open),
        (read, workspace.sessions.open),
    ):
        with contextlib.ExitStack() as stack, window.beat.phase(name):
            if name == read:
                stack.enter_context(mock.patch("stplm_napari.workspace.held", return_value=None))
            start = time.perf_counter()
            job = act(path)
            window.until(lambda job=job: not job.is_running and not workspace.drawing.is_busy)
            if job.error is not None:
                sys.exit(str(job.error))
            window.painted(lambda: None)
            seconds = time.perf_counter() - start
            window.rest(1.0)
        same = session.prediction is not None and session.prediction.source == called
        same &= len(session.annotations.labels) == labels
        rows.append(Row(name, n, seconds, "s", agrees=bool(same)))
    return rows


def _lasso(window: Window, dock: Any) -> Row:
    """A lasso on the map around a tenth of the cells, until they are selected and painted on both."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    session, n = window.session, window.session.table.n_obs
    half = float(norm.ppf((1 + LASSO_SHARE**0.5) / 2))
    dock.view.visible = (-2.0, -2.0, 4.0, 4.0)
    dock.lasso.click()
    window.rest(1.0)
    native, left, none = dock.view.canvas.native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    corners = [half * np.array(corner) for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
    points = [QPoint(*(round(v) for v in dock.view.pixel_of(corner))) for corner in corners]
    with window.beat.phase("lasso on the map"):
        QTest.mousePress(native, left, none, points[0])
        for a, b in pairwise(points):
            for t in np.linspace(0, 1, 12)[1:]:
                QTest.mouseMove(native, QPoint(round(a.x() + t * (b.x() - a.x())), round(a.y() + t * (b.y() - a.y()))))
                window.turn()
        seconds = window.painted(
            lambda: QTest.mouseRelease(native, left, none, points[-1]), lambda: len(session.selected) > 0
        )
        window.rest(0.5)
    chosen = len(session.selected)
    agrees = abs(chosen - LASSO_SHARE * n) < 0.1 * LASSO_SHARE * n
    row = Row(
        f"lasso of {chosen:,} cells on the map, selected on the tissue", n, 1000 * seconds, "ms", 300, agrees=agrees
    )
    session.select([])
    window.rest(0.5)
    return row


def _by_gene(window: Window, gene: str) -> float:
    viewing, session = window.workspace.viewing, window.session
    return window.painted(lambda: viewing.colour_by(f"gene:{gene}"), lambda: session.colouring.by == f"gene:{gene}")
