"""Counts are split without losing or inventing a molecule."""

from __future__ import annotations

import torch

from stplm.nn.thinning import random_mask, spill_counts, split_counts


def _counts() -> torch.Tensor:
    return torch.poisson(torch.full((200, 30), 3.0), generator=torch.Generator().manual_seed(0))


def test_the_parts_add_up_to_the_counts() -> None:
    counts = _counts()
    first, second = split_counts(counts, 0.3, 0.8, torch.Generator().manual_seed(1))
    assert torch.equal(first + second, counts)
    for part in (first, second):
        assert (part >= 0).all()
        assert torch.equal(part, part.round())


def test_each_cell_has_its_own_share_within_the_limits() -> None:
    counts = torch.full((400, 50), 100.0)
    first, _ = split_counts(counts, 0.3, 0.8, torch.Generator().manual_seed(1))
    share = first.sum(1) / counts.sum(1)
    assert share.min() > 0.25
    assert share.max() < 0.85
    assert share.std() > 0.1


def test_the_parts_of_poisson_counts_are_independent() -> None:
    counts = torch.poisson(torch.full((20_000, 1), 10.0), generator=torch.Generator().manual_seed(0))
    first, second = split_counts(counts, 0.5, 0.5, torch.Generator().manual_seed(1))
    assert abs(torch.corrcoef(torch.cat([first, second], dim=1).T)[0, 1]) < 0.03


def test_the_seed_decides() -> None:
    counts = _counts()
    one, again, other = (split_counts(counts, 0.3, 0.8, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_empty_cells_stay_empty() -> None:
    first, second = split_counts(torch.zeros(3, 5), 0.3, 0.8, torch.Generator().manual_seed(0))
    assert first.sum() == second.sum() == 0


def test_a_mask_hides_about_its_share() -> None:
    mask = random_mask((1000, 100), 0.2, torch.zeros(1), torch.Generator().manual_seed(0))
    assert mask.dtype == torch.bool
    assert abs(mask.float().mean() - 0.2) < 0.01


def test_what_spills_over_is_the_other_cells_and_within_its_limit() -> None:
    counts, near = torch.zeros(500, 40), torch.zeros(500, 40)
    counts[:, :20], near[:, 10:] = 20.0, 30.0
    mixed = spill_counts(counts, near, 0.3, torch.Generator().manual_seed(1))
    added = mixed - counts
    assert torch.equal(added, added.round())
    assert (added >= 0).all()
    assert (added <= near).all()
    assert not added[:, :10].any()
    share = added.sum(1) / counts.sum(1)
    assert share.min() < 0.03
    assert 0.27 < share.max() < 0.36
    assert abs(share.mean() - 0.15) < 0.01


def test_nothing_spills_from_an_empty_cell_and_no_more_than_there_is() -> None:
    counts = torch.full((50, 4), 100.0)
    assert torch.equal(spill_counts(counts, torch.zeros(50, 4), 1.0, torch.Generator().manual_seed(0)), counts)
    near = torch.ones(50, 4)
    mixed = spill_counts(counts, near, 1.0, torch.Generator().manual_seed(0))
    assert (mixed - counts).max() <= 1
