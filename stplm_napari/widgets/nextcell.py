"""The card of the next cell to label: why this one, what it is called, and the buttons for an answer."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout

from stplm_napari.shortcuts import ACCEPT_KEY, NEXT_KEY, SKIP_KEY
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock


class NextCellCard(QFrame):
    """Shows what the workspace's queue says; nothing while the cells have no embedding."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._workspace, self._session = dock.workspace, dock.session
        self._suggesting = dock.workspace.suggesting
        self.setProperty("kind", "empty")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 9)
        layout.setSpacing(6)
        top = QHBoxLayout()
        self.title, self.place = text("Next cell", "title", wrap=False), text(kind="hint", wrap=False)
        top.addWidget(self.title)
        top.addStretch(1)
        top.addWidget(self.place)
        self.why, self.keys = text(), text(kind="hint")
        row = QHBoxLayout()
        row.setSpacing(6)
        self.next = button("Next", self._suggesting.next, tip=f"Fly to the next cell worth labelling ({NEXT_KEY})")
        self.accept = button("Accept", self._suggesting.accept, tip=f"It is what it is called ({ACCEPT_KEY} or Enter)")
        self.skip = button("Skip", self._suggesting.skip, tip=f"Leave it without a label for good ({SKIP_KEY})")
        for part in (self.next, self.accept, self.skip):
            row.addWidget(part)
        row.addStretch(1)
        layout.addLayout(top)
        layout.addWidget(self.why)
        layout.addLayout(row)
        layout.addWidget(self.keys)
        session = self._session
        for signal in (self._suggesting.changed, self._suggesting.making.changed):
            dock.listen(signal, self.refresh)
        for signal in (session.section_opened, session.embedded, session.predicted, session.classes_changed):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        asks, session = self._suggesting, self._session
        self.setVisible(session.is_embedded and session.has_positions)
        current, n = asks.current, len(asks.queue)
        for part in (self.accept, self.skip):
            part.setEnabled(current is not None)
        self.next.setEnabled(bool(n) or asks.is_making)
        self.keys.setVisible(current is not None)
        if current is None:
            self.place.setText(f"{n} in the queue" if n else "")
            some = f"{n} cells would teach the model most." if n else "No cell is left to ask about."
            self.why.setText("Choosing cells to label…" if asks.is_making and not n else some)
            return
        name, sure = asks.called(current.row)
        colour = {c.name: c.colour for c in session.classes}.get(name, "")
        dot = f'<span style="color:{colour}">●</span> ' if colour else ""
        called = f"<br>{dot}called <b>{html.escape(name)}</b> {sure:.2f}" if name else ""
        self.why.setText(f"{_sentence(html.escape(current.reason))}{called}")
        self.place.setText(self._place(asks.place, n))
        self.accept.setEnabled(bool(name))
        self.accept.setText("Accept")
        self.keys.setText(f"1 to 9: give it another class · {ACCEPT_KEY}: accept · {SKIP_KEY}: skip · Esc: leave")

    def _place(self, place: int, n: int) -> str:
        walk, current = self._workspace.viewing.disagreements, self._suggesting.current
        if current is not None and walk.row == current.row and walk.place >= 0:
            return f"disagreement {walk.place + 1:,} of {len(walk.rows):,}"
        return f"{place + 1} of {n}" if place >= 0 else f"{n} in the queue"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
