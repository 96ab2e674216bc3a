"""Arrows on the map: where the cells of the scenario that is seen would lie. No Qt."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from stplm_napari.jobs import Slot
from stplm_napari.perturb_tasks import arrows_in_worker
from stplm_napari.results import snapshot

if TYPE_CHECKING:
    from stplm.progress import Progress
    from stplm.tasks.perturb_arrows import Arrows
    from stplm_napari.mapping import CellMap
    from stplm_napari.workspace import Workspace

MOST_SINGLE = 300
"""Of more cells the mean arrow of each part of the map is shown."""
_READABLE = 0.06
"""Of the map's extent: how long the longest arrows are drawn at least; one gene moves cells by less than is seen."""


class MapArrows:
    """Follows the scenario that is seen and the map, once both are there."""

    changed = Signal()

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.placing = Slot()
        self.shown: Arrows | None = None
        self.words = ""
        """What the arrows mean; "" while there are none."""
        self._wanted: tuple[Any, ...] = ()
        workspace.perturbing.changed.connect(self.refresh)
        workspace.mapping.changed.connect(self.refresh)

    def refresh(self) -> None:
        """Make arrows of what is seen now, unless they are there."""
        state, cells = self._workspace.perturbing, self._workspace.mapping.current
        scenario, gene = state.shown, state.gene
        wanted = () if scenario is None or not gene or cells is None else (scenario, gene, cells)
        if wanted == self._wanted:
            return
        self._wanted, self.shown, self.words = wanted, None, ""
        self.placing.clear()
        self.changed.emit()
        if scenario is None or cells is None or gene not in scenario.result.vectors:
            return
        table = snapshot(self._workspace.session.table)

        def place(progress: Progress) -> Arrows:
            with tempfile.TemporaryDirectory(prefix="stplm-") as folder:
                return arrows_in_worker(table, scenario.folder, gene, Path(folder), self._workspace.worker, progress)

        def put(found: Arrows) -> bool:
            if self._wanted != wanted:
                return False
            self.shown, self.words = _readable(found, cells)
            self.words += f" after {scenario.params['mode']} {gene} ({scenario.name})."
            self.changed.emit()
            return True

        self.placing.take(self._workspace.jobs.start("Placing arrows on the map", place, put, quiet=True))


def _readable(found: Arrows, cells: CellMap) -> tuple[Arrows, str]:
    """The mean arrows of many cells, long enough to be seen; and what they mean, to be ended."""
    field = found.field() if len(found.cells) > MOST_SINGLE else found
    shown = field if len(field.cells) else found
    whose = f"mean of {len(found.cells):,} cells" if shown is not found else f"{len(found.cells):,} cells"
    moved = shown.end - shown.start
    longest = float(np.percentile(np.hypot(*moved.T), 95)) if len(moved) else 0.0
    extent = float(np.ptp(np.nanpercentile(cells.xy, (1, 99), axis=0), axis=0).max())
    times = float(f"{_READABLE * extent / longest:.1g}") if longest else 1.0
    if times <= 1:
        return shown, f"Arrows, {whose}: where they would lie"
    longer = replace(shown, end=(shown.start + times * moved).astype(np.float32))
    return longer, f"Arrows, {whose}, drawn {times:g} times as long: where they would move"
