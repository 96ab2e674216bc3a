"""Pretrain a cell-token encoder on sections, from nothing but counts and positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.models import Model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.tissue import TissueConfig
    from stplm.tasks.training import TrainingConfig


def pretrain(
    tables: Sequence[AnnData | str | Path],
    config: TrainingConfig | None = None,
    *,
    architecture: TissueConfig | None = None,
    name: str = "tissue",
    provenance: dict[str, Any] | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Model:
    """Train a new encoder on the cells of ``tables`` (cell tables, or paths that :func:`stplm.read_section` takes).

    The model's genes are all genes of the tables that have an Ensembl id, sorted. Deterministic on one machine.

    Raises
    ------
    GeneError
        When a table has no gene with a known Ensembl id.
    Cancelled
        When ``progress`` raises it.
    """
    import torch

    from stplm.nn.tissue import TissueConfig, TissueEncoder
    from stplm.tasks.cells import prepare_cells, table_genes
    from stplm.tasks.device import choose_device
    from stplm.tasks.training import TrainingConfig, set_gene_statistics, train_self_supervised

    config, architecture = config or TrainingConfig(), architecture or TissueConfig()
    loaded = [_read(t) if isinstance(t, str | Path) else t for t in tables]
    genes = sorted({g for t in loaded for g in table_genes(t) if g})
    # The caller's own random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = TissueEncoder(genes, architecture)
    cells = [prepare_cells(t, genes, architecture) for t in loaded]
    set_gene_statistics(encoder, cells)
    encoder.to(choose_device(device))
    losses = train_self_supervised(encoder, cells, config, progress)
    return Model(
        encoder.cpu(),
        name,
        {
            "task": "pretrain",
            "training": config.to_dict(),
            "cells": sum(map(len, cells)),
            "final_loss": round(sum(losses[-100:]) / max(len(losses[-100:]), 1), 4),
            "versions": versions(),
            **(provenance or {}),
        },
    )


def _read(path: str | Path) -> AnnData:
    from stplm.io.cell_table import cell_table
    from stplm.io.read import read_section

    return cell_table(read_section(path, images=False, labels=False))
