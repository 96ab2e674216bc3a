"""The confusion matrix of held-out labels as a small heat map with numbers."""

from __future__ import annotations

from qtpy.QtGui import QColor

from stplm_napari.widgets.heatgrid import HeatGrid

_RIGHT_COLOUR, _WRONG_COLOUR = "#009E73", "#D55E00"


class ConfusionMatrix(HeatGrid):
    """A row a class as it was labelled, a column a class as it was called, values are counts; what is right is green,
    what is wrong red, stronger for a larger share of the row."""

    def __init__(self) -> None:
        super().__init__("as you labelled", "as it is called")

    def fill(self, row: int, column: int) -> QColor:
        """Colour of an entry."""
        n, total = int(self.values[row, column]), int(self.values[row].sum())
        colour = QColor(_RIGHT_COLOUR if row == column else _WRONG_COLOUR)
        colour.setAlphaF(0.08 + 0.8 * n / total if n else 0.05)
        return colour

    def number(self, row: int, column: int) -> str:
        """Cells; nothing for none."""
        n = int(self.values[row, column])
        return f"{n:,}" if n else ""

    def words(self, row: int, column: int) -> str:
        """What the entry means."""
        n, total = int(self.values[row, column]), int(self.values[row].sum())
        return f"{n:,} of {total:,} cells labelled {self.names[row]} are called {self.names[column]}"
