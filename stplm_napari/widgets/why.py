"""Part of the Inspect dock: the genes that speak for the kept cell's class, and against it, as bars to both sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from stplm.palette import UNASSIGNED_COLOUR
from stplm_napari.widgets.common import More, stack
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.style import text

if TYPE_CHECKING:
    from stplm_napari.explain_worker import GenePart, Why
    from stplm_napari.widgets.common import Dock

FOR, AGAINST = 8, 4
"""Genes shown that speak for the class, and against it."""
CAVEAT = "What the model used, not a cause."
_INDENT = 5


class WhyPart(More):
    """Folded until asked for; asks about each cell that is kept while it is open."""

    def __init__(self, dock: Dock) -> None:
        self._explaining, self._session = dock.workspace.viewing.explaining, dock.session
        self._viewing = dock.workspace.viewing
        self.words, self.bars = text(), GeneBars()
        self.caveat = text(
            CAVEAT,
            "hint",
            tip="Each bar is how far the log-odds of the class fall when the gene's counts are deleted from this cell "
            "and the model is asked again. Genes that stand in for each other share what they say.",
        )
        self.panel = JobPanel(self._explaining.asking, dock)
        super().__init__(stack(self.panel, self.words, self.bars, self.caveat, gap=6), "Why this class")
        self.toggle.setToolTip("Which genes of this cell the model used to tell its class")
        self.toggle.toggled.connect(self._on_unfolded)
        self.bars.chosen.connect(lambda gene: self._viewing.colour_by(f"gene:{gene}"))
        dock.listen(self._explaining.changed, self.refresh)
        dock.listen(self._explaining.asking.changed, self.refresh)
        dock.listen(dock.session.classes_changed, self.refresh)

    def refresh(self) -> None:
        """Make what is shown equal to the state; what is not known yet is asked for while somebody looks."""
        asks = self._explaining
        self.setVisible(asks.is_possible)
        if not asks.is_possible:
            return
        if self.toggle.isChecked() and self.isVisible():
            asks.ask()
        why = asks.found
        for part in (self.words, self.bars, self.caveat):
            part.setVisible(why is not None)
        if why is None:
            return
        colours = {c.name: c.colour for c in self._session.classes}
        self.words.setText(_words(why))
        self.bars.show_genes(_most(why.genes), colours.get(why.class_name, ""), why.class_name)
        self.bars.setVisible(bool(why.genes))

    def _on_unfolded(self, on: bool) -> None:
        if on:
            self._explaining.ask(again=True)
        self.refresh()


class GeneBars(QWidget):
    """A line a gene: name, counts, and a bar to the right where it speaks for the class, to the left against it."""

    chosen = Signal(str)
    """A gene was clicked."""
    _LINE = 19

    def __init__(self) -> None:
        super().__init__()
        self.genes: tuple[GenePart, ...] = ()
        self._colour, self._name, self._over = UNASSIGNED_COLOUR, "", -1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)

    def show_genes(self, genes: Iterable[GenePart], colour: str, class_name: str) -> None:
        """Replace what is shown; ``colour`` is the class's."""
        self.genes, self._colour, self._name = tuple(genes), colour or UNASSIGNED_COLOUR, class_name
        self._over = -1
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(240, self._LINE * len(self.genes))

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        return QSize(160, self.sizeHint().height())

    def bar(self, line: int) -> QRectF:
        """Where the bar of a line is drawn."""
        metrics = self.fontMetrics()
        left = self.width() * 0.38
        room = self.width() - left - metrics.horizontalAdvance("-0.00") - 10
        values = [gene.attribution for gene in self.genes]
        high, low = max(*values, 0.0, 1e-6), min(*values, 0.0)
        zero = left + room * -low / (high - low)
        length = room * values[line] / (high - low)
        size = max(abs(length), 2.0)
        return QRectF(zero if length >= 0 else zero - size, line * self._LINE + 5, size, 9)

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        if not self.genes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().windowText().color()
        faint, shade = QColor(ink), QColor(ink)
        faint.setAlpha(150)
        shade.setAlpha(25)
        middle, left, right = Qt.AlignmentFlag.AlignVCenter, Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        names = self.width() * 0.38
        counts = painter.fontMetrics().horizontalAdvance("0000")
        for line, gene in enumerate(self.genes):
            top = line * self._LINE
            if line == self._over:
                painter.fillRect(QRectF(0, top, self.width(), self._LINE), shade)
            room = names - _INDENT - counts - 14
            painter.setPen(ink)
            words = painter.fontMetrics().elidedText(gene.symbol, Qt.TextElideMode.ElideRight, int(room))
            painter.drawText(QRectF(_INDENT, top, room, self._LINE), middle | left, words)
            painter.drawText(QRectF(0, top, self.width(), self._LINE), middle | right, f"{gene.attribution:+.2f}")
            painter.setPen(faint)
            painter.drawText(QRectF(names - counts - 10, top, counts, self._LINE), middle | right, f"{gene.counts:,}")
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(self._colour if gene.attribution >= 0 else UNASSIGNED_COLOUR))
            painter.drawRoundedRect(self.bar(line), 2, 2)
        first = next((self.bar(i) for i, gene in enumerate(self.genes) if gene.attribution >= 0), None)
        zero = first.left() if first is not None else self.bar(0).right()
        painter.setPen(faint)
        painter.drawLine(QPointF(zero, 1), QPointF(zero, self.height() - 1))
        painter.end()

    def mouseMoveEvent(self, event: Any) -> None:
        """Qt's."""
        self._hover(self._line_at(event.position().y()))

    def leaveEvent(self, event: Any) -> None:
        """Qt's."""
        self._hover(-1)

    def mouseReleaseEvent(self, event: Any) -> None:
        """Qt's. A click on a gene chooses it."""
        line = self._line_at(event.position().y())
        if event.button() == Qt.MouseButton.LeftButton and line >= 0:
            self.chosen.emit(self.genes[line].symbol)

    def event(self, event: Any) -> bool:
        """Qt's. Each line has a tooltip of its own."""
        if event.type() == QEvent.Type.ToolTip and (line := self._line_at(event.pos().y())) >= 0:
            QToolTip.showText(event.globalPos(), self.tip(line), self)
            return True
        return super().event(event)

    def tip(self, line: int) -> str:
        """The tooltip of a line."""
        gene = self.genes[line]
        side = "for" if gene.attribution >= 0 else "against"
        return (
            f"{gene.symbol}, {gene.counts:,} counts: speaks {side} {self._name}. Without it, the log-odds of the class "
            f"would be {abs(gene.attribution):.2f} {'lower' if gene.attribution >= 0 else 'higher'}. "
            "Click to colour the tissue by this gene."
        )

    def _line_at(self, y: float) -> int:
        line = int(y // self._LINE)
        return line if 0 <= line < len(self.genes) else -1

    def _hover(self, line: int) -> None:
        if line != self._over:
            self._over = line
            self.setCursor(Qt.CursorShape.PointingHandCursor if line >= 0 else Qt.CursorShape.ArrowCursor)
            self.update()


def _most(genes: tuple[GenePart, ...]) -> list[GenePart]:
    """The genes that speak for the class the most, then those that speak against it the most; ordered as given."""
    pro = [gene for gene in genes if gene.attribution > 0][:FOR]
    con = [gene for gene in genes if gene.attribution < 0]
    return pro + con[max(len(con) - AGAINST, 0) :]


def _words(why: Why) -> str:
    if not why.genes:
        return "This cell has no counts: only the classes' shares speak."
    pro = sum(gene.attribution > 0 for gene in why.genes)
    return f"{pro} of its {len(why.genes)} genes speak for {why.class_name}, the others against; the most:"
