"""The help panel: the keys that work on the canvas."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QWidget

from stplm_napari.shortcuts import HELP
from stplm_napari.widgets.style import style_sheet, text

_NAME = "stplm_keys"


class KeysPanel(QDialog):
    """One line a key. It stays open beside the work; Esc closes it."""

    def __init__(self, parent: QWidget, theme: str) -> None:
        super().__init__(parent)
        self.setObjectName(_NAME)
        self.setWindowTitle("Keys on the tissue")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setStyleSheet(style_sheet(theme))
        grid = QGridLayout(self)
        grid.setContentsMargins(22, 18, 22, 20)
        grid.setHorizontalSpacing(22)
        grid.setVerticalSpacing(5)
        row = 0
        for title, lines in HELP:
            if row:
                grid.setRowMinimumHeight(row, 10)
                row += 1
            grid.addWidget(text(title, "title", wrap=False), row, 0, 1, 2)
            row += 1
            for key, does in lines:
                grid.addWidget(text(key, "value", wrap=False), row, 0)
                grid.addWidget(text(does, "name", wrap=False), row, 1)
                row += 1


def show_keys(window: QWidget, theme: str) -> KeysPanel:
    """Show the panel over a window, or bring the one that is open to the front."""
    panel: KeysPanel | None = window.findChild(KeysPanel, _NAME)
    if panel is None:
        panel = KeysPanel(window, theme)
    panel.show()
    panel.raise_()
    return panel
