"""Tokens of neighbours and of pooled neighbourhoods."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import stplm
from stplm.errors import SectionError
from stplm.spatial.graph import neighbour_graph
from stplm.tokens.panels import panel

GENES = panel("hBreast")["ensembl_id"].to_numpy()


def section(n_cells: int = 120, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (n_cells, len(GENES)))
    counts[::10] = 0
    cells = ad.AnnData(sparse.csr_matrix(counts, dtype=np.int32), var=pd.DataFrame(index=GENES))
    cells.obsm["spatial"] = rng.uniform(0, 120, (n_cells, 2))
    return cells


def test_each_gives_the_neighbours_own_sentences_nearest_first() -> None:
    cells = section()
    graph = neighbour_graph(cells.obsm["spatial"], k=4)
    alone = stplm.rank_encode(cells)
    each = stplm.rank_encode(cells, neighbours="each", k=4)
    np.testing.assert_array_equal(each.cells, np.repeat(np.arange(cells.n_obs), 4))
    np.testing.assert_array_equal(each.neighbours, graph.indices)
    for row in range(len(each)):
        np.testing.assert_array_equal(each.row(row), alone.row(graph.indices[row]))


def test_pooled_is_the_sentence_of_the_summed_counts() -> None:
    cells = section()
    pooled = stplm.rank_encode(cells, neighbours="pooled", radius=25.0)
    near = np.linalg.norm(cells.obsm["spatial"][:, None] - cells.obsm["spatial"], axis=-1) <= 25
    np.fill_diagonal(near, False)
    summed = ad.AnnData(sparse.csr_matrix(near.astype(np.int32) @ cells.X.toarray()), var=cells.var)
    expected = stplm.rank_encode(summed)
    np.testing.assert_array_equal(pooled.ids, expected.ids)
    np.testing.assert_array_equal(pooled.bins, expected.bins)
    np.testing.assert_array_equal(pooled.offsets, expected.offsets)


def test_a_cell_counts_as_its_own_neighbour_only_where_the_graph_says_so() -> None:
    cells = section(2)
    cells.obsm["spatial"] = np.array([[0.0, 0.0], [500.0, 0.0]])
    cells.X = sparse.csr_matrix(np.tile([3, 2, 1] + [0] * (len(GENES) - 3), (2, 1)))
    lonely = stplm.rank_encode(cells, neighbours="pooled", radius=20.0)
    assert lonely.lengths.tolist() == [1, 1]
    own = neighbour_graph(cells.obsm["spatial"], radius=20.0, include_self=True)
    np.testing.assert_array_equal(
        stplm.rank_encode(cells, neighbours="pooled", graph=own).ids, stplm.rank_encode(cells).ids
    )


def test_faint_cells_give_no_row_and_are_no_ones_neighbour() -> None:
    cells = section()
    enough = np.asarray(cells.X.sum(axis=1)).ravel() >= 10
    each = stplm.rank_encode(cells, neighbours="each", k=5, min_counts=10)
    assert enough[each.cells].all()
    assert enough[each.neighbours].all()
    pooled = stplm.rank_encode(cells, neighbours="pooled", k=5, min_counts=10)
    np.testing.assert_array_equal(pooled.cells, np.flatnonzero(enough))
    # Empty cells add nothing to a sum: only their own rows are missing.
    everyone = stplm.rank_encode(cells, neighbours="pooled", k=5)
    np.testing.assert_array_equal(pooled.ids, everyone.take(pooled.cells).ids)


def test_the_section_may_be_numbered_in_any_order() -> None:
    cells = section()
    order = np.random.default_rng(5).permutation(cells.n_obs)
    straight = stplm.rank_encode(cells, neighbours="pooled", k=6)
    shuffled = stplm.rank_encode(cells[order].copy(), neighbours="pooled", k=6)
    np.testing.assert_array_equal(shuffled.ids, straight.take(order).ids)


def test_bad_requests_are_named() -> None:
    cells = section(20)
    graph = neighbour_graph(cells.obsm["spatial"], k=2)
    with pytest.raises(ValueError, match="give k"):
        stplm.rank_encode(cells, neighbours="each")
    with pytest.raises(ValueError, match="not both"):
        stplm.rank_encode(cells, neighbours="each", graph=graph, k=2)
    with pytest.raises(ValueError, match="'each' or 'pooled'"):
        stplm.rank_encode(cells, neighbours="all", k=2)
    with pytest.raises(SectionError, match="another table"):
        stplm.rank_encode(section(30), neighbours="pooled", graph=graph)
    del cells.obsm["spatial"]
    with pytest.raises(SectionError, match="need positions"):
        stplm.rank_encode(cells, neighbours="pooled", radius=10.0)
