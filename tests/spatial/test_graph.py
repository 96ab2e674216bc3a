"""The neighbour graph against all pairwise distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from stplm.errors import SectionError
from stplm.spatial import graph as graph_module
from stplm.spatial.graph import neighbour_graph

RANDOM = np.random.default_rng(0).uniform(0, 300, (400, 2))
LATTICE = np.stack(np.meshgrid(np.arange(20.0), np.arange(15.0)), axis=-1).reshape(-1, 2) * 10
CROWDED = np.random.default_rng(1).integers(0, 6, (80, 2)).astype(float)
SAME_PLACE = np.zeros((9, 2))
CLUMPS = np.vstack([RANDOM[:60] / 100, RANDOM[:60] + 4000.0, RANDOM[200:260] * 10])
"""Cells as dense as to need a tree, and cells with wide nothing around them."""
LINE = np.column_stack([np.arange(200.0), np.zeros(200)])


def plain_neighbours(xy: np.ndarray, k: int | None, radius: float | None) -> list[np.ndarray]:
    distances = cdist(xy, xy)
    np.fill_diagonal(distances, np.inf)
    rows = []
    for row in distances:
        order = np.lexsort((np.arange(len(row)), row))
        order = order[row[order] <= (np.inf if radius is None else radius)]
        order = order[np.isfinite(row[order])]
        rows.append(order[:k] if k else order)
    return rows


@pytest.mark.parametrize("xy", [RANDOM, LATTICE, CROWDED, SAME_PLACE, CLUMPS, LINE, RANDOM[:3], RANDOM[:1]])
@pytest.mark.parametrize(("k", "radius"), [(None, 30.0), (None, 1.0), (5, None), (1, None), (50, None), (5, 12.0)])
def test_finds_the_neighbours_that_all_distances_give_even_where_distances_tie(xy, k, radius) -> None:
    graph = neighbour_graph(xy, k=k, radius=radius)
    expected = plain_neighbours(xy, k, radius)
    assert graph.n_cells == len(xy)
    assert graph.n_edges == graph.degrees.sum() == sum(map(len, expected))
    for cell, cells in enumerate(expected):
        np.testing.assert_array_equal(graph.neighbours(cell), cells)
    here = np.repeat(np.arange(len(xy)), graph.degrees)
    np.testing.assert_allclose(graph.distances, np.linalg.norm(xy[here] - xy[graph.indices], axis=1), atol=1e-3)


@pytest.mark.parametrize("radius", [None, 15.0])
def test_a_grid_and_a_tree_find_the_same(radius: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    xy = np.vstack([rng.uniform(0, 800, (6000, 2)), np.round(rng.uniform(0, 100, (2000, 2)))])
    by_grid = graph_module.neighbour_graph(xy, k=7, radius=radius)
    monkeypatch.setattr(graph_module, "_PILED", 0)
    by_tree = graph_module.neighbour_graph(xy, k=7, radius=radius)
    for name in ("indptr", "indices", "distances"):
        np.testing.assert_array_equal(getattr(by_grid, name), getattr(by_tree, name))


def test_types_are_compact() -> None:
    graph = neighbour_graph(RANDOM, k=3)
    assert (graph.indptr.dtype, graph.indices.dtype, graph.distances.dtype) == (np.int64, np.int32, np.float32)


def test_the_cell_itself_comes_first_on_request() -> None:
    graph = neighbour_graph(LATTICE, k=4, include_self=True)
    first = graph.indptr[:-1]
    np.testing.assert_array_equal(graph.indices[first], np.arange(len(LATTICE)))
    np.testing.assert_array_equal(graph.distances[first], 0)
    assert (graph.degrees == 5).all()


def test_symmetric_graph_has_each_edge_both_ways_once() -> None:
    graph = neighbour_graph(RANDOM, k=3, symmetric=True)
    edges = graph.to_sparse()
    assert (edges != edges.T).nnz == 0
    assert edges.max() == 1
    one_way = neighbour_graph(RANDOM, k=3).to_sparse()
    assert edges.nnz > one_way.nnz
    assert one_way.multiply(edges).nnz == one_way.nnz
    for cell in range(graph.n_cells):
        row = graph.distances[graph.indptr[cell] : graph.indptr[cell + 1]]
        assert (np.diff(row) >= 0).all()


def test_moving_or_turning_the_section_changes_nothing() -> None:
    turned = RANDOM @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + [5000.0, -700.0]
    for how in ({"k": 6}, {"radius": 25.0}):
        np.testing.assert_array_equal(neighbour_graph(RANDOM, **how).indices, neighbour_graph(turned, **how).indices)


def test_far_away_cells_cost_no_memory() -> None:
    xy = np.vstack([RANDOM[:50], [[1e7, 1e7]]])
    graph = neighbour_graph(xy, radius=20.0)
    assert len(graph.neighbours(50)) == 0
    np.testing.assert_array_equal(graph.indices, neighbour_graph(xy[:50], radius=20.0).indices)


def test_weights() -> None:
    graph = neighbour_graph(np.array([[0.0, 0.0], [3.0, 4.0], [90.0, 0.0]]), radius=10.0)
    assert graph.to_sparse(weights="distance")[0, 1] == 5
    np.testing.assert_array_equal(np.asarray(graph.to_sparse(weights="mean").sum(axis=1)).ravel(), [1, 1, 0])
    with pytest.raises(ValueError, match="weights"):
        graph.to_sparse(weights="gauss")


def test_no_cells() -> None:
    for how in ({"k": 2}, {"radius": 5.0}):
        assert neighbour_graph(np.empty((0, 2)), **how).n_cells == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="give k"):
        neighbour_graph(RANDOM)
    with pytest.raises(ValueError, match="above 0"):
        neighbour_graph(RANDOM, radius=-1)
    with pytest.raises(SectionError, match=r"\(n_cells, 2\)"):
        neighbour_graph(RANDOM.T, k=2)
    with pytest.raises(SectionError, match="1 of 3 not finite"):
        neighbour_graph(np.array([[0, 0], [1, np.nan], [2, 2]]), k=1)
