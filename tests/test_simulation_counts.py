"""Counts of a simulated section have the distribution that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest

from stplm.simulation_counts import CONTROL_RATE, DISPERSION, draw_counts


def test_counts_are_negative_binomial_around_the_class() -> None:
    rates = np.array([[0.7, 0.2, 0.09, 0.01, 0.0], [0.1, 0.1, 0.1, 0.1, 0.6]])
    kind = np.repeat([0, 1], 60_000)
    counts = draw_counts(rates, kind, np.full(len(kind), 12.0), 4, np.random.default_rng(0))
    assert counts.dtype == np.int32
    assert counts.has_sorted_indices
    dense = counts.toarray()
    for number in (0, 1):
        mean = 12 * rates[number]
        found = dense[kind == number, :5]
        assert found.mean(axis=0) == pytest.approx(mean, rel=0.03, abs=1e-9)
        assert found.var(axis=0) == pytest.approx(mean + DISPERSION * mean**2, rel=0.06, abs=1e-9)
        # No cell has such a gene: (1 + dispersion * mean) ** (-1 / dispersion).
        assert (found == 0).mean(axis=0) == pytest.approx((1 + DISPERSION * mean) ** (-1 / DISPERSION), abs=0.01)
    assert dense[:, 5:].mean() == pytest.approx(CONTROL_RATE, rel=0.1)
    assert abs(np.corrcoef(dense[kind == 0, 0], dense[kind == 0, 1])[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_counts_and_cells_differ() -> None:
    rates, kind, size = np.full((1, 50), 0.02), np.zeros(3000, dtype=np.int64), np.full(3000, 40.0)
    first, again, other = (draw_counts(rates, kind, size, 0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0
    assert len(np.unique(first.toarray(), axis=0)) > 2990
