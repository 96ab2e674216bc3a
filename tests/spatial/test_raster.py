"""Cells painted into label images, and traced back out of them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stplm.errors import SectionError
from stplm.spatial.raster import MAX_RADIUS_UM, default_radius, label_pyramid, rasterise_cells
from stplm.spatial.trace import trace_labels


def test_polygon_owns_the_pixels_whose_centres_it_holds() -> None:
    square = shapely.box(2.0, 1.0, 5.0, 3.0)
    image = rasterise_cells(polygons=[square], pixel_size=0.5, shape=(10, 14))
    want = np.zeros((10, 14), dtype=np.uint32)
    want[2:6, 4:10] = 1
    np.testing.assert_array_equal(image, want)
    assert image.dtype == np.uint32


def test_polygons_agree_with_a_point_in_polygon_test() -> None:
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 25))
    star = shapely.Polygon(np.c_[np.cos(angle), np.sin(angle)] * rng.uniform(5, 20, 25)[:, None] + 25.3)
    ring = star.difference(shapely.Point(25.3, 25.3).buffer(4))
    image = rasterise_cells(polygons=[ring], shape=(50, 50))
    y, x = np.mgrid[:50, :50] + 0.5
    np.testing.assert_array_equal(image == 1, shapely.contains_xy(ring, x, y))


def test_overlap_holes_parts_values_and_empties() -> None:
    two_parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(6, 0, 8, 2)])
    polygons = [two_parts, None, shapely.box(1, 0, 7, 2), shapely.Polygon()]
    image = rasterise_cells(polygons=polygons, shape=(2, 8), values=[7, 8, 9, 10])
    assert image[0].tolist() == [7, 7, 9, 9, 9, 9, 7, 7]


def test_tiny_polygon_keeps_a_pixel() -> None:
    image = rasterise_cells(polygons=[shapely.box(3.1, 2.1, 3.2, 2.2)], shape=(5, 5))
    assert image[2, 3] == 1
    assert image.sum() == 1


def test_discs_are_cut_where_another_cell_is_nearer() -> None:
    xy = np.array([[10.0, 10.0], [16.0, 10.0], [np.nan, 1.0], [40.0, 30.0]])
    image = rasterise_cells(xy, 5.0, pixel_size=0.5, values=[5, 6, 7, 8])
    y, x = (np.mgrid[: image.shape[0], : image.shape[1]] + 0.5) * 0.5
    distance = np.stack([np.hypot(x - cx, y - cy) for cx, cy in xy[[0, 1, 3]]])
    want = np.where(distance.min(axis=0) <= 5, np.array([5, 6, 8])[distance.argmin(axis=0)], 0)
    np.testing.assert_array_equal(image, want)


def test_origin_moves_the_picture() -> None:
    xy = np.array([[110.0, 55.0]])
    image = rasterise_cells(xy, 2.0, origin=(100.0, 50.0), shape=(10, 20))
    assert image[5, 10] == 1
    assert image.sum() == rasterise_cells(xy, 2.0, shape=(100, 200)).sum()


def test_default_radius_follows_the_spacing_and_is_capped() -> None:
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2)
    assert default_radius(grid * 6.0) == pytest.approx(4.5)
    assert default_radius(grid * 100.0) == MAX_RADIUS_UM
    assert default_radius([[3.0, 3.0]]) == 5.0


def test_bad_input() -> None:
    with pytest.raises(SectionError, match="outlines or centroids"):
        rasterise_cells()
    with pytest.raises(SectionError, match="one label value a cell"):
        rasterise_cells([[1.0, 1.0]], values=[1, 2])
    with pytest.raises(SectionError, match="at least 1"):
        rasterise_cells([[1.0, 1.0]], values=[0])


def test_pyramid_never_invents_values() -> None:
    labels = np.random.default_rng(0).integers(0, 1000, (700, 333)).astype(np.uint32)
    levels = label_pyramid(labels, min_size=100)
    assert [level.shape for level in levels] == [(700, 333), (350, 167), (175, 84), (88, 42)]
    np.testing.assert_array_equal(levels[2], labels[::4, ::4])
    assert all(np.shares_memory(level, labels) for level in levels)
    assert len(label_pyramid(labels, min_size=5000)) == 1


def test_traced_outlines_paint_back_exactly() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, (30, 40)).astype(np.uint32)  # pieces, holes and corners that touch
    discs = rasterise_cells(rng.uniform(0, 100, (200, 2)), 4.0, pixel_size=0.5)
    for image in (noise, discs):
        values, polygons = trace_labels(image)
        assert values.tolist() == [v for v in np.unique(image) if v]
        assert shapely.is_valid(polygons).all()
        assert shapely.area(polygons).sum() == (image > 0).sum()
        np.testing.assert_array_equal(rasterise_cells(polygons=polygons, values=values, shape=image.shape), image)
    assert len(trace_labels(np.zeros((4, 4), dtype=np.uint32))[0]) == 0
