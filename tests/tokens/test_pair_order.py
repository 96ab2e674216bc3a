"""Cells read off the common order of (gene, count) pairs are those that sorting gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stplm.tokens.pair_order import PairOrder
from stplm.tokens.ranking import rank_block, survey


def ranked(
    counts: sparse.csr_matrix, tokens: np.ndarray, medians: np.ndarray, order: PairOrder, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    csr = (counts.indptr, counts.indices, counts.data)
    lengths, top = survey(*csr, tokens)
    stops = np.cumsum(np.minimum(lengths, longest))
    starts = np.r_[0, stops[:-1]]
    ids, bins = np.zeros(stops[-1], np.int32), np.zeros(stops[-1], np.uint8)
    rank_block(csr, tokens, medians, order, top, starts, stops, ids, bins)
    return ids, bins


class Sorting(PairOrder):
    """Reaches nothing, so that cells are sorted."""

    def reaches(self, top: np.ndarray, stored: int) -> bool:
        return False


@pytest.mark.parametrize("longest", [2048, 30])
@pytest.mark.parametrize("flat", [True, False])
def test_it_is_the_order_that_sorting_gives(longest: int, flat: bool) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.permutation(700)[:500].astype(np.int32)
    tokens[::7] = -1
    medians = np.ones(500) if flat else rng.choice([1.0, 1.0, 0.5, 1 / 3, 2.7], 500)
    dense = rng.poisson(rng.lognormal(-2, 1, 500) * rng.lognormal(0, 1, (400, 1)))
    dense[5, 3] = 900  # as a gene in a bright cell
    dense[9] = 0
    order = PairOrder(tokens, medians)
    few = sparse.csr_matrix(np.minimum(dense[:200], 2), dtype=np.int32)
    counts = sparse.csr_matrix(dense, dtype=np.int32)
    for block in (few, counts, few):  # made anew for the higher counts, then used again
        found = ranked(block, tokens, medians, order, longest)
        expected = ranked(block, tokens, medians, Sorting(tokens, medians), longest)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert order.reaches(np.zeros(500, np.int64), 0)


def test_too_many_pairs_are_sorted_instead() -> None:
    order = PairOrder(np.arange(10, dtype=np.int32), np.ones(10))
    top = np.full(10, 1000)
    assert not order.reaches(top, stored=100)
    counts = sparse.csr_matrix(np.array([[1000, 3, 0, 0, 0, 0, 0, 0, 0, 2000]], dtype=np.int32))
    ids, bins = ranked(counts, np.arange(10, dtype=np.int32), np.ones(10), order, 5)
    assert ids.tolist() == [9, 0, 1]
    assert bins.tolist() == [15, 15, 3]
