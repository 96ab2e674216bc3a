"""What a map of the cells promises: alike cells close together, those put in later as well as those fitted; and arrows
on it, from where a cell lies to where it would with its genes changed.

One file, since a process that makes a map compiles umap for ten seconds first.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.manifold import trustworthiness
from tqdm import tqdm

import stplm
from stplm import keys
from stplm.errors import Cancelled, ModelError, SectionError, StplmError
from stplm.tasks.perturb_arrows import Arrows, map_arrows
from stplm.tasks.perturb_result import Perturbation
from stplm.tasks.umap import draw_sample, is_of_these_vectors, map_vectors

KINDS, EACH = 6, 400
MARKERS = {"T cell": ["CD3E", "CD3D", "TRAC", "IL7R", "CD4", "CD8A", "CCR7", "PTPRC"], "nothing": ["EPCAM"]}


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


@pytest.fixture(scope="module")
def mapped(_demo_embedded: AnnData) -> AnnData:
    return stplm.umap(_demo_embedded.copy())


@pytest.fixture(scope="module")
def found(mapped: AnnData) -> Perturbation:
    tumour = np.argsort(-mapped[:, "EPCAM"].X.toarray().ravel(), kind="stable")[:150]
    options = {"cells": tumour, "mode": "overexpress", "spatial": False, "nulls": 0, "keep_vectors": 100}
    return stplm.perturb(mapped, genes=MARKERS, **options)


def test_cells_with_raised_markers_point_at_those_that_have_them(mapped: AnnData, found: Perturbation) -> None:
    arrows = map_arrows(mapped, found, "T cell")
    assert len(arrows.cells) == 100
    np.testing.assert_array_equal(arrows.start, mapped.obsm[keys.UMAP][arrows.cells])
    immune = mapped.obsm[keys.UMAP][np.argsort(-mapped[:, "CD3E"].X.toarray().ravel())[:40]]
    goal = np.median(immune, axis=0)
    nearer = np.linalg.norm(arrows.end - goal, axis=1) < np.linalg.norm(arrows.start - goal, axis=1)
    assert nearer.mean() > 0.7, "half would be chance"
    weak = map_arrows(mapped, found, "nothing")
    lengths = [np.median(np.linalg.norm(a.end - a.start, axis=1)) for a in (arrows, weak)]
    assert lengths[0] > 3 * lengths[1]


def test_a_cell_that_does_not_change_has_no_arrow(mapped: AnnData, found: Perturbation) -> None:
    cells = np.arange(50)
    found.vectors["still"] = cells, mapped.obsm[keys.X_STPLM][cells]
    arrows = map_arrows(mapped, found, "still")
    np.testing.assert_array_equal(arrows.start, arrows.end)


def test_vectors_are_kept_in_the_folder(found: Perturbation, tmp_path: Path) -> None:
    again = Perturbation.load(found.save(tmp_path / "run"))
    for mine, theirs in zip(found.kept_vectors("T cell"), again.kept_vectors("T cell"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_arrows_that_cannot_be_drawn_are_told(mapped: AnnData, found: Perturbation) -> None:
    with pytest.raises(StplmError, match="was not perturbed"):
        map_arrows(mapped, found, "KRT8")
    bare = mapped.copy()
    del bare.obsm[keys.UMAP]
    with pytest.raises(SectionError, match="no map"):
        map_arrows(bare, found, "T cell")
    other = mapped.copy()
    other.uns[keys.UNS][keys.UNS_EMBEDDING]["sha256"] = "0"
    with pytest.raises(ModelError, match="another model"):
        map_arrows(other, found, "T cell")
    few = stplm.perturb(mapped, genes=["EPCAM"], cells=[0, 1], spatial=False, nulls=0, keep_vectors=0)
    with pytest.raises(StplmError, match="keep_vectors"):
        few.kept_vectors("EPCAM")


def test_a_field_is_the_mean_of_its_square() -> None:
    start = np.array([[0, 0], [0.2, 0.2], [10, 10], [10, 9.9], [5, 5]], dtype=np.float32)
    arrows = Arrows(start, start + np.array([1, 2], dtype=np.float32), np.arange(5)).field(squares=4, fewest=2)
    np.testing.assert_allclose(arrows.start, [[0.1, 0.1], [10, 9.95]], rtol=1e-6)
    np.testing.assert_allclose(arrows.end - arrows.start, [[1, 2], [1, 2]], rtol=1e-5)
    np.testing.assert_array_equal(arrows.cells, [2, 2])
