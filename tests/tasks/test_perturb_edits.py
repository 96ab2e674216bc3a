"""What an edit does to counts and ranks."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stplm.tasks.perturb_edits import LevelRule, RankRule, edits_of
from stplm.tasks.perturb_sets import GeneSets

COUNTS = np.array([[4, 1, 0, 3, 2], [0, 0, 0, 0, 0], [1, 1, 1, 1, 6]], dtype=np.float32)
SINGLES = GeneSets.of({str(i): [i] for i in range(5)})


def _by_rank(mode: str) -> RankRule:
    def read(counts: np.ndarray) -> np.ndarray:
        order = np.argsort(-counts, axis=1, kind="stable")
        return np.where(np.take_along_axis(counts, order, axis=1) > 0, order, -1)

    return RankRule(mode, np.ones(5), read)


def test_only_expressed_genes_have_variants_except_to_raise_them() -> None:
    deleted = edits_of(COUNTS, SINGLES, LevelRule.of("delete", sparse.csr_matrix(COUNTS)))
    assert list(zip(deleted.cells, deleted.sets, strict=True)) == [
        (c, g) for c in range(3) for g in range(5) if COUNTS[c, g]
    ]
    assert (deleted.new == 0).all()
    raised = edits_of(COUNTS, SINGLES, LevelRule.of("overexpress", sparse.csr_matrix(COUNTS)))
    assert len(raised) == 15
    assert (raised.new >= raised.old).all()


def test_a_group_has_one_variant_a_cell_with_all_that_it_expresses() -> None:
    group = GeneSets.of({"a": [0, 2, 4], "b": [2]})
    edits = edits_of(COUNTS, group, LevelRule.of("delete", sparse.csr_matrix(COUNTS)))
    assert list(zip(edits.cells, edits.sets, strict=True)) == [(0, 0), (2, 0), (2, 1)]
    assert np.split(edits.columns, edits.offsets[1:-1])[0].tolist() == [0, 4]
    np.testing.assert_allclose(edits.change(), [6, 8, 1])


def test_counts_of_variants() -> None:
    edits = edits_of(COUNTS, SINGLES, LevelRule.of("delete", sparse.csr_matrix(COUNTS)))
    whole = sparse.csr_matrix(np.hstack([np.full((3, 1), 9, dtype=np.float32), COUNTS]))
    edited = edits.apply(whole, np.arange(1, 6)).toarray()
    for row, cell, gene in zip(edited, edits.cells, edits.sets, strict=True):
        expected = np.concatenate([[9], COUNTS[cell]])
        expected[1 + gene] = 0
        np.testing.assert_array_equal(row, expected)


def test_levels_move_by_a_quarter_of_the_distribution() -> None:
    """101 cells of 100 molecules each, of which gene 0 has 1 to 101 in units of a tenth."""
    shares = np.linspace(1, 21, 101, dtype=np.float32)
    counts = np.stack([shares, 100 - shares], axis=1)
    up, down = (LevelRule.of(mode, sparse.csr_matrix(counts)) for mode in ("activate", "inhibit"))
    cells, columns = np.array([0, 50, 99]), np.zeros(3, dtype=np.int64)
    np.testing.assert_allclose(up.edit(counts, cells, columns)[0], [6, 16, 21], atol=0.15)
    np.testing.assert_allclose(down.edit(counts, cells, columns)[0], [1, 6, 15.8], atol=0.15)


def test_ranks_move_by_a_quarter_of_the_sentence() -> None:
    down = edits_of(COUNTS, SINGLES, _by_rank("inhibit"))
    first = down.cells == 0  # ranked 0, 3, 4, 1: four genes, so one place
    assert dict(zip(down.sets[first].tolist(), down.place[first].tolist(), strict=True)) == {0: 1, 3: 2, 4: 3, 1: 3}
    assert dict(zip(down.sets[first].tolist(), down.new[first].tolist(), strict=True)) == {0: 3, 3: 2, 4: 1, 1: 1}
    up = edits_of(COUNTS, SINGLES, _by_rank("activate"))
    first = up.cells == 0
    assert dict(zip(up.sets[first].tolist(), up.place[first].tolist(), strict=True)) == {0: 0, 3: 0, 4: 1, 1: 2}
    raised = edits_of(COUNTS, SINGLES, _by_rank("overexpress"))
    first = raised.cells == 0
    assert raised.new[first].tolist() == [4, 5, 5, 5, 5]
