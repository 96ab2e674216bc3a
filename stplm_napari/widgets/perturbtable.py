"""The ranked genes of a scenario, and of a second one beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHBoxLayout, QHeaderView, QLineEdit, QTableView, QVBoxLayout, QWidget

from stplm_napari.scenario import Scenario
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    import pandas as pd

Index = QModelIndex | QPersistentModelIndex
_TITLES = {"shift": "Shift", "to_goal": "To goal", "from_start": "From start"}
_TIPS = {
    "Genes": "What was perturbed",
    "Cells": "Cells that express it and were perturbed",
    "Tumour": "Mean change of the tumour probability, between -1 and 1",
    "Size": "Rank-biserial correlation against genes of like expression, between -1 and 1",
    "FDR": "False discovery rate of the Mann-Whitney test against genes of like expression (Benjamini-Hochberg)",
}
_ROW, _MOST_ROWS = 22, 12


class GeneTable(QWidget):
    """In the order of :meth:`Perturbation.ranked`; "within noise" rows are grey. A chosen row goes to ``on_gene``."""

    def __init__(self, on_gene: Callable[[str], Any], on_save: Callable[[], Any]) -> None:
        super().__init__()
        self._on_gene = on_gene
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter genes")
        self.filter.setClearButtonEnabled(True)
        self.clear_only = button("Beyond noise", self._filter, tip="Hide what is within the model's own noise")
        self.clear_only.setCheckable(True)
        row = QHBoxLayout()
        row.addWidget(self.filter, 1)
        row.addWidget(self.clear_only)
        self.model = _Genes()
        self._proxy = _Rows()
        self._proxy.setSourceModel(self.model)
        self.view = QTableView()
        self.view.setModel(self._proxy)
        self.view.setSortingEnabled(True)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        self.view.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(_ROW)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setShowGrid(False)
        self.view.clicked.connect(lambda index: self._on_gene(self.gene_at(index.row())))
        self.words = text(kind="hint")
        self.save = button("Save table…", on_save, tip="All columns, as CSV or Parquet")
        self.filter.textChanged.connect(self._filter)
        layout.addLayout(row)
        layout.addWidget(self.view)
        layout.addWidget(self.words)
        layout.addWidget(self.save)

    def show_scenario(self, scenario: Scenario, compared: Scenario | None) -> None:
        """Fill the table, in the order of the shown scenario."""
        self.model.show(scenario, compared)
        self._proxy.sort(-1)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        table = scenario.result.genes
        there = table["detections"] > 0
        within = int((table["within_noise"] & there).sum())
        absent = len(table) - int(there.sum())
        words = f"{int(there.sum()):,} of {len(table):,} detected in these cells, {within:,} within noise (grey)."
        self.words.setText(words if absent or within or len(table) > 1 else "")
        self.words.setVisible(bool(self.words.text()))
        rows = min(max(self.model.rowCount(), 2), _MOST_ROWS)
        self.view.setFixedHeight(_ROW * (rows + 1) + 20)

    def gene_at(self, row: int) -> str:
        """Name in a row as it is seen."""
        return str(self._proxy.index(row, 0).data())

    def _filter(self, *_: object) -> None:
        self._proxy.only(self.filter.text(), self.clear_only.isChecked())


class _Genes(QAbstractTableModel):
    """The columns that fit beside each other; the file that is saved has all."""

    def __init__(self) -> None:
        super().__init__()
        self._titles: list[str] = []
        self._columns: list[np.ndarray] = []
        self.noise = np.zeros(0, dtype=bool)

    def show(self, scenario: Scenario, compared: Scenario | None) -> None:
        """Another scenario."""
        table = scenario.result.genes.iloc[scenario.result.ranked()]
        effect = scenario.effect
        columns: dict[str, Any] = {"Genes": table["genes"], "Cells": table["detections"]}
        columns[_TITLES[effect]] = table[effect]
        if compared is not None:
            other = compared.result.genes.set_index("genes")
            columns[f"{compared.name}: {_TITLES[compared.effect]}"] = other[compared.effect].reindex(table["genes"])
        optional = {"FDR": "fdr", "Tumour": "tumour", "Size": "effect_size"}
        columns |= {title: table[name] for title, name in optional.items() if name in table}
        self.beginResetModel()
        self._titles, self._columns = list(columns), [np.asarray(c) for c in columns.values()]
        self.noise = table["within_noise"].to_numpy()
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  (Qt's signature)
        """Qt's."""
        return len(self.noise)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Qt's."""
        return len(self._titles)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt's."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self._titles):
            return None
        title = self._titles[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return title
        return _TIPS.get(title, "Mean over these cells") if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt's."""
        # Views ask for rows of the scenario before while another is put in.
        if index.row() >= len(self.noise) or index.column() >= len(self._columns):
            return None
        value = self._columns[index.column()][index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return value if isinstance(value, str) else _number(value)
        if role == Qt.ItemDataRole.UserRole:
            return value if isinstance(value, str) else float(value)
        if role == Qt.ItemDataRole.ForegroundRole and self.noise[index.row()]:
            return QColor(128, 128, 128)
        if role == Qt.ItemDataRole.ToolTipRole and self.noise[index.row()]:
            return "Within noise: losing as many molecules at random does as much"
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column():
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


class _Rows(QSortFilterProxyModel):
    def __init__(self) -> None:
        super().__init__()
        self.setSortRole(Qt.ItemDataRole.UserRole)
        self._text, self._clear = "", False

    def lessThan(self, left: Index, right: Index) -> bool:
        """Qt's. What was not measured comes last, whichever way is up: NaN compares with nothing, and a sort that meets
        it gives any order."""
        one, other = (index.data(self.sortRole()) for index in (left, right))
        lacking = [value is None or value != value for value in (one, other)]
        if any(lacking):
            falling = self.sortOrder() == Qt.SortOrder.DescendingOrder
            return lacking[0] if falling and not all(lacking) else lacking[1] and not lacking[0]
        return bool(one < other)

    def only(self, words: str, clear: bool) -> None:
        self._text, self._clear = words.strip().upper(), clear
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: Index) -> bool:
        model = self.sourceModel()
        assert isinstance(model, _Genes)
        if row >= model.rowCount() or (self._clear and model.noise[row]):
            return False
        return self._text in str(model.index(row, 0).data()).upper()


def save_table(table: pd.DataFrame, path: Path) -> Path:
    """Write all columns as CSV, or as Parquet where the name ends so. Raises ExportError."""
    from stplm.io.staged import staged_file

    with staged_file(path) as stage:
        if path.suffix.lower() == ".parquet":
            table.to_parquet(stage, index=False)
        else:
            table.to_csv(stage, index=False)
    return path


def _number(value: Any) -> str:
    if isinstance(value, np.integer):
        return f"{value:,}"
    number = float(value)
    if not np.isfinite(number):
        return "–"
    if number == 0 or 0.001 <= abs(number) < 1000:
        return f"{number:.4f}"
    return f"{number:.1e}"
