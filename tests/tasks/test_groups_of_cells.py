"""Marker genes, neighbourhoods and niches of groups of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import LabelError, ModelError, SectionError


@pytest.fixture
def grouped(table: AnnData, seeds: pd.Series) -> AnnData:
    """The demo section's cells, a column of the profiles' seeds."""
    seeds = seeds.where(seeds.notna(), None)
    table.obs["type"] = pd.Categorical(seeds.reindex(table.obs_names))
    return table


def test_known_markers_come_first(grouped: AnnData) -> None:
    ranked = stplm.rank_genes(grouped, by="type")
    first = ranked.groupby("group").head(5).groupby("group")["gene"].agg(set)
    assert first["T cell"] & {"CD3E", "TRAC", "IL7R", "CD3D", "CD3G"}
    assert first["Tumour"] & {"EPCAM", "KRT8", "FASN", "KRT7", "CDH1", "GATA3", "ERBB2", "SCD"}
    assert (ranked.groupby("group")["score"].diff().dropna() <= 1e-6).all()
    strongest = ranked.groupby("group").head(1)
    assert (strongest["share"] > strongest["share_others"]).all()


def test_a_sample_of_large_groups_says_the_same(grouped: AnnData) -> None:
    grouped.obs["half"] = pd.Categorical(np.where(grouped.obsm[keys.SPATIAL][:, 0] > 250, "right", "left"))
    all_cells, sample = (stplm.rank_genes(grouped, by="half", cells_a_group=n) for n in (10_000, 250))
    assert all_cells["gene"].nunique() == grouped.n_vars
    scores = [r[r["group"] == "left"].set_index("gene")["score"] for r in (all_cells, sample)]
    assert np.corrcoef(scores[0], scores[1].reindex(scores[0].index))[0, 1] > 0.8


def test_neighbours_that_are_there_are_found(table: AnnData) -> None:
    # Vertical stripes of 100 µm: a stripe's neighbours are of the stripe.
    stripe = (table.obsm[keys.SPATIAL][:, 0] // 100).astype(int) % 3
    table.obs["stripe"] = pd.Categorical([f"s{i}" for i in stripe])
    found = stplm.neighbourhoods(table, by="stripe", radius_um=20, permutations=50)
    assert (np.diag(found.enrichment) > 10).all()
    np.testing.assert_allclose(found.interactions.sum(1), 1)
    assert (np.diag(found.interactions) > 0.7).all()
    assert found.cells.sum() == table.n_obs
    table.obs["shuffled"] = pd.Categorical(np.random.default_rng(0).permutation(table.obs["stripe"].astype(str)))
    by_chance = stplm.neighbourhoods(table, by="shuffled", radius_um=20, permutations=50)
    assert np.abs(by_chance.enrichment.to_numpy()).max() < 5


def test_niches_are_of_surroundings_not_of_cells(embedded: AnnData) -> None:
    stplm.niches(embedded, n=4)
    niche = embedded.obs[keys.NICHE]
    assert list(niche.cat.categories) == ["1", "2", "3", "4"]
    assert niche.value_counts(sort=False).is_monotonic_decreasing
    together = stplm.neighbourhoods(embedded, by=keys.NICHE, radius_um=25, permutations=20).interactions
    assert np.average(np.diag(together), weights=niche.value_counts(sort=False)) > 0.5
    again = stplm.niches(embedded.copy(), n=4).obs[keys.NICHE]
    assert (again == niche).all()


def test_what_cannot_be_compared_is_said(table: AnnData, embedded: AnnData) -> None:
    table.obs["one"] = pd.Categorical(["a"] * table.n_obs)
    with pytest.raises(LabelError, match="no column"):
        stplm.rank_genes(table, by="nothing")
    with pytest.raises(LabelError, match="1 different"):
        stplm.rank_genes(table, by="one")
    with pytest.raises(ModelError, match="not embedded"):
        stplm.niches(table)
    embedded.uns[keys.UNS][keys.UNS_EMBEDDING]["tissue"] = False
    with pytest.raises(ModelError, match="surrounds"):
        stplm.niches(embedded)
    table.obs["two"] = pd.Categorical(["a", *["b"] * (table.n_obs - 1)])
    with pytest.raises(SectionError, match="neighbours"):
        stplm.neighbourhoods(table, by="two", radius_um=1e-3)
    del table.obsm[keys.SPATIAL]
    with pytest.raises(SectionError, match="positions"):
        stplm.neighbourhoods(table, by="two")
