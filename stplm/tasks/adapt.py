"""Continue self-supervised training on the open section: what makes a new panel or another tissue work.

Where a model knows too few of a section's genes, :func:`stplm.embed` does so by itself (:func:`knows_too_little`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.io.table_file import TableFile

STEPS = {"tissue": 600, "rank": 150, "hybrid": 300}
"""A minute or two on 2 CPU cores."""
ENOUGH, FEWEST_CELLS = 0.6, 5_000
"""A model that knows less than this share of a section's genes is adapted to it, unless the section has fewer cells to
learn genes from. Measured in docs/benchmarks.md."""
_FIGURES: dict[str, dict[str, Any]] = {
    "tissue": {"learning_rate": 1e-3},
    "rank": {"learning_rate": 2e-4, "patch": 96, "patches": 1},
    "hybrid": {"learning_rate": 5e-4},
}


def knows_too_little(genes: Collection[str], table: AnnData | TableFile) -> bool:
    """Whether a model of these ``genes`` should be adapted to a section before it embeds it. ``table`` may be a file
    (of which names and ids of genes are looked at)."""
    from stplm.tasks.cells import table_columns

    known = frozenset(genes)
    columns = [column for column in table_columns(table).tolist() if column]
    return table.n_obs >= FEWEST_CELLS and sum(c in known for c in columns) < ENOUGH * len(columns)


def adapt(
    table: AnnData | SpatialData,
    model: str | Path | Model = DEFAULT,
    *,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Model:
    """A copy of ``model`` trained on for ``steps`` steps on this section's own cells; genes it did not know are added.

    ``model`` itself stays as it was. About a minute or two on 2 CPU cores (``steps``: by default the preset's). Labels
    are not used. A hybrid's own stage is trained only where genes were added; its second stage always.

    Raises
    ------
    GeneError
        When no gene of the section has a known Ensembl id.
    SectionError
        When a hybrid's section has no positions.
    Cancelled
        When ``progress`` raises it.
    """
    import torch

    from stplm.io.groups import as_table
    from stplm.nn.encoder import GeneDecoder
    from stplm.tasks.cells import prepare_cells, table_columns
    from stplm.tasks.device import choose_device
    from stplm.tasks.gene_statistics import set_gene_statistics
    from stplm.tasks.objectives import make_objective
    from stplm.tasks.trainer import train
    from stplm.tasks.training import training_defaults

    table = as_table(table)
    base = load_model(model)
    encoder = copy.deepcopy(base.encoder)
    assert isinstance(encoder, GeneDecoder)
    preset, n_before = base.preset, len(encoder.genes)
    encoder.add_genes([g for g in table_columns(table) if g])
    cells = prepare_cells(table, encoder.genes, encoder.config)
    if len(encoder.genes) > n_before:
        set_gene_statistics(encoder, [cells], torch.arange(n_before, len(encoder.genes)))
    encoder.to(choose_device(device))
    stages = ["rank", "hybrid"] if preset == "hybrid" and len(encoder.genes) > n_before else [preset]
    configs = []
    for stage in stages:
        n = steps or STEPS[stage]
        configs.append(training_defaults(stage, steps=n, warm_up=min(50, n // 4 + 1), seed=seed, **_FIGURES[stage]))
    total, done_before = sum(config.steps for config in configs), 0
    for stage, config in zip(stages, configs, strict=True):
        objective = make_objective(encoder, config, frozen=stage == "hybrid")
        before = done_before
        train(objective, [cells], config, progress=lambda done, _, before=before: progress(before + done, total))  # type: ignore[misc]
        done_before += config.steps
    provenance = {
        "task": "adapt",
        "base": {"name": base.name, "sha256": base.fingerprint()},
        "training": configs[-1].to_dict(),
        "cells": len(cells),
        "genes_added": len(encoder.genes) - n_before,
        "versions": versions(),
    }
    return Model(encoder.cpu(), f"{base.name}+adapted", provenance, preset=preset)
