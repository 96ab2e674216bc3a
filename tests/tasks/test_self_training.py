"""The whole fit of a head: who joins which of the heads whose mean is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stplm.tasks.head import fit_joined, fit_linear
from stplm.tasks.self_training import fit_joining
from stplm.tasks.unlabelled import join_cells

ALL, SOME = np.arange(6), np.arange(4)


@pytest.fixture
def setting() -> dict[str, Any]:
    """Two classes apart in 6 features: 20 labels and 1,000 cells without one."""
    random = np.random.default_rng(0)
    codes = np.arange(20) % 2
    cells = random.normal(size=(1000, 6)).astype(np.float32)
    cells[500:] += 1
    return {
        "design": random.normal(size=(20, 6)).astype(np.float32) + codes[:, None],
        "codes": codes,
        "n_classes": 2,
        "cells": cells,
        "candidates": np.arange(1000) % 10 > 0,
        "heads": [ALL, SOME],
        "sharp": 1.0,
        "penalty": None,
    }


def _fit(setting: dict[str, Any], rounds: int) -> tuple[tuple[np.ndarray, np.ndarray], int, list[np.ndarray]]:
    options = dict(setting)
    cells, taken = options.pop("cells"), []

    def call(linear: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        proba = np.exp(cells @ linear[0].T + linear[1])
        return proba / proba.sum(1, keepdims=True)

    def rows(which: np.ndarray) -> np.ndarray:
        taken.append(which)
        return cells[which]

    linear, joined = fit_joining(call=call, rows=rows, rounds=rounds, **options)
    return linear, joined, taken


def test_with_many_labels_nobody_joins(setting: dict[str, Any]) -> None:
    (coefficients, bias), joined, taken = _fit(setting, 0)
    alone = fit_linear(setting["design"], setting["codes"], 2, heads=setting["heads"])
    assert joined == 0
    assert not taken
    np.testing.assert_array_equal(coefficients, alone[0])
    np.testing.assert_array_equal(bias, alone[1])


def test_each_head_of_the_last_fit_has_cells_of_its_own(setting: dict[str, Any]) -> None:
    (coefficients, bias), joined, taken = _fit(setting, 2)
    first, one, other = taken  # a round for one head, then one for both
    assert joined == len(one)
    assert set(one) != set(other)
    assert all(setting["candidates"][cells].all() for cells in taken)
    # What is kept is the mean of the two, by hand.
    linear = fit_linear(setting["design"], setting["codes"], 2, heads=[ALL])
    for heads, seeds in (([ALL], [0]), ([ALL, SOME], [0, 1])):
        proba = np.exp(setting["cells"] @ linear[0].T + linear[1])
        fits = []
        for head, seed in zip(heads, seeds, strict=True):
            drawn = join_cells(proba / proba.sum(1, keepdims=True), setting["candidates"], setting["codes"], seed=seed)
            rows = setting["cells"][drawn.cells]
            fits.append(fit_joined(setting["design"], setting["codes"], 2, rows, drawn, heads=[head]))
        linear = tuple(np.mean([fit[part] for fit in fits], axis=0) for part in (0, 1))
    assert len(first)
    np.testing.assert_allclose(coefficients, linear[0], atol=1e-6)
    np.testing.assert_allclose(bias, linear[1], atol=1e-6)
