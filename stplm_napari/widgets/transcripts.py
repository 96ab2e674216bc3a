"""Which genes' transcripts are drawn on the tissue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSpinBox, QToolButton, QVBoxLayout, QWidget

from stplm.io.transcripts import MIN_QV
from stplm_napari.transcript_points import MOST_GENES
from stplm_napari.widgets.common import More
from stplm_napari.widgets.genesearch import GeneSearch
from stplm_napari.widgets.icons import swatch_icon
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.style import empty_layout, text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock


class Transcripts(QWidget):
    """A search for genes, the chosen ones with their colours, and what is seen of them."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session, self._points = dock.session, dock.workspace.viewing.transcripts
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.none = text("There is no transcripts.parquet beside this section.", "hint")
        self.search = GeneSearch(dock, self._add, "Add a gene, e.g. ERBB2")
        self.search.setToolTip(f"Transcripts of up to {MOST_GENES} genes are drawn where the view is close enough")
        self.chosen = QWidget()
        self._rows = QVBoxLayout(self.chosen)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(1)
        self.words = text(kind="hint")
        self.qv = QSpinBox()
        self.qv.setRange(0, 40)
        self.qv.setValue(int(MIN_QV))
        self.qv.setToolTip("Lowest quality value (Phred scale) of a transcript; the instrument itself cuts at 20")
        self.qv.valueChanged.connect(lambda value: self._points.choose(self._points.genes, value))
        self.more = More(_named("Quality value from", self.qv))
        for part in (self.none, self.search, self.chosen, self.words, JobPanel(self._points.reading, dock), self.more):
            layout.addWidget(part)
        dock.listen(self._points.changed, self.refresh)
        dock.listen(self._session.section_opened, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        points = self._points
        there = points.file is not None
        self.none.setVisible(not there)
        for part in (self.search, self.chosen, self.more):
            part.setVisible(there)
        self.words.setText(points.words)
        self.words.setVisible(bool(points.words))
        self.search.setEnabled(len(points.genes) < MOST_GENES)
        empty_layout(self._rows)
        for gene, colour in points.colours().items():
            self._rows.addWidget(self._row(gene, colour))

    def _row(self, gene: str, colour: str) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(4, 1, 4, 1)
        swatch = QLabel()
        swatch.setPixmap(swatch_icon(colour).pixmap(QSize(14, 14)))
        away = QToolButton()
        away.setText("×")
        away.setProperty("kind", "link")
        away.setToolTip(f"Show {gene} no more")
        away.clicked.connect(partial(self._remove, gene))
        row.addWidget(swatch)
        row.addWidget(text(gene, wrap=False), 1)
        row.addWidget(away)
        return made

    def _add(self, gene: str) -> None:
        self._points.choose([*self._points.genes, gene])
        self.search.clear()

    def _remove(self, gene: str, *_: object) -> None:
        self._points.choose([g for g in self._points.genes if g != gene])


def _named(words: str, widget: QWidget) -> QWidget:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(text(words, "name", wrap=False))
    row.addWidget(widget)
    row.addStretch(1)
    return made
