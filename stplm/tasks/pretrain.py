"""Pretrain an encoder of any preset on sections, from nothing but counts and positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import ModelError
from stplm.models import PRESETS, Model, build_encoder, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import EncoderConfig, GeneDecoder
    from stplm.tasks.checkpoints import Checkpoints
    from stplm.tasks.curves import Curves
    from stplm.tasks.training import TrainingConfig


def pretrain(
    tables: Sequence[AnnData | str | Path],
    config: TrainingConfig | None = None,
    *,
    preset: str = "tissue",
    size: str | None = None,
    architecture: EncoderConfig | dict[str, Any] | None = None,
    base: str | Path | Model | None = None,
    train_base: bool = False,
    name: str | None = None,
    provenance: dict[str, Any] | None = None,
    device: str = "auto",
    checkpoints: Checkpoints | None = None,
    curves: Curves | None = None,
    progress: Progress = no_progress,
) -> Model:
    """Train a new encoder on the cells of ``tables`` (cell tables, or paths that :func:`stplm.read_section` takes).

    The model's genes are all genes of the tables that have an Ensembl id, sorted (a hybrid: those of its base, then
    new ones). Deterministic on one machine.

    Parameters
    ----------
    config
        How to train; by default what the preset is trained with (``training_defaults``).
    preset
        "tissue" (cells are tokens), "rank" (genes are tokens) or "hybrid" (the latter's vectors are the former's).
    size
        "small" or "large", of a rank encoder.
    architecture
        The encoder's config, or those of its sizes that differ from the preset's (or ``size``'s).
    base
        Of a hybrid: the rank model whose own stage it takes over.
    train_base
        Of a hybrid: train that stage too. Otherwise it stays as it is, which is much quicker.
    name
        The model's name; by default the preset's.
    checkpoints, curves
        Where to keep what a killed run goes on from; where to write training curves.

    Raises
    ------
    GeneError
        When a table has no gene with a known Ensembl id.
    ModelError
        When there is no such preset or size, a hybrid has no base, or the checkpoint is of another run.
    Cancelled
        When ``progress`` raises it; the last checkpoint stays.
    """
    import torch

    from stplm.tasks.cells import prepare_cells, table_genes
    from stplm.tasks.device import choose_device
    from stplm.tasks.gene_statistics import set_gene_statistics
    from stplm.tasks.objectives import make_objective
    from stplm.tasks.processes import open_processes
    from stplm.tasks.trainer import train
    from stplm.tasks.training import training_defaults

    config = config or training_defaults(preset)
    processes = open_processes(choose_device(device))
    loaded = [_read(t) if isinstance(t, str | Path) else t for t in tables]
    genes = sorted({g for t in loaded for g in table_genes(t) if g})
    # The caller's own random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, known = _new_encoder(preset, genes, _sizes(preset, size, architecture), base)
    cells = [prepare_cells(t, encoder.genes, encoder.config) for t in loaded]
    if known < len(encoder.genes):
        set_gene_statistics(encoder, cells, torch.arange(known, len(encoder.genes)))
    encoder.to(processes.device)
    objective = make_objective(encoder, config, frozen=not train_base)
    losses = train(
        objective, cells, config, checkpoints=checkpoints, curves=curves, processes=processes, progress=progress
    )
    return Model(
        encoder.cpu(),
        name or preset,
        {
            "task": "pretrain",
            "training": config.to_dict(),
            "cells": sum(map(len, cells)),
            "final_loss": round(sum(losses[-100:]) / max(len(losses[-100:]), 1), 4),
            "versions": versions(),
            **(provenance or {}),
        },
        preset=preset,
    )


def _sizes(preset: str, size: str | None, architecture: EncoderConfig | dict[str, Any] | None) -> dict[str, Any]:
    if preset not in PRESETS:
        raise ModelError(f"There is no preset {preset!r}.", expected=", ".join(PRESETS))
    if architecture is not None and not isinstance(architecture, dict):
        architecture = architecture.to_dict()
    if size is None:
        return dict(architecture or {})
    from stplm.nn.rank import SIZES

    if preset != "rank" or size not in SIZES:
        raise ModelError(
            f"The preset {preset!r} has no size {size!r}.",
            expected=f"{', '.join(SIZES)} for the preset 'rank'; no size for others",
            mend="Leave the size out, or give the architecture's own figures.",
        )
    return {**SIZES[size], **(architecture or {})}


def _new_encoder(
    preset: str, genes: list[str], sizes: dict[str, Any], base: str | Path | Model | None
) -> tuple[GeneDecoder, int]:
    """The encoder, and how many of its genes, the first ones, it has learnt of from ``base``."""
    from stplm.nn.hybrid import HybridEncoder
    from stplm.nn.rank import RankEncoder

    try:
        if base is None and preset != "hybrid":
            encoder: Any = build_encoder(preset, genes, sizes)
            return encoder, 0
        rank = load_model(base).encoder if base is not None else None
        if preset != "hybrid" or not isinstance(rank, RankEncoder):
            raise ModelError(
                "A hybrid, and only a hybrid, is built on a rank model.",
                found=f"preset {preset!r}, base {getattr(rank, 'preset', None)!r}",
                mend="Pretrain a rank model first, and name it as the base of the hybrid.",
            )
        encoder = HybridEncoder.from_rank(rank, **sizes)
    except (TypeError, ValueError) as error:
        raise ModelError("There is no such architecture.", found=str(error)) from error
    known = len(encoder.genes)
    encoder.add_genes(genes)
    return encoder, known


def _read(path: str | Path) -> AnnData:
    from stplm.io.cell_table import cell_table
    from stplm.io.read import read_section

    return cell_table(read_section(path, images=False, labels=False))
