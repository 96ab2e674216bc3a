"""From a place on the tissue to the cell there. Reads the cell label image, never the coloured overlay."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from numpy.typing import ArrayLike, NDArray

    from stplm_napari.selection import CellGrid

REACH_UM = 4.0
"""A click between cells takes the nearest centroid within this distance."""
_TILE_PX = 256
DRAG_PX = 4
"""A mouse that moved this many screen pixels was panning, not clicking."""


class HasPicker(Protocol):
    """Whatever knows the picker of now."""

    @property
    def picker(self) -> CellPicker:
        """It."""
        ...


class CellPicker:
    """Finds the cell at a place.

    Parameters
    ----------
    labels
        2-D cell label image of the finest level (numpy, dask, zarr, ...), or None where only centroids are known.
    values
        (n_cells,) label value of each row.
    centroids_um
        (n_cells, 2) x, y in µm, or None.
    to_pixel
        3 × 3 matrix from (x, y, 1) in µm to (column, row, 1) with pixel centres at whole numbers.
    """

    def __init__(
        self,
        labels: Any | None,
        values: NDArray[np.integer],
        centroids_um: NDArray[np.floating] | None,
        to_pixel: NDArray[np.floating] | None = None,
    ) -> None:
        self._labels = labels
        self._to_pixel = np.eye(3) if to_pixel is None else to_pixel
        values = np.asarray(values)
        self._rows = np.full(int(values.max()) + 2 if len(values) else 2, -1, np.int64)
        self._rows[values] = np.arange(len(values))
        self._centroids = centroids_um
        self._tree: Any = None
        self._placed = np.zeros(0, np.int64)
        self._grid: CellGrid | None = None
        self._building = threading.Lock()

    @property
    def grid(self) -> CellGrid | None:
        """The centroids sorted for shapes to search in, built at first use (half a second a million cells).

        None where no positions are known. Any thread may ask.
        """
        with self._building:
            if self._grid is None and self._centroids is not None:
                from stplm_napari.selection import CellGrid

                self._grid = CellGrid(self._centroids)
            return self._grid

    def cell_at(self, xy_um: ArrayLike, reach_um: float = REACH_UM) -> int:
        """Row of the cell under a place, else of the nearest centroid within ``reach_um``; -1 when there is none."""
        place = np.asarray(xy_um, float)
        if not np.isfinite(place).all():
            return -1
        row = self._under(place)
        return row if row >= 0 else self._nearest(place, reach_um)

    def cells_along(self, path_um: ArrayLike) -> NDArray[np.int64]:
        """Rows of the cells under a line through (n, 2) places in µm, looked up at every pixel of it; ascending."""
        if self._labels is None:
            return np.zeros(0, np.int64)
        places = np.asarray(path_um, float).reshape(-1, 2)
        corners = (np.c_[places, np.ones(len(places))] @ self._to_pixel.T)[:, :2]
        found = [self._values_between(a, b) for a, b in pairwise(corners)]
        values = np.unique(np.concatenate(found or [self._values_between(*corners[[0, 0]])]))
        rows = self._rows[values[values < len(self._rows)]]
        return np.sort(rows[rows >= 0])

    def _values_between(self, start: NDArray[np.floating], end: NDArray[np.floating]) -> NDArray[np.int64]:
        """Label values at the pixels of a straight line, in tiles so that a long line reads no large window."""
        assert self._labels is not None
        n = int(np.abs(end - start).max()) + 2
        pixels = np.round(start + np.linspace(0, 1, n)[:, None] * (end - start)).astype(np.int64)
        height, width = self._labels.shape
        inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
        values = [np.zeros(0, np.int64)]
        pixels = pixels[inside]
        for part in np.array_split(pixels, max(1, -(-len(pixels) // _TILE_PX))):
            if len(part):
                (x0, y0), (x1, y1) = part.min(axis=0), part.max(axis=0) + 1
                window = np.asarray(self._labels[y0:y1, x0:x1])
                values.append(window[part[:, 1] - y0, part[:, 0] - x0].astype(np.int64))
        return np.concatenate(values)

    def _under(self, place: NDArray[np.floating]) -> int:
        if self._labels is None:
            return -1
        x, y = np.round((self._to_pixel @ [*place, 1.0])[:2]).astype(int)
        height, width = self._labels.shape
        if not (0 <= y < height and 0 <= x < width):
            return -1
        value = int(np.asarray(self._labels[y : y + 1, x : x + 1])[0, 0])
        return int(self._rows[value]) if 0 < value < len(self._rows) else -1

    def _nearest(self, place: NDArray[np.floating], reach_um: float) -> int:
        if self._centroids is None or reach_um <= 0:
            return -1
        if self._tree is None:
            from scipy.spatial import cKDTree

            self._placed = np.flatnonzero(np.isfinite(self._centroids).all(axis=1))
            self._tree = cKDTree(self._centroids[self._placed])
        distance, found = self._tree.query(place, distance_upper_bound=reach_um)
        return int(self._placed[found]) if np.isfinite(distance) else -1


def install_click(
    viewer: Viewer, layers: HasPicker, callback: Callable[[int, Any], None], *, reach_um: float = REACH_UM
) -> Callable[[], None]:
    """Call ``callback(row, event)`` for every click on a cell, until the function that is returned is called.

    A click is a left press and release without a drag in between: panning and zooming never label a cell. ``event`` is
    napari's mouse event (``event.modifiers`` tells Shift or Control; ``event.position`` is (y, x) in µm).
    """

    def on_press(_: Viewer, event: Any) -> Generator[None, None, None]:
        start, moved = np.asarray(event.pos, float), 0.0
        left = event.button == 1
        yield
        while event.type == "mouse_move":
            moved = max(moved, distance_px(start, event))
            yield
        moved = max(moved, distance_px(start, event))
        if left and moved <= DRAG_PX and event.type == "mouse_release" and viewer.dims.ndisplay == 2:
            y, x = event.position[-2:]
            if (row := layers.picker.cell_at((x, y), reach_um)) >= 0:
                callback(row, event)

    viewer.mouse_drag_callbacks.append(on_press)

    def remove() -> None:
        if on_press in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(on_press)

    return remove


def distance_px(start: NDArray[np.floating], event: Any) -> float:
    """How far the mouse is from where it was pressed, along one axis of the screen; a lasso ends where it began."""
    return float(np.abs(np.asarray(event.pos, float) - start).max())
