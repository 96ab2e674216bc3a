"""A colour scale from 0 to 1 with words at its ends."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QLinearGradient, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget


class ColourScale(QWidget):
    """The same colours as on the tissue."""

    def __init__(self) -> None:
        super().__init__()
        self._map, self._low, self._high = "", "", ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_map(self, cmap: str, low: str, high: str) -> None:
        """Show a colour map of the overlay and what its ends mean."""
        self._map, self._low, self._high = cmap, low, high
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(240, 32)

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self._map:
            return
        from stplm_napari.overlay import colour_steps

        steps = colour_steps(self._map)
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for i in range(0, len(steps), 12):
            gradient.setColorAt(i / (len(steps) - 1), QColor.fromRgbF(*map(float, steps[i])))
        gradient.setColorAt(1, QColor.fromRgbF(*map(float, steps[-1])))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawRoundedRect(QRectF(0, 2, self.width(), 10), 3, 3)
        small = QFont(self.font())
        small.setPixelSize(11)
        painter.setFont(small)
        painter.setPen(self.palette().windowText().color())
        under = QRectF(0, 15, self.width(), 15)
        painter.drawText(under, Qt.AlignmentFlag.AlignLeft, f"0  {self._low}")
        painter.drawText(under, Qt.AlignmentFlag.AlignRight, f"{self._high}  1")
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, "0.5")
        painter.end()
