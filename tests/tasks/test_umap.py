"""What a map of the cells promises: alike cells close together, those put in later as well as those fitted."""

from __future__ import annotations

import io
import threading

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.manifold import trustworthiness
from tqdm import tqdm

import stplm
from stplm import keys
from stplm.errors import Cancelled, SectionError
from stplm.tasks.umap import draw_sample, is_of_these_vectors, map_vectors

KINDS, EACH = 6, 400


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Six kinds of cells, 400 each, every kind a curved sheet of its own in 20 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 6, (KINDS, 20))
    sheets = rng.normal(0, 1, (KINDS, 2, 20))
    where = rng.uniform(-2, 2, (KINDS, EACH, 2))
    made = centres[:, None] + where @ sheets + rng.normal(0, 0.1, (KINDS, EACH, 20))
    return made.reshape(-1, 20).astype(np.float32)[rng.permutation(KINDS * EACH)]


@pytest.fixture(scope="module")
def places(vectors: np.ndarray) -> np.ndarray:
    return map_vectors(vectors, sample=800)


def test_neighbours_stay_neighbours_whether_fitted_or_put_in(vectors: np.ndarray, places: np.ndarray) -> None:
    fitted = draw_sample(len(vectors), None, 800, np.random.default_rng(0))
    others = np.setdiff1d(np.arange(len(vectors)), fitted)
    assert places.shape == (len(vectors), 2)
    assert places.dtype == np.float32
    assert np.isfinite(places).all()
    of_fitted = trustworthiness(vectors[fitted], places[fitted], n_neighbors=10)
    of_others = trustworthiness(vectors[others], places[others], n_neighbors=10)
    assert of_fitted > 0.95
    assert of_others > of_fitted - 0.02


def test_the_same_seed_gives_the_same_map(vectors: np.ndarray, places: np.ndarray) -> None:
    assert np.array_equal(map_vectors(vectors, sample=800), places)
    assert not np.array_equal(map_vectors(vectors, sample=800, seed=1), places)


def test_a_rare_kind_is_in_the_sample() -> None:
    groups = np.repeat([0, 1, 2, -1], [90_000, 9_500, 60, 440])
    rows = draw_sample(len(groups), groups, 5_000, np.random.default_rng(0))
    assert np.array_equal(rows, np.unique(rows))
    taken = np.bincount(groups[rows] + 1)
    assert taken[3] == 60
    assert taken[0] >= 200
    assert 4_900 <= len(rows) <= 5_000
    assert taken[1] / taken[2] == pytest.approx(90_000 / 9_500, rel=0.2)


def test_it_is_written_where_scanpy_looks_and_says_how_it_was_made(vectors: np.ndarray) -> None:
    table = AnnData(np.ones((600, 1), np.float32), obsm={keys.X_STPLM: vectors[:600]})
    table.obs[keys.CLUSTER] = pd.Categorical(np.arange(600) % 3)
    seen: list[tuple[int, int]] = []
    stplm.umap(table, neighbours=10, sample=300, seed=3, progress=lambda *at: seen.append(at))
    assert table.obsm["X_umap"].shape == (600, 2)
    made = table.uns[keys.UNS][keys.UNS_MAP]
    assert (made["neighbours"], made["sample"], made["seed"], made["fitted"]) == (10, 300, 3, 300)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (600, 600)
    assert is_of_these_vectors(table)
    table.obsm[keys.X_STPLM] = 2 * vectors[:600]
    assert not is_of_these_vectors(table)


def test_cancelled_while_it_is_fitted_it_writes_nothing(vectors: np.ndarray) -> None:
    table = AnnData(np.ones((600, 1), np.float32), obsm={keys.X_STPLM: vectors[:600]})

    def stop(done: int, total: int) -> None:
        if done > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.umap(table, progress=stop)
    assert keys.UMAP not in table.obsm
    # tqdm's lock is free: another bar of this process can be drawn.
    other = threading.Thread(target=lambda: tqdm(total=1, file=io.StringIO()).close(), daemon=True)
    other.start()
    other.join(timeout=5)
    assert not other.is_alive()


def test_what_cannot_be_drawn_is_said(vectors: np.ndarray) -> None:
    with pytest.raises(SectionError, match="not embedded"):
        stplm.umap(AnnData(np.ones((5, 1), np.float32)))
    with pytest.raises(SectionError, match="too few cells"):
        map_vectors(vectors[:15])
    with pytest.raises(SectionError, match="0 to 1"):
        map_vectors(vectors, min_dist=2)
    with pytest.raises(SectionError, match="smaller than a neighbourhood"):
        map_vectors(vectors, sample=15)
