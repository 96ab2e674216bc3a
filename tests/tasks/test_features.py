"""Features made once for many fits, and what a head says of all cells in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.sparse import random as random_sparse

import stplm
from stplm import keys
from stplm.errors import ModelError
from stplm.tasks import features as module
from stplm.tasks.classifier import Classifier
from stplm.tasks.classifier_scores import linear_scores, score_outcomes
from stplm.tasks.classify import score_unknown
from stplm.tasks.features import FeatureCache
from stplm.tasks.labels import enough_labels
from stplm.tasks.outcome import outcomes, share_odds

COLUMNS = [keys.CLASS, keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN]


@pytest.mark.parametrize("scheme", ["joint", "hierarchical"])
def test_cached_features_change_nothing(embedded: AnnData, seeds: pd.Series, scheme: str) -> None:
    cache, cached = FeatureCache(), embedded.copy()
    of_another_fit = seeds.dropna().iloc[::2]
    stplm.fit_classifier(cached, of_another_fit, features=cache.of(cached))
    for table, options in ((embedded, {}), (cached, {"features": cache.of(cached)})):
        classifier = stplm.fit_classifier(table, seeds, scheme=scheme, **options)  # type: ignore[arg-type]
        stplm.predict(table, classifier, **options)
    pd.testing.assert_frame_equal(embedded.obs[COLUMNS], cached.obs[COLUMNS])
    assert embedded.obsm[keys.PROBA].tobytes() == cached.obsm[keys.PROBA].tobytes()


def test_a_cache_makes_features_once_and_never_gives_stale_ones(
    embedded: AnnData, seeds: pd.Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = [], module.cell_features
    monkeypatch.setattr(module, "cell_features", lambda table: made.append(table) or make(table))  # type: ignore[func-returns-value]
    cache = FeatureCache()
    first = cache.of(embedded)
    shared = AnnData(X=embedded.X, obs=embedded.obs[[]], uns=embedded.uns, obsm=dict(embedded.obsm), var=embedded.var)
    assert cache.of(shared) is first
    assert len(made) == 1
    embedded.obsm[keys.X_STPLM] = embedded.obsm[keys.X_STPLM] + 1
    with pytest.raises(ModelError, match="another section or embedding"):
        stplm.fit_classifier(embedded, seeds, features=first)
    np.testing.assert_allclose(cache.of(embedded).own, first.own + 1)
    assert len(made) == 2


def test_a_probe_of_the_users_own_tells_classes_apart(embedded: AnnData, tmp_path: Path) -> None:
    """Nothing knows it: no Ensembl id, no model, no profile. On another section it is found by its name."""
    infected = np.random.default_rng(0).random(embedded.n_obs) < 0.5
    probe = sparse.csr_matrix(np.where(infected, 40, 0)[:, None].astype(embedded.X.dtype))
    var = pd.concat([embedded.var, pd.DataFrame({keys.ENSEMBL_ID: [""]}, index=["HPV16_E6"])])
    table = AnnData(
        sparse.hstack([embedded.X, probe], format="csr"),
        obs=embedded.obs[[]],
        var=var,
        obsm=dict(embedded.obsm),
        uns=embedded.uns,
    )
    names = pd.Series(np.where(infected, "infected", "not infected"), index=table.obs_names, dtype=object)
    classifier = stplm.fit_classifier(table, names.iloc[:40])
    classifier.save(tmp_path / "head")
    other = table[:, ::-1].copy()
    other.X = sparse.csr_matrix(other.X)
    for section, head in ((table, classifier), (other, Classifier.load(tmp_path / "head"))):
        stplm.predict(section, head)
        called = section.obs[keys.CLASS].astype(str) == names.to_numpy()
        assert called.iloc[40:].mean() > 0.95


def test_the_unknown_score_may_come_later(embedded: AnnData, seeds: pd.Series) -> None:
    classifier = stplm.fit_classifier(embedded, seeds)
    whole = stplm.predict(embedded.copy(), classifier)
    later = stplm.predict(whole.copy(), classifier, unknown=False)
    assert keys.UNKNOWN not in later.obs, "an older prediction's score does not stay"
    score_unknown(later, classifier)
    pd.testing.assert_frame_equal(later.obs[COLUMNS], whole.obs[COLUMNS])


@pytest.mark.parametrize("tumour", [[True, False, True, False, False], [False] * 5, [True] * 5])
@pytest.mark.parametrize("scheme", ["joint", "hierarchical"])
def test_the_pass_over_all_cells_says_what_the_definition_says(scheme: str, tumour: list[bool]) -> None:
    random, side = np.random.default_rng(0), np.array(tumour)
    logits = random.normal(0, 12, (500, 6)).astype(np.float32)
    depth = random.integers(0, 60, 500).astype(float)
    depth[:5] = 0
    prior = np.log(random.dirichlet(np.ones(5)))
    proba, sure = score_outcomes(
        logits,
        depth,
        side,
        fade_counts=10,
        log_prior=prior,
        prior_weight=0.7,
        temperature=1.7,
        tumour_temperature=0.8,
        share_odds=share_odds(prior, side),
        scheme=scheme,  # type: ignore[arg-type]
    )
    fade, empty = depth / (depth + 10), depth == 0
    weight = np.where(empty, 1.0, 0.7)
    expected, tumour_expected = outcomes(
        logits[:, :5].astype(float) * fade[:, None] + weight[:, None] * prior,
        side,
        tumour_logit=logits[:, 5].astype(float) * fade + weight * share_odds(prior, side),
        temperature=np.where(empty, 1.0, 1.7),
        tumour_temperature=np.where(empty, 1.0, 0.8),
        scheme=scheme,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(proba, expected, atol=1e-6)
    np.testing.assert_allclose(sure, tumour_expected, atol=1e-6)


@pytest.mark.parametrize("k", [2, 8, 9, 20])
def test_scores_of_any_number_of_classes(k: int) -> None:
    random = np.random.default_rng(k)
    wide = random.normal(0, 1, (300, 90)).astype(np.float32)
    own, fit = wide[:, :7], random.normal(0, 1, (300, 3)).astype(np.float32)
    level = random_sparse(300, 50, 0.2, "csr", np.float32, rng=random)
    dense_weights, level_weights, bias = (random.normal(0, 1, shape) for shape in ((k, 10), (k, 50), k))
    expected = np.hstack([own, fit]) @ dense_weights.T + level @ level_weights.T + bias
    scores = linear_scores(own, fit, level, dense_weights, level_weights, bias)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("sizes", [[5, 3], [4000, 4000, 3000], [90_000, 40, 30_000, 7], [9_999, 3]])
def test_a_hundred_thousand_labels_are_thinned_where_they_are_commonest(sizes: list[int]) -> None:
    codes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept = enough_labels(codes)
    left = np.bincount(codes[kept])
    assert np.array_equal(kept, np.unique(kept))
    assert len(kept) <= 10_000
    assert len(kept) > min(len(codes), 10_000) - len(sizes)
    thinned = left < sizes
    assert thinned.sum() == 0 or np.ptp(left[thinned]) == 0
    assert (left[~thinned] <= left[thinned].min(initial=10_000)).all()
    assert np.array_equal(kept, enough_labels(codes)), "the same ones again"
