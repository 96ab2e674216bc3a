"""Continue self-supervised training on the open section: what makes a new panel or another tissue work."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData

DEFAULT_STEPS = 600


def adapt(
    table: AnnData | SpatialData,
    model: str | Path | Model = DEFAULT,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Model:
    """A copy of ``model`` trained on for ``steps`` steps on this section's own cells; genes it did not know are added.

    ``model`` itself stays as it was. About a minute or two on 2 CPU cores. Labels are not used.

    Raises
    ------
    GeneError
        When no gene of the section has a known Ensembl id.
    Cancelled
        When ``progress`` raises it.
    """
    import torch

    from stplm.io.groups import as_table
    from stplm.tasks.cells import prepare_cells, table_genes
    from stplm.tasks.device import choose_device
    from stplm.tasks.training import TrainingConfig, set_gene_statistics, train_self_supervised

    table = as_table(table)
    base = load_model(model)
    encoder = copy.deepcopy(base.encoder)
    n_before = len(encoder.genes)
    encoder.add_genes([g for g in table_genes(table) if g])
    cells = prepare_cells(table, encoder.genes, encoder.config)
    if len(encoder.genes) > n_before:
        set_gene_statistics(encoder, [cells], torch.arange(n_before, len(encoder.genes)))
    encoder.to(choose_device(device))
    config = TrainingConfig(steps=steps, learning_rate=1e-3, warm_up=min(50, steps // 4 + 1), seed=seed)
    train_self_supervised(encoder, [cells], config, progress)
    provenance = {
        "task": "adapt",
        "base": {"name": base.name, "sha256": base.fingerprint()},
        "training": config.to_dict(),
        "cells": len(cells),
        "genes_added": len(encoder.genes) - n_before,
        "versions": versions(),
    }
    return Model(encoder.cpu(), f"{base.name}+adapted", provenance)
