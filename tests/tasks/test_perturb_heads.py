"""Perturbation of models that were fine-tuned or adapted: their own classes are asked, with what the heads look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

import stplm
from stplm import keys
from stplm.errors import ModelError
from stplm.models import Model, build_encoder
from stplm.nn.heads import ClassHeads, HeadsConfig
from stplm.tasks import adapt as adapting
from stplm.tasks.apply import apply_heads
from stplm.tasks.cells import table_genes

QUICK: dict[str, Any] = {"nulls": 0, "spatial": False}
RANK = {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16, "max_length": 400}
CLASSES = ("Tumour", "Immune", "Stromal")


def _tuned(table: AnnData, preset: str, *, neighbours: bool = True) -> Model:
    """A model whose heads say something of every cell, trained or not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        genes = [g for g in table_genes(table) if g]
        if preset == "tissue":
            model = stplm.load_model()
        else:
            model = Model(build_encoder(preset, genes, RANK).eval(), "small", preset=preset)
        config = HeadsConfig(model.dim, CLASSES, ("Tumour",), genes=tuple(genes[:40]), neighbours=neighbours)
        model.heads = ClassHeads(config).eval()
        with torch.no_grad():
            for name in ("types", "tumour", "skip"):
                getattr(model.heads, name).weight.normal_(std=0.3)
    return model


@pytest.mark.parametrize(
    ("preset", "neighbours", "apart"), [("tissue", True, 0.005), ("tissue", False, 1e-3), ("rank", True, 1e-3)]
)
def test_heads_judge_a_cell_as_if_its_counts_were_edited(
    few: AnnData, preset: str, neighbours: bool, apart: float
) -> None:
    model = _tuned(few, preset, neighbours=neighbours)
    group = list(few.var_names[:40])
    before = apply_heads(few.copy(), model).obs[keys.TUMOUR].to_numpy()
    found = stplm.perturb(few, model, genes={"group": group}, **QUICK)
    assert list(found.genes.filter(like="class: ")) == [f"class: {name}" for name in CLASSES]
    change = found.per_cell("group", "tumour")
    expected = []
    some = np.flatnonzero(np.isfinite(change))[::60]
    for cell in some:
        edited = few.copy()
        counts = edited.X.tolil()
        counts[cell, :40] = 0
        edited.X = counts.tocsr()
        expected.append(apply_heads(edited, model).obs[keys.TUMOUR].iloc[cell] - before[cell])
    assert np.abs(expected).max() > 0.01
    assert np.linalg.norm(change[some] - expected) <= apart * np.linalg.norm(expected)


def test_neighbours_are_judged_by_heads_that_look_at_them(few: AnnData) -> None:
    model = _tuned(few, "tissue")
    found = stplm.perturb(few, model, genes=["EPCAM"], mode="overexpress", cells=np.arange(40), classifier=model)
    assert found.rings is not None
    assert found.rings["own_class"].abs().max() > 0


def test_a_tuned_model_judges_its_own_vectors_only(few: AnnData, tmp_path: Path) -> None:
    folder = _tuned(few, "tissue").save(tmp_path / "tuned")
    assert "tumour" in stplm.perturb(few, folder, genes=["EPCAM"], classifier=folder, **QUICK).genes
    with pytest.raises(ModelError, match="model to perturb too"):
        stplm.perturb(few, "rank-breast", genes=["EPCAM"], classifier=folder, **QUICK)
    with pytest.raises(ModelError, match="not learned any classes"):
        stplm.perturb(few, genes=["EPCAM"], classifier=stplm.load_model(), **QUICK)


def test_an_adapted_model_is_kept_and_asked(few: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(adapting.STEPS, "tissue", 4)
    kept = tmp_path / "adapted"
    stplm.embed(few, adapt=True, keep_adapted=kept, clusters=0)
    few.obs["side"] = np.where(np.arange(len(few)) % 2, "Tumour", "Stromal")
    classifier = stplm.fit_classifier(few, "side")
    found = stplm.perturb(few, kept, genes=["EPCAM"], classifier=classifier, **QUICK)
    assert np.isfinite(found.genes["tumour"]).all()
    with pytest.raises(ModelError, match="another model's vectors"):
        stplm.perturb(few, genes=["EPCAM"], classifier=classifier, **QUICK)
