"""Which values the first and the last colour stand for: a slider with two handles, a way back, a logarithmic scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QWidget
from superqt import QDoubleRangeSlider

from stplm_napari.widgets.style import button
from stplm_napari.widgets.throttle import Throttle

if TYPE_CHECKING:
    from stplm_napari.colourings import Numbers
    from stplm_napari.session import Session


class RangeBar(QWidget):
    """The range of the source that the tissue is coloured by; kept for each source."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Drag the ends: lower values have the first colour, higher ones the last")
        moved = Throttle(self._move, self)
        self.slider.valueChanged.connect(lambda pair: moved.take(self._session.colouring.by, pair))
        self.log = QCheckBox("log")
        self.log.setToolTip("Colours go with log(1 + value): tells few counts apart where some cells have many")
        self.log.toggled.connect(self._use_log)
        self.reset = button("Reset", self._reset, "link", tip="Back to the range that was found from the values")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.slider, 1)
        row.addWidget(self.log)
        row.addWidget(self.reset)

    def refresh(self, shown: Numbers) -> None:
        """Show the range of these numbers."""
        session, how = self._session, self._session.colouring
        self.slider.blockSignals(True)
        lowest, highest = shown.bounds
        self.slider.setRange(lowest, highest if highest > lowest else lowest + 1)
        self.slider.setSingleStep((highest - lowest) / 100 or 0.01)
        self.slider.setValue(session.sources.range_of(how.by, shown))
        self.slider.blockSignals(False)
        self.log.blockSignals(True)
        self.log.setVisible(shown.is_count)
        self.log.setChecked(how.by in how.logs)
        self.log.blockSignals(False)
        self.reset.setEnabled(how.by in how.ranges)

    def _move(self, key: str, pair: tuple[float, float]) -> None:
        how = self._session.colouring
        self._session.colour(ranges={**how.ranges, key: (float(pair[0]), float(pair[1]))})

    def _use_log(self, on: bool) -> None:
        how = self._session.colouring
        self._session.colour(logs=how.logs | {how.by} if on else how.logs - {how.by})

    def _reset(self) -> None:
        how = self._session.colouring
        self._session.colour(ranges={key: pair for key, pair in how.ranges.items() if key != how.by})
