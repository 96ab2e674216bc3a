"""Cells in a drawn shape: the same as one by one, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path

from stplm_napari.selection import CellGrid, in_brush, in_polygon
from stplm_napari.tools import Shape

RNG = np.random.default_rng(3)
CELLS = RNG.random((20_000, 2)) * [3000, 1800] - [500, 200]


def lasso(n: int, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    r = radius * (1 + 0.3 * np.sin(7 * angle))
    return np.stack([900 + r * np.cos(angle), 700 + r * np.sin(angle)], axis=1)


@pytest.mark.parametrize("outline", [lasso(500, 400), lasso(3, 700), lasso(4000, 90), lasso(60, 9000), lasso(9, 0.5)])
def test_a_polygon_takes_the_cells_that_matplotlib_finds_inside(outline: np.ndarray) -> None:
    expected = np.flatnonzero(Path(outline).contains_points(CELLS))
    assert np.array_equal(in_polygon(CellGrid(CELLS), outline), expected)


def test_self_crossings_and_holes_are_outside() -> None:
    xy = np.array([[0.5, 2.0], [2.0, 0.5], [1.0, 1.9]])
    assert in_polygon(xy, [(0, 0), (4, 4), (4, 0), (0, 4)]).tolist() == [0, 2]
    outer, hole = [(0, 0), (10, 0), (10, 10), (0, 10)], [(4, 4), (6, 4), (6, 6), (4, 6), (4, 5)]
    assert in_polygon(np.array([[5.0, 5.0], [2.0, 2.0], [11.0, 5.0]]), [outer, hole]).tolist() == [1]
    with pytest.raises(ValueError, match="three"):
        in_polygon(xy, [(0, 0), (4, 0)])


def test_a_brush_takes_the_cells_within_its_radius() -> None:
    import shapely

    path = np.array([[0.0, 0.0], [900.0, 700.0], [900.0, 700.0], [-200.0, 900.0]])
    for points in (path, path[:1]):
        line = shapely.LineString(points) if len(points) > 1 else shapely.Point(points[0])
        expected = np.flatnonzero(shapely.dwithin(shapely.points(CELLS), line, 60.0))
        assert len(expected) > 20
        assert np.array_equal(in_brush(CellGrid(CELLS), points, 60.0), expected)


@pytest.mark.parametrize("cells", [np.zeros((0, 2)), np.full((4, 2), np.nan), np.ones((5, 2)), CELLS[:1]])
def test_no_section_is_too_small(cells: np.ndarray) -> None:
    everywhere = [(-1e4, -1e4), (1e4, -1e4), (1e4, 1e4), (-1e4, 1e4)]
    placed = np.flatnonzero(np.isfinite(cells).all(axis=1))
    grid = CellGrid(cells)
    assert np.array_equal(in_polygon(grid, everywhere), placed)
    assert np.array_equal(in_brush(grid, [(0.0, 0.0)], 1e4), placed)
    assert in_polygon(grid, np.add(everywhere, 9e4)).size == 0


def test_the_outline_of_a_stroke_holds_the_cells_of_the_stroke() -> None:
    angle = np.linspace(0, 2 * np.pi, 60)
    ring = Shape(np.stack([900 + 300 * np.cos(angle), 700 + 300 * np.sin(angle)], axis=1), 40.0)
    rings = ring.rings()
    assert len(rings) == 2, "a closed stroke leaves a hole"
    inside, brushed = in_polygon(CELLS, rings), in_brush(CELLS, ring.points, 40.0)
    assert len(np.setxor1d(inside, brushed)) < 0.03 * len(brushed)
