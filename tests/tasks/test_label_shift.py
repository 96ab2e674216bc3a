"""The same number of labels a class, whatever the tissue holds: predictions must still have the tissue's shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stplm
from stplm import keys
from stplm.simulation import TRUTH, simulate_section

PER_CLASS = 8


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnnData, pd.Series]:
    """A section of faint cells, nearly half of them tumour and some classes under 1 %, and each cell's true class."""
    folder = tmp_path_factory.mktemp("simulated") / "section"
    simulate_section(folder, cells=2000, median_counts=35.0, image=False, pixel_size=2.0, seed=3)
    table = stplm.cell_table(stplm.read_section(folder, images=False, labels=False))
    truth = pd.read_parquet(folder / TRUTH).set_index("cell_id")["class"].reindex(table.obs_names)
    return stplm.embed(table, clusters=0), truth.astype(str)


@pytest.fixture(scope="module")
def labels(simulated: tuple[AnnData, pd.Series]) -> pd.Series:
    truth = simulated[1]
    return truth.sample(frac=1, random_state=0).groupby(truth).head(PER_CLASS)


def test_shares_are_those_of_the_tissue(simulated: tuple[AnnData, pd.Series], labels: pd.Series) -> None:
    table, truth = simulated[0].copy(), simulated[1]
    assert labels.value_counts().max() == PER_CLASS
    true = truth.value_counts(normalize=True)
    assert true["Tumour"] > 0.4
    classifier = stplm.fit_classifier(table, labels)
    estimated = pd.Series(np.exp(classifier.log_prior), index=classifier.classes)
    assert estimated.sum() == pytest.approx(1)
    labelled = labels.value_counts(normalize=True)
    distance = (estimated - true).abs().sum() / 2
    assert distance < 0.05
    assert distance < 0.15 * (labelled - true).abs().sum() / 2
    stplm.predict(table, classifier)
    called = table.obs[keys.CLASS].value_counts(normalize=True)
    assert (called - true).abs().sum() / 2 < 0.06


def test_the_labels_own_shares_do_not_pass_for_the_tissues(simulated: tuple[AnnData, pd.Series]) -> None:
    """Many labels of some classes and few of others, the other way round than the tissue has them."""
    table, truth = simulated[0].copy(), simulated[1]
    true = truth.value_counts()
    wanted = pd.Series(np.geomspace(5, 60, len(true)).round().astype(int), index=true.index)
    labels = pd.concat([truth[truth == name].head(n) for name, n in wanted.items()])
    classifier = stplm.fit_classifier(table, labels)
    estimated = pd.Series(np.exp(classifier.log_prior), index=classifier.classes)
    assert (estimated - true / len(truth)).abs().sum() / 2 < 0.08
    stplm.predict(table, classifier)
    called = table.obs[keys.CLASS].value_counts(normalize=True)
    assert (called - true / len(truth)).abs().sum() / 2 < 0.1


def test_confidence_is_calibrated(simulated: tuple[AnnData, pd.Series], labels: pd.Series) -> None:
    table, truth = simulated[0].copy(), simulated[1]
    stplm.predict(table, stplm.fit_classifier(table, labels))
    rest = truth.drop(labels.index)
    score = stplm.evaluate(table, rest)
    assert score["accuracy"] > 0.9
    assert score["calibration_error"] < 0.08
    assert score["tumour"]["auroc"] > 0.98


def test_a_class_that_is_hardly_there_is_hardly_called(
    simulated: tuple[AnnData, pd.Series], labels: pd.Series, tmp_path: Path
) -> None:
    """Labels of all classes, on a part of the section that holds next to no tumour."""
    truth = simulated[1]
    others = truth.index[(truth != "Tumour").to_numpy()]
    part = simulated[0][others.union(labels.index)].copy()
    stplm.predict(part, stplm.fit_classifier(part, labels))
    unlabelled = ~part.obs_names.isin(labels.index)
    assert (part.obs[keys.CLASS][unlabelled] == "Tumour").mean() < 0.02
