"""Histogram of counts per cell, with the cut below which cells are faint. Drawn with Qt alone: it opens at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from stplm.palette import TUMOUR_COLOUR, UNASSIGNED_COLOUR

_BARS = 48
_BAR_COLOUR = "#56B4E9"


class CountsHistogram(QWidget):
    """Counts per cell on a logarithmic axis; cells under ``cut`` counts are grey.

    Cells without any counts stand in the first bar.
    """

    def __init__(self, cut: int) -> None:
        super().__init__()
        self._cut = cut
        self._heights: NDArray[np.int64] = np.zeros(0, np.int64)
        self._edges: NDArray[np.float64] = np.zeros(1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_counts(self, counts: ArrayLike) -> None:
        """Show the (n_cells,) counts of a section."""
        values = np.asarray(counts, float)
        top = max(float(values.max()) if len(values) else 1.0, 4 * self._cut)
        self._edges = np.linspace(0.0, np.log10(top + 1) * 1.0001, _BARS + 1)
        self._heights = np.histogram(np.log10(values + 1), self._edges)[0]
        low = int((values < self._cut).sum())
        self.setToolTip(f"Counts per cell. {low:,} of {len(values):,} cells are under the cut of {self._cut} counts.")
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, 128)

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self._heights.sum():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(140)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        plot = QRectF(2, 16, self.width() - 4, self.height() - 16 - 30)
        self._draw_bars(painter, plot)
        self._draw_axis(painter, plot, faint)
        x = self._x(plot, self._cut)
        painter.setPen(QPen(QColor(TUMOUR_COLOUR), 1.5, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, plot.top() - 4), QPointF(x, plot.bottom()))
        painter.setPen(QColor(TUMOUR_COLOUR).lighter(125))
        painter.drawText(QRectF(x + 5, 0, 160, 14), Qt.AlignmentFlag.AlignLeft, f"cut: {self._cut} counts")
        painter.end()

    def _draw_bars(self, painter: QPainter, plot: QRectF) -> None:
        width, tallest = plot.width() / _BARS, self._heights.max()
        painter.setPen(Qt.PenStyle.NoPen)
        for i, height in enumerate(self._heights):
            if height:
                low = self._edges[i + 1] <= np.log10(self._cut + 1) + 1e-9
                painter.setBrush(QColor(UNASSIGNED_COLOUR if low else _BAR_COLOUR))
                tall = max(1.5, plot.height() * height / tallest)
                painter.drawRect(QRectF(plot.left() + i * width, plot.bottom() - tall, max(width - 1, 1), tall))

    def _draw_axis(self, painter: QPainter, plot: QRectF, colour: QColor) -> None:
        painter.setPen(QPen(colour, 1))
        painter.drawLine(plot.bottomLeft(), plot.bottomRight())
        top = 10 ** self._edges[-1]
        for value in (0, 1, 10, 100, 1000, 10_000, 100_000):
            if value < top:
                x = self._x(plot, value)
                painter.drawLine(QPointF(x, plot.bottom()), QPointF(x, plot.bottom() + 3))
                left = min(max(x - 30, 0), self.width() - 60)
                align = Qt.AlignmentFlag.AlignHCenter if left == x - 30 else Qt.AlignmentFlag.AlignLeft
                painter.drawText(QRectF(left, plot.bottom() + 4, 60, 12), align, f"{value:,}")
        under = QRectF(0, plot.bottom() + 17, self.width(), 13)
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, "counts per cell")

    def _x(self, plot: QRectF, value: float) -> float:
        return float(plot.left() + plot.width() * np.log10(value + 1) / self._edges[-1])
