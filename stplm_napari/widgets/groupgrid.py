"""Groups by groups as a small heat map: who lies beside whom."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from qtpy.QtGui import QColor

from stplm_napari.widgets.heatgrid import HeatGrid

_MORE, _LESS = "#D55E00", "#0072B2"


class GroupGrid(HeatGrid):
    """A row and a column a group; orange above 0, blue below, full colour at ``top``.

    ``meaning`` says what an entry means, with the places {row}, {column} and {value}.
    """

    def __init__(self, meaning: str) -> None:
        super().__init__()
        self._meaning, self._top = meaning, 1.0

    def show_grid(self, grid: pd.DataFrame, colours: Mapping[str, str], top: float) -> None:
        """Show values (k, k); ``colours`` are the groups' own."""
        self._top = max(top, 1e-9)
        self.show_values(list(map(str, grid.index)), grid.to_numpy(float), colours)

    def fill(self, row: int, column: int) -> QColor:
        """Colour of an entry."""
        value = float(self.values[row, column])
        colour = QColor(_MORE if value > 0 else _LESS)
        colour.setAlphaF(0.05 + 0.8 * min(abs(value) / self._top, 1.0))
        return colour

    def number(self, row: int, column: int) -> str:
        """To a whole number, none of them -0."""
        return f"{round(float(self.values[row, column]))}"

    def words(self, row: int, column: int) -> str:
        """What the entry means."""
        value = f"{self.values[row, column]:.1f}"
        return self._meaning.format(row=self.names[row], column=self.names[column], value=value)
