"""Whether cells are filled, drawn as outlines, or both; and how wide the outlines are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QSpinBox, QWidget

from stplm_napari.colourings import BOTH, FILL, OUTLINE
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_STYLES = (
    (FILL, "Fill", "Cells are filled with their colour"),
    (
        OUTLINE,
        "Outline",
        "Only the borders have the cell's colour, so that the image shows; from afar cells are filled",
    ),
    (BOTH, "Both", "Filled cells, with thin borders of one colour"),
)
_MOST_PX = 8


class DrawStyle(QWidget):
    """Shows how the cells are drawn and changes it."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session = dock.session
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(text("Cells", "name", wrap=False))
        self._group = QButtonGroup(self)
        self.styles = {}
        for style, words, tip in _STYLES:
            made = button(words, partial(self._session.colour, style=style), tip=tip)
            made.setCheckable(True)
            self._group.addButton(made)
            self.styles[style] = made
            row.addWidget(made)
        row.addStretch(1)
        self.width_px = QSpinBox()
        self.width_px.setRange(1, _MOST_PX)
        self.width_px.setSuffix(" px")
        self.width_px.setFixedWidth(84)
        self.width_px.setToolTip("Width of the outlines, in pixels of the finest image")
        self.width_px.valueChanged.connect(lambda px: self._session.colour(outline_px=px))
        row.addWidget(self.width_px)
        for signal in (self._session.colouring_changed, self._session.section_opened):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the style."""
        how = self._session.colouring
        self.styles[how.style].setChecked(True)
        self.width_px.setEnabled(how.style != FILL)
        self.width_px.blockSignals(True)
        self.width_px.setValue(how.outline_px)
        self.width_px.blockSignals(False)
