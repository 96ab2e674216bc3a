"""Transcripts of chosen genes on the tissue, read for the part that is on the screen once the camera rests."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from stplm.io.transcripts import MIN_QV, TranscriptsFound, transcripts_file, transcripts_in_view
from stplm.palette import class_colours
from stplm_napari.jobs import Slot
from stplm_napari.layers import camera_of, canvas_size

if TYPE_CHECKING:
    from napari.layers import Points

    from stplm_napari.workspace import Workspace

NAME = "Transcripts"
MOST_GENES = 8
MOST_POINTS = 20_000
"""More points make a canvas stutter without a graphics card."""
WIDEST_UM = 800.0
"""Of a wider view no transcripts are read: they would be finer than its pixels."""
SIZE_UM = 1.0
_REST_MS = 250
_MARGIN = 0.15
"""Part of the view's width read beyond each of its edges, so that a small move shows no gap."""

Window = tuple[float, float, float, float]


class TranscriptPoints(QObject):
    """Shows transcripts of up to eight genes while a section with a transcripts file is open."""

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace, self._session = workspace, workspace.session
        self.genes: tuple[str, ...] = ()
        self.min_qv = MIN_QV
        self.reading = Slot()
        self.words = ""
        """What is seen, or why nothing is."""
        self.layer: Points | None = None
        self._shown: tuple[Any, ...] = ()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.update)
        self._session.section_opened.connect(self._on_opened)
        self._events: tuple[Any, ...] = ()
        self._wanted: tuple[Any, ...] = ()

    @property
    def file(self) -> Path | None:
        """The transcripts file beside the open section."""
        path = self._session.path
        return None if path is None else transcripts_file(path if path.is_dir() else path.parent)

    def colours(self) -> dict[str, str]:
        """The colour of each chosen gene."""
        # By place, not by name: a gene is no class, and none is to have the tumour's colour.
        return dict(zip(self.genes, class_colours([str(i) for i in range(MOST_GENES)]).values(), strict=False))

    def choose(self, genes: Sequence[str], min_qv: float | None = None) -> None:
        """Show the transcripts of these genes, of at least this quality value; none takes the layer away."""
        self.genes = tuple(dict.fromkeys(genes))[:MOST_GENES]
        self.min_qv = self.min_qv if min_qv is None else min_qv
        self._follow()
        self.update()

    def update(self) -> None:
        """Read what the view shows, where that is not there already."""
        window, file = self._window(), self.file
        if not self.genes or file is None or window is None:
            self._show(None)
            self._say("")
            return
        width = window[2] - window[0]
        if width > WIDEST_UM:
            self._show(None)
            self._say(f"Zoom in to see transcripts: the view is {width:,.0f} µm wide, {WIDEST_UM:,.0f} is the most.")
            return
        wish = (self._session.revision.section, file, self.genes, self.min_qv)
        if self._shown and self._shown[:-1] == wish and _contains(self._shown[-1], window) and self.layer is not None:
            return
        wider = _widened(window)
        self._wanted = (*wish, wider)
        asked, genes, min_qv = self._wanted, self.genes, self.min_qv

        def read(progress: Any) -> TranscriptsFound:
            return transcripts_in_view(file, genes, wider, min_qv=min_qv, most=MOST_POINTS, progress=progress)

        def put(found: TranscriptsFound) -> bool:
            if self._wanted != asked:
                return False
            self._shown = asked
            self._show(found)
            self._say(_words(found))
            return True

        if self.reading.is_busy and self.reading.job is not None:
            self.reading.job.cancel()
        self.reading.take(self._workspace.jobs.start("Reading transcripts", read, put, quiet=True))

    def close(self) -> None:
        """Follow the camera no more."""
        with contextlib.suppress(RuntimeError):  # a window that goes has taken the timer with it
            self._rest.stop()
        for event in self._events:
            event.disconnect(self._on_camera)
        self._events = ()

    # --- inside ---

    def _follow(self) -> None:
        """Listen to the camera, from the first gene on."""
        if not self._events and self.genes:
            camera = camera_of(self._workspace.viewer)
            self._events = (camera.events.center, camera.events.zoom)
            for event in self._events:
                event.connect(self._on_camera)

    def _on_camera(self, *_: Any) -> None:
        if self.genes:
            self._rest.start()

    def _window(self) -> Window | None:
        """Lowest x, lowest y, highest x, highest y in µm of what the canvas shows."""
        if self._workspace.canvas is None:
            return None
        camera, (height, width) = camera_of(self._workspace.viewer), canvas_size(self._workspace.viewer)
        (y, x), zoom = camera.center[-2:], max(float(camera.zoom), 1e-9)
        return x - width / zoom / 2, y - height / zoom / 2, x + width / zoom / 2, y + height / zoom / 2

    def _show(self, found: TranscriptsFound | None) -> None:
        layers = self._workspace.canvas.layers if self._workspace.canvas is not None else None
        if found is None:
            self._shown = ()
            self._wanted = ()
            if self.layer is not None and self.layer in self._workspace.viewer.layers:
                self._workspace.viewer.layers.remove(self.layer)
            self.layer = None
            return
        from napari.utils.colormaps.standardize_color import transform_color

        palette = transform_color(list(self.colours().values()))
        if self.layer is None or self.layer not in self._workspace.viewer.layers:
            from napari.layers import Points

            self.layer = Points(np.zeros((0, 2)), size=SIZE_UM, border_width=0, name=NAME, units=("um", "um"))
            self.layer.editable = False
            if layers is not None:
                layers.add_on_top(self.layer)
        self.layer.data = found.xy_um[:, ::-1]
        if len(found.gene):
            self.layer.face_color = palette[found.gene]
        # Points that are added take the size of the last one, which an empty layer does not have.
        self.layer.size = SIZE_UM

    def _say(self, words: str) -> None:
        self.words = words
        self.changed.emit()

    def _on_opened(self) -> None:
        """Genes that the new panel lacks are chosen no more."""
        self._show(None)
        names = self._session.table.var_names
        self.genes = tuple(gene for gene in self.genes if gene in names)
        self.update()


def _words(found: TranscriptsFound) -> str:
    shown = f"{len(found.xy_um):,}"
    if len(found.xy_um) < found.n_found:
        return f"{shown} of {found.n_found:,} transcripts, evenly thinned; zoom in to see all."
    return f"{shown} transcript{'' if found.n_found == 1 else 's'} in and around the view."


def _widened(window: Window) -> Window:
    margin = _MARGIN * (window[2] - window[0])
    return window[0] - margin, window[1] - margin, window[2] + margin, window[3] + margin


def _contains(outer: Window, inner: Window) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
