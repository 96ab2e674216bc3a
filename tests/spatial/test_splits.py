"""Held-out squares: far enough from what is learnt, every class on both sides, the same on every run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from stplm.errors import LabelError, SectionError
from stplm.spatial.splits import fold_blocks, side_by_side, split_blocks, split_sections

RANDOM = np.random.default_rng(0)
XY = RANDOM.uniform(0, 1600, (3000, 2))
LABELS = RANDOM.choice(["B", "Stromal", "T"], 3000, p=[0.02, 0.6, 0.38]).astype(object)
LABELS[RANDOM.random(3000) < 0.5] = None


def gap(split) -> float:
    return float(cdist(XY[split.train], XY[split.test]).min())


def test_held_out_squares_are_whole_a_buffer_apart_and_about_the_share_asked_for() -> None:
    split = split_blocks(XY, share=0.2)
    assert not (split.train & split.test).any()
    assert gap(split) > 30
    assert 0.17 < split.test.mean() < 0.23
    assert split.train.mean() > 0.5
    # Whole squares: no square of the grid has held-out cells beside others.
    square = np.floor((XY - XY.min(0)) / 200) @ [1, 1000]
    assert not np.isin(square[~split.test], square[split.test]).any()
    # A wider buffer only takes from what is learnt.
    wide = split_blocks(XY, share=0.2, buffer=80)
    assert gap(wide) > 80
    np.testing.assert_array_equal(wide.test, split.test)


def test_same_seed_same_split_another_seed_another() -> None:
    first, again, other = (split_blocks(XY, labels=LABELS, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    np.testing.assert_array_equal(first.train, again.train)
    assert (first.test != other.test).any()


def test_every_class_is_on_both_sides_in_about_its_share() -> None:
    split = split_blocks(XY, labels=LABELS)
    assert not (split.train | split.test)[np.equal(LABELS, None)].any()
    for name in ("B", "Stromal", "T"):
        assert 0.08 < split.test[name == LABELS].mean() < 0.35
        assert split.train[name == LABELS].mean() > 0.3
    assert gap(split) > 30


def test_squares_get_smaller_where_a_class_lies_in_one_of_them() -> None:
    labels = LABELS.copy()
    corner = np.flatnonzero((XY < 190).all(1))
    labels[corner] = "Rare"
    split = split_blocks(XY, labels=labels)
    assert split.block < 200
    assert split.train[corner].any()
    assert split.test[corner].any()
    assert gap(split) > 30


def test_classes_that_cannot_be_on_both_sides_are_named() -> None:
    labels = LABELS.copy()
    labels[7] = "Single"
    spot = np.argsort(((XY - [800, 800]) ** 2).sum(1))[:2]
    labels[spot] = "Pair"
    with pytest.raises(LabelError, match=r"Pair, Single[\s\S]*elsewhere in the tissue"):
        split_blocks(XY, labels=labels)
    split = split_blocks(XY, labels=labels, strict=False)
    assert split.missing == ("Pair", "Single")
    assert split.test[labels == "T"].any()
    with pytest.raises(LabelError, match="No cell has a label"):
        split_blocks(XY, labels=np.full(3000, np.nan, dtype=object))
    with pytest.raises(SectionError, match="too small"):
        split_blocks(XY[:50] / 100)


def test_folds_hold_out_each_labelled_cell_once() -> None:
    splits = fold_blocks(XY, labels=LABELS, folds=4)
    known = ~np.equal(LABELS, None)
    np.testing.assert_array_equal(sum(s.test.astype(int) for s in splits), known.astype(int))
    assert all(gap(s) > 30 and not s.missing for s in splits)
    assert all(0.15 < s.test.sum() / known.sum() < 0.35 for s in splits)
    labels = LABELS.copy()
    labels[np.flatnonzero(labels == "B")[3:]] = None
    with pytest.raises(LabelError, match=r"4 folds[\s\S]*Found: B\b"):
        fold_blocks(XY, labels=labels, folds=4)


def test_sections() -> None:
    split = split_sections(5, share=0.2, seed=3)
    assert split.test.sum() == 1
    assert (split.train ^ split.test).all()
    with pytest.raises(SectionError, match="spatial block"):
        split_sections(1)
    both = side_by_side([XY[:100], XY[100:160] - 5000])
    assert both.shape == (160, 2)
    assert cdist(both[:100], both[100:]).min() > 1000
    np.testing.assert_allclose(cdist(both[:100], both[:100]), cdist(XY[:100], XY[:100]))
