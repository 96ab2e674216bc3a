"""Several genes of the panel: a search, and the chosen ones as chips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from stplm_napari.widgets.genesearch import GeneSearch
from stplm_napari.widgets.style import button, empty_layout

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock

_A_ROW = 3


class GeneChips(QWidget):
    """Genes in the order they were chosen; kept in ``kept`` (a list of the workspace's) when the dock is closed."""

    def __init__(self, dock: Dock, kept: list[str], on_change: Callable[[], Any]) -> None:
        super().__init__()
        self._genes, self._on_change = kept, on_change
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.search = GeneSearch(dock, self.add, "Add a gene, e.g. ERBB2")
        self.search.setToolTip("Type a part of a symbol and choose; only genes of this panel can be perturbed")
        self._chips = QWidget()
        self._grid = QGridLayout(self._chips)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        layout.addWidget(self.search)
        layout.addWidget(self._chips)
        self._show()

    @property
    def genes(self) -> list[str]:
        """What was chosen."""
        return list(self._genes)

    def add(self, gene: str) -> None:
        """Choose one more."""
        if gene not in self._genes:
            self._genes.append(gene)
        self.search.clear()
        self._show()

    def remove(self, gene: str) -> None:
        """Choose it no more."""
        if gene in self._genes:
            self._genes.remove(gene)
        self._show()

    def _show(self) -> None:
        empty_layout(self._grid)
        for i, gene in enumerate(self._genes):
            chip = button(f"{gene}  ×", partial(self.remove, gene), tip=f"Leave {gene} out")
            self._grid.addWidget(chip, *divmod(i, _A_ROW))
        self._chips.setVisible(bool(self._genes))
        self._on_change()
