"""A real napari window with a section in it and a clock: what the interactive benchmarks drive and report with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.heartbeat import Heartbeat

SIZE = (1360, 860)


@dataclass
class Row:
    """One line of the table. ``agrees``: whether what was shown is right; None where nothing is compared."""

    name: str
    cells: int
    ours: float
    unit: str
    bar: float | None = None
    reference: float | None = None
    ratio: float | None = None
    cpu: float | None = None
    """Processor time, in the unit of ``ours``: what a busy machine cannot stretch."""
    peak_mb: float | None = None
    agrees: bool | None = None


class Window:
    """A napari window with a section in it, and a clock."""

    def __init__(self) -> None:
        import napari
        from napari.settings import get_settings

        from stplm_napari.workspace import Workspace

        get_settings().application.confirm_close_window = False
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*SIZE)
        self.workspace = Workspace.of(self.viewer)
        self.session = self.workspace.session
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.frames = 0
        self.cpu = 0.0
        """Processor seconds of this process in what :meth:`painted` measured last."""
        self.canvas._scene_canvas.events.draw.connect(self._on_frame, position="last")
        self.beat = Heartbeat(lambda: [pid] if (pid := self.workspace.worker.pid) else [])

    def _on_frame(self, _: Any) -> None:
        self.frames += 1

    def turn(self) -> None:
        """Let the window do what waits, for a moment."""
        from qtpy.QtCore import QEvent, QEventLoop
        from qtpy.QtWidgets import QApplication

        flags = QEventLoop.ProcessEventsFlag
        QApplication.processEvents(flags.AllEvents | flags.WaitForMoreEvents, 20)
        # What napari's own loop does, and this call does not: napari's sign of a job moves until its bar is deleted,
        # and every step of it repaints the window.
        QApplication.sendPostedEvents(None, int(QEvent.Type.DeferredDelete.value))

    def until(self, done: Callable[[], bool], seconds: float = 900) -> None:
        """Turn until something is so."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                sys.exit("interactive: the plugin did not get ready in time")
            self.turn()

    def rest(self, seconds: float = 0.3) -> None:
        """Until nothing runs, and a little longer."""
        workspace = self.workspace
        self.until(lambda: not workspace.jobs.running and not workspace.will_refit)
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def painted(self, act: Callable[[], Any], done: Callable[[], bool] = lambda: True) -> float:
        """Seconds from an act until what it leads to has happened and was drawn."""
        start, cpu = time.perf_counter(), time.process_time()
        act()
        self.until(done)
        after = self.frames
        self.canvas.native.update()
        self.until(lambda: self.frames > after)
        self.cpu = time.process_time() - cpu
        return time.perf_counter() - start

    def place(self, xy_um: Any) -> Any:
        """Where on the canvas a place of the tissue is."""
        from qtpy.QtCore import QPoint

        camera, native = self.viewer.scene.camera, self.canvas.native
        x, y = (np.asarray(xy_um) - np.array(camera.center[-1:-3:-1])) * camera.zoom
        return QPoint(round(native.width() / 2 + x), round(native.height() / 2 + y))


def told(rows: list[Row]) -> list[Row]:
    """Print rows as soon as they are known."""
    for row in rows:
        bar = "" if row.bar is None else f"bar {row.bar:g} {row.unit}"
        cpu = "" if row.cpu is None else f"cpu {row.cpu:,.2f}"
        than = "" if row.ratio is None else f"{row.reference:,.0f} {row.unit}, {row.ratio:,.0f} times"
        wrong = "" if row.agrees in (None, True) else "  WRONG"
        print(f"{row.name:58s} {row.ours:12,.2f} {row.unit:8s} {bar:18s} {cpu:14s} {than}{wrong}", flush=True)
    return rows
