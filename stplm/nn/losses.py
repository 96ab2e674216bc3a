"""Losses of self-supervised training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def negative_binomial_nll(counts: Tensor, mean: Tensor, log_dispersion: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean negative log-likelihood of ``counts`` (n, genes) under a negative binomial with ``mean`` and inverse
    dispersion ``exp(log_dispersion)`` (genes,), over the entries where ``weight`` (n, genes) is not zero."""
    theta = log_dispersion.clamp(-4.0, 8.0).exp()
    log_sum = torch.log(theta + mean + 1e-8)
    log_likelihood = (
        theta * (torch.log(theta + 1e-8) - log_sum)
        + counts * (torch.log(mean + 1e-8) - log_sum)
        + torch.lgamma(counts + theta)
        - torch.lgamma(theta)
        - torch.lgamma(counts + 1.0)
    )
    if weight is None:
        return -log_likelihood.mean()
    return -(log_likelihood * weight).sum() / weight.sum().clamp(min=1.0)


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Symmetric contrastive loss: row i of ``a`` belongs to row i of ``b`` alone (van den Oord et al., 2018)."""
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    target = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
