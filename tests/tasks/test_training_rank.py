"""What the gene-token encoder is asked: masked genes of the panel and nothing else, the same however it is shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from anndata import AnnData
from quick_training import QUICK, SMALL_RANK

from stplm.models import build_encoder
from stplm.nn.ranking import CLS, FIRST_GENE, MASK
from stplm.tasks.cells import Cells, prepare_cells, table_genes
from stplm.tasks.gene_statistics import set_gene_statistics
from stplm.tasks.objectives import Share
from stplm.tasks.objectives_rank import RankObjective, corrupt, masked_gene_loss
from stplm.tasks.trainer import Validation
from stplm.tasks.training import train_self_supervised

CONFIG = replace(QUICK, patch=100, patches=2, contrast_weight=0.0)


@pytest.fixture
def setting(table: AnnData) -> tuple[RankObjective, Cells]:
    """An encoder of all 313 genes, and cells of a panel of 120 of them."""
    torch.manual_seed(0)
    encoder = build_encoder("rank", sorted(table_genes(table)), SMALL_RANK)
    cells = prepare_cells(table[:, 100:220].copy(), encoder.genes, encoder.config)
    return RankObjective(encoder, CONFIG), cells


def _drawn(setting: tuple[RankObjective, Cells]) -> tuple:
    objective, cells = setting
    batch = objective.draw(cells, 0, np.random.default_rng(3), Share())
    tokens = objective.encoder.tokenise(batch.seen, batch.rows)
    return batch, tokens, *corrupt(tokens, batch, len(objective.encoder.genes))


def test_fifteen_of_a_hundred_genes_are_asked_and_counts_of_hidden_ones_are_hidden(
    setting: tuple[RankObjective, Cells],
) -> None:
    batch, tokens, changed, asked, _ = _drawn(setting)
    hidden, swapped = changed.ids == MASK, (changed.ids != tokens.ids) & (changed.ids != MASK)
    assert not (asked & ~tokens.genes).any()
    n_genes, n_asked = int(tokens.genes.sum()), int(asked.sum())
    assert n_asked / n_genes == pytest.approx(0.15, abs=0.02)
    assert int(hidden.sum()) / n_asked == pytest.approx(0.8, abs=0.06)
    assert int(swapped.sum()) / n_asked == pytest.approx(0.1, abs=0.05)
    assert (changed.bins[hidden] == 0).all()
    assert torch.isin(changed.ids[swapped] - FIRST_GENE, batch.rows).all()
    untouched = ~hidden & ~swapped
    assert torch.equal(changed.ids[untouched], tokens.ids[untouched])
    assert torch.equal(changed.bins[~hidden], tokens.bins[~hidden])
    # A blanked cell is its first token alone, and all its counts are to be found from the cells around it.
    blank = (tokens.mask.sum(1) == 1) & (batch.gate_target.sum(1) > 0)
    assert int(blank.sum()) > 10
    assert (tokens.ids[blank, 0] == CLS).all()
    assert not batch.own_target[blank].any()


def test_the_loss_is_on_asked_places_and_genes_of_the_panel_only(setting: tuple[RankObjective, Cells]) -> None:
    encoder = setting[0].encoder
    batch, tokens, _, asked, column = _drawn(setting)
    hidden = torch.randn(*tokens.ids.shape, encoder.config.hidden)
    loss, _ = masked_gene_loss(encoder, hidden, asked, column, batch)
    elsewhere = torch.where(asked[..., None], hidden, torch.randn_like(hidden))
    assert torch.equal(masked_gene_loss(encoder, elsewhere, asked, column, batch)[0], loss)
    loss.backward()
    seen = encoder.gene_mlm_bias.grad.nonzero().ravel()
    assert torch.equal(seen, batch.rows.sort().values)
    # By hand: of each patch, the mean of -log softmax over the 120 genes at the true one.
    with torch.no_grad():
        share = torch.log_softmax(encoder.gene_logits(hidden, batch.rows), dim=2)
        nll = -share.gather(2, column[..., None])[..., 0]
        by_patch = [nll[(batch.patch == p)[:, None] & asked].mean() for p in range(2)]
    assert float(loss.detach()) == pytest.approx(float(sum(by_patch)) / 2, abs=1e-5)


@pytest.mark.parametrize("patches", [2, 3])
def test_two_processes_have_the_loss_of_one(setting: tuple[RankObjective, Cells], patches: int) -> None:
    objective, cells = setting
    objective.config = replace(CONFIG, patches=patches, contrast_weight=0.5)

    def parts(share: Share) -> dict[str, float]:
        batch = objective.draw(cells, 4, np.random.default_rng(9), share)
        loss, parts = objective(batch)
        return {name: float(value) for name, value in {"loss": loss, **parts}.items()}

    whole, first, second = parts(Share()), parts(Share(0, 2)), parts(Share(1, 2))
    assert first != second
    for name, value in whole.items():
        assert (first[name] + second[name]) / 2 == pytest.approx(value, rel=1e-4)


def test_training_lowers_every_loss(table: AnnData) -> None:
    genes = sorted(table_genes(table))
    torch.manual_seed(0)
    encoder = build_encoder("rank", genes, SMALL_RANK)
    cells = prepare_cells(table, genes, encoder.config)
    set_gene_statistics(encoder, [cells])
    assert float(encoder.gene_median.std()) > 0
    config = replace(CONFIG, steps=40, patches=1, patch=60, learning_rate=5e-3, warm_up=5)
    asked = Validation([cells], batches=1)
    before = asked.score(RankObjective(encoder, config), config)
    train_self_supervised(encoder, [cells], config)
    after = asked.score(RankObjective(encoder, config), config)
    for name in ("masked_gene", "own", "gate"):
        assert after[name] < before[name] - 0.1
    assert after["masked_gene_accuracy"] > before["masked_gene_accuracy"]
