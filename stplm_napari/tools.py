"""What the mouse does on the tissue: the tool, the shape it draws, and the cells in that shape. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.picking import CellPicker

CLICK, LASSO, POLYGON, BRUSH = "click", "lasso", "polygon", "brush"
"""How a shape is made: a click takes one cell."""
LABEL, CLEAR, SELECT, REGION = "label", "clear", "select", "region"
"""What becomes of it: its cells get the active class, lose their labels, are selected; or it is a named region."""
SELECT_MORE = "select more"
"""Its cells are selected beside those that are."""
MIN_RADIUS_UM, MAX_RADIUS_UM = 1.0, 2000.0
_BRUSH_STEP = 1.25


@dataclass(frozen=True)
class Tool:
    """The tool in hand: how a shape is made, what becomes of it, and the radius of the brush in µm."""

    shape: str = CLICK
    does: str = LABEL
    radius_um: float = 25.0

    @property
    def draws(self) -> bool:
        """Whether a drag with the left button draws instead of moving the view."""
        return self.shape != CLICK

    def resized(self, steps: int) -> float:
        """The radius of a brush so many steps larger (or smaller)."""
        return round(float(np.clip(self.radius_um * _BRUSH_STEP**steps, MIN_RADIUS_UM, MAX_RADIUS_UM)), 1)


@dataclass(frozen=True)
class Shape:
    """What was drawn: (n, 2) x, y in µm of an outline, or of the path of a brush of that radius."""

    points: NDArray[np.float64]
    radius_um: float | None = None

    def rings(self) -> list[NDArray[np.float64]]:
        """Its outline: one closed ring as drawn, or all rings around what a brush covered. (n, 2) x, y in µm."""
        if self.radius_um is None:
            return [self.points]
        import shapely

        path = shapely.LineString(self.points) if len(self.points) > 1 else shapely.Point(self.points[0])
        covered = path.buffer(self.radius_um, quad_segs=8).simplify(self.radius_um / 50)
        return [np.array(ring.coords)[:-1] for ring in (covered.exterior, *covered.interiors)]

    def cells(self, picker: CellPicker) -> NDArray[np.int64]:
        """Rows of the cells in it, ascending.

        By centroid; a brush also takes the cells that its middle went over, so that one smaller than a cell works.
        """
        from stplm_napari.selection import in_brush, in_polygon

        grid = picker.grid
        if grid is None:
            return np.zeros(0, np.int64)
        if self.radius_um is None:
            return in_polygon(grid, self.points)
        return np.union1d(in_brush(grid, self.points, self.radius_um), picker.cells_along(self.points))
