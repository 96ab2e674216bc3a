"""Self-supervised training: it learns, and the same seed gives the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from quick_training import QUICK, SMALL

import stplm
from stplm import keys
from stplm.errors import Cancelled, GeneError
from stplm.nn.tissue import TissueEncoder
from stplm.tasks.cells import prepare_cells, table_genes
from stplm.tasks.gene_statistics import set_gene_statistics
from stplm.tasks.objectives_tissue import near_counts
from stplm.tasks.training import TrainingConfig, train_self_supervised


def test_training_lowers_the_loss(table: AnnData) -> None:
    genes = sorted(table_genes(table))
    torch.manual_seed(0)
    encoder = TissueEncoder(genes, SMALL)
    cells = prepare_cells(table, genes, SMALL)
    set_gene_statistics(encoder, [cells])
    losses = train_self_supervised(encoder, [cells], TrainingConfig(steps=80, batch=128, patch=80, warm_up=10))
    # A tissue patch is seen on every second step: the two kinds have their own levels.
    for first in (0, 1):
        own = losses[first::2]
        assert np.mean(own[-10:]) < np.mean(own[:10]) - 0.15


def test_the_same_seed_gives_the_same_model(few: AnnData) -> None:
    one, again = (stplm.pretrain([few], QUICK, architecture=SMALL) for _ in range(2))
    other = stplm.pretrain([few], replace(QUICK, seed=1), architecture=SMALL)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_the_callers_random_numbers_are_left_alone(few: AnnData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    stplm.pretrain([few], QUICK, architecture=SMALL)
    assert torch.equal(torch.rand(3), expected)


def test_the_model_tells_what_it_was_trained_on(few: AnnData) -> None:
    seen = []
    model = stplm.pretrain(
        [few], QUICK, architecture=SMALL, name="mine", progress=lambda *at: seen.append(at), provenance={"data": ["x"]}
    )
    assert model.name == "mine"
    assert model.encoder.genes == sorted(few.var[keys.ENSEMBL_ID])
    assert model.provenance["cells"] == 300
    assert model.provenance["training"] == QUICK.to_dict()
    assert model.provenance["data"] == ["x"]
    assert np.isfinite(model.provenance["final_loss"])
    assert seen == [(i, 6) for i in range(1, 7)]


def test_sections_of_two_panels_and_one_without_positions(table: AnnData) -> None:
    left, right = table[:200, :200].copy(), table[200:500, 150:].copy()
    del right.obsm[keys.SPATIAL]
    model = stplm.pretrain([left, right], QUICK, architecture=SMALL)
    assert len(model.encoder.genes) == 313
    for part in (left, right):
        assert np.isfinite(stplm.embed(part, model, clusters=3).obsm[keys.X_STPLM]).all()


def test_a_section_by_its_path(demo_path: Path) -> None:
    model = stplm.pretrain([demo_path], replace(QUICK, steps=1), architecture=SMALL)
    assert model.provenance["cells"] == 1135


def test_cells_without_counts_do_no_harm(few: AnnData) -> None:
    counts = few.X.tolil()
    counts[:250] = 0
    few.X = counts.tocsr()
    model = stplm.pretrain([few], QUICK, architecture=SMALL)
    assert all(torch.isfinite(p).all() for p in model.encoder.parameters())


def test_spill_over_comes_from_neighbours(table: AnnData) -> None:
    genes = sorted(table_genes(table))
    cells = prepare_cells(table, genes, SMALL)
    chosen = np.arange(0, len(cells), 7)
    near = near_counts(cells, chosen, np.random.default_rng(0), torch.device("cpu"))
    assert near is not None
    assert not torch.equal(near[0], near[1])
    counts = cells.dense(slice(None))
    for i, cell in enumerate(chosen):
        around = counts[cells.neighbours[cell][cells.weights[cell] > 0]]
        for drawn in near[:, i].numpy():
            assert (around == drawn).all(1).any() if len(around) else not drawn.any()


def test_spill_over_changes_what_is_learnt_and_only_where_it_is_asked_for(few: AnnData) -> None:
    plain, none, some = (
        stplm.pretrain([few], replace(QUICK, **spill), architecture=SMALL).fingerprint()
        for spill in ({}, {"spill_over": 0.0}, {"spill_over": 0.3})
    )
    assert plain == none != some
    del few.obsm[keys.SPATIAL]
    assert stplm.pretrain([few], replace(QUICK, spill_over=0.3), architecture=SMALL).provenance["cells"] == 300
    with pytest.raises(ValueError, match="spill_over must be 0 to 1"):
        replace(QUICK, spill_over=-0.1)


def test_another_species_says_so(few: AnnData) -> None:
    few.var_names = [f"Gm{i}" for i in range(few.n_vars)]
    few.var[keys.ENSEMBL_ID] = [f"ENSMUSG{i:011d}" for i in range(few.n_vars)]
    with pytest.raises(GeneError):
        stplm.pretrain([few], QUICK, architecture=SMALL)


def test_it_can_be_cancelled(few: AnnData) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.pretrain([few], QUICK, architecture=SMALL, progress=stop)
