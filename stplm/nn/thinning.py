"""Count splitting and masking: what makes training self-supervised.

A cell's counts are split at random into two parts that share no molecule (binomial thinning; if the counts are Poisson,
the parts are independent given the cell's true expression). The model sees one part and must predict the other, so
what it learns is the cell, not its sampling noise. On top of that, genes and whole cells are masked.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_counts(counts: Tensor, low: float, high: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split ``counts`` (n, genes) into two parts that add up to it; each cell's share is drawn from [low, high]."""
    share = low + (high - low) * torch.rand(len(counts), 1, generator=generator, device=counts.device)
    present = counts > 0
    first = torch.zeros_like(counts)
    first[present] = torch.binomial(counts[present], share.expand_as(counts)[present], generator=generator)
    return first, counts - first


def spill_counts(counts: Tensor, near: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """``counts`` (n, genes) with some of another cell's each, ``near`` (n, genes), added: what segmentation does where
    cells touch. How many, as a share of the cell's own, is drawn from [0, ``most``]; never more than there are."""
    wanted = most * torch.rand(len(counts), 1, generator=generator, device=counts.device) * counts.sum(1, keepdim=True)
    share = (wanted / near.sum(1, keepdim=True).clamp(min=1.0)).clamp(max=1.0)
    present = near > 0
    mixed = counts.clone()
    mixed[present] += torch.binomial(near[present], share.expand_as(near)[present], generator=generator)
    return mixed


def random_mask(shape: tuple[int, ...], share: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """True at a random ``share`` of the entries."""
    return torch.rand(shape, generator=generator, device=like.device) < share
