"""The list of cells worth labelling: a click flies there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from stplm_napari.widgets.short import ShortLabel
from stplm_napari.widgets.style import button, set_property, text

if TYPE_CHECKING:
    from stplm_napari.suggesting import Suggesting, Suggestion
    from stplm_napari.widgets.common import Dock

_CALLED_PX = 146
_SHOWN = 20


class QueueList(QWidget):
    """The queue with its reasons, and the way back for cells that were skipped."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session, self._suggesting = dock.session, dock.workspace.suggesting
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(1)
        self.rows = [QueueRow(self._suggesting) for _ in range(_SHOWN)]
        for row in self.rows:
            self._layout.addWidget(row)
        self.empty = text(kind="hint")
        self._layout.addWidget(self.empty)
        self.again = button("", self._suggesting.clear_skips, "link", tip="Let skipped cells be suggested again")
        self._layout.addWidget(self.again)
        for signal in (self._suggesting.changed, self._suggesting.making.changed):
            dock.listen(signal, self.refresh)
        for signal in (self._session.predicted, self._session.skips_changed, self._session.classes_changed):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the queue of now."""
        asks = self._suggesting
        colours = {c.name: c.colour for c in self._session.classes} if self._session.is_open else {}
        for i, row in enumerate(self.rows):
            row.setVisible(i < len(asks.queue))
            if i < len(asks.queue):
                name, sure = asks.called(asks.queue[i].row)
                row.show_suggestion(asks.queue[i], name, sure, colours.get(name, ""), asks.current == asks.queue[i])
        self.empty.setVisible(not asks.queue)
        self.empty.setText("Choosing cells to label…" if asks.is_making else "No cell is left to ask about.")
        n = len(self._session.annotations.skipped)
        self.again.setVisible(n > 0)
        self.again.setText(f"{n:,} skipped · ask about them again")


class QueueRow(QFrame):
    """One cell: what it is called, and why it is asked about."""

    def __init__(self, suggesting: Suggesting) -> None:
        super().__init__()
        self._suggesting, self._row = suggesting, -1
        self.setProperty("kind", "row")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        line = QHBoxLayout(self)
        line.setContentsMargins(5, 3, 6, 3)
        line.setSpacing(7)
        self.called, self.why = text(wrap=False), ShortLabel()
        self.called.setFixedWidth(_CALLED_PX)
        self.why.setProperty("kind", "hint")
        line.addWidget(self.called)
        line.addWidget(self.why, 1)

    def show_suggestion(self, shown: Suggestion, name: str, sure: float, colour: str, current: bool) -> None:
        """Show one."""
        self._row = shown.row
        self.called.ensurePolished()  # before that it has another font
        metrics = self.called.fontMetrics()
        room = _CALLED_PX - metrics.horizontalAdvance("●  0.00") - 6
        short = metrics.elidedText(name, Qt.TextElideMode.ElideRight, room)
        dot = f'<span style="color:{colour}">●</span> ' if colour else ""
        self.called.setText(f"{dot}{short} {sure:.2f}" if name else shown.cell)
        tip = f"Cell {shown.cell}: {shown.reason}. Click to fly there."
        self.why.show_words(shown.reason, tip)
        self.setToolTip(tip)
        set_property(self, "active", "true" if current else "false")

    def mousePressEvent(self, event: Any) -> None:
        """Qt's."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._suggesting.go_to(self._row)
        super().mousePressEvent(event)
