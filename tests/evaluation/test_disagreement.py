"""Which cells two sources name differently, and which are not compared at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stplm.evaluation.disagreement import (
    AGREE,
    DISAGREE,
    NOT_COMPARED,
    OUTSIDE,
    disagreement,
    prediction_outside_regions,
    tumour_against_type,
)


def test_cells_that_one_side_does_not_name_or_cannot_are_not_compared() -> None:
    said = pd.Categorical(["T cell", "Tumour", "Tumour", None, "B cell", "T cell"])
    given = pd.Categorical(["t_cell", "T cell", None, "Tumour", "Mast", "B_Cell"])
    found = disagreement(said, given, [0.5, 0.6, 0.9, 0.9, 0.9, 0.8])
    assert list(found.states) == [AGREE, DISAGREE, NOT_COMPARED, NOT_COMPARED, NOT_COMPARED, DISAGREE]
    assert list(found.rows) == [5, 1], "the surest first"
    assert found.n_compared == 3
    assert found.unmatched == ("Mast",)
    assert found.pair(1) == ("Tumour", "T cell")
    assert found.pairs().to_dict() == {("T cell", "B_Cell"): 1, ("Tumour", "T cell"): 1}


def test_tumour_calls_against_types() -> None:
    types = pd.Categorical(["DCIS", "DCIS", "T cell", "T cell", None])
    found = tumour_against_type([0.9, 0.2, 0.99, np.nan, 0.9], types, {"DCIS"})
    assert list(found.states) == [AGREE, DISAGREE, DISAGREE, NOT_COMPARED, NOT_COMPARED]
    assert list(found.rows) == [2, 1]
    assert found.pair(2) == ("tumour", "not tumour")


def test_tumour_outside_the_drawn_regions() -> None:
    said = pd.Categorical(["Tumour", "Tumour", "T cell", "Tumour", "T cell"])
    found = prediction_outside_regions(said, {"Tumour": np.array([0, 2]), "Nerve": np.array([1])})
    assert list(found.states) == [AGREE, DISAGREE, NOT_COMPARED, DISAGREE, NOT_COMPARED]
    assert found.pair(3) == ("Tumour", OUTSIDE)


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="3 cells cannot be compared with 2"):
        disagreement(pd.Categorical(["a"] * 3), pd.Categorical(["a"] * 2))
