"""The Perturb dock's table, sorted by what was not measured of every gene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt

from stplm.tasks.perturb_result import Perturbation
from stplm.tasks.perturb_store import MemoryStore
from stplm_napari.scenario import Scenario
from stplm_napari.widgets.perturbtable import GeneTable


@pytest.mark.parametrize("order", [Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder])
def test_missing_values_come_last_whichever_way_is_up(qtbot: object, order: Qt.SortOrder) -> None:
    random = np.random.default_rng(0)
    n = 200
    fdr = np.where(random.random(n) < 0.3, np.nan, random.random(n))
    genes = pd.DataFrame({"genes": [f"G{i}" for i in range(n)], "detections": 20, "shift": random.random(n)})
    genes = genes.assign(fdr=fdr, within_noise=False)
    table = GeneTable(lambda gene: None, lambda: None)
    qtbot.addWidget(table)  # type: ignore[attr-defined]
    scenario = Scenario("A", {}, Perturbation(genes, MemoryStore(), n, info={"effect": "shift"}), "", Path())
    table.show_scenario(scenario, None)
    model = table.view.model()
    column = [model.headerData(i, Qt.Orientation.Horizontal) for i in range(model.columnCount())].index("FDR")
    table.view.sortByColumn(column, order)
    seen = [model.index(row, column).data(Qt.ItemDataRole.UserRole) for row in range(n)]
    known = np.sort(fdr[np.isfinite(fdr)])
    expected = known if order == Qt.SortOrder.AscendingOrder else known[::-1]
    np.testing.assert_array_equal(seen[: len(known)], expected)
