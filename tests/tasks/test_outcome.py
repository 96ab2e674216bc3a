"""Tumour call and cell type agree with each other under both schemes, and held-out labels set their temperatures."""

import numpy as np
import pytest

from stplm.errors import LabelError
from stplm.scheme import check_scheme
from stplm.tasks.outcome import (
    class_temperature,
    outcomes,
    share_odds,
    tumour_odds,
    tumour_temperature,
)

SIDE = np.array([True, False, True, False])


def _logits(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (n, 4))


@pytest.mark.parametrize("scheme", ["joint", "hierarchical"])
def test_tumour_probability_is_the_sum_over_the_tumour_classes(scheme: str) -> None:
    odds = np.random.default_rng(1).normal(0, 5, 200)
    proba, tumour = outcomes(
        _logits(), SIDE, tumour_logit=odds, temperature=1.7, tumour_temperature=0.6, scheme=check_scheme(scheme)
    )
    assert np.allclose(proba.sum(1), 1)
    assert np.allclose(proba[:, SIDE].sum(1), tumour)


def test_joint_without_temperatures_is_the_plain_softmax() -> None:
    proba, tumour = outcomes(_logits(), SIDE)
    plain = np.exp(_logits())
    plain /= plain.sum(1, keepdims=True)
    assert np.allclose(proba, plain)
    assert np.allclose(tumour, plain[:, SIDE].sum(1))


def test_hierarchical_decides_on_tumour_first_and_keeps_proportions_within_a_side() -> None:
    logits = np.array([[4.0, 0.0, 1.0, -1.0]])
    proba, tumour = outcomes(logits, SIDE, tumour_logit=[-3.0], scheme="hierarchical")
    assert tumour[0] == pytest.approx(1 / (1 + np.exp(3)))
    assert proba[0].argmax() == 1, "the class head alone would say a tumour class"
    assert np.log(proba[0, 0] / proba[0, 2]) == pytest.approx(3)
    assert np.log(proba[0, 1] / proba[0, 3]) == pytest.approx(1)


def test_without_classes_on_both_sides_the_call_is_certain_and_the_binary_head_unused() -> None:
    for side, expected in ((np.zeros(4, bool), 0.0), (np.ones(4, bool), 1.0)):
        proba, tumour = outcomes(_logits(), side, scheme="hierarchical")
        assert (tumour == expected).all()
        assert np.allclose(proba.sum(1), 1)


def test_logits_of_any_size_give_numbers() -> None:
    proba, tumour = outcomes([[9e3, -9e3, 0.0, 1.0]], SIDE, tumour_logit=[1e6], scheme="hierarchical")
    assert np.isfinite(proba).all()
    assert np.isfinite(tumour).all()


def test_share_of_tumour_comes_from_the_class_shares() -> None:
    assert share_odds(np.log([0.1, 0.5, 0.2, 0.2]), SIDE) == pytest.approx(np.log(0.3 / 0.7))
    assert share_odds(np.log([0.5, 0.5]), [False, False]) == 0.0


def test_temperatures_undo_what_was_done_to_the_logits() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (4000, 4))
    proba, _ = outcomes(logits, SIDE)
    codes = (random.random((4000, 1)) > proba.cumsum(1)).sum(1)
    assert class_temperature(3 * logits, codes) == pytest.approx(3, rel=0.1)
    odds = tumour_odds(logits, SIDE)
    assert tumour_temperature(3 * odds, SIDE[codes]) == pytest.approx(3, rel=0.1)


def test_a_handful_of_labels_hardly_moves_the_temperature() -> None:
    odds, tumour = np.array([4.0, -4.0, 5.0, -3.0, 2.0]), np.array([True, False, True, False, True])
    assert tumour_temperature(odds, tumour, cautious=0) < 0.35
    assert 0.8 < tumour_temperature(odds, tumour) <= 1.0
    assert tumour_temperature(odds, np.ones(5, bool)) == 1.0


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(LabelError, match="scheme"):
        check_scheme("bottom-up")
