"""What the tissue is coloured by: a list and a search for genes, the colour scale with its range, the unsure slider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from stplm_napari import colourings as by
from stplm_napari.colourings import Numbers
from stplm_napari.widgets.genesearch import GeneSearch
from stplm_napari.widgets.range import RangeBar
from stplm_napari.widgets.scale import ColourScale
from stplm_napari.widgets.short import ShortBox
from stplm_napari.widgets.style import text
from stplm_napari.widgets.throttle import Throttle

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_GENE = f"{by.GENE}:"


class ColouringBar(QWidget):
    """What to colour by, and its scale; for classes, a slider that greys what the model does not know."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session, self._viewing = dock.session, dock.workspace.viewing
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(7)
        self.by = ShortBox(12, "What the colours on the tissue mean")
        self.by.setMaxVisibleItems(24)
        self.by.activated.connect(self._choose)
        self.gene = GeneSearch(dock, self._choose_gene, "Gene symbol, e.g. ERBB2")
        self.gene.setToolTip("Type a part of a symbol and choose; the tissue shows the gene's counts in each cell")
        row = QHBoxLayout()
        row.addWidget(text("Colour by", "name", wrap=False))
        row.addWidget(self.by, 1)
        layout.addLayout(row)
        layout.addWidget(self.gene)
        self.words = text(wrap=False)
        self.words.setMinimumWidth(self.words.fontMetrics().horizontalAdvance("unsure below 0.00") + 16)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        tip = "Cells whose calibrated confidence (0 to 1) is lower are drawn grey. The classes themselves stay."
        self.slider.setToolTip(tip)
        self.words.setToolTip(tip)
        self.slider.valueChanged.connect(Throttle(self._be_unsure_below, self).take)
        self.n_unsure = text(kind="hint", wrap=False)
        self.unsure = QWidget()
        row = QHBoxLayout(self.unsure)
        row.setContentsMargins(0, 0, 0, 0)
        for part, stretch in ((self.words, 0), (self.slider, 1), (self.n_unsure, 0)):
            row.addWidget(part, stretch)
        layout.addWidget(self.unsure)
        self.scale = ColourScale()
        layout.addWidget(self.scale)
        self.range = RangeBar(self._session)
        layout.addWidget(self.range)
        self.about = text(kind="hint")
        layout.addWidget(self.about)
        self._asks_for_gene = False
        session = self._session
        for signal in (session.section_opened, session.embedded, session.predicted, session.sources_changed):
            dock.listen(signal, self.refresh)
        for signal in (session.labels_changed, session.regions_changed):
            dock.listen(signal, self.refresh)
        for signal in (session.colouring_changed, self._viewing.wish_changed):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, how = self._session, self._session.colouring
        self.setVisible(session.is_open and session.has_positions)
        if not session.is_open:
            return
        self._list_sources()
        key = self._viewing.wish or how.by
        is_gene = key.startswith(_GENE)
        self._asks_for_gene &= is_gene or self.by.currentData() == _GENE
        self.by.setCurrentIndex(self.by.findData(_GENE if is_gene or self._asks_for_gene else key))
        self.gene.setVisible(is_gene or self._asks_for_gene)
        if is_gene and not self.gene.hasFocus():
            self.gene.setText(key.removeprefix(_GENE))
        self.unsure.setVisible(how.by == by.CLASS)
        self.words.setText(f"unsure below {how.unsure_below:.2f}")
        self.slider.blockSignals(True)
        self.slider.setValue(round(how.unsure_below * 100))
        self.slider.blockSignals(False)
        self.n_unsure.setText(f"{session.n_unsure():,} cells" if how.by == by.CLASS else "")
        shown = session.sources.of(how.by)
        is_number = isinstance(shown, Numbers)
        self.scale.setVisible(is_number)
        self.range.setVisible(is_number)
        if isinstance(shown, Numbers):
            lo, hi = session.sources.range_of(how.by, shown)
            log = how.by in how.logs
            self.scale.show_map(shown.cmap, shown.low, shown.high, lo=lo, hi=hi, unit=shown.unit, log=log)
            self.range.refresh(shown)
        self.about.setText(shown.words if shown is not None else "")
        self.about.setVisible(bool(self.about.text()))

    # --- inside ---

    def _be_unsure_below(self, percent: int) -> None:
        self._session.colour(unsure_below=percent / 100)

    def _list_sources(self) -> None:
        offered = self._session.sources.offered()
        wanted = [(s.words, s.key) for s in offered]
        wanted.insert(sum(s.group in ("Model", "Cells") for s in offered), ("Gene…", _GENE))
        have = [(self.by.itemText(i), self.by.itemData(i)) for i in range(self.by.count())]
        if [pair for pair in have if pair[1] is not None] == wanted:
            return
        groups = {s.key: s.group for s in offered} | {_GENE: "Genes"}
        self.by.clear()
        for i, (words, key) in enumerate(wanted):
            if i and groups[key] != groups[wanted[i - 1][1]]:
                self.by.insertSeparator(self.by.count())
            self.by.addItem(words, key)

    def _choose(self) -> None:
        key = self.by.currentData()
        self._asks_for_gene = key == _GENE
        if not self._asks_for_gene:
            self._viewing.colour_by(key)
        elif not self._session.colouring.by.startswith(_GENE):
            self.refresh()
            self.gene.setFocus()

    def _choose_gene(self, symbol: str) -> None:
        self._viewing.colour_by(_GENE + symbol)
