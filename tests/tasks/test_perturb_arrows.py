"""Arrows on the map: from where a cell lies to where it would with its genes changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import ModelError, SectionError, StplmError
from stplm.tasks.perturb_arrows import Arrows, map_arrows
from stplm.tasks.perturb_result import Perturbation

MARKERS = {"T cell": ["CD3E", "CD3D", "TRAC", "IL7R", "CD4", "CD8A", "CCR7", "PTPRC"], "nothing": ["EPCAM"]}


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


def test_what_cannot_be_drawn_is_said(mapped: AnnData, found: Perturbation) -> None:
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
