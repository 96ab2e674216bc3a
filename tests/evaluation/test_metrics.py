"""Scores of predicted tables, against scikit-learn and by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, confusion_matrix, f1_score, roc_auc_score

import stplm
from stplm import keys
from stplm.errors import LabelError

CLASSES = ["B cell", "DCIS", "Stromal"]


@pytest.fixture
def table() -> AnnData:
    """400 predicted cells, about seven of ten right; "truth" knows most of them."""
    random = np.random.default_rng(0)
    n = 400
    proba = random.dirichlet([0.4] * 3, n).astype(np.float32)
    called = proba.argmax(1)
    truth = np.where(random.random(n) < 0.7, called, random.integers(0, 3, n))
    names = np.array(CLASSES, dtype=object)[truth]
    names[:30] = None
    ids = [f"cell-{i}" for i in range(n)]
    table = AnnData(sparse.csr_matrix((n, 2), dtype=np.float32), obs=pd.DataFrame(index=ids))
    table.obs["truth"] = pd.Categorical(names)
    table.obs[keys.CLASS] = pd.Categorical.from_codes(called, CLASSES)
    table.obs[keys.CONFIDENCE] = proba.max(1)
    table.obs[keys.TUMOUR] = proba[:, 1]
    return table


def test_scores_are_scikit_learns(table: AnnData) -> None:
    score = stplm.evaluate(table, "truth")
    known = table.obs["truth"].notna().to_numpy()
    true, called = (table.obs[c].astype(str)[known] for c in ("truth", keys.CLASS))
    assert score["n_cells"] == 370
    assert score["n_unpredicted"] == 0
    assert score["accuracy"] == pytest.approx((true == called).mean())
    assert score["macro_f1"] == pytest.approx(f1_score(true, called, average="macro"))
    assert score["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, called))
    assert [score["per_class"][c]["f1"] for c in CLASSES] == pytest.approx(list(f1_score(true, called, average=None)))
    assert sum(row["support"] for row in score["per_class"].values()) == 370
    assert score["confusion"]["truth"] == score["confusion"]["predicted"] == CLASSES
    assert np.array_equal(score["confusion"]["counts"], confusion_matrix(true, called))
    tumour = (true == "DCIS").to_numpy()
    probability = table.obs[keys.TUMOUR].to_numpy()[known]
    assert score["tumour"]["auroc"] == pytest.approx(roc_auc_score(tumour, probability))
    assert score["tumour"]["f1"] == pytest.approx(f1_score(tumour, probability >= 0.5))
    assert 0 <= score["calibration_error"] <= 1


def test_they_can_be_written_as_json(table: AnnData) -> None:
    score = stplm.evaluate(table, "truth")
    assert json.loads(json.dumps(score)) == score


def test_truth_by_cell_id_in_any_order(table: AnnData) -> None:
    series = table.obs["truth"].astype(object).sample(frac=1, random_state=0)
    assert stplm.evaluate(table, series) == stplm.evaluate(table, "truth")
    assert stplm.evaluate(table, series.where(series.notna(), "")) == stplm.evaluate(table, "truth")


def test_some_of_the_cells(table: AnnData) -> None:
    mask = np.arange(400) >= 250
    by_mask = stplm.evaluate(table, "truth", cells=mask)
    assert by_mask["n_cells"] == 150
    assert stplm.evaluate(table, "truth", cells=table.obs_names[mask]) == by_mask


def test_a_cell_without_a_class_is_a_miss(table: AnnData) -> None:
    before = stplm.evaluate(table, "truth")
    right = np.flatnonzero((table.obs["truth"].astype(str) == table.obs[keys.CLASS].astype(str)).to_numpy())[:50]
    values = table.obs[keys.CLASS].copy()
    values.iloc[right] = None
    table.obs[keys.CLASS] = values
    score = stplm.evaluate(table, "truth")
    assert score["n_unpredicted"] == 50
    assert score["accuracy"] == pytest.approx(before["accuracy"] - 50 / 370)
    assert score["confusion"]["predicted"] == [*CLASSES, keys.UNASSIGNED]
    assert keys.UNASSIGNED not in score["per_class"]
    assert np.sum(score["confusion"]["counts"]) == 370


def test_a_class_that_is_only_predicted_counts_against(table: AnnData) -> None:
    truth = table.obs["truth"].astype(object).replace("B cell", "Stromal")
    score = stplm.evaluate(table, truth)
    assert score["per_class"]["B cell"]["support"] == 0
    assert score["per_class"]["B cell"]["f1"] == 0
    assert score["macro_f1"] < np.mean([score["per_class"][c]["f1"] for c in ("DCIS", "Stromal")])
    assert score["confusion"]["truth"] == ["DCIS", "Stromal"]


def test_who_is_tumour(table: AnnData) -> None:
    assert stplm.evaluate(table, "truth", tumour_classes=["DCIS"]) == stplm.evaluate(table, "truth")
    assert stplm.evaluate(table, "truth", tumour_classes=["Stromal"])["tumour"]["auroc"] < 0.5
    table.obs["truth"] = table.obs["truth"].cat.rename_categories({"DCIS": "Luminal"})
    table.obs[keys.CLASS] = table.obs[keys.CLASS].cat.rename_categories({"DCIS": "Luminal"})
    assert "tumour" not in stplm.evaluate(table, "truth")


def test_one_sided_truth_has_no_auroc(table: AnnData) -> None:
    only = stplm.evaluate(table, "truth", cells=(table.obs["truth"] == "DCIS").to_numpy())
    assert only["tumour"]["auroc"] is None
    assert only["tumour"]["precision"] == 1


def test_what_cannot_be_scored(table: AnnData) -> None:
    with pytest.raises(LabelError, match="no column 'cell_type'"):
        stplm.evaluate(table)
    with pytest.raises(LabelError, match="not in this section"):
        stplm.evaluate(table, pd.Series({"stranger": "DCIS"}))
    with pytest.raises(LabelError, match="two true classes"):
        stplm.evaluate(table, pd.Series(["DCIS", "DCIS"], index=["cell-1", "cell-1"]))
    with pytest.raises(LabelError, match="None of the cells"):
        stplm.evaluate(table, "truth", cells=np.arange(400) < 10)
    with pytest.raises(LabelError, match="one value a cell"):
        stplm.evaluate(table, "truth", cells=np.ones(3, dtype=bool))
    with pytest.raises(LabelError, match="not in this section"):
        stplm.evaluate(table, "truth", cells=["cell-1", "stranger"])
    with pytest.raises(LabelError, match="no name in common"):
        stplm.evaluate(table, table.obs["truth"].cat.rename_categories(lambda name: f"my {name}"))
    with pytest.raises(LabelError, match="tumour class"):
        stplm.evaluate(table, "truth", tumour_classes=["Melanoma"])
    del table.obs[keys.CLASS]
    with pytest.raises(LabelError, match="No class has been predicted"):
        stplm.evaluate(table, "truth")


def test_tumour_probability_is_scored_as_a_probability(table: AnnData) -> None:
    known = table.obs["truth"].notna().to_numpy()
    tumour = (table.obs["truth"] == "DCIS").to_numpy()[known]
    modest = stplm.evaluate(table, "truth")["tumour"]
    assert modest["brier"] == pytest.approx(brier_score_loss(tumour, table.obs[keys.TUMOUR].to_numpy()[known]))
    table.obs[keys.TUMOUR] = (table.obs[keys.TUMOUR] >= 0.5).astype(float)  # the same call, surer of itself
    boastful = stplm.evaluate(table, "truth")["tumour"]
    assert boastful["f1"] == modest["f1"]
    assert boastful["calibration_error"] > modest["calibration_error"]
    assert boastful["brier"] > modest["brier"]


def test_unknown_score_is_judged_by_the_classes_that_have_no_label(table: AnnData) -> None:
    assert "unknown" not in stplm.evaluate(table, "truth")
    strange = np.linspace(0, 0.9, table.n_obs).astype(np.float32)
    table.obs[keys.UNKNOWN] = strange
    assert "unknown" not in stplm.evaluate(table, "truth"), "every class of the truth has labels"
    names = table.obs["truth"].astype(object)
    names[-40:-10] = "Mast cell"
    strange[-40:-10] = 0.99
    strange[-20] = np.nan
    table.obs["truth"], table.obs[keys.UNKNOWN] = pd.Categorical(names), strange
    unknown = stplm.evaluate(table, "truth")["unknown"]
    assert unknown == {"auroc": 1, "recall": 1, "support": 29, "false_alarms": 0}
    cells = (table.obs["truth"] == "Mast cell").to_numpy() | (np.arange(table.n_obs) == 31)
    table.obs.loc[table.obs_names[31], keys.UNKNOWN] = np.nan
    assert stplm.evaluate(table, "truth", cells=cells)["unknown"]["auroc"] is None
