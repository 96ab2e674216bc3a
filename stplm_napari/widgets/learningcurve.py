"""The small curve of held-out scores by number of labels. Drawn with Qt alone: it opens at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

if TYPE_CHECKING:
    from stplm_napari.learning import Point

ACCURACY_COLOUR, F1_COLOUR = "#56B4E9", "#E69F00"
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 12, 22, 32


class LearningCurve(QWidget):
    """Accuracy and macro-F1, from 0 to 1, over the number of labels on a logarithmic axis."""

    def __init__(self) -> None:
        super().__init__()
        self._points: tuple[Point, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_points(self, points: Sequence[Point]) -> None:
        """Show these, ascending in the number of labels."""
        self._points = tuple(points)
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, 158)

    def event(self, event: Any) -> bool:
        """Qt's: the tooltip speaks of the point under the mouse."""
        if event.type() == QEvent.Type.ToolTip and self._points:
            near = min(self._points, key=lambda p: abs(self._x(p.n_labels) - event.pos().x()))
            words = f"{near.n_labels:,} labels: accuracy {near.accuracy:.3f}, macro-F1 {near.macro_f1:.3f}"
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self._points:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        faint = QColor(self.palette().windowText().color())
        faint.setAlpha(140)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        self._draw_axes(painter, faint)
        lines = ((F1_COLOUR, [p.macro_f1 for p in self._points]), (ACCURACY_COLOUR, [p.accuracy for p in self._points]))
        for colour, values in lines:
            self._draw_line(painter, QColor(colour), values)
        last = self._points[-1]
        x = float(_LEFT)
        for colour, words in (
            (ACCURACY_COLOUR, f"accuracy {last.accuracy:.2f}"),
            (F1_COLOUR, f"macro-F1 {last.macro_f1:.2f}"),
        ):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colour))
            painter.drawEllipse(QPointF(x + 4, 8), 4, 4)
            painter.setPen(self.palette().windowText().color())
            painter.drawText(QRectF(x + 13, 1, 110, 14), Qt.AlignmentFlag.AlignLeft, words)
            x += 104
        painter.end()

    def _draw_axes(self, painter: QPainter, colour: QColor) -> None:
        line = QColor(colour)
        line.setAlpha(50)
        for value in (0.0, 0.5, 1.0):
            y = self._y(value)
            painter.setPen(QPen(line, 1))
            painter.drawLine(QPointF(_LEFT, y), QPointF(self.width() - _RIGHT, y))
            painter.setPen(QPen(colour, 1))
            place = QRectF(0, y - 7, _LEFT - 6, 14)
            painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:g}")
        under, right_of_last = self._y(0.0) + 4, -1.0
        for n in self._marks():
            x, words = self._x(n), f"{n:,}"
            width = painter.fontMetrics().horizontalAdvance(words)
            left = min(max(x - width / 2, 0.0), self.width() - width - 1.0)
            if left > right_of_last + 8:
                painter.drawText(QRectF(left, under, width + 2, 12), Qt.AlignmentFlag.AlignLeft, words)
                right_of_last = left + width
        painter.drawText(QRectF(0, under + 14, self.width(), 13), Qt.AlignmentFlag.AlignHCenter, "labels of yours")

    def _draw_line(self, painter: QPainter, colour: QColor, values: Sequence[float]) -> None:
        places = [QPointF(self._x(p.n_labels), self._y(v)) for p, v in zip(self._points, values, strict=True)]
        painter.setPen(QPen(colour, 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(places))
        painter.setBrush(colour)
        painter.setPen(Qt.PenStyle.NoPen)
        # Of a long history only the last point is a dot of its own.
        for place in places if len(places) <= 12 else places[-1:]:
            painter.drawEllipse(place, 3, 3)

    def _marks(self) -> list[int]:
        """Numbers of labels to write under the axis: the ends first, so that they are never left out."""
        low, high = self._points[0].n_labels, self._points[-1].n_labels
        if len({p.n_labels for p in self._points}) == 1:
            return [low]
        middle = round(float(np.sqrt(low * high)))
        return sorted({low, middle, high}) if self._x(high) - self._x(middle) > 30 else [low, high]

    def _x(self, n_labels: int) -> float:
        low, high = self._points[0].n_labels, self._points[-1].n_labels
        if high == low:
            return (_LEFT + self.width() - _RIGHT) / 2
        share = np.log(n_labels / low) / np.log(high / low)
        return float(_LEFT + share * (self.width() - _LEFT - _RIGHT))

    def _y(self, value: float) -> float:
        return _TOP + (1 - value) * (self.height() - _TOP - _BOTTOM)
