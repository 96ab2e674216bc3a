"""The genes that tell each group of cells from the others; a click colours the tissue by a gene."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QSizePolicy, QWidget

from stplm_napari.widgets.style import button, empty_layout, text

_SHOWN = 3


class MarkerGenes(QWidget):
    """A group a line, its strongest genes as links."""

    def __init__(self, on_gene: Callable[[str], Any]) -> None:
        super().__init__()
        self._on_gene = on_gene
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self.links: dict[tuple[str, str], QWidget] = {}
        self._shown: tuple[pd.DataFrame, Mapping[str, str]] | None = None

    def show_markers(self, markers: pd.DataFrame, colours: Mapping[str, str]) -> None:
        """Replace what is shown; ``markers`` as :func:`stplm.rank_genes` gives them."""
        if self._shown is not None and self._shown[0] is markers and self._shown[1] == colours:
            return  # a dock is refreshed at every prediction, these are made once
        self._shown = markers, dict(colours)
        empty_layout(self._grid)
        self.links = {}
        strong = markers[(markers["score"] > 0) & (markers["p_adjusted"] < 0.05)]
        for row, (name, part) in enumerate(strong.groupby("group", sort=False)):
            dot = f'<span style="color:{colours.get(str(name), "#999999")}">■</span> {name}'
            self._grid.addWidget(text(dot, wrap=False), row, 0)
            genes = QWidget()
            line = QHBoxLayout(genes)
            line.setContentsMargins(0, 0, 0, 0)
            line.setSpacing(8)
            for gene in part.head(_SHOWN).itertuples():
                link = button(str(gene.gene), partial(self._on_gene, str(gene.gene)), "link", tip=_tip(gene))
                self.links[str(name), str(gene.gene)] = link
                line.addWidget(link)
            line.addStretch(1)
            # Long symbols are cut off at the edge rather than making the dock wider than its place.
            genes.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self._grid.addWidget(genes, row, 1)


def _tip(gene: Any) -> str:
    return (
        f"{gene.gene}: in {gene.share:.0%} of these cells and {gene.share_others:.0%} of the others, "
        f"2^{gene.log2_fold_change:.1f} times as much. Click to colour the tissue by it."
    )
