"""A small heat map with a row and a column for each of a few named groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

_WIDEST_NAME, _HEAD, _TALL, _FOOT = 110, 16, 20, 16


class HeatGrid(QWidget):
    """What all share: names with a dot in each one's colour, entries, a tooltip for each entry.

    A subclass says what an entry's colour and number are, and what its tooltip says. ``rows`` and ``columns`` are what
    stands beside and below, if anything.
    """

    def __init__(self, rows: str = "", columns: str = "") -> None:
        super().__init__()
        self._titles = rows, columns
        self._left = 0.0
        """Where the entries begin: as far right as the names need."""
        self.names: list[str] = []
        self.values: NDArray[Any] = np.zeros((0, 0))
        self._colours: Mapping[str, str] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def fill(self, row: int, column: int) -> QColor:
        """Colour of an entry."""
        raise NotImplementedError

    def number(self, row: int, column: int) -> str:
        """What stands in an entry, if there is room."""
        raise NotImplementedError

    def words(self, row: int, column: int) -> str:
        """What the tooltip of an entry says."""
        raise NotImplementedError

    def show_values(self, names: Sequence[str], values: NDArray[Any], colours: Mapping[str, str]) -> None:
        """Show values (k, k); ``colours`` are the groups' own."""
        self.names, self.values, self._colours = list(names), values, dict(colours)
        widest = max((self.fontMetrics().horizontalAdvance(name) for name in [*names, self._titles[0]]), default=0)
        self._left = 20.0 + min(widest, _WIDEST_NAME)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, _HEAD + _TALL * max(len(self.names), 1) + (_FOOT if self._titles[1] else 2))

    def words_at(self, place: QPoint) -> str:
        """What the entry under a place says; "" beside the entries."""
        k = len(self.names)
        row, column = int((place.y() - _HEAD) // _TALL), int((place.x() - self._left) // max(self._wide, 1e-6))
        if not (0 <= row < k and 0 <= column < k and place.x() >= self._left and place.y() >= _HEAD):
            return ""
        return self.words(row, column)

    def event(self, event: Any) -> bool:
        """Qt's."""
        if event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.words_at(event.pos()), self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self.names:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        ink = self.palette().windowText().color()
        for row in range(len(self.names)):
            self._draw_row(painter, row, ink)
        self._draw_titles(painter, ink)
        painter.end()

    def _draw_row(self, painter: QPainter, row: int, ink: QColor) -> None:
        name, top = self.names[row], _HEAD + row * _TALL
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._colours.get(name, "#999999")))
        painter.drawRoundedRect(QRectF(2, top + _TALL / 2 - 4, 8, 8), 2, 2)
        painter.drawRoundedRect(QRectF(self._left + (row + 0.5) * self._wide - 4, 3, 8, 8), 2, 2)
        painter.setPen(ink)
        words = painter.fontMetrics().elidedText(name, Qt.TextElideMode.ElideRight, int(self._left) - 16)
        painter.drawText(QRectF(14, top, self._left - 16, _TALL), Qt.AlignmentFlag.AlignVCenter, words)
        for column in range(len(self.names)):
            place = QRectF(self._left + column * self._wide, top, self._wide, _TALL)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(self.fill(row, column))
            painter.drawRoundedRect(place.adjusted(0.5, 0.5, -0.5, -0.5), 2, 2)
            number = self.number(row, column)
            if painter.fontMetrics().horizontalAdvance(number) < place.width() - 2:
                painter.setPen(ink)
                painter.drawText(place, Qt.AlignmentFlag.AlignCenter, number)

    def _draw_titles(self, painter: QPainter, ink: QColor) -> None:
        faint = QColor(ink)
        faint.setAlpha(120)
        painter.setPen(faint)
        rows, columns = self._titles
        under = QRectF(self._left, _HEAD + len(self.names) * _TALL + 1, self.width() - self._left, 14)
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, columns)
        painter.drawText(QRectF(2, 0, self._left - 4, _HEAD), Qt.AlignmentFlag.AlignVCenter, rows)

    @property
    def _wide(self) -> float:
        return (self.width() - self._left - 2) / max(len(self.names), 1)
