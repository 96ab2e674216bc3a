"""What the tissue is coloured by, and below which confidence it turns grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSlider, QVBoxLayout, QWidget

from stplm_napari import session as by
from stplm_napari.paint import UNKNOWN_MAP
from stplm_napari.widgets.scale import ColourScale
from stplm_napari.widgets.style import text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_CHOICES = (
    (by.CLASS, "Class"),
    (by.TUMOUR, "Tumour probability"),
    (by.CONFIDENCE, "Confidence"),
    (by.UNKNOWN, "Unknown (unlike your labels)"),
    (by.CLUSTER, "Embedding cluster"),
    (by.CELLS, "Outlines only"),
)


class ColouringBar(QWidget):
    """What to colour by, and its scale; for classes, a slider that greys what the model does not know."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session = dock.session
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(7)
        self.by = QComboBox()
        self.by.setToolTip("What the colours on the tissue mean")
        self.by.activated.connect(lambda: self._session.colour(by=self.by.currentData()))
        row = QHBoxLayout()
        row.addWidget(text("Colour by", "name", wrap=False))
        row.addWidget(self.by, 1)
        layout.addLayout(row)
        self.words = text(wrap=False)
        self.words.setMinimumWidth(self.words.fontMetrics().horizontalAdvance("unsure below 0.00") + 16)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        tip = "Cells whose calibrated confidence (0 to 1) is lower are drawn grey. The classes themselves stay."
        self.slider.setToolTip(tip)
        self.words.setToolTip(tip)
        self.slider.valueChanged.connect(lambda value: self._session.colour(unsure_below=value / 100))
        self.n_unsure = text(kind="hint", wrap=False)
        self.unsure = QWidget()
        row = QHBoxLayout(self.unsure)
        row.setContentsMargins(0, 0, 0, 0)
        for part, stretch in ((self.words, 0), (self.slider, 1), (self.n_unsure, 0)):
            row.addWidget(part, stretch)
        layout.addWidget(self.unsure)
        self.scale = ColourScale()
        layout.addWidget(self.scale)
        session = self._session
        for signal in (session.section_opened, session.embedded, session.predicted, session.colouring_changed):
            dock.listen(signal, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, how = self._session, self._session.colouring
        possible = session.possible_colourings()
        self.setVisible(len(possible) > 1 and session.has_positions)
        shown = [words for value, words in _CHOICES if value in possible]
        if [self.by.itemText(i) for i in range(self.by.count())] != shown:
            self.by.clear()
            for value, words in _CHOICES:
                if value in possible:
                    self.by.addItem(words, value)
        self.by.setCurrentIndex(self.by.findData(how.by))
        self.unsure.setVisible(how.by == by.CLASS)
        self.words.setText(f"unsure below {how.unsure_below:.2f}")
        self.slider.blockSignals(True)
        self.slider.setValue(round(how.unsure_below * 100))
        self.slider.blockSignals(False)
        self.n_unsure.setText(f"{session.n_unsure():,} cells" if how.by == by.CLASS else "")
        self.scale.setVisible(how.by in (by.TUMOUR, by.CONFIDENCE, by.UNKNOWN))
        if how.by == by.TUMOUR:
            self.scale.show_map("tumour", "not tumour", "tumour")
        elif how.by == by.CONFIDENCE:
            self.scale.show_map("viridis", "unsure", "sure")
        elif how.by == by.UNKNOWN:
            self.scale.show_map(UNKNOWN_MAP, "like a label", "unlike all")
