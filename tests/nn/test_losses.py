"""Losses against their textbook forms."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import nbinom

from stplm.nn.losses import info_nce, negative_binomial_nll


def test_negative_binomial_is_scipys() -> None:
    random = np.random.default_rng(0)
    mean, dispersion = random.uniform(0.1, 20, (6, 4)), random.uniform(-1, 2, 4)
    counts = random.poisson(mean)
    theta = np.exp(dispersion)
    expected = -nbinom.logpmf(counts, theta, theta / (theta + mean))
    given = (torch.tensor(counts, dtype=torch.float64), torch.tensor(mean), torch.tensor(dispersion))
    assert math.isclose(negative_binomial_nll(*given).item(), expected.mean(), rel_tol=1e-6)
    weight = (random.random((6, 4)) < 0.5).astype(float)
    weighted = negative_binomial_nll(*given, torch.tensor(weight)).item()
    assert math.isclose(weighted, (expected * weight).sum() / weight.sum(), rel_tol=1e-6)


def test_negative_binomial_is_finite_where_nothing_is_expected() -> None:
    loss = negative_binomial_nll(torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2), torch.zeros(2))
    assert torch.isfinite(loss)


def test_contrast_is_lowest_for_matching_pairs() -> None:
    a = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    matched, shuffled = info_nce(a, a, 0.1), info_nce(a, a.roll(1, 0), 0.1)
    assert matched < 0.5 < shuffled


def test_contrast_of_equal_vectors_is_a_guess() -> None:
    same = torch.ones(16, 4)
    assert math.isclose(info_nce(same, same, 0.2).item(), math.log(16), rel_tol=1e-5)
