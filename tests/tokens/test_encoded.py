"""Token sentences in flat arrays: rows, batches, files."""

from __future__ import annotations

import numpy as np
import pytest

from stplm.errors import SectionError
from stplm.tokens.encoded import N_BINS, RankTokens, count_bins


def tokens(neighbours: np.ndarray | None = None) -> RankTokens:
    return RankTokens(
        ids=np.array([2, 10, 11, 2, 2, 12], dtype=np.int16),
        bins=np.array([0, 3, 1, 0, 0, 9], dtype=np.uint8),
        offsets=np.array([0, 3, 4, 6], dtype=np.int64),
        cells=np.array([0, 1, 5], dtype=np.int32),
        neighbours=neighbours,
        vocabulary="stplm",
        pad=0,
    )


def test_rows() -> None:
    rows = tokens()
    assert len(rows) == 3
    assert rows.lengths.tolist() == [3, 1, 2]
    assert rows.row(0).tolist() == [2, 10, 11]
    assert rows.row(-1).tolist() == [2, 12]
    with pytest.raises(IndexError):
        rows.row(3)


def test_taking_rows_in_any_order_and_more_than_once() -> None:
    taken = tokens().take(np.array([2, 0, 2]))
    assert [taken.row(i).tolist() for i in range(3)] == [[2, 12], [2, 10, 11], [2, 12]]
    assert taken.bins.tolist() == [0, 9, 0, 3, 1, 0, 9]
    assert taken.cells.tolist() == [5, 0, 5]
    assert len(tokens().take(np.array([], dtype=int))) == 0


def test_a_batch_is_padded_and_masked() -> None:
    ids, bins, mask = tokens().to_padded()
    assert ids.tolist() == [[2, 10, 11], [2, 0, 0], [2, 12, 0]]
    assert bins.tolist() == [[0, 3, 1], [0, 0, 0], [0, 9, 0]]
    assert mask.sum(axis=1).tolist() == [3, 1, 2]
    assert ids.dtype == np.int16
    wide, _, _ = tokens().to_padded(5, rows=np.array([2]))
    assert wide.tolist() == [[2, 12, 0, 0, 0]]
    cut, _, mask = tokens().to_padded(2)
    assert cut.tolist() == [[2, 10], [2, 0], [2, 12]]
    assert mask.tolist() == [[True, True], [True, False], [True, True]]


@pytest.mark.parametrize("neighbours", [None, np.array([3, 4, 0], dtype=np.int32)])
@pytest.mark.parametrize("memory_map", [True, False])
def test_a_saved_folder_reads_back_equal(tmp_path, neighbours, memory_map) -> None:
    before = tokens(neighbours)
    before.save(tmp_path / "t")
    before.save(tmp_path / "t")
    after = RankTokens.load(tmp_path / "t", memory_map=memory_map)
    for name in ("ids", "bins", "offsets", "cells", "neighbours"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert (after.vocabulary, after.pad, after.ids.dtype) == ("stplm", 0, np.int16)
    assert isinstance(after.ids, np.memmap) == memory_map
    np.testing.assert_array_equal(after.to_padded()[0], before.to_padded()[0])


def test_a_damaged_folder_is_refused(tmp_path) -> None:
    with pytest.raises(SectionError, match="not a whole folder of tokens"):
        RankTokens.load(tmp_path)
    tokens().save(tmp_path / "t")
    np.save(tmp_path / "t" / "ids.npy", np.zeros(3, dtype=np.int16))
    with pytest.raises(SectionError, match="do not fit together"):
        RankTokens.load(tmp_path / "t")
    (tmp_path / "t" / "ids.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(SectionError):
        RankTokens.load(tmp_path / "t")


def test_bins_grow_with_counts_and_tell_small_ones_apart() -> None:
    bins = count_bins(np.arange(100_000))
    assert bins[:5].tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(bins.astype(int)) >= 0).all()
    assert bins.max() == N_BINS - 1
    assert bins.dtype == np.uint8
