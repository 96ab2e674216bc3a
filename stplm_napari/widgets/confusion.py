"""The confusion matrix of held-out labels as a small heat map with numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

_NAMES, _HEAD = 92, 16
_TALL = 21
_RIGHT_COLOUR, _WRONG_COLOUR = "#009E73", "#D55E00"


class ConfusionMatrix(QWidget):
    """A row a class as it was labelled, a column a class as it was called; what is right is green, what is wrong red,
    stronger for a larger share of the row."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: tuple[str, ...] = ()
        self._counts: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._colours: dict[str, str] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_counts(self, classes: tuple[str, ...], counts: NDArray[np.int64], colours: Mapping[str, str]) -> None:
        """Show counts (k, k); ``colours`` are the registry's."""
        self._classes, self._counts, self._colours = classes, counts, dict(colours)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, _HEAD + _TALL * max(len(self._classes), 1) + 16)

    def words_at(self, place: QPoint) -> str:
        """What the entry under a place says; "" beside the matrix."""
        k = len(self._classes)
        row, column = int((place.y() - _HEAD) // _TALL), int((place.x() - _NAMES) // max(self._wide, 1e-6))
        if not (0 <= row < k and 0 <= column < k and place.x() >= _NAMES and place.y() >= _HEAD):
            return ""
        n, total = int(self._counts[row, column]), int(self._counts[row].sum())
        return f"{n:,} of {total:,} cells labelled {self._classes[row]} are called {self._classes[column]}"

    def event(self, event: Any) -> bool:
        """Qt's."""
        if event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.words_at(event.pos()), self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        k = len(self._classes)
        if not k:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(120)
        metrics = painter.fontMetrics()
        total = np.maximum(self._counts.sum(1, keepdims=True), 1)
        share = self._counts / total
        for i, name in enumerate(self._classes):
            top = _HEAD + i * _TALL
            colour = QColor(self._colours.get(name, "#999999"))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            painter.drawRoundedRect(QRectF(2, top + _TALL / 2 - 4, 8, 8), 2, 2)
            column = QRectF(_NAMES + i * self._wide + self._wide / 2 - 4, 4, 8, 8)
            painter.drawRoundedRect(column, 2, 2)
            painter.setPen(ink)
            words = metrics.elidedText(name, Qt.TextElideMode.ElideRight, _NAMES - 20)
            painter.drawText(QRectF(14, top, _NAMES - 16, _TALL), Qt.AlignmentFlag.AlignVCenter, words)
            for j in range(k):
                place = QRectF(_NAMES + j * self._wide + 0.5, top + 0.5, self._wide - 1, _TALL - 1)
                fill = QColor(_RIGHT_COLOUR if i == j else _WRONG_COLOUR)
                fill.setAlphaF(0.08 + 0.8 * float(share[i, j]) if self._counts[i, j] else 0.05)
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(fill)
                painter.drawRoundedRect(place, 2, 2)
                if n := int(self._counts[i, j]):
                    painter.setPen(ink)
                    painter.drawText(place, Qt.AlignmentFlag.AlignCenter, f"{n:,}")
        painter.setPen(faint)
        under = QRectF(_NAMES, _HEAD + k * _TALL + 1, self.width() - _NAMES, 14)
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, "as it is called")
        painter.drawText(QRectF(2, 0, _NAMES - 4, _HEAD), Qt.AlignmentFlag.AlignVCenter, "as you labelled")
        painter.end()

    @property
    def _wide(self) -> float:
        return (self.width() - _NAMES - 2) / max(len(self._classes), 1)
