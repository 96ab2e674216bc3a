"""A perturbation that was run in a viewer: what was asked, in words too, and what came out. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stplm_napari.perturb_tasks import ALL, SELECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stplm.tasks.perturb_result import Perturbation

MEASURES = {
    "shift": "Shift of the cell",
    "to_goal": "Shift to the goal",
    "tumour": "Change of tumour probability",
    "own_class": "Change of its class's probability",
}
"""What a perturbed cell can be coloured by."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A perturbation that was run: its name, what was asked, what came out, and when (local time, HH:MM)."""

    name: str
    params: Mapping[str, Any]
    result: Perturbation
    at: str
    folder: Path
    """Where its files are."""
    model_has_changed: Callable[[], bool] = lambda: False

    @property
    def effect(self) -> str:
        """The measure that its genes are ranked by."""
        return str(self.result.info["effect"])

    @property
    def words(self) -> str:
        """What was asked, in a line."""
        genes = self.params["genes"]
        which = "every gene" if genes == ALL else ", ".join(genes[:3]) + (" …" if len(genes) > 3 else "")
        cells = self.params["cells"]
        where = {ALL: "all cells", SELECTED: "selected cells"}.get(cells["from"]) or cells["name"]
        if (n := self.result.info["cells"]) == self.params.get("max_cells"):
            where = f"{n:,} of {where}"
        return f"{self.name}: {self.params['mode']} {which} in {where}"

    def measures(self) -> list[str]:
        """What its cells can be coloured by."""
        return [name for name in MEASURES if name in self.result.genes]

    def ring_words(self, gene: str) -> str:
        """How the cells around answered to a row, by distance; "" where they were not asked."""
        rings = self.result.rings
        if rings is None or not gene:
            return ""
        mine = rings[rings["genes"] == gene]
        lines = [
            f"{row.from_um:.0f} to {row.to_um:.0f} µm: {row.shift:.1e} ({row.cells:,} cells)"
            for row in mine[mine["to_um"] < float("inf")].itertuples()
        ]
        return "\n".join([f"Shift of the cells around, {gene}:", *lines[:5]]) if lines else ""
