"""CellPLM (Wen et al. 2024, ICLR) without its released weights: its own package, its own annotation pipeline.

The package has no pipeline for pretraining, so its model is pretrained here by a short loop around its own masking,
negative-binomial decoder and loss, on every cell of the section without labels. For each draw its annotation pipeline
then fine-tunes from there. Its model takes all cells of a batch as one sentence; so that a draw takes seconds rather
than an hour, the sentence is the labelled cells and some unlabelled ones.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

SETTINGS = {
    # As its released model (flow attention, 4 layers), narrower: 128 wide for 1024, 64 latent for 512.
    "model": {
        "enc_mod": "flowformer",
        "enc_hid": 128,
        "enc_layers": 4,
        "enc_head": 8,
        "post_latent_dim": 64,
        "dec_hid": 128,
        "model_dropout": 0.2,
        "mask_node_rate": 0.75,
        "mask_feature_rate": 0.25,
        "pe_type": None,
        "cat_pe": False,
    },
    "pretraining": {"steps": 600, "cells": 512, "lr": 1e-3},
    # The pipeline's defaults where nothing is said; it keeps the epoch with the best F1 on validation labels.
    "fine_tuning": {"epochs": 150, "es": 60},
    "sentence": 1024,
    "held_out": 0.2,
    "held_out_from": 10,
}


def prepare(table: Any, folder: Path) -> Any:
    """The section and the weights of its pretraining, kept in ``folder``."""
    import torch

    table.X = table.X.astype(np.float32)
    weights = folder / "cellplm.npz"
    if not weights.exists():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - its masking draws from the global generator
        state = {name: value.numpy() for name, value in _pretrain(table).state_dict().items()}
        np.savez(folder / "cellplm.part.npz", **state)
        (folder / "cellplm.part.npz").replace(weights)
    with np.load(weights, allow_pickle=False) as stored:
        state = {name: torch.from_numpy(stored[name]) for name in stored.files}
    return table, state


def predict(prepared: Any, labels: Any, seed: int) -> Any:
    """A class name for every cell of the section that was prepared."""
    import torch
    from CellPLM.pipeline.cell_type_annotation import CellTypeAnnotationDefaultModelConfig, CellTypeAnnotationPipeline

    table, state = prepared
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - its masking draws from the global generator
    random = np.random.default_rng(seed)
    known = np.flatnonzero([name is not None for name in labels])
    classes = sorted(set(labels[known]))
    split, held_out = _splits(labels, known, random)
    others = np.setdiff1d(np.arange(table.n_obs), known)
    room = max(SETTINGS["sentence"] - len(known), SETTINGS["sentence"] // 4)
    cells = np.concatenate([known, random.choice(others, room, replace=False)])
    shown = table[cells].copy()
    # An unlabelled cell needs some name; its split keeps it out of the loss.
    shown.obs["label"] = np.where(np.isin(cells, known), labels[cells], classes[0]).astype(str)
    shown.obs["split"] = split[cells]
    sizes = {**CellTypeAnnotationDefaultModelConfig, **SETTINGS["model"], "out_dim": len(classes)}
    # Its pipeline would load the released weights from disk here.
    with mock.patch("CellPLM.pipeline.load_pretrain", return_value=_model(table, state, sizes)):
        pipeline = CellTypeAnnotationPipeline("", overwrite_config=sizes)
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline.fit(
            shown,
            {**SETTINGS["fine_tuning"], "hvg": 0},
            split_field="split",
            train_split="train",
            valid_split="valid" if held_out else "train",
            label_fields=["label"],
        )
        # The same sentence length as in training: its attention depends on it.
        codes = pipeline.predict(table, {"max_eval_batch_size": len(cells), "hvg": 0})
    return pipeline.label_encoders["label"].inverse_transform(codes.numpy())


def _splits(labels: Any, known: Any, random: np.random.Generator) -> tuple[Any, bool]:
    """Which labelled cells train and which choose the epoch; none is held out where a class has too few."""
    split = np.full(len(labels), "none", dtype=object)
    split[known] = "train"
    by_class = [known[labels[known] == name] for name in sorted(set(labels[known]))]
    held_out = min(map(len, by_class)) >= SETTINGS["held_out_from"]
    if held_out:
        for cells in by_class:
            split[random.choice(cells, int(len(cells) * SETTINGS["held_out"]), replace=False)] = "valid"
    return split, held_out


def _model(table: Any, state: Any, sizes: dict[str, Any]) -> Any:
    """Its model at our size; weights that fit are taken over, as its own loader does."""
    from CellPLM.model import OmicsFormer

    model = OmicsFormer(gene_list=table.var_names.tolist(), **sizes)
    own = model.state_dict()
    own.update({name: value for name, value in state.items() if name in own and value.shape == own[name].shape})
    model.load_state_dict(own)
    return model


def _pretrain(table: Any) -> Any:
    import torch
    from CellPLM.utils.data import TranscriptomicDataset, XDict

    sizes = {**SETTINGS["model"], "latent_mod": "ae", "dec_mod": "nbmlp", "dec_layers": 2, "out_dim": table.n_vars}
    model, plan = _model(table, {}, sizes), SETTINGS["pretraining"]
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan["lr"])
    cells = TranscriptomicDataset(table)[0]["x_seq"]
    model.train()
    for _ in range(plan["steps"]):
        batch = torch.randperm(table.n_obs)[: plan["cells"]]
        x = XDict(
            {
                "x_seq": cells.index_select(0, batch),
                "coord": torch.full((len(batch), 2), -1.0),
                "gene_mask": torch.ones(table.n_vars, dtype=torch.bool),
            }
        )
        _, loss = model(x, table.var_names.tolist())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
    return model
