"""A small plot of curves, such as scores by label count or loss by epoch. Drawn with Qt alone: it opens at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 20, 30
_TICKS = 4


@dataclass(frozen=True)
class Line:
    """A curve: ``x`` and ``y`` (n,), ascending in x; with ``dots`` a mark at each point."""

    name: str
    x: ArrayLike
    y: ArrayLike
    colour: str
    dots: bool = False


class Curve(QWidget):
    """Some lines over one axis, each named above in its colour.

    Parameters
    ----------
    x_label
        What the axis counts.
    tip
        The tooltip.
    height
        In pixels.
    """

    def __init__(self, x_label: str, tip: str = "", height: int = 130) -> None:
        super().__init__()
        self._x_label, self._height = x_label, height
        self._lines: list[tuple[Line, NDArray[np.float64], NDArray[np.float64]]] = []
        self._x_to: float | None = None
        self._mark: tuple[float, str] | None = None
        self.setToolTip(tip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_lines(
        self, lines: Sequence[Line], *, x_to: float | None = None, mark: tuple[float, str] | None = None
    ) -> None:
        """Replace what is shown. ``x_to``: where the axis ends at least; ``mark``: a place on it, and its words."""
        self._lines = []
        for line in lines:
            x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
            known = np.isfinite(x) & np.isfinite(y)
            if known.any():
                self._lines.append((line, x[known], y[known]))
        self._x_to, self._mark = x_to, mark
        self.update()

    @property
    def names(self) -> list[str]:
        """Names of the lines that are shown."""
        return [line.name for line, _, _ in self._lines]

    def points(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of a line that is shown. Raises KeyError."""
        for line, x, y in self._lines:
            if line.name == name:
                return x, y
        raise KeyError(name)

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(280, self._height)

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self._lines:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        small = QFont(self.font())
        small.setPixelSize(10)
        painter.setFont(small)
        plot = QRectF(_LEFT, _TOP, self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM)
        across = _Axis(np.concatenate([x for _, x, _ in self._lines]), plot.left(), plot.right(), self._x_to)
        up = _Axis(np.concatenate([y for _, _, y in self._lines]), plot.bottom(), plot.top(), room=True)
        self._draw_axes(painter, plot, across, up)
        for line, x, y in self._lines:
            _draw_line(painter, line, across.place(x), up.place(y), int(plot.width()))
        if self._mark is not None:
            self._draw_mark(painter, plot, float(across.place(np.array([self._mark[0]]))[0]), self._mark[1])
        self._draw_names(painter)
        painter.end()

    def _draw_axes(self, painter: QPainter, plot: QRectF, across: _Axis, up: _Axis) -> None:
        ink = QColor(self.palette().windowText().color())
        ink.setAlpha(150)
        faint = QColor(ink)
        faint.setAlpha(40)
        for value in up.ticks():
            y = float(up.place(np.array([value]))[0])
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(ink)
            painter.drawText(QRectF(0, y - 7, _LEFT - 5, 14), Qt.AlignmentFlag.AlignRight, up.words(value))
        painter.setPen(QPen(ink, 1))
        painter.drawLine(plot.bottomLeft(), plot.bottomRight())
        for value in across.ticks():
            x = float(across.place(np.array([value]))[0])
            painter.drawLine(QPointF(x, plot.bottom()), QPointF(x, plot.bottom() + 3))
            painter.drawText(
                QRectF(x - 30, plot.bottom() + 4, 60, 12), Qt.AlignmentFlag.AlignHCenter, across.words(value)
            )
        under = QRectF(plot.left(), plot.bottom() + 17, plot.width(), 13)
        painter.drawText(under, Qt.AlignmentFlag.AlignHCenter, self._x_label)

    def _draw_mark(self, painter: QPainter, plot: QRectF, x: float, words: str) -> None:
        ink = QColor(self.palette().windowText().color())
        ink.setAlpha(190)
        painter.setPen(QPen(ink, 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
        left = x > plot.center().x()
        box = QRectF(x - 104 if left else x + 4, plot.bottom() - 15, 100, 13)
        painter.drawText(box, Qt.AlignmentFlag.AlignRight if left else Qt.AlignmentFlag.AlignLeft, words)

    def _draw_names(self, painter: QPainter) -> None:
        x = float(_LEFT)
        for line, _, _ in self._lines:
            painter.setPen(QPen(QColor(line.colour), 2))
            painter.drawLine(QPointF(x, 9), QPointF(x + 12, 9))
            painter.setPen(self.palette().windowText().color())
            painter.drawText(QPointF(x + 16, 13), line.name)
            x += 30 + painter.fontMetrics().horizontalAdvance(line.name)


class _Axis:
    """Values to pixels, and round values to write beside it."""

    def __init__(
        self, values: NDArray[np.float64], start: float, end: float, to: float | None = None, *, room: bool = False
    ) -> None:
        low, high = float(values.min()), max(float(values.max()), -math.inf if to is None else to)
        if high - low < 1e-9:
            low, high = low - 0.5 * (abs(low) or 1) * 0.1, high + 0.5 * (abs(high) or 1) * 0.1
        air = 0.06 * (high - low) if room else 0.0
        self._low, self._high, self._start, self._end = low - air, high + air, start, end
        raw = (high - low) / _TICKS
        tenth = 10 ** math.floor(math.log10(raw))
        self._step = next(s * tenth for s in (1, 2, 5, 10) if s * tenth >= raw)

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (values - self._low) / (self._high - self._low)
        return np.asarray(self._start + share * (self._end - self._start))

    def ticks(self) -> list[float]:
        first, last = math.ceil(self._low / self._step), math.floor(self._high / self._step)
        return [i * self._step for i in range(first, last + 1)]

    def words(self, value: float) -> str:
        decimals = max(0, -math.floor(math.log10(self._step)))
        return f"{value:,.{decimals}f}"


def _draw_line(painter: QPainter, line: Line, x: NDArray[np.float64], y: NDArray[np.float64], width: int) -> None:
    colour = QColor(line.colour)
    if len(x) > 2 * width > 0:
        # More points than pixels: the mean of each column of pixels.
        column = x.astype(np.int64)
        column -= column.min()
        n = np.bincount(column)
        there = n > 0
        x, y = (np.bincount(column, v)[there] / n[there] for v in (x, y))
    painter.setPen(QPen(colour, 1.6))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPolyline(QPolygonF([QPointF(a, b) for a, b in zip(x, y, strict=True)]))
    if line.dots:
        painter.setBrush(colour)
        for a, b in zip(x, y, strict=True):
            painter.drawEllipse(QPointF(a, b), 2.6, 2.6)
