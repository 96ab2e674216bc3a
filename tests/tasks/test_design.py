"""How a section's features stand before a head while it is fitted."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from stplm.tasks.design import Design, gene_weights, section_design
from stplm.tasks.features import Features, cell_features, count_features
from stplm.tasks.head import fit_linear


@pytest.fixture
def features(embedded: AnnData) -> Features:
    return cell_features(embedded)


@pytest.fixture
def plan(features: Features) -> Design:
    return features.design()


def test_a_head_says_the_same_of_features_as_of_what_it_was_fitted_on(features: Features, plan: Design) -> None:
    rows = plan.rows(features)
    random = np.random.default_rng(0)
    coefficients, bias = random.normal(0, 1, (3, rows.shape[1])), random.normal(0, 1, 3)
    dense, level, base = plan.unfold(coefficients, bias)
    found = features.dense().astype(float) @ dense.T + features.level @ level.T + base
    np.testing.assert_allclose(found, rows.astype(float) @ coefficients.T + bias, atol=1e-3)


def test_directions_have_the_spread_that_they_are_given_together(features: Features, plan: Design) -> None:
    first, last = len(plan.mean), -len(plan.weight)
    along = plan.rows(features.sample)[:, first:last].astype(float)
    assert along.shape[1] > 10
    np.testing.assert_allclose(along.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(along.var(0).sum(), 24, rtol=1e-3)


def test_each_head_lacks_what_it_should(plan: Design) -> None:
    whole, counted, learnt = plan.heads()
    assert np.array_equal(whole, np.arange(len(plan.mean) + len(plan.middle) + len(plan.weight)))
    assert np.array_equal(np.setdiff1d(whole, counted), np.arange(plan.own_width))
    assert np.array_equal(np.setdiff1d(whole, learnt), np.arange(plan.own_width, len(plan.mean)))


def test_a_panel_without_profiles_has_two_heads() -> None:
    nothing = np.zeros(0)
    plan = Design(np.zeros(4), np.ones(4), 4, np.ones(5), np.zeros((5, 0)), nothing)
    assert [head.tolist() for head in plan.heads()] == [list(range(9)), list(range(4, 9))]


def test_the_mean_of_heads_is_a_head(plan: Design, features: Features) -> None:
    rows, codes = plan.rows(features)[:60], np.arange(60) % 3
    heads = plan.heads()
    mean = fit_linear(rows, codes, 3, heads=heads)
    alone = [fit_linear(rows, codes, 3, heads=[head]) for head in heads]
    np.testing.assert_allclose(mean[0], np.mean([part[0] for part in alone], axis=0))
    np.testing.assert_allclose(mean[1], np.mean([part[1] for part in alone], axis=0))
    assert not alone[1][0][:, : plan.own_width].any()


def _section(n: int = 2000) -> Features:
    """Two kinds of cells whose first two genes tell them apart; the other genes are counting noise."""
    random = np.random.default_rng(0)
    rate = np.full((n, 12), 2.0)
    rate[: n // 2, 0] = rate[n // 2 :, 1] = 12.0
    rate[: n // 2, 1] = rate[n // 2 :, 0] = 0.5
    counts = sparse.csr_matrix(random.poisson(rate))
    genes = np.array([f"ENSG{i:011d}" for i in range(12)])
    own = random.normal(0, 1, (n, 3)).astype(np.float32)
    own[: n // 2, 0] += 8
    return count_features(counts, genes, own)


def test_genes_weigh_by_what_is_no_counting_noise() -> None:
    features = _section()
    weight, spread = gene_weights(features), features.level.toarray().var(0)
    assert weight[:2].min() > 3 * weight[2:].max()
    np.testing.assert_allclose((weight**2 * spread).sum(), spread.sum(), rtol=1e-3)
    assert np.array_equal(weight, gene_weights(features)), "the same again"


def test_what_tells_kinds_apart_is_a_direction() -> None:
    """Each kind's direction has the genes of that kind up and those of the other down."""
    features = _section()
    design = section_design(features.sample, features.scale, features.kinds())
    first, second = design.directions[:2]
    assert (np.sign(first) == -np.sign(second)).mean() > 0.95
    assert np.abs(design.directions[:2]).mean() > 4 * np.abs(design.directions[2:]).mean()


def test_a_gene_that_is_not_known_changes_no_other(embedded: AnnData, features: Features) -> None:
    """Genes without an id have no level; counts of the others are found where they are."""
    counts, known = features.counts, np.arange(features.counts.shape[1]) != 7
    genes = np.where(known, features.genes, "")
    found = count_features(counts, genes, features.own)
    assert np.array_equal(found.gene_columns, np.flatnonzero(known))
    expected = gene_weights(features.sample)
    shares = gene_weights(found.sample)
    # The halves are drawn anew, so weights agree up to that.
    assert np.corrcoef(shares, expected[known])[0, 1] > 0.8
