"""The cell-token encoder: which changes of its input must not change a cell's vector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stplm.nn.encoder import Surroundings
from stplm.nn.tissue import TissueConfig, TissueEncoder

GENES = [f"ENSG{i:011d}" for i in range(40)]
SMALL = TissueConfig(hidden=32, own_dim=16, tissue_dim=8, tissue_hidden=24, own_blocks=1, tissue_blocks=2, heads=4)


@pytest.fixture
def encoder() -> TissueEncoder:
    torch.manual_seed(0)
    encoder = TissueEncoder(GENES, SMALL)
    with torch.no_grad():
        encoder.gene_spread.uniform_(0.5, 1.5)
        encoder.gene_decode_tissue.normal_()
    return encoder.eval()


def _counts(n: int = 20, genes: int = 40) -> Tensor:
    return torch.poisson(torch.full((n, genes), 2.0), generator=torch.Generator().manual_seed(1))


ROWS = torch.arange(40)


def _around(place: Tensor, cells: Tensor | None = None) -> Surroundings:
    """Each of the cells has the cell after it as its only neighbour."""
    n = len(place)
    cells = torch.arange(n) if cells is None else cells
    near = ((cells + 1) % n)[:, None]
    return Surroundings(cells, near, torch.ones(n, 1), torch.full((n, 1), 10.0), place)


def _in_tissue(encoder: TissueEncoder, own: Tensor, around: Surroundings) -> Tensor:
    return encoder.in_tissue(own, encoder.shared(own), around)


@torch.no_grad()
def test_genes_in_any_order_give_the_same_vector(encoder: TissueEncoder) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    counts = _counts()
    torch.testing.assert_close(encoder.encode_own(counts[:, order], ROWS[order]), encoder.encode_own(counts, ROWS))


@torch.no_grad()
def test_a_cell_counted_three_times_as_deep_is_the_same_cell(encoder: TissueEncoder) -> None:
    torch.testing.assert_close(encoder.encode_own(3 * _counts(), ROWS), encoder.encode_own(_counts(), ROWS))


@torch.no_grad()
def test_a_panel_uses_its_own_rows(encoder: TissueEncoder) -> None:
    """A gene that a section lacks and a gene that no cell of it shows are the same to the model."""
    counts = _counts()
    counts[:, 30:] = 0
    torch.testing.assert_close(encoder.encode_own(counts[:, :30], ROWS[:30]), encoder.encode_own(counts, ROWS))


@torch.no_grad()
def test_new_genes_leave_vectors_as_they_were(encoder: TissueEncoder) -> None:
    counts, place = _counts(), torch.rand(20, 2) * 300
    own = encoder.encode_own(counts, ROWS)
    tissue = _in_tissue(encoder, own, _around(place))
    encoder.add_genes(["ENSG99999999991", "ENSG99999999992", GENES[3], "ENSG99999999991"])
    assert encoder.genes == [*GENES, "ENSG99999999991", "ENSG99999999992"]
    assert all(len(p) == 42 for n, p in encoder.named_parameters() if n.startswith("gene_"))
    assert torch.equal(encoder.encode_own(counts, ROWS), own)
    assert torch.equal(_in_tissue(encoder, own, _around(place)), tissue)
    # A new gene that is there but untrained says nothing either.
    with_new = torch.cat([counts, torch.zeros(20, 2)], dim=1)
    torch.testing.assert_close(encoder.encode_own(with_new, torch.arange(42)), own)


@torch.no_grad()
def test_adding_known_genes_changes_nothing(encoder: TissueEncoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.add_genes(GENES[:5])
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


@torch.no_grad()
def test_cells_of_a_tile_in_any_order(encoder: TissueEncoder) -> None:
    own, place = encoder.encode_own(_counts(), ROWS), torch.rand(20, 2) * 400 - 200
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    mixed = _in_tissue(encoder, own, _around(place[order], order))
    straight = _in_tissue(encoder, own, _around(place))
    torch.testing.assert_close(mixed, straight[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(straight[:, :16], own)


@torch.no_grad()
def test_neighbours_are_averaged_by_weight(encoder: TissueEncoder) -> None:
    own = encoder.encode_own(_counts(4), ROWS)
    neighbours = torch.tensor([[1, 2], [0, 0], [3, 0], [0, 0]])
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    normed = encoder.own_norm(own)
    mean = encoder.mean_of_neighbours(normed, neighbours, weights)
    torch.testing.assert_close(mean[0], 0.25 * normed[1] + 0.75 * normed[2])
    torch.testing.assert_close(mean[2], normed[3])
    assert (mean[3] == 0).all()


def test_gradients_of_shared_neighbours_are_the_same_on_several_threads(encoder: TissueEncoder) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(600, 16, generator=generator, requires_grad=True)
    neighbours = torch.randint(600, (600, 12), generator=generator)
    weights = torch.rand(600, 12, generator=generator)
    gradients = set()
    torch.set_num_threads(2)
    try:
        for _ in range(20):
            loss = encoder.mean_of_neighbours(encoder.own_norm(own), neighbours, weights).square().sum()
            gradients.add(torch.autograd.grad(loss, own)[0].numpy().tobytes())
    finally:
        torch.set_num_threads(1)
    assert len(gradients) == 1


@torch.no_grad()
def test_decoded_shares_add_up_to_one(encoder: TissueEncoder) -> None:
    own = encoder.encode_own(_counts(), ROWS)
    for vectors in (own, torch.cat([own, torch.randn(20, 8)], dim=1)):
        torch.testing.assert_close(encoder.decode(vectors, ROWS[:25]).exp().sum(1), torch.ones(20))


@torch.no_grad()
def test_a_cell_without_counts_has_a_finite_vector(encoder: TissueEncoder) -> None:
    assert torch.isfinite(encoder.encode_own(torch.zeros(2, 40), ROWS)).all()


def test_config_survives_as_plain_values() -> None:
    assert TissueConfig(**SMALL.to_dict()) == SMALL
    assert SMALL.dim == 24
