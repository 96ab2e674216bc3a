"""The Inspect dock: what is known of the cell under the mouse, or of one that was kept by a click."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QApplication, QDoubleSpinBox, QHBoxLayout, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from stplm.palette import UNASSIGNED_COLOUR
from stplm_napari.facts import Fact
from stplm_napari.inspecting import Bar, CellFacts, Gene
from stplm_napari.widgets.common import Dock, EmptyState, Facts
from stplm_napari.widgets.panels import ErrorPanel
from stplm_napari.widgets.style import button, text
from stplm_napari.widgets.why import WhyPart

if TYPE_CHECKING:
    from napari.viewer import Viewer

_MOST_BARS = 6
_INDENT = 5
"""Where napari's labels begin, too."""


class InspectWidget(Dock):
    """Speaks of one cell. While it is in front, a click on a cell keeps it; Follow the mouse lets it go."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.watch = self.workspace.viewing.watch
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.search = QLineEdit()
        self.search.setPlaceholderText("Go to a cell by its id")
        self.search.setClearButtonEnabled(True)
        self.search.returnPressed.connect(self._go)
        self.error = ErrorPanel()
        self.hint = text("Move the mouse over the tissue; a click keeps a cell.", "hint")
        self.cell_id = text(kind="title", wrap=False)
        self.cell_id.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.copy = button("Copy id", self._copy, "link", tip="Copy the cell's id to the clipboard")
        self.follow = button("Follow the mouse", lambda: self.watch.pin(-1), "link", tip="Let the kept cell go")
        self.facts = Facts()
        self.bars, self.around = Bars(), Bars()
        self.top, self.enriched = text(), text()
        self.neighbours = text()
        self.radius = QDoubleSpinBox()
        self.radius.setRange(5, 500)
        self.radius.setDecimals(0)
        self.radius.setSuffix(" µm")
        self.radius.setValue(self.watch.radius_um)
        self.radius.setToolTip("How far from the cell's centre another cell's centre counts as a neighbour")
        self.radius.setKeyboardTracking(False)
        self.radius.valueChanged.connect(self._set_radius)
        self.why = WhyPart(self)
        self._of_classes = text("Class probabilities", "name")
        self.cell = _column(
            _row(self.cell_id, None, self.copy, self.follow),
            self.facts,
            self._of_classes,
            self.bars,
            self.why,
            text("Genes with most counts", "name"),
            self.top,
            text("Genes above the section's mean", "name"),
            self.enriched,
            _row(text("Neighbours within", "name", wrap=False), self.radius, None),
            self.neighbours,
            self.around,
        )
        self.content = _column(self.search, self.error, self.hint, self.cell)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        session = self.session
        for signal in (session.section_opened, session.predicted, session.embedded, session.labels_changed):
            self.listen(signal, self.refresh)
        self.listen(self.watch.changed, self.refresh)
        session.failed.connect(self.error.show_error)
        self._connections.append(lambda: session.failed.disconnect(self.error.show_error))
        self._connections.append(lambda: setattr(self.watch, "live", False))
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        self.empty.setVisible(not self.session.is_open)
        self.content.setVisible(self.session.is_open)
        # A dock that nobody sees looks nothing up; it does when it comes to the front.
        facts = self.watch.facts() if self.watch.live else None
        self.cell.setVisible(facts is not None)
        self.hint.setVisible(facts is None)
        if facts is None:
            return
        self.cell_id.setText(facts.cell_id)
        self.follow.setVisible(self.watch.pinned >= 0)
        self.facts.show_facts(cell_facts(facts))
        self._of_classes.setVisible(bool(facts.classes))
        self.bars.show_bars(facts.classes[:_MOST_BARS])
        self.why.refresh()
        self.top.setText(", ".join(f"{gene.symbol}\u00a0{gene.counts}" for gene in facts.top) or "no counts")
        self.enriched.setText(", ".join(map(_times, facts.enriched)) or "none")
        self.neighbours.setText(neighbour_words(facts))
        self.around.show_bars(facts.neighbours.classes[:_MOST_BARS])

    def in_front(self, on: bool) -> None:
        """A dock's."""
        if on:
            self.watch.start()
        self.watch.live = on
        self.refresh()

    def showEvent(self, event: Any) -> None:
        """Qt's."""
        self.watch.start()
        super().showEvent(event)
        self.refresh()

    def _go(self) -> None:
        self.error.clear()
        if self.search.text().strip():
            self.watch.go_to_id(self.search.text())

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.cell_id.text())

    def _set_radius(self, radius_um: float) -> None:
        self.watch.radius_um = radius_um
        self.refresh()


class Bars(QWidget):
    """A bar a class, with its share."""

    _LINE = 19

    def __init__(self) -> None:
        super().__init__()
        self._bars: tuple[Bar, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What is shown."""
        return self._bars

    def show_bars(self, bars: Iterable[Bar]) -> None:
        """Replace what is shown."""
        self._bars = tuple(bars)
        self.setVisible(bool(self._bars))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Qt's."""
        return QSize(240, self._LINE * len(self._bars))

    def minimumSizeHint(self) -> QSize:
        """Qt's."""
        return QSize(120, self.sizeHint().height())

    def paintEvent(self, event: Any) -> None:
        """Qt's."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().windowText().color()
        groove = QColor(ink)
        groove.setAlpha(30)
        names, values = self.width() * 0.38, painter.fontMetrics().horizontalAdvance("0.00") + 8
        room = self.width() - names - values
        for i, bar in enumerate(self._bars):
            top = i * self._LINE
            painter.setPen(ink)
            name = painter.fontMetrics().elidedText(bar.name, Qt.TextElideMode.ElideRight, int(names) - _INDENT - 8)
            line = Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(_INDENT, top, names - _INDENT, self._LINE), line | Qt.AlignmentFlag.AlignLeft, name)
            painter.drawText(
                QRectF(0, top, self.width(), self._LINE), line | Qt.AlignmentFlag.AlignRight, f"{bar.share:.2f}"
            )
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(groove)
            painter.drawRoundedRect(QRectF(names, top + 5, room, 9), 3, 3)
            painter.setBrush(QColor(bar.colour or UNASSIGNED_COLOUR))
            painter.drawRoundedRect(QRectF(names, top + 5, max(room * bar.share, 2), 9), 3, 3)
        painter.end()


def cell_facts(facts: CellFacts) -> list[Fact]:
    """A cell's facts in lines; what is not known has none."""
    found = []
    if facts.xy_um is not None:
        found.append(Fact("Position", f"{facts.xy_um[0]:,.1f}, {facts.xy_um[1]:,.1f} µm", "x to the right, y down"))
    found.append(Fact("Counts", f"{facts.n_counts:,} in {facts.n_genes:,} genes"))
    if not math.isnan(facts.area_um2):
        found.append(Fact("Cell area", f"{facts.area_um2:,.0f} µm²"))
    if facts.label:
        found.append(Fact("Your label", f"{facts.label}, by {facts.label_by}, {facts.label_at[:16].replace('T', ' ')}"))
    if facts.class_name:
        found.append(Fact("Class", facts.class_name))
    for name, value, tip in (
        ("Confidence", facts.confidence, "Calibrated probability of the class"),
        ("Tumour", facts.tumour, "Probability that it is a tumour cell"),
        ("Unknown", facts.unknown, "0: like a labelled cell, 1: unlike all of them"),
    ):
        if not math.isnan(value):
            found.append(Fact(name, f"{value:.2f}", tip))
    if facts.cluster:
        found.append(Fact("Cluster", facts.cluster))
    return found


def neighbour_words(facts: CellFacts) -> str:
    """How many, and how far."""
    around = facts.neighbours
    if not around.n:
        return "none"
    cells = f"{around.n:,} cell{'' if around.n == 1 else 's'}"
    return f"{cells}; the nearest at {around.nearest_um:.1f} µm, half of them within {around.median_um:.1f} µm"


def _times(gene: Gene) -> str:
    return f"{gene.symbol}\u00a0{gene.times:.1f}×"


def _row(*parts: QWidget | None) -> QWidget:
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addStretch(1) if part is None else layout.addWidget(part)
    return made


def _column(*parts: QWidget) -> QWidget:
    made = QWidget()
    layout = QVBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(7)
    for part in parts:
        layout.addWidget(part)
    return made
