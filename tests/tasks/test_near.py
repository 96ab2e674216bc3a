"""Nearest neighbours from lists: exact where all lists are looked through, nearly so with a few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stplm.tasks import near
from stplm.tasks.near import Lists


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(scale=4, size=(20, 12))
    return (centres[random.integers(20, size=6_000)] + random.normal(size=(6_000, 12))).astype(np.float32)


def test_with_all_lists_none_is_missed(points: np.ndarray) -> None:
    found, distances = Lists.of(points[:5_000]).nearest(points[5_000:], 10, 10**6)
    expected, rows = cKDTree(points[:5_000]).query(points[5_000:], k=10)
    assert found.dtype == np.int32
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_with_a_few_lists_nearly_all_are_found() -> None:
    points = np.random.default_rng(2).normal(size=(6_000, 6)).astype(np.float32)  # no kinds: the hard case
    lists = Lists.of(points[:5_000])
    few, all_of_them = (lists.nearest(points[5_000:], 10, number)[0] for number in (4, 10**6))
    same = [len(np.intersect1d(a, b)) for a, b in zip(few, all_of_them, strict=True)]
    assert 0.8 < np.mean(same) / 10 < 1


def test_a_point_of_the_lists_is_its_own_nearest(points: np.ndarray) -> None:
    found, distances = Lists.of(points).nearest(points, 3, 4)
    np.testing.assert_array_equal(found[:, 0], np.arange(len(points)))
    assert not distances[:, 0].any()


@pytest.mark.parametrize("n", [1, 7, 300])
def test_few_points_and_points_that_are_all_the_same(n: int) -> None:
    same = np.ones((n, 4), np.float32)
    found, distances = Lists.of(same).nearest(same[:2], n, 1)
    assert [sorted(row) for row in found.tolist()] == [list(range(n))] * len(found)
    assert not distances.any()


def test_more_lists_are_looked_through_where_those_hold_too_few() -> None:
    random = np.random.default_rng(1)
    apart = np.concatenate([random.normal(size=(1_000, 3)), random.normal(100, 1, (24, 3))]).astype(np.float32)
    found, _ = Lists.of(apart).nearest(apart[-1:], 40, 1)
    assert len(set(found[0].tolist())) == 40


def test_the_same_bytes_with_any_number_of_threads(points: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Lists.of(points).nearest(points, 5, 3)
    monkeypatch.setattr(near, "_ROWS", 700)
    again = Lists.of(points).nearest(points, 5, 3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, again, strict=True))
