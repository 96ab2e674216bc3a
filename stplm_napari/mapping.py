"""The map of one viewer's cells: drawn after each embedding while a dock wants it, dropped with what it was made of."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from stplm import keys
from stplm_napari import tasks
from stplm_napari.jobs import Job, Slot
from stplm_napari.picking import CellPicker
from stplm_napari.process import WorkerProcess
from stplm_napari.results import Result
from stplm_napari.steps import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.progress import Progress
    from stplm_napari.jobs import Jobs
    from stplm_napari.session import Session

_TITLE = "Drawing the map"
_MANY = 10_000
"""Of more cells than these, stray ones do not widen the view."""


@dataclass(frozen=True)
class Places:
    """Where cells are drawn, in the order in which they are.

    ``rows`` (m,) are those that have a place, ``xy`` (m, 2) float32 theirs, ``low`` and ``high`` the corners of the
    window that shows all of them but stray ones.
    """

    rows: NDArray[np.int64]
    xy: NDArray[np.float32]
    low: NDArray[np.floating]
    high: NDArray[np.floating]

    @classmethod
    def of(cls, xy: NDArray[np.float32], order: NDArray[np.int64]) -> Places:
        """Of (n, 2) places and an order of their rows: a tenth of a second for a million."""
        rows = order[(np.isfinite(xy[:, 0]) & np.isfinite(xy[:, 1]))[order]]
        placed = np.ascontiguousarray(xy[rows], np.float32)
        if len(placed) > _MANY:
            low, high = np.percentile(placed, [0.02, 99.98], axis=0)
        elif len(placed):
            low, high = placed.min(axis=0), placed.max(axis=0)
        else:
            low = high = np.zeros(2)
        return cls(rows, placed, low, high)


@dataclass(frozen=True)
class CellMap:
    """Places of all cells on a map, and what finds them.

    ``xy`` is (n_cells, 2) float32, not finite for cells that are not on it. ``places`` holds them in a random, fixed
    order: drawn so, no class lies on top because of where it stands in the table, and a beginning of it is a sample.
    """

    xy: NDArray[np.float32]
    picker: CellPicker
    places: Places
    words: str = ""
    """Where it comes from, a sentence."""

    @classmethod
    def of(cls, places: Any, words: str = "") -> CellMap:
        """The map of (n_cells, 2 or more) places. Takes a second or two for a million: run it in a thread."""
        xy = np.ascontiguousarray(np.asarray(places)[:, :2], np.float32)
        picker = CellPicker(None, np.arange(1, len(xy) + 1), xy.astype(np.float64))
        _ = picker.grid
        picker.cell_at((0.0, 0.0), reach_um=1.0)
        return cls(xy, picker, Places.of(xy, np.random.default_rng(0).permutation(len(xy))), words)


class MapMaker:
    """Makes the map in a process of its own, so that neither clicks nor another embedding wait for it."""

    changed = Signal()
    """There is another map, or none."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session, self._jobs = session, jobs
        self.making = Slot()
        self.current: CellMap | None = None
        self.by_itself = False
        """Whether the cells' map is drawn after each embedding; the Map dock switches it on."""
        self.moves_view = False
        """What a drag on the map does: move it, or (False) draw a lasso."""
        self.view: tuple[float, float, float, float] | None = None
        """The part of the map that is looked at: left, bottom, width, height; None for all of it."""
        session.section_opened.connect(self._on_opened)
        session.embedded.connect(self._on_embedded)
        if session.is_open:
            self._on_opened()

    def draw(self, **settings: Any) -> Job:
        """Draw the map of the embedded cells; settings as ``stplm.umap`` takes them."""
        session, table = self._session, self._session.table
        step, made_from, started = Step("umap", settings), session.revision, time.monotonic()
        vectors = table.obsm[keys.X_STPLM]
        groups = table.obs[keys.CLUSTER].cat.codes.to_numpy() if keys.CLUSTER in table.obs else None
        self.making.clear()

        def run(progress: Progress) -> tuple[Result, CellMap]:
            worker = WorkerProcess()
            try:
                with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                    result = tasks.umap_in_worker(vectors, groups, settings, Path(folder), worker, progress)
            finally:
                worker.stop()
            return result, CellMap.of(result.obsm[keys.UMAP])

        def put(made: tuple[Result, CellMap]) -> bool:
            result, cells = made
            now = session.revision
            if (made_from.section, made_from.embedding) != (now.section, now.embedding):
                return False
            result.put_into(session.table)
            session.steps = [old for old in session.steps if old.name != step.name]
            session.record(step)
            seconds, n, fitted = time.monotonic() - started, len(cells.xy), result.uns[keys.UNS_MAP]["fitted"]
            rest = f"; fitted on {fitted:,} of them, the others put among these" if fitted < n else ""
            words = f"{n:,} cells, drawn at {datetime.now():%H:%M} in {seconds:.0f} s{rest}."
            self._take(replace(cells, words=words))
            return True

        return self.making.take(self._jobs.start(_TITLE, run, put, unit="cells"))

    # --- inside ---

    def _take(self, cells: CellMap | None) -> None:
        self.current, self.view = cells, None
        self.changed.emit()

    def _on_opened(self) -> None:
        """A section may bring a map, ours or another tool's."""
        self.making.clear()
        self._take(None)
        self._read("The section came with this map.")

    def _on_embedded(self) -> None:
        """A map of ours goes with the vectors that it shows, and comes back with them when a session is restored."""
        from stplm.tasks.umap import is_of_these_vectors

        self.making.clear()
        table = self._session.table
        fits = is_of_these_vectors(table)
        if not fits and table.uns.get(keys.UNS, {}).pop(keys.UNS_MAP, None) is not None:
            table.obsm.pop(keys.UMAP, None)
            self._take(None)
        if fits and self.current is None:
            self._read("The map of these vectors.")
        elif not fits and self.by_itself:
            self.draw()

    def _read(self, words: str) -> None:
        """Take the map that is in the table, where there is one."""
        session = self._session
        places = session.table.obsm.get(keys.UMAP)
        if places is None or np.ndim(places) != 2 or np.shape(places)[1] < 2:
            return
        made_from = session.revision

        def put(cells: CellMap) -> bool:
            if session.revision.section != made_from.section or self.current is not None:
                return False
            self._take(cells)
            return True

        self._jobs.start("Reading the map", lambda _: CellMap.of(places, words), put, quiet=True)
