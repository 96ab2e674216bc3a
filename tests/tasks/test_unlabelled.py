"""Unlabelled cells that join the labels: which, how much they weigh, and that they help where labels are few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.tasks import unlabelled
from stplm.tasks.unlabelled import join_cells, rounds


@pytest.fixture
def called() -> np.ndarray:
    """Probabilities of 1,000 cells of three classes, the last of them rare."""
    random = np.random.default_rng(0)
    proba = random.dirichlet([0.4, 0.2, 0.02], 1000)
    return proba / proba.sum(1, keepdims=True)


@pytest.mark.parametrize("each", [1, 5, 60])
def test_classes_weigh_as_their_labels_do_and_labels_are_not_outvoted(called: np.ndarray, each: int) -> None:
    labels = np.repeat([0, 1, 2], [each, 2 * each, each])
    joined = join_cells(called, np.ones(1000, dtype=bool), labels)
    assert np.array_equal(called[joined.cells].argmax(1), joined.codes)
    mine = np.bincount(labels, joined.label_weights)
    theirs = np.bincount(joined.codes, joined.weights)
    np.testing.assert_allclose(mine + theirs, len(labels) / 3 if each < 10 else np.bincount(labels))
    np.testing.assert_allclose(theirs / mine, min(2.0, 20 / (len(labels) / 3)))


def test_a_surer_cell_weighs_more(called: np.ndarray) -> None:
    joined = join_cells(called, np.ones(1000, dtype=bool), np.arange(3))
    sure = called[joined.cells, joined.codes]
    for code in range(3):
        some = joined.codes == code
        assert np.array_equal(sure[some].argsort(kind="stable"), joined.weights[some].argsort(kind="stable"))


def test_labelled_cells_do_not_join_again(called: np.ndarray) -> None:
    free = np.arange(1000) % 2 == 0
    joined = join_cells(called, free, np.arange(3), seed=1)
    again = join_cells(called, free, np.arange(3), seed=1)
    assert len(joined.cells)
    assert free[joined.cells].all()
    assert np.array_equal(joined.cells, again.cells)


def test_a_class_that_no_cell_is_called_keeps_its_weight() -> None:
    called = np.tile([0.7, 0.2, 0.1], (50, 1))
    joined = join_cells(called, np.ones(50, dtype=bool), np.array([0, 1, 2, 2]))
    assert set(joined.codes) == {0}
    total = np.bincount([0, 1, 2, 2], joined.label_weights)
    total[0] += joined.weights.sum()
    np.testing.assert_allclose(total, 4 / 3)


def test_with_many_labels_the_head_learns_from_labels_alone() -> None:
    assert rounds(8 * 50, 8) > 0
    assert rounds(8 * 300, 8) == 0


def test_it_is_on_record_and_seeds_do_without(embedded: AnnData, seeds: pd.Series) -> None:
    by_hand, seeded = (stplm.fit_classifier(embedded, seeds, seeded=s).to_dict() for s in (False, True))
    assert 0 < by_hand["joined"] <= 150 * len(by_hand["classes"])
    assert seeded["joined"] == 0


def test_every_cell_labelled_leaves_none_to_join(few: AnnData) -> None:
    stplm.embed(few, clusters=0)
    labels = np.where(np.arange(len(few)) % 2 == 0, "a", "b")
    classifier = stplm.fit_classifier(few, labels)
    assert classifier.to_dict()["joined"] == 0


def test_one_label_a_class_goes_further(embedded: AnnData, seeds: pd.Series, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded classes of the demo section as truth: more of them are met than by labels alone, over several draws."""
    stplm.predict(embedded, stplm.fit_classifier(embedded, seeds, seeded=True))
    truth = embedded.obs[keys.CLASS].astype(str)
    sure = (embedded.obs[keys.CONFIDENCE] > 0.6).to_numpy()
    met: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(6):
        shown = truth[sure].sample(frac=1, random_state=seed)
        labels = shown.groupby(shown).head(1)
        for trained in met:
            if not trained:
                monkeypatch.setattr(unlabelled, "rounds", lambda *_: 0)
            said = stplm.predict(embedded.copy(), stplm.fit_classifier(embedded, labels)).obs[keys.CLASS].astype(str)
            monkeypatch.undo()
            met[trained].append(float((said == truth)[sure].mean()))
    assert np.mean(met[True]) > np.mean(met[False]), met
