"""Ask the model what happens to cells, and to those around them, if genes are deleted or raised: no causal claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress
from stplm.tasks.perturb_cells import chosen_cells, studied
from stplm.tasks.perturb_edits import check_mode
from stplm.tasks.perturb_sets import gene_sets

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.tasks.cells import Cells
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.perturb_result import Perturbation

_FEW_SETS = 8
"""Up to so many sets, the neighbours are asked by default, and vectors are kept for arrows."""
_KEPT_CELLS = 2000
"""Vectors of so many cells are kept: what arrows a map can show. Under 1 MB a set."""


def perturb(
    table: AnnData | SpatialData | str | Path,
    model: str | Path | Model = DEFAULT,
    *,
    genes: str | Sequence[str] | Mapping[str, Sequence[str]] = "all",
    mode: str = "delete",
    cells: Any = None,
    combine: str = "each",
    goal: str | None = None,
    start: str | None = None,
    states: str | pd.Series | None = None,
    classifier: Classifier | Model | str | Path | None = None,
    measure: str = "cell",
    spatial: bool | None = None,
    nulls: int = 20,
    top: int | None = None,
    max_cells: int | None = None,
    keep_vectors: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
    progress: Progress = no_progress,
) -> Perturbation:
    """Perturb genes in silico and measure what changes: in the cells, in their classes, and in their neighbours.

    What it gives is the model's response, not a causal claim.

    Parameters
    ----------
    table
        A section or its cell table; it stays as it is. Or the path of an ``.h5ad`` of ours (``stplm export``,
        ``embed``, ``classify``), whose counts then stay on the disk: memory holds those of a block of cells, a few
        numbers a cell, and, where neighbours are asked, the vectors of the tissue around the chosen cells.
    model
        A bundled model's name, a model folder, or a loaded model, adapted and fine-tuned ones too. Gene-token
        models (rank, hybrid) get token edits, cell-token models (tissue) expression edits: see
        :mod:`stplm.tasks.perturb_edits`.
    genes
        "all": each gene that the model knows, in the cells that express it (a screen); symbols or Ensembl ids; or
        ``{name: genes}``, groups that are perturbed at once.
    mode
        "delete", "overexpress", "inhibit" or "activate".
    cells
        Which cells: a boolean mask (n_cells,), positions, or cell ids; by default all.
    combine
        Of a list of genes: "each" alone, all "together", or all "pairs".
    goal, start
        Classes: the shift towards the one and away from the other is measured.
    states
        Where their cells are found: an obs column or a Series by cell id; by default the predicted classes, else a
        user's labels.
    classifier
        A few-shot head (:func:`stplm.fit_classifier`) or its folder: also measure how class and tumour probabilities
        change. Its counts are edited as the model's are. By default the heads of a ``model`` that was fine-tuned, which
        may also be named here; where they look at what surrounds a cell, that stays as it is.
    measure
        What ``shift`` is one minus the cosine of: the "cell" vector (the own part); of gene-token models also "cls",
        the vector of ``<cls>``, or "genes", the mean over the genes that were not perturbed.
    spatial
        Also perturb all cells at once and read the tissue around them again. By default for up to 8 sets of a section
        with positions.
    nulls
        Genes (or random sets) of like expression that each set is compared with; 0 for no statistics.
    top
        Of a deletion screen: find the genes that move cells the most, and run only those in all cells. Of cell-token
        models, 2 × ``top`` of them, by gradients; of gene-token models, ``top``, by gradients in some cells and then
        by a race: real deletions in ever more cells of ever fewer genes (:mod:`stplm.tasks.perturb_screen`). What was
        found of every gene is in ``info["screened"]``, and in how many cells it was run for that in
        ``info["screened_cells"]``: 0 for an estimate.
    max_cells
        Of more ``cells`` than that, so many are taken at random, and nothing is asked of the others. A mean over some
        thousand cells is as good as one over a million, and gene-token models run some hundred variants a second.
    keep_vectors
        Of each set, keep the whole cell vectors after of so many of its cells, for arrows on the map
        (:func:`stplm.map_arrows`). By default 2,000 for up to 8 sets, else none.
    out
        Folder to write parts to as they are made, and the result; memory then stays that of a part. A run that was
        stopped goes on there.
    device, dtype
        As :func:`stplm.embed` takes them.
    seed
        Of samples for noise, states and nulls.
    progress
        Counts variants, about.

    Returns
    -------
    Perturbation

    Raises
    ------
    GeneError
        A gene is not in the panel, or not known to the model.
    LabelError
        ``goal`` or ``start`` is no class, or there are none.
    ModelError
        The classifier was fitted on another model's vectors, or is another fine-tuned model.
    ExportError
        ``out`` holds another perturbation, or cannot be written.
    SectionError
        No cell was chosen, or ``spatial`` without positions.
    StplmError
        Another mode, measure or combination.
    Cancelled
        When ``progress`` raises it; finished parts stay in ``out``.
    """
    from stplm.tasks.cells import table_columns
    from stplm.tasks.device import choose_device
    from stplm.tasks.perturb_lab import build_lab
    from stplm.tasks.perturb_study import Study
    from stplm.tokens.vocabulary import gene_places

    loaded = load_model(model)
    check_mode(mode)
    with studied(table) as section:
        chosen = chosen_cells(section.table, cells, max_cells, seed)
        known = np.flatnonzero(gene_places(table_columns(section.table), loaded.encoder.genes) >= 0)
        sets = gene_sets(section.table, known, genes, combine)
        if spatial is None:
            spatial = len(sets) <= _FEW_SETS and keys.SPATIAL in section.table.obsm and top is None
        if keep_vectors is None:
            keep_vectors = _KEPT_CELLS if len(sets) <= _FEW_SETS and top is None else 0
        near = spatial or keep_vectors > 0 or _asks_neighbours(loaded, classifier)
        cells_of = section.cells(loaded.encoder, near=near)
        try:
            loaded.encoder.to(choose_device(device)).eval()
            lab = build_lab(
                section.table,
                loaded,
                cells_of,
                chosen,
                counts=section.counts(),
                mode=mode,
                measure=measure,
                dtype=dtype,
                goal=goal,
                start=start,
                states=states,
                classifier=classifier,
                seed=seed,
            )
            about = {
                "model": loaded.fingerprint(),
                "section": _fingerprint(cells_of, chosen),
                "mode": mode,
                "sets": [[name, sets.members(i).tolist()] for i, name in enumerate(sets.names)],
                "measured": lab.columns(),
                "goal": goal,
                "start": start,
                "measure": measure,
                "dtype": dtype,
                "seed": seed,
                "top": top,
            }
            study = Study(lab, section.table, chosen, sets, states, spatial, nulls, top, seed, keep_vectors)
            result = study.run(out, about, progress)
        finally:
            loaded.encoder.to("cpu")
        result.info |= {
            "model_name": loaded.name,
            "preset": loaded.preset,
            "cells": len(chosen),
            "versions": versions(),
        }
        if out is not None:
            result.save(out)
        return result


def _asks_neighbours(model: Model, classifier: Any) -> bool:
    """Whether what says the classes may look at what surrounds a cell."""
    from stplm.tasks.perturb_heads import is_tuned

    config = model.encoder.config
    mixed = config.dim == config.own_width
    return model.heads is not None or (classifier is not None and (mixed or is_tuned(classifier)))


def _fingerprint(cells: Cells, chosen: NDArray[np.int64]) -> str:
    import hashlib

    from stplm.tasks.checkpoints import fingerprint

    return hashlib.sha256(fingerprint(cells).encode() + chosen.tobytes()).hexdigest()
