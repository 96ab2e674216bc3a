"""The gate: what a cell takes from its neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stplm.nn.encoder import Surroundings
from stplm.nn.gate import NeighbourGate


def _around(n: int = 30, k: int = 5) -> Surroundings:
    """Random neighbours; cell i has i % (k + 1) of them."""
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(n, k, generator=generator) * 50 + 1
    weights = torch.exp(-0.5 * (distances / 20) ** 2) * (torch.arange(k) < (torch.arange(n) % (k + 1))[:, None])
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
    neighbours = torch.randint(n, (n, k), generator=generator) * (weights > 0)
    return Surroundings(torch.arange(n), neighbours, weights, distances * (weights > 0), torch.zeros(n, 2))


def _own(n: int = 30) -> Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(1))


def _trained() -> NeighbourGate:
    torch.manual_seed(0)
    gate = NeighbourGate(16, 4)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.normal_(std=0.5)
    return gate


def _mean(own: Tensor, around: Surroundings, weights: Tensor) -> Tensor:
    return torch.stack([w @ own[near] for near, w in zip(around.neighbours, weights, strict=True)])


@torch.no_grad()
def test_a_new_gate_is_the_fixed_rule_with_weights_by_distance() -> None:
    own, around = _own(), _around()
    some = around.weights.sum(1, keepdim=True) > 0
    mean = _mean(own, around, around.weights)
    torch.testing.assert_close(NeighbourGate(16, 4)(own, around), torch.where(some, 0.85 * own + 0.15 * mean, own))


@torch.no_grad()
def test_the_fixed_rule_takes_the_plain_mean() -> None:
    own, around = _own(), _around()
    gate = NeighbourGate(16, 4, "fixed", share=0.3)
    assert not list(gate.parameters())
    assert torch.equal(gate(own, around)[0], own[0])
    torch.testing.assert_close(gate(own, around)[3], 0.7 * own[3] + 0.3 * own[around.neighbours[3, :3]].mean(0))


@torch.no_grad()
def test_without_neighbours_a_cell_keeps_its_vector() -> None:
    own, around = _own(), _around()
    mixed = _trained()(own, around)
    lonely = around.weights.sum(1) == 0
    assert lonely.sum() == 5
    assert torch.equal(mixed[lonely], own[lonely])
    assert (mixed[~lonely] != own[~lonely]).any(1).all()


@torch.no_grad()
def test_content_and_distance_both_count() -> None:
    own, around, gate = _own(), _around(), _trained()
    mixed = gate(own, around)
    farther = Surroundings(
        around.cells, around.neighbours, around.weights, around.distances.flip(1) * (around.weights > 0), around.place
    )
    assert (gate(own, farther)[5] - mixed[5]).abs().max() > 1e-3
    changed = own.clone()
    changed[around.neighbours[5, 0]] += 1
    assert (gate(changed, around)[5] - mixed[5]).abs().max() > 1e-3


@torch.no_grad()
def test_the_order_of_neighbours_means_nothing() -> None:
    own, around, gate = _own(), _around(), _trained()
    turned = Surroundings(
        around.cells, around.neighbours.flip(1), around.weights.flip(1), around.distances.flip(1), around.place
    )
    torch.testing.assert_close(gate(own, turned), gate(own, around))


def test_gradients_are_finite_and_the_same_on_several_threads() -> None:
    own, around, gate = _own(400).requires_grad_(), _around(400, 12), _trained()
    found = set()
    torch.set_num_threads(2)
    try:
        for _ in range(5):
            gradient = torch.autograd.grad(gate(own, around).square().sum(), own)[0]
            assert torch.isfinite(gradient).all()
            found.add(gradient.numpy().tobytes())
    finally:
        torch.set_num_threads(1)
    assert len(found) == 1


def test_a_new_gate_learns() -> None:
    """Every parameter of a fresh gate gets a gradient within two steps, though it starts from zeros."""
    gate = NeighbourGate(16, 4)
    target = _own().roll(1, 0)
    optimiser = torch.optim.SGD(gate.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        (gate(_own(), _around()) - target).square().sum().backward()
        optimiser.step()
    assert all((p.grad != 0).any() for p in gate.parameters())


@pytest.mark.parametrize("wrong", [{"mode": "open"}, {"share": 1.0}, {"heads": 3}])
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        NeighbourGate(**{"dim": 16, "heads": 4, **wrong})
