"""The hybrid: the gene-token encoder's vectors, then attention between cells."""

from __future__ import annotations

import pytest
import torch

from stplm.nn.encoder import Surroundings
from stplm.nn.hybrid import HybridConfig, HybridEncoder
from stplm.nn.rank import RankConfig, RankEncoder

GENES = [f"ENSG{i:011d}" for i in range(40)]
ROWS = torch.arange(40)


@torch.inference_mode()
def test_its_own_stage_is_the_rank_encoders() -> None:
    torch.manual_seed(0)
    rank = RankEncoder(GENES, RankConfig(layers=2, hidden=32, heads=4, feed_forward=64, neighbours=5)).eval()
    rank.gene_median.copy_(torch.rand(40).double() + 0.1)
    before = {name: value.clone() for name, value in rank.state_dict().items()}
    hybrid = HybridEncoder.from_rank(rank, tissue_dim=8, tissue_hidden=16, tissue_blocks=1).eval()
    assert (hybrid.config.dim, hybrid.config.own_width, hybrid.config.neighbours) == (40, 32, 5)
    counts = torch.poisson(torch.full((12, 40), 0.8), generator=torch.Generator().manual_seed(1))
    own = hybrid.encode_own(counts, ROWS)
    assert torch.equal(own, rank.encode_own(counts, ROWS))
    tokens = rank.tokenise(counts, ROWS)
    hidden = rank.encode_tokens(tokens)[:, 1]
    assert torch.equal(hybrid.gene_logits(hidden, ROWS), rank.gene_logits(hidden, ROWS))
    near = torch.arange(12).roll(1)[:, None]
    around = Surroundings(torch.arange(12), near, torch.ones(12, 1), torch.full((12, 1), 9.0), torch.rand(12, 2) * 99)
    vectors = hybrid.in_tissue(own, hybrid.shared(own), around)
    assert torch.equal(vectors[:, :32], own)
    assert vectors[:, 32:].abs().min() > 0
    assert (hybrid.alone(own)[:, 32:] == 0).all()
    # A copy: training one leaves the other alone.
    hybrid.gene_embedding.data += 1
    assert all(torch.equal(before[name], value) for name, value in rank.state_dict().items())


def test_genes_can_be_added() -> None:
    sizes = HybridConfig(layers=1, hidden=16, own_dim=16, heads=2, feed_forward=16, tissue_hidden=16)
    hybrid = HybridEncoder(GENES, sizes)
    hybrid.add_genes(["ENSG99999999991"])
    assert all(len(getattr(hybrid, name)) == 41 for name in hybrid.gene_parameters)
    assert HybridConfig(**sizes.to_dict()) == sizes


def test_widths_that_do_not_meet() -> None:
    with pytest.raises(ValueError, match="own_dim"):
        HybridEncoder(GENES, HybridConfig(hidden=32))
