"""Fine-tuning: it learns, keeps what it should, is scored on tissue apart, and goes on after a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from quick_training import SMALL
from scipy.spatial import cKDTree

import stplm
from stplm import keys
from stplm.errors import Cancelled, LabelError, ModelError
from stplm.models import Model, build_encoder
from stplm.nn.heads import ClassHeads, HeadsConfig
from stplm.tasks.apply import apply_heads
from stplm.tasks.finetune import finetune
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.finetune_data import hold_out, labelled_sections
from stplm.tasks.finetune_patches import Forward, plan_patches

QUICK = FinetuneConfig(
    epochs=2, batch=64, patch=32, block=100.0, buffer=15.0, refit=False, learning_rate=3e-3, checkpoint_every=2
)
RANK = {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16, "max_length": 64}


def make_model(table: AnnData, preset: str = "tissue", config: dict[str, Any] | None = None) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        genes = sorted(set(table.var[keys.ENSEMBL_ID]) - {""})
        encoder = build_encoder(preset, genes, config or SMALL.to_dict()).eval()
    return Model(encoder, "small", preset=preset)


@pytest.fixture
def model(table: AnnData) -> Model:
    return make_model(table)


@pytest.fixture
def labels(table: AnnData) -> pd.Series:
    """Three classes told by a marker each; cells with none or several are unlabelled."""
    markers = {"Tumour": ("EPCAM", 4), "Immune": ("PTPRC", 1), "Stromal": ("LUM", 3)}
    found = pd.Series(None, index=table.obs_names, dtype=object)
    hits = np.stack([np.asarray(table[:, g].X.todense()).ravel() >= n for g, n in markers.values()])
    for name, hit in zip(markers, hits, strict=True):
        found[hit & (hits.sum(0) == 1)] = name
    found.iloc[::2] = None
    return found


def state(model: Model) -> list[bytes]:
    assert model.heads is not None
    parts = [*model.encoder.state_dict().values(), *model.heads.state_dict().values()]
    return [p.numpy().tobytes() for p in parts] + [json.dumps(model.heads.config.to_dict()).encode()]


def test_it_learns_and_predict_takes_the_model(table: AnnData, labels: pd.Series, model: Model, tmp_path: Path) -> None:
    before, seen = model.fingerprint(), list[tuple[int, int]]()
    epochs = list[int]()
    tuned = finetune(
        model, table, labels, QUICK, progress=lambda *at: seen.append(at), on_epoch=lambda e, scores: epochs.append(e)
    )
    assert model.fingerprint() == before
    note = tuned.provenance["finetune"]
    assert note["scores"]["macro_f1"] > 0.8
    assert {"tumour_f1", "calibration_error_before", "calibration_error", "tumour_calibration_error"} <= set(
        note["scores"]
    )
    assert note["tumour_classes"] == ["Tumour"]
    assert len(note["history"]) == 3
    assert epochs == [1, 2]
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert seen[-1] == (totals[0], totals[0])

    stplm.predict(table, tuned)
    assert table.obsm[keys.PROBA].shape == (table.n_obs, 3)
    np.testing.assert_allclose(table.obsm[keys.PROBA][:, 2], table.obs[keys.TUMOUR], rtol=1e-5)
    known = labels.notna().to_numpy()
    assert (table.obs[keys.CLASS].astype(str)[known] == labels[known]).mean() > 0.85
    first = table.obsm[keys.PROBA].copy()
    folder = tuned.save(tmp_path / "tuned")
    stplm.predict(table, folder)
    np.testing.assert_array_equal(table.obsm[keys.PROBA], first)
    assert json.loads((folder / "provenance.json").read_text())["finetune"]["holdout"].startswith("squares")


def test_damaged_or_altered_heads_are_refused(table: AnnData, model: Model, tmp_path: Path) -> None:
    model.heads = ClassHeads(HeadsConfig(model.dim, ("A", "B")))
    folder = model.save(tmp_path / "whole")
    assert stplm.load_model(folder).heads is not None
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"temperature": 1.0', '"temperature": 0.1'))
    with pytest.raises(ModelError, match="heads"):
        stplm.load_model(folder)
    (folder / "config.json").write_text(config)
    (folder / "heads.safetensors").unlink()
    with pytest.raises(ModelError, match="heads"):
        stplm.load_model(folder)
    model.heads = None
    with pytest.raises(ModelError, match="not learned any classes"):
        apply_heads(table, model)


@pytest.mark.parametrize(("method", "refit"), [("full", True), ("lora", False)])
def test_a_killed_run_ends_in_the_same_bytes(
    table: AnnData, labels: pd.Series, model: Model, tmp_path: Path, method: Any, refit: bool
) -> None:
    config = replace(QUICK, method=method, refit=refit, lora_dropout=0.1, batch=48)
    whole = state(finetune(model, table, labels, config))

    def stop(done: int, total: int) -> None:
        if done > 0.3 * total:
            raise Cancelled

    folder = tmp_path / "run"
    before = torch.random.get_rng_state()
    with pytest.raises(Cancelled):
        finetune(model, table, labels, config, checkpoint=folder, progress=stop)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (folder / "select").is_dir()
    with pytest.raises(ModelError, match="earlier run"):
        finetune(model, table, labels, config, checkpoint=folder)
    with pytest.raises(ModelError, match="another run"):
        finetune(model, table, labels, replace(config, dropout=0.3), checkpoint=folder, resume=True)
    assert state(finetune(model, table, labels, config, checkpoint=folder, resume=True)) == whole


def test_frozen_layers_and_the_genes_stay_as_they_were(table: AnnData, labels: pd.Series, model: Model) -> None:
    tuned = finetune(model, table, labels, replace(QUICK, frozen_layers=1, holdout="none"))
    old, new = model.encoder.state_dict(), tuned.encoder.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert "own_out.1.weight" in changed
    assert "tissue_blocks.0.attention.key.weight" in changed
    assert not [n for n in changed if n.startswith(("own_blocks.0", "gene_"))]
    with pytest.raises(ModelError, match="fewer layers"):
        finetune(model, table, labels, replace(QUICK, frozen_layers=9))


def test_held_out_cells_are_apart_from_those_learnt_from(table: AnnData, labels: pd.Series, model: Model) -> None:
    sections, classes = labelled_sections([table], labels, model.encoder.genes, model.encoder.config)
    [split], how = hold_out(sections, classes, QUICK)
    assert "squares" in how
    xy = table.obsm[keys.SPATIAL]
    gap, _ = cKDTree(xy[split.train]).query(xy[split.test])
    assert gap.min() > QUICK.buffer
    assert set(split.codes[split.test]) == set(split.codes[split.train]) == {0, 1, 2}


def test_several_sections_are_split_by_section(table: AnnData, labels: pd.Series, model: Model) -> None:
    x = table.obsm[keys.SPATIAL][:, 0]
    parts = [table[x < np.median(x)].copy(), table[x >= np.median(x)].copy()]
    of_parts = [labels[p.obs_names] for p in parts]
    sections, classes = labelled_sections(parts, of_parts, model.encoder.genes, model.encoder.config)
    split, how = hold_out(sections, classes, QUICK)
    assert how == "1 of 2 sections"
    assert sorted((bool(s.train.any()), bool(s.test.any())) for s in split) == [(False, True), (True, False)]
    with pytest.raises(LabelError, match="labels each"):
        labelled_sections(parts, labels, model.encoder.genes, model.encoder.config)


def test_a_few_labels_train_without_held_out_cells(table: AnnData, seeds: pd.Series, model: Model) -> None:
    tuned = finetune(model, table, seeds, replace(QUICK, epochs=1))
    note = tuned.provenance["finetune"]
    assert note["holdout"].startswith("none: only ")
    assert note["early_stopping"] is False
    assert note["scores"] == {}
    assert "not calibrated" in tuned.provenance["limits"]


def test_labels_that_cannot_do_are_told(table: AnnData, labels: pd.Series, model: Model) -> None:
    with pytest.raises(LabelError, match="two classes"):
        finetune(model, table, labels.where(labels == "Tumour"), QUICK)
    single = labels.copy()
    single.iloc[0] = "Odd"
    with pytest.raises(LabelError, match="Odd"):
        finetune(model, table, single, QUICK)
    with pytest.raises(LabelError, match="tumour class"):
        finetune(model, table, labels, QUICK, tumour_classes=["Carcinoma"])
    xy = table.obsm[keys.SPATIAL]
    corner = labels.copy()
    corner.iloc[np.argsort(((xy - xy[0]) ** 2).sum(1))[:12]] = "Corner"
    with pytest.raises(LabelError, match=r"Corner(.|\n)*holdout"):
        finetune(model, table, corner, replace(QUICK, buffer=60.0))


@pytest.mark.parametrize(("preset", "config"), [("tissue", SMALL.to_dict()), ("rank", RANK)])
def test_gradients_reach_the_neighbours_of_a_labelled_cell(
    table: AnnData, preset: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(table, preset, config)
    labels = pd.Series({table.obs_names[i]: n for i, n in ((0, "A"), (1, "A"), (700, "B"), (701, "B"))})
    sections, classes = labelled_sections([table], labels, model.encoder.genes, model.encoder.config)
    heads = ClassHeads(HeadsConfig(model.dim, tuple(classes), dropout=0.0))
    forward = Forward(model.encoder, heads, sections, torch.device("cpu"))
    patch = next(
        p for p in plan_patches(sections, "train", 20, np.random.default_rng(0), [cKDTree(sections[0].cells.xy)])
    )
    assert sections[0].train[patch.cells[: patch.scored]].all()
    own: list[torch.Tensor] = []
    encode_own = model.encoder.encode_own

    def keep(counts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        own.append(encode_own(counts, rows))
        own[0].retain_grad()
        return own[0]

    monkeypatch.setattr(model.encoder, "encode_own", keep)
    forward.log_proba(patch)[0, 0].backward()
    grad = own[0].grad
    assert grad is not None
    neighbours, weights = sections[0].cells.neighbours, sections[0].cells.weights
    assert neighbours is not None
    assert weights is not None
    near = neighbours[patch.cells[0]][weights[patch.cells[0]] > 0]
    rows = np.flatnonzero(np.isin(patch.cells, near))
    assert len(rows) == len(near)
    assert (grad[torch.as_tensor(rows)].abs().sum(1) > 0).all()


def test_each_labelled_cell_is_scored_once_an_epoch(table: AnnData, labels: pd.Series, model: Model) -> None:
    sections, _ = labelled_sections([table], labels, model.encoder.genes, model.encoder.config)
    trees = [cKDTree(sections[0].cells.xy)]
    patches = plan_patches(sections, "train", 32, np.random.default_rng(0), trees)
    scored = np.concatenate([p.cells[: p.scored] for p in patches])
    assert sorted(scored) == np.flatnonzero(sections[0].train).tolist()
    assert all(len(set(p.cells)) == len(p.cells) for p in patches)


def test_gene_tokens_are_tuned_too_and_without_positions(few: AnnData, seeds: pd.Series) -> None:
    model = make_model(few, "rank", RANK)
    labels = pd.Series(np.arange(few.n_obs) % 2, index=few.obs_names).map({0: "A", 1: "B"})
    del few.obsm[keys.SPATIAL]
    tuned = finetune(model, few, labels, replace(QUICK, epochs=1, method="lora"))
    assert tuned.provenance["finetune"]["holdout"] == "none: the cells have no positions"
    assert tuned.heads is not None
    assert tuned.heads.config.neighbours is False
    assert tuned.fingerprint() != model.fingerprint()
    assert set(apply_heads(few, tuned).obs[keys.CLASS].cat.categories) == {"A", "B"}
