"""Losses of classification: their scale, and what they make of rare classes and of easy cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from stplm.nn.class_losses import class_loss, class_weights


def test_weights_keep_the_scale_of_the_loss_whatever_the_number_of_classes() -> None:
    for counts in ([500, 5], [900, 300, 30, 3], [1000] * 3 + [1] * 40):
        weights = class_weights(counts, cap=20.0)
        assert np.isclose((np.array(counts) * weights).sum(), sum(counts))
        assert weights.max() / weights.min() <= 20.0 + 1e-9
    np.testing.assert_allclose(class_weights([500, 5], cap=1.0), 1.0)
    np.testing.assert_allclose(class_weights([30, 10, 60]) * [30, 10, 60], 100 / 3)
    with pytest.raises(ValueError, match="needs a label"):
        class_weights([3, 0])


def test_loss_is_cross_entropy_and_focal_counts_easy_cells_less() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    codes, ones = torch.arange(50) % 4, torch.ones(4)
    log_proba = log_softmax(logits, 1)
    assert torch.isclose(class_loss(log_proba, codes, ones), cross_entropy(logits, codes))
    assert torch.isclose(
        class_loss(log_proba, codes, ones, smoothing=0.1), cross_entropy(logits, codes, label_smoothing=0.1)
    )
    easy, hard = torch.tensor([[0.95, 0.05]]).log(), torch.tensor([[0.3, 0.7]]).log()
    zero, two = torch.tensor([0]), torch.ones(2)
    shrunk = [class_loss(x, zero, two, gamma=2.0) / class_loss(x, zero, two) for x in (easy, hard)]
    assert torch.allclose(torch.stack(shrunk), torch.tensor([0.05**2, 0.7**2]))


def test_a_class_that_cannot_be_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    loss = class_loss(log_softmax(logits, 1), torch.tensor([0]), torch.ones(2), gamma=2.0, smoothing=0.1)
    loss.backward()
    assert torch.isfinite(loss)
