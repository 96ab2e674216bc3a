"""Groups by groups as a small heat map: who lies beside whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QEvent, QPoint, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

_WIDEST_NAME, _HEAD, _TALL = 110, 15, 19
_MORE, _LESS = "#D55E00", "#0072B2"


class GroupGrid(QWidget):
    """A row and a column a group; orange above 0, blue below, full colour at ``top``.

    ``words`` says what an entry means, with the places {row}, {column} and {value}.
    """

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self._left = 0.0
        """Where the entries begin: as far right as the names need."""
        self._names: list[str] = []
        self._values = np.zeros((0, 0))
        self._top = 1.0
        self._colours: Mapping[str, str] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_grid(self, grid: pd.DataFrame, colours: Mapping[str, str], top: float) -> None:
        """Show values (k, k); ``colours`` are the groups' own."""
        self._names, self._values = list(map(str, grid.index)), grid.to_numpy(float)
        self._top, self._colours = max(top, 1e-9), dict(colours)
        widest = max((self.fontMetrics().horizontalAdvance(name) for name in self._names), default=0)
        self._left = 20.0 + min(widest, _WIDEST_NAME)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, _HEAD + _TALL * max(len(self._names), 1) + 2)

    def words_at(self, place: QPoint) -> str:
        """What the entry under a place says; "" beside the grid."""
        k = len(self._names)
        row, column = int((place.y() - _HEAD) // _TALL), int((place.x() - self._left) // max(self._wide, 1e-6))
        if not (0 <= row < k and 0 <= column < k and place.x() >= self._left and place.y() >= _HEAD):
            return ""
        return self._words.format(
            row=self._names[row], column=self._names[column], value=f"{self._values[row, column]:.1f}"
        )

    def event(self, event: Any) -> bool:
        """Qt's."""
        if event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.words_at(event.pos()), self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        ink, metrics = self.palette().windowText().color(), painter.fontMetrics()
        for i, name in enumerate(self._names):
            top = _HEAD + i * _TALL
            colour = QColor(self._colours.get(name, "#999999"))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            painter.drawRoundedRect(QRectF(2, top + _TALL / 2 - 4, 8, 8), 2, 2)
            painter.drawRoundedRect(QRectF(self._left + (i + 0.5) * self._wide - 4, 3, 8, 8), 2, 2)
            painter.setPen(ink)
            words = metrics.elidedText(name, Qt.TextElideMode.ElideRight, int(self._left) - 16)
            painter.drawText(QRectF(14, top, self._left - 16, _TALL), Qt.AlignmentFlag.AlignVCenter, words)
            for j, value in enumerate(self._values[i]):
                self._draw_entry(
                    painter, QRectF(self._left + j * self._wide, top, self._wide, _TALL), float(value), ink
                )
        painter.end()

    def _draw_entry(self, painter: QPainter, place: QRectF, value: float, ink: QColor) -> None:
        fill = QColor(_MORE if value > 0 else _LESS)
        fill.setAlphaF(0.05 + 0.8 * min(abs(value) / self._top, 1.0))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        painter.drawRoundedRect(place.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)
        words = f"{value:.0f}".replace("-0", "0") if abs(value) < 1 else f"{value:.0f}"
        if painter.fontMetrics().horizontalAdvance(words) < place.width() - 2:
            painter.setPen(ink)
            painter.drawText(place, Qt.AlignmentFlag.AlignCenter, words)

    @property
    def _wide(self) -> float:
        return (self.width() - self._left - 2) / max(len(self._names), 1)
