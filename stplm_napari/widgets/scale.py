"""A colour scale with the values, and a word, at its ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QLinearGradient, QPainter
from qtpy.QtWidgets import QSizePolicy, QWidget


class ColourScale(QWidget):
    """The same colours as on the tissue."""

    def __init__(self) -> None:
        super().__init__()
        self._map, self._low, self._high, self._middle = "", "", "", ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_map(
        self,
        cmap: str,
        low: str = "",
        high: str = "",
        *,
        lo: float = 0,
        hi: float = 1,
        unit: str = "",
        log: bool = False,
    ) -> None:
        """Show a colour map of the overlay, the values at its ends and middle, and what the ends mean."""
        middle = np.expm1((np.log1p(lo) + np.log1p(hi)) / 2) if log and lo >= 0 else (lo + hi) / 2
        self._map, self._middle = cmap, number_words(float(middle))
        self._low, self._high = f"{number_words(lo)}  {low}".strip(), f"{high}  {number_words(hi)} {unit}".strip()
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
        painter.drawText(under, Qt.AlignmentFlag.AlignLeft, self._low)
        painter.drawText(under, Qt.AlignmentFlag.AlignRight, self._high)
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, self._middle)
        painter.end()


def number_words(value: float) -> str:
    """A number in few digits: 0.6, 12.3, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
