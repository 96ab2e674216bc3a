"""Pretrain an encoder of any preset on sections, from nothing but counts and positions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stplm.errors import ModelError
from stplm.models import PRESETS, Model, build_encoder, load_model, versions
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import EncoderConfig, GeneDecoder
    from stplm.tasks.checkpoints import Checkpoints
    from stplm.tasks.corpus import HeldOut
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
    checkpoint: str | Path | Checkpoints | None = None,
    resume: bool = False,
    held_out: HeldOut | None = None,
    curves: str | Path | None = None,
    cache: str | Path | None = None,
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
    checkpoint, resume
        A folder for what a killed run goes on from, written every five minutes (or :class:`Checkpoints`); go on from
        what is there.
    held_out
        Sections or blocks of tissue to score now and then instead of learning from them; see ``curves``.
    curves
        Folder of training curves for TensorBoard.
    cache
        Folder where sections given as paths are kept, converted, to be read from while training, so that memory does
        not grow with their number. By default a temporary one.

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

    from stplm.tasks.checkpoints import Checkpoints
    from stplm.tasks.corpus import open_section
    from stplm.tasks.curves import Curves
    from stplm.tasks.device import choose_device
    from stplm.tasks.gene_statistics import set_gene_statistics
    from stplm.tasks.objectives import make_objective
    from stplm.tasks.processes import open_processes
    from stplm.tasks.trainer import Validation, train
    from stplm.tasks.training import training_defaults

    config = config or training_defaults(preset)
    sizes = _sizes(preset, size, architecture)
    base = load_model(base) if base is not None else None
    if not isinstance(checkpoint, Checkpoints | None):
        checkpoint = Checkpoints(Path(checkpoint))
    if checkpoint:
        checkpoint = replace(checkpoint, resume=checkpoint.resume or resume)
        if base:
            checkpoint = replace(checkpoint, about={**checkpoint.about, "base": base.fingerprint()})
    processes = open_processes(choose_device(device))
    points = Curves(curves if processes.index == 0 else None)
    with ExitStack() as stack:
        # The caller's own random numbers stay as they were.
        stack.enter_context(torch.random.fork_rng(devices=[]))
        space = _new_encoder(preset, [], sizes, base)[0].config
        folder = Path(cache or stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
        with processes.main_first():
            blocks = held_out.blocks if held_out else None
            parts = [open_section(t, folder, space, blocks=blocks) for t in tables]
            others = [open_section(t, folder, space) for t in (held_out.sections if held_out else ())]
            if blocks:
                others = [open_section(t, folder, space, blocks=blocks, held_out=True) for t in tables]
        torch.manual_seed(config.seed)
        encoder, known = _new_encoder(preset, sorted({g for p in [*parts, *others] for g in p.genes}), sizes, base)
        cells = [part.cells(encoder.genes) for part in parts]
        if known < len(encoder.genes):
            set_gene_statistics(encoder, cells, torch.arange(known, len(encoder.genes)))
        encoder.to(processes.device)
        validation = None
        if held_out and others:
            validation = Validation([p.cells(encoder.genes) for p in others], held_out.every, held_out.batches)
        losses = train(
            make_objective(encoder, config, frozen=not train_base),
            cells,
            config,
            checkpoints=checkpoint,
            curves=points,
            validation=validation,
            processes=processes,
            progress=progress,
        )
    return Model(
        encoder.cpu(),
        name or preset,
        {
            "task": "pretrain",
            "training": config.to_dict(),
            "cells": sum(map(len, cells)),
            "final_loss": round(sum(losses[-100:]) / max(len(losses[-100:]), 1), 4),
            **({"base": {"name": base.name, "sha256": base.fingerprint()}} if base else {}),
            **({"processes": processes.count} if processes.count > 1 else {}),
            **({"held_out": validation.latest} if validation else {}),
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


def _new_encoder(preset: str, genes: list[str], sizes: dict[str, Any], base: Model | None) -> tuple[GeneDecoder, int]:
    """The encoder, and how many of its genes, the first ones, it has learnt of from ``base``."""
    from stplm.nn.hybrid import HybridEncoder
    from stplm.nn.rank import RankEncoder

    try:
        if base is None and preset != "hybrid":
            encoder: Any = build_encoder(preset, genes, sizes)
            return encoder, 0
        if preset != "hybrid" or base is None or not isinstance(base.encoder, RankEncoder):
            raise ModelError(
                "A hybrid, and only a hybrid, is built on a rank model.",
                found=f"preset {preset!r}, base {base.preset if base else None!r}",
                mend="Pretrain a rank model first, and name it as the base of the hybrid.",
            )
        encoder = HybridEncoder.from_rank(base.encoder, **sizes)
    except (TypeError, ValueError) as error:
        raise ModelError("There is no such architecture.", found=str(error)) from error
    known = len(encoder.genes)
    encoder.add_genes(genes)
    return encoder, known
