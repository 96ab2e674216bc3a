"""The binary head: tumour against everything else, calibrated on labels that were held out."""

import numpy as np
import pytest

from stplm.tasks.head import fit_linear
from stplm.tasks.tumour_head import TumourHead, fit_tumour_head

N, DENSE, GENES = 90, 4, 6


def _unfold(coefficients: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of dense columns with mean 2 and divisor 3, and levels as they are."""
    dense = coefficients[:, :DENSE] / 3.0
    return dense, coefficients[:, DENSE:], bias - 2.0 * dense.sum(1)


def _fit(tumour: np.ndarray, design: np.ndarray, **more: object) -> TumourHead | None:
    what: dict = {
        "sharpness": 1.5,
        "fade": np.ones(N),
        "share_odds": -1.0,
        "weight": np.ones(N),
        "calibrate": True,
    }
    return fit_tumour_head(design, tumour, fit_linear, _unfold, **(what | more))


@pytest.fixture
def design() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (N, DENSE + GENES))


def test_it_finds_tumour_from_unscaled_features(design: np.ndarray) -> None:
    tumour = design[:, 0] + design[:, -1] > 0
    head = _fit(tumour, design)
    assert head is not None
    odds = (3 * design[:, :DENSE] + 2) @ head.dense + design[:, DENSE:] @ head.level + head.bias
    assert ((odds > 0) == tumour).mean() > 0.95


def test_labels_that_say_nothing_make_it_less_sure(design: np.ndarray) -> None:
    clear = _fit(design[:, 0] > 0, design, share_odds=0.0)
    noise = _fit(np.random.default_rng(1).random(N) < 0.5, design, share_odds=0.0)
    assert clear is not None
    assert noise is not None
    assert noise.temperature > 2 * clear.temperature


def test_without_both_sides_there_is_no_head(design: np.ndarray) -> None:
    assert _fit(np.zeros(N, bool), design) is None
    assert _fit(np.ones(N, bool), design) is None


def test_arrays_bring_it_back(design: np.ndarray) -> None:
    head = _fit(design[:, 0] > 0, design)
    assert head is not None
    again = TumourHead.from_arrays(head.to_arrays())
    assert again is not None
    assert again.to_arrays().keys() == head.to_arrays().keys()
    assert (again.bias, again.temperature) == (head.bias, head.temperature)
    assert TumourHead.from_arrays({"dense": np.zeros(2)}) is None
