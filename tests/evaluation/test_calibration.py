"""Calibration error of confidences whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stplm.evaluation.calibration import brier_score, expected_calibration_error, reliability


def test_a_small_case_by_hand() -> None:
    confidence, correct = [0.95, 0.95, 0.55, 0.55], [True, False, True, True]
    # Bin of 0.95: half right, gap 0.45. Bin of 0.55: all right, gap 0.45.
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(0.45)
    table = reliability(confidence, correct, bins=10)
    assert list(table.count) == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert table.accuracy[9] == 0.5
    assert np.isnan(table.accuracy[0])
    assert len(table.edges) == 11


def test_honest_confidence_has_next_to_no_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 100_000)
    honest = random.random(100_000) < confidence
    assert expected_calibration_error(confidence, honest) < 0.01
    boastful = random.random(100_000) < confidence - 0.15
    assert expected_calibration_error(confidence, boastful) == pytest.approx(0.15, abs=0.01)


def test_the_ends_of_the_scale() -> None:
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0
    assert expected_calibration_error([1.0, 0.0], [False, True]) == 1


def test_no_cell_has_no_error() -> None:
    assert math.isnan(expected_calibration_error([], []))


@pytest.mark.parametrize(
    ("confidence", "correct", "bins"),
    [([0.5], [True, False], 15), ([1.2], [True], 15), ([np.nan], [True], 15), ([0.5], [True], 0)],
)
def test_what_is_refused(confidence: list[float], correct: list[bool], bins: int) -> None:
    with pytest.raises(ValueError):
        expected_calibration_error(confidence, correct, bins)


def test_brier_score_by_hand() -> None:
    assert brier_score([0.9, 0.2], [True, False]) == pytest.approx((0.01 + 0.04) / 2)
    assert math.isnan(brier_score([], []))
    with pytest.raises(ValueError, match="2 probabilities for 1"):
        brier_score([0.5, 0.5], [True])
