"""Held-out scores of a user's own labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import stplm
from stplm import keys
from stplm.errors import LabelError
from stplm.evaluation.learning_curve import curve_sizes


@pytest.fixture(scope="module")
def section() -> Any:
    """The demo section, embedded; and clear cells of four types as the user's labels, in random order."""
    from stplm.paths import resource

    table = stplm.cell_table(stplm.read_section(resource("demo_section")))
    stplm.embed(table, clusters=0)
    labels = stplm.seed_labels(table, per_class=30).dropna()
    labels = labels[labels.isin(["Tumour", "Stromal", "T cell", "Macrophage"])].sample(frac=1, random_state=0)
    return table, labels


def test_clear_cells_are_called_well_and_shuffled_labels_are_not(section: Any) -> None:
    table, labels = section
    right = stplm.held_out(table, labels)
    assert right.n_labels == len(labels)
    assert right.accuracy > 0.85
    assert right.confusion.sum(1).max() <= right.labels.max()
    shuffled = pd.Series(np.random.default_rng(0).permutation(labels.to_numpy()), index=labels.index)
    assert stplm.held_out(table, shuffled).accuracy < 0.55


def test_scores_are_those_of_the_confusion_matrix(section: Any) -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score

    table, labels = section
    found = stplm.held_out(table, labels)
    row, column = np.nonzero(found.confusion)
    true, called = (np.repeat(codes, found.confusion[row, column]) for codes in (row, column))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, called))
    assert found.macro_f1 == pytest.approx(f1_score(true, called, average="macro"))
    assert found.accuracy == pytest.approx((true == called).mean())


def test_a_class_with_one_label_is_counted_and_not_scored(section: Any) -> None:
    table, labels = section
    other = pd.Series({table.obs_names[~table.obs_names.isin(labels.index)][0]: "Mast cell"}, dtype=object)
    found = stplm.held_out(table, pd.concat([labels, other]))
    at = found.classes.index("Mast cell")
    assert found.labels[at] == 1
    assert np.isnan(found.recall[at])
    assert found.n_scored < found.n_labels


def test_the_curve_starts_with_the_first_labels_and_ends_with_all(section: Any) -> None:
    table, labels = section
    sizes = curve_sizes(len(labels), points=5)
    curve = stplm.learning_curve(table, labels, sizes)
    counts = [score.n_labels for score in curve]
    assert counts == [size for size in sizes if size in counts]
    assert counts[-1] == len(labels)
    assert curve[-1].accuracy == stplm.held_out(table, labels).accuracy
    first = labels.iloc[: counts[0]].value_counts()
    assert dict(zip(curve[0].classes, curve[0].labels, strict=True)) == first.to_dict()


def test_unlabelled_cells_teach_as_they_teach_the_head_that_users_get(
    section: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out calls are those of the head with unlabelled cells, and no labelled cell is taken for one of those."""
    from stplm.tasks import self_training, unlabelled

    table, labels = section
    few = labels.groupby(labels).head(3)
    offered = []

    def join_cells(proba: Any, candidates: Any, *rest: Any, **more: Any) -> Any:
        offered.append(int(candidates.sum()))
        return unlabelled_join(proba, candidates, *rest, **more)

    unlabelled_join = unlabelled.join_cells
    monkeypatch.setattr(self_training, "join_cells", join_cells)
    with_them = stplm.held_out(table, few)
    with_counts = int((np.asarray(table.X.sum(1)).ravel() > 0).sum())
    assert set(offered) == {with_counts - len(few)}
    monkeypatch.setattr(unlabelled, "rounds", lambda *_: 0)
    assert with_them.accuracy >= stplm.held_out(table, few).accuracy > 0.5


def test_labels_in_one_place_are_held_out_at_random(section: Any) -> None:
    table, labels = section
    crowded = table.copy()
    crowded.obsm[keys.SPATIAL] = np.random.default_rng(0).random((table.n_obs, 2)) * 20
    assert not stplm.held_out(crowded, labels).spatial


def test_too_few_labels_are_refused_with_what_to_do(section: Any) -> None:
    table, labels = section
    with pytest.raises(LabelError, match="too few labels"):
        stplm.held_out(table, labels[labels == "Tumour"])
    assert stplm.learning_curve(table, labels, [1]) == []


def test_sizes_of_a_curve() -> None:
    assert curve_sizes(3) == []
    assert curve_sizes(4) == [4]
    assert curve_sizes(500)[0] == 4
    assert curve_sizes(500)[-1] == 500
