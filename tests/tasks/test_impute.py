"""Imputation: measured genes from the rest, unmeasured ones from a reference or the model, and clear refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import stplm
from stplm import keys
from stplm.errors import Cancelled, GeneError, SectionError

GENES = ["EPCAM", "LUM", "CD3E"]


def _level(counts: np.ndarray, depth: np.ndarray) -> np.ndarray:
    return np.log1p(100 * counts / np.maximum(depth, 1)[:, None])


def _r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _counts(table: AnnData, genes: list[str]) -> np.ndarray:
    return np.asarray(table[:, genes].X.toarray(), float)


@pytest.fixture
def reference(table: AnnData) -> AnnData:
    """Another half of the section as if it were a single-cell reference: symbols alone, one gene more."""
    cells = table[np.flatnonzero(table.obsm["spatial"][:, 0] > np.median(table.obsm["spatial"][:, 0]))]
    extra = _counts(cells, ["EPCAM"]) * 2
    counts = sparse.csr_matrix(np.hstack([cells.X.toarray(), extra]))
    return AnnData(counts, var=pd.DataFrame(index=[*cells.var_names, "TP53"]))


def test_hidden_counts_are_predicted_better_than_by_neighbours(table: AnnData) -> None:
    hidden = np.random.default_rng(0).random(table.n_obs) < 0.5
    truth = _counts(table, GENES)
    found = stplm.impute(table, genes=GENES, hidden=hidden)
    depth = table.obs[keys.N_COUNTS].to_numpy() - truth.sum(1)
    shown = truth.copy()
    shown[hidden] = np.nan
    xy = table.obsm["spatial"]
    near = np.argsort(((xy[hidden][:, None] - xy[None]) ** 2).sum(2), axis=1)[:, 1:25]
    for i, gene in enumerate(GENES):
        ours = _r(_level(found.to_numpy(), depth)[hidden, i], _level(truth, depth)[hidden, i])
        neighbours = np.nanmean(_level(shown, depth)[near, i], axis=1)
        assert ours > _r(neighbours, _level(truth, depth)[hidden, i]) + 0.05, gene


def test_hidden_counts_are_not_looked_at(table: AnnData) -> None:
    hidden = np.arange(table.n_obs) % 3 == 0
    changed = table.copy()
    place = list(table.var_names).index("LUM")
    counts = changed.X.tolil()
    counts[np.flatnonzero(hidden), place] = 99
    changed.X = counts.tocsr()
    one, other = (stplm.impute(t, genes=["LUM"], hidden=hidden) for t in (table, changed))
    np.testing.assert_array_equal(one.to_numpy(), other.to_numpy())


def test_expected_counts_add_up_to_the_observed_ones(table: AnnData) -> None:
    found = stplm.impute(table, genes=GENES)
    assert found.index.equals(table.obs_names)
    assert list(found.columns) == GENES
    np.testing.assert_allclose(found.sum(), _counts(table, GENES).sum(0), rtol=0.1)
    assert (found.to_numpy() >= 0).all()


def test_it_is_written_with_its_origin_and_survives_a_file(table: AnnData, tmp_path) -> None:
    found = stplm.impute(table, genes=GENES)
    about = table.uns[keys.UNS][keys.UNS_IMPUTED]
    assert about["how"] == ["panel"] * 3
    assert all(0.2 < r < 1 for r in about["r"])
    np.testing.assert_array_equal(table.obsm[keys.IMPUTED], found.to_numpy())
    stplm.export(table, tmp_path / "out.h5ad")
    again = stplm.cell_table(stplm.read_section(tmp_path / "out.h5ad"))
    assert list(again.uns[keys.UNS][keys.UNS_IMPUTED]["genes"]) == GENES


def test_the_same_bytes_on_every_run(table: AnnData) -> None:
    one, other = (stplm.impute(table.copy(), genes=GENES).to_numpy() for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_unmeasured_gene_from_the_model(table: AnnData) -> None:
    truth = _counts(table, ["EPCAM"])[:, 0]
    rest = table[:, table.var_names != "EPCAM"].copy()
    found = stplm.impute(rest, genes=["EPCAM"])
    assert rest.uns[keys.UNS][keys.UNS_IMPUTED]["how"] == ["model"]
    assert np.isnan(rest.uns[keys.UNS][keys.UNS_IMPUTED]["r"][0])
    depth = np.asarray(rest.X.sum(1)).ravel()
    assert _r(_level(found.to_numpy(), depth)[:, 0], _level(truth[:, None], depth)[:, 0]) > 0.5


def test_gene_outside_the_panel_from_a_reference(table: AnnData, reference: AnnData) -> None:
    found = stplm.impute(table, genes=["TP53", "LUM"], reference=reference)
    assert table.uns[keys.UNS][keys.UNS_IMPUTED]["how"] == ["reference", "panel"]
    depth = table.obs[keys.N_COUNTS].to_numpy() - _counts(table, ["LUM"])[:, 0]
    # In this reference TP53 is twice EPCAM.
    epcam = 2 * _counts(table, ["EPCAM"])[:, 0]
    predicted = found["TP53"].to_numpy()
    assert _r(_level(predicted[:, None], depth)[:, 0], _level(epcam[:, None], depth)[:, 0]) > 0.5
    assert predicted.sum() == pytest.approx(epcam.sum(), rel=0.5)


def test_without_positions_and_without_counts(table: AnnData) -> None:
    del table.obsm[keys.SPATIAL]
    counts = table.X.tolil()
    counts[7] = 0
    table.X = counts.tocsr()
    found = stplm.impute(table, genes=GENES)
    assert (found.iloc[7] == 0).all()
    assert np.isfinite(found.to_numpy()).all()


@pytest.mark.parametrize(
    ("genes", "says"),
    [(["XYZ1"], "XYZ1"), (["EPCAM", "EPCAM"], "twice"), ([], "named"), (["TP53"], "reference")],
)
def test_genes_that_cannot_be_imputed_are_named(table: AnnData, genes: list[str], says: str) -> None:
    with pytest.raises(GeneError, match=says):
        stplm.impute(table, genes=genes)
    assert keys.IMPUTED not in table.obsm


def test_a_mask_that_does_not_fit_is_refused(table: AnnData) -> None:
    with pytest.raises(SectionError, match="mask"):
        stplm.impute(table, genes=GENES, hidden=np.ones(table.n_obs, bool))


def test_a_reference_of_other_genes_is_refused(table: AnnData, reference: AnnData) -> None:
    few = reference[:, ["EPCAM", "LUM", "TP53"]].copy()
    with pytest.raises(GeneError, match="too few"):
        stplm.impute(table, genes=["TP53"], reference=few)


def test_cancelled_leaves_nothing(table: AnnData) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        stplm.impute(table, genes=GENES, progress=stop)
    assert keys.IMPUTED not in table.obsm
