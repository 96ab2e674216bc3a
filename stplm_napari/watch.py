"""Which cell is looked at: the one under the mouse, or one that was kept by a click, an id or a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from stplm.errors import LabelError
from stplm_napari.inspecting import RADIUS_UM, CellFacts, Inspector
from stplm_napari.layers import SELECTED_COLOUR
from stplm_napari.picking import CellPicker, install_click

if TYPE_CHECKING:
    from napari.layers import Points

    from stplm_napari.workspace import Workspace

LOOKED_AT = "Cell looked at"
_RING_UM = 16.0
_HOVER_MS = 60
"""The cell under a moving mouse is looked up this often at most."""


class Watch(QObject):
    """The cell that the Inspect dock speaks of. It follows the mouse only while :attr:`live`."""

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace, self._session = workspace, workspace.session
        self._inspector = Inspector(workspace.session)
        self.live = False
        """Whether mouse and clicks are followed; the Inspect dock switches it on while it is seen."""
        self.pinned = -1
        """Row of the cell that is kept, or -1."""
        self.hovered = -1
        self.radius_um = RADIUS_UM
        self._place: tuple[float, float] = (np.nan, np.nan)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_HOVER_MS)
        self._timer.timeout.connect(self._look)
        self._session.section_opened.connect(self._on_opened)
        self._remove: list[Callable[[], Any]] = []
        self._ring: Points | None = None
        self._prepared: tuple[Any, ...] = ()
        self._preparing: tuple[Any, ...] = ()

    def start(self) -> None:
        """Listen to the viewer's mouse, from the first time the dock is opened."""
        viewer = self._workspace.viewer
        if not self._remove:
            viewer.mouse_move_callbacks.append(self._on_move)
            self._remove.append(lambda: viewer.mouse_move_callbacks.remove(self._on_move))
            self._remove.append(install_click(viewer, _Now(self._workspace), self._on_click))
        self.live = True
        self._prepare()

    def close(self) -> None:
        """Listen no more."""
        self.live = False
        for remove in self._remove:
            remove()
        self._remove.clear()

    @property
    def row(self) -> int:
        """Row of the cell to speak of: the kept one, else the one under the mouse; -1 for none."""
        return self.pinned if self.pinned >= 0 else self.hovered

    def facts(self) -> CellFacts | None:
        """What is known of that cell; None, too, until what all cells share is at hand, which :attr:`changed` tells."""
        if self.row < 0 or not self._session.is_open or not self._prepare():
            return None
        canvas = self._workspace.canvas
        return self._inspector.facts(self.row, canvas.layers.picker if canvas is not None else None, self.radius_um)

    def pin(self, row: int) -> None:
        """Keep a cell, and ring it on the tissue; -1 follows the mouse again."""
        self.pinned = row
        self._mark()
        self.changed.emit()

    def go_to(self, row: int) -> None:
        """Show a cell in the middle of the view, and keep it."""
        if self._workspace.canvas is not None:
            self._workspace.canvas.layers.fly_to(row)
        self.pin(row)

    def go_to_id(self, cell: str) -> None:
        """:meth:`go_to` by the cell's id; one that is not there is an error in the dock."""
        row = self._inspector.row_of(cell) if self._session.is_open else -1
        if row < 0:
            expected = f"an id like {self._session.table.obs_names[0]}" if self._session.is_open else None
            self._session.failed.emit(
                LabelError(f"There is no cell {cell.strip()} in this section.", expected=expected)
            )
        else:
            self.go_to(row)

    # --- inside ---

    def _on_move(self, _: Any, event: Any) -> None:
        if self.live and self.pinned < 0:
            y, x = event.position[-2:]
            self._place = (float(x), float(y))
            if not self._timer.isActive():
                self._timer.start()

    def _look(self) -> None:
        canvas = self._workspace.canvas
        row = -1 if canvas is None else canvas.layers.picker.cell_at(self._place, reach_um=0)
        if row >= 0 and row != self.hovered and self.live:  # between cells, the last one stays
            self.hovered = row
            self.changed.emit()

    def _on_click(self, row: int, event: Any) -> None:
        if self.live:
            self.pin(row)

    def _mark(self) -> None:
        canvas, viewer = self._workspace.canvas, self._workspace.viewer
        places = None if canvas is None else canvas.layers.centroids_um
        if self.pinned < 0 or places is None or not np.isfinite(places[self.pinned]).all():
            if self._ring is not None and self._ring in viewer.layers:
                viewer.layers.remove(self._ring)
            self._ring = None
            return
        place = places[[self.pinned], ::-1]
        if self._ring is not None and self._ring in viewer.layers:
            self._ring.data = place
            return
        from napari.layers import Points

        look = {"size": _RING_UM, "face_color": "transparent", "border_color": SELECTED_COLOUR, "border_width": 0.1}
        self._ring = Points(place, name=LOOKED_AT, units=("um", "um"), **look)
        self._ring.editable = False
        if canvas is not None:
            canvas.layers.add_on_top(self._ring)

    def _on_opened(self) -> None:
        self.pin(-1)
        self.hovered = -1
        if self.live:
            self._prepare()
        self.changed.emit()

    def _prepare(self) -> bool:
        """Whether the section's mean and the grid of positions are at hand; else they are made in a thread."""
        if not self._session.is_open:
            return False
        canvas = self._workspace.canvas
        picker = None if canvas is None else canvas.layers.picker
        wanted = (self._session.revision.section, picker)
        if wanted in (self._prepared, self._preparing):
            return wanted == self._prepared
        self._preparing = wanted

        def prepare(_: Any) -> None:
            self._inspector.prepare()
            if picker is not None:
                _ = picker.grid

        def put(_: None) -> None:
            self._prepared = wanted
            self.changed.emit()

        self._workspace.jobs.start("Looking at the cells", prepare, put, quiet=True)
        return False


class _Now:
    """The layers of whatever section is open now, as far as clicks need them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def picker(self) -> CellPicker:
        """Of the open section; finds nothing where none is."""
        canvas = self._workspace.canvas
        return CellPicker(None, np.zeros(0, int), None) if canvas is None else canvas.layers.picker
