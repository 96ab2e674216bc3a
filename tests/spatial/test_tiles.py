"""Tiles: every cell in exactly one, with everything near it, whatever else is in the section."""

from __future__ import annotations

import numpy as np
import pytest

from stplm.spatial.tiles import count_tiles, iter_bands, iter_tiles


def _cells(n: int = 3000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, 2)) * [2300, 1100] + [-150, 900]


@pytest.mark.parametrize(("size", "halo"), [(400, 100), (250, 0), (90, 300), (10_000, 50)])
def test_every_cell_is_in_one_tile_with_its_surroundings(size: float, halo: float) -> None:
    xy = _cells()
    tiles = list(iter_tiles(xy, size, halo))
    own = np.concatenate([t.cells[: t.n_own] for t in tiles])
    assert np.array_equal(np.sort(own), np.arange(len(xy)))
    assert len(tiles) == count_tiles(xy, size)
    for tile in tiles:
        assert (np.abs(xy[tile.cells[: tile.n_own]] - tile.centre) <= size / 2 + 1e-6).all()
        distance = np.abs(xy - tile.centre).max(1) - size / 2
        assert set(np.flatnonzero(distance < halo - 1e-5)) <= set(tile.cells)
        assert (distance[tile.cells] < halo + 1e-5).all()


def test_the_grid_starts_at_the_lowest_corner() -> None:
    xy = _cells()
    centres = np.array([t.centre for t in iter_tiles(xy, 400, 100)])
    steps = (centres - 200 - xy.min(0)) / 400
    assert np.allclose(steps, steps.round())
    assert steps.min() == pytest.approx(0)


def test_the_order_of_cells_means_nothing() -> None:
    xy = _cells(800)
    order = np.random.default_rng(1).permutation(800)
    plain = {tuple(t.centre): (set(t.cells[: t.n_own]), set(t.cells)) for t in iter_tiles(xy, 400, 100)}
    mixed = {
        tuple(t.centre): (set(order[t.cells[: t.n_own]]), set(order[t.cells])) for t in iter_tiles(xy[order], 400, 100)
    }
    assert mixed == plain


def test_cells_far_away_change_no_tile() -> None:
    xy = _cells(500)
    far = np.concatenate([xy, xy.max(0) + [5000, 7000] + _cells(40) * 0.1])
    plain = {tuple(t.centre): t.cells.tolist() for t in iter_tiles(xy, 400, 100)}
    with_far = {tuple(t.centre): t.cells.tolist() for t in iter_tiles(far, 400, 100)}
    assert plain.items() <= with_far.items()


def test_empty_space_has_no_tile() -> None:
    xy = np.array([[0.0, 0.0], [1e6, 1e6]])
    assert [t.cells.tolist() for t in iter_tiles(xy, 400, 100)] == [[0], [1]]
    assert count_tiles(xy, 400) == 2


def test_cells_on_the_edges_are_not_lost() -> None:
    """Edges that are computed lie a rounding error beside cells that stand on them."""
    steps = np.arange(60) * 0.3 - 584.694101915698
    xy = np.stack([steps, np.roll(steps, 7)], axis=1)
    own = np.concatenate([t.cells[: t.n_own] for t in iter_tiles(xy, 0.3, 0.0)])
    assert np.array_equal(np.sort(own), np.arange(len(xy)))


@pytest.mark.parametrize("n", [0, 1])
def test_next_to_nothing(n: int) -> None:
    xy = np.zeros((n, 2))
    assert [t.cells.tolist() for t in iter_tiles(xy, 400, 100)] == [[0]] * n
    assert count_tiles(xy, 400) == n


def test_bands_hold_the_same_tiles() -> None:
    xy = np.random.default_rng(3).uniform(50, [3000, 5000], (4000, 2))
    plain = {tuple(t.centre): (t.cells.tolist(), t.n_own) for t in iter_tiles(xy, 400, 100)}
    found, cells = {}, []
    for band in iter_bands(xy, 400, 100, 700):
        near = xy[band.around]
        cells.append(band.cells)
        assert len(band.cells) >= 700 or band.rows.stop == 13
        for t in iter_tiles(near, 400, 100, origin=band.origin, rows=band.rows):
            found[tuple(t.centre)] = (band.around[t.cells].tolist(), t.n_own)
    assert found == plain
    assert len(cells) > 2
    assert sorted(np.concatenate(cells)) == list(range(len(xy)))
    assert list(iter_bands(xy[:0], 400, 100, 700)) == []
