"""Adapting a model to the open section: a panel it never saw becomes one it knows."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from quick_training import QUICK, SMALL_RANK

import stplm
from stplm import keys
from stplm.errors import Cancelled
from stplm.tasks import adapt as adapting
from stplm.tasks.adapt import STEPS, knows_too_little
from stplm.tokens.vocabulary import known_ensembl_ids


@pytest.fixture
def foreign(few: AnnData) -> AnnData:
    """The demo's cells under names of genes that the bundled model does not know."""
    others = sorted(known_ensembl_ids() - set(stplm.load_model().encoder.genes))[: few.n_vars]
    few.var[keys.ENSEMBL_ID] = others
    few.var_names = others
    return few


def test_an_unknown_panel_works_after_adapting(foreign: AnnData) -> None:
    base = stplm.load_model()
    before = base.fingerprint()
    model = stplm.adapt(foreign, base, steps=5)
    assert base.fingerprint() == before
    assert len(base.encoder.genes) == 313
    assert model.provenance["genes_added"] == foreign.n_vars
    assert model.provenance["base"] == {"name": "tissue-breast", "sha256": before}
    vectors = stplm.embed(foreign, model, clusters=0).obsm[keys.X_STPLM]
    assert np.isfinite(vectors).all()
    # Cells no longer look all alike.
    assert vectors[:, :64].std(0).max() > 1e-3
    assert foreign.uns[keys.UNS][keys.UNS_EMBEDDING]["genes_known"] == foreign.n_vars


def test_embed_adapts_where_it_is_asked_to(foreign: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, "tissue", 3)
    seen: list[tuple[int, int]] = []
    stplm.embed(foreign, adapt=True, clusters=0, progress=lambda *at: seen.append(at))
    note = foreign.uns[keys.UNS][keys.UNS_EMBEDDING]
    assert note["adapted"] is True
    assert note["model"] == "tissue-breast+adapted"
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[-1] == totals[0]


@pytest.mark.parametrize(("known", "adapted"), [(120, True), (200, False)])
def test_embed_adapts_by_itself_where_the_model_knows_few_genes(
    few: AnnData, monkeypatch: pytest.MonkeyPatch, known: int, adapted: bool
) -> None:
    monkeypatch.setitem(STEPS, "tissue", 3)
    genes = stplm.load_model().encoder.genes
    names = [f"probe-{i}" if i >= known else name for i, name in enumerate(few.var_names)]
    few.var = few.var.assign(**{keys.ENSEMBL_ID: [*few.var[keys.ENSEMBL_ID][:known], *[""] * (few.n_vars - known)]})
    few.var_names = names
    assert not knows_too_little(genes, few), "too few cells to learn genes from"
    monkeypatch.setattr(adapting, "FEWEST_CELLS", 200)
    assert knows_too_little(genes, few) == adapted
    unasked, never = stplm.embed(few.copy(), clusters=0), stplm.embed(few.copy(), adapt=False, clusters=0)
    notes = [table.uns[keys.UNS][keys.UNS_EMBEDDING] for table in (unasked, never)]
    assert [note["adapted"] for note in notes] == [adapted, False]
    assert [note["genes_known"] for note in notes] == [few.n_vars if adapted else known, known]


def test_the_same_seed_gives_the_same_model(few: AnnData) -> None:
    one, again, other = (stplm.adapt(few, steps=3, seed=s).fingerprint() for s in (0, 0, 1))
    assert one == again != other


def test_cancelling_leaves_table_and_model_as_they_were(few: AnnData) -> None:
    base = stplm.load_model()
    before, uns = base.fingerprint(), str(few.uns)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        stplm.adapt(few, base, steps=5, progress=stop)
    assert base.fingerprint() == before
    assert str(few.uns) == uns
    assert list(few.obsm) == [keys.SPATIAL]


def test_the_presets_of_gene_tokens_learn_new_genes_too(few: AnnData) -> None:
    """A third of the panel is new to the model; a hybrid then trains its own stage as well."""
    known = few[:, :200].copy()
    rank = stplm.pretrain([known], QUICK, preset="rank", architecture=SMALL_RANK)
    sizes = {"tissue_dim": 8, "tissue_hidden": 16, "tissue_blocks": 1}
    hybrid = stplm.pretrain([known], QUICK, preset="hybrid", base=rank, architecture=sizes)
    assert hybrid.provenance["base"]["sha256"] == rank.fingerprint()
    # The own stage is the rank model's.
    assert np.array_equal(
        *(stplm.embed(known.copy(), m, clusters=0, neighbours=False).obsm[keys.X_STPLM][:, :16] for m in (rank, hybrid))
    )
    for model in (rank, hybrid):
        adapted = stplm.adapt(few, model, steps=2)
        assert adapted.preset == model.preset
        assert adapted.provenance["genes_added"] == few.n_vars - 200
        assert all(p.requires_grad for p in adapted.encoder.parameters())
        weights = adapted.encoder.gene_embedding.detach().numpy()
        assert np.abs(weights[200:]).max() > 0
        vectors = stplm.embed(few, adapted, clusters=0).obsm[keys.X_STPLM]
        assert np.isfinite(vectors).all()
    own = stplm.adapt(known, hybrid, steps=2).encoder
    assert np.array_equal(own.gene_embedding.detach(), hybrid.encoder.gene_embedding.detach())
    assert not np.array_equal(own.gene_decode_tissue.detach(), hybrid.encoder.gene_decode_tissue.detach())
