"""Icons of the tools, drawn in the theme's ink: no files, any resolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

from stplm_napari.tools import BRUSH, CLEAR, CLICK, LASSO, POLYGON, REGION, SELECT

_SIZE = 48
_POLYGON = ((9, 20), (26, 6), (41, 18), (35, 40), (14, 38))


def tool_icon(name: str, ink: QColor) -> QIcon:
    """The icon of a shape or of what a tool does."""
    pixmap = QPixmap(_SIZE, _SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    pen = QPen(ink, 3.4)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter.setPen(pen)
    _DRAW[name](painter, ink)
    painter.end()
    return QIcon(pixmap)


def _click(painter: QPainter, ink: QColor) -> None:
    painter.setBrush(ink)
    painter.drawPolygon(_points((14, 7), (36, 27), (25, 28.5), (31, 41), (26, 43), (20.5, 31), (14, 38)))


def _lasso(painter: QPainter, ink: QColor) -> None:
    painter.drawEllipse(QRectF(7, 7, 34, 22))
    path = QPainterPath(QPointF(15, 28))
    path.cubicTo(8, 32, 22, 34, 15, 43)
    painter.drawPath(path)


def _polygon(painter: QPainter, ink: QColor) -> None:
    painter.drawPolygon(_points(*_POLYGON))
    painter.setBrush(ink)
    for x, y in _POLYGON:
        painter.drawRect(QRectF(x - 2.5, y - 2.5, 5, 5))


def _brush(painter: QPainter, ink: QColor) -> None:
    painter.drawLine(QPointF(41, 7), QPointF(24, 24))
    path = QPainterPath(QPointF(22, 23))
    path.cubicTo(12, 24, 16, 36, 6, 40)
    path.cubicTo(20, 44, 29, 38, 27, 28)
    path.closeSubpath()
    painter.setBrush(ink)
    painter.drawPath(path)


def _clear(painter: QPainter, ink: QColor) -> None:
    painter.drawPolygon(_points((8, 30), (28, 8), (42, 21), (24, 41), (17, 41)))
    painter.setBrush(ink)
    painter.drawPolygon(_points((8, 30), (16, 21.5), (31, 33.5), (24, 41), (17, 41)))


def _select(painter: QPainter, ink: QColor) -> None:
    pen = painter.pen()
    pen.setDashPattern([1.6, 2.0])
    painter.setPen(pen)
    painter.drawRoundedRect(QRectF(7, 7, 34, 34), 5, 5)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ink)
    for x, y in ((18, 19), (31, 22), (22, 31)):
        painter.drawEllipse(QPointF(x, y), 4, 4)


def _region(painter: QPainter, ink: QColor) -> None:
    fill = QColor(ink)
    fill.setAlpha(70)
    painter.setBrush(fill)
    path = QPainterPath(QPointF(10, 26))
    path.cubicTo(4, 8, 22, 4, 29, 10)
    path.cubicTo(38, 14, 46, 22, 39, 34)
    path.cubicTo(33, 46, 14, 44, 10, 26)
    painter.drawPath(path)


def _points(*places: tuple[float, float]) -> QPolygonF:
    return QPolygonF([QPointF(x, y) for x, y in places])


_DRAW: dict[str, Callable[[QPainter, QColor], None]] = {
    CLICK: _click,
    LASSO: _lasso,
    POLYGON: _polygon,
    BRUSH: _brush,
    CLEAR: _clear,
    SELECT: _select,
    REGION: _region,
}


def swatch_icon(colour: str) -> QIcon:
    """A rounded square of a class's colour."""
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawRoundedRect(2, 2, 28, 28, 6, 6)
    painter.end()
    return QIcon(pixmap)


def eye_icon(is_open: bool, colour: QColor) -> QIcon:
    """An open eye, or one that is struck through."""
    return _eye_icon(is_open, colour.rgba())


@lru_cache(maxsize=8)
def _eye_icon(is_open: bool, rgba: int) -> QIcon:
    """Legends ask for one a row at every label."""
    colour = QColor.fromRgba(rgba)
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    colour.setAlpha(210 if is_open else 90)
    pen = painter.pen()
    pen.setColor(colour)
    pen.setWidthF(2.4)
    painter.setPen(pen)
    painter.drawArc(2, 9, 28, 24, 25 * 16, 130 * 16)
    painter.drawArc(2, -1, 28, 24, 205 * 16, 130 * 16)
    painter.setBrush(colour)
    painter.drawEllipse(12, 12, 8, 8)
    if not is_open:
        painter.drawLine(5, 27, 27, 5)
    painter.end()
    return QIcon(pixmap)
