"""Puts together what a run measures with: the variant encoder, the states' mean vectors, the few-shot head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm.io.cell_table import counts_matrix
from stplm.models import Model
from stplm.tasks.perturb_heads import HeadJudge, InTissue, heads_for
from stplm.tasks.perturb_measures import Floats, Judge, Seen, States, state_cells
from stplm.tasks.perturb_run import Lab
from stplm.tasks.perturb_vectors import VariantEncoder, variant_encoder

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from stplm.tasks.cells import Cells
    from stplm.tasks.classifier import Classifier


def build_lab(
    table: AnnData,
    model: Model,
    cells: Cells,
    chosen: NDArray[np.int64],
    *,
    counts: csr_matrix | None = None,
    mode: str,
    measure: str,
    dtype: str,
    goal: str | None,
    start: str | None,
    states: str | pd.Series | None,
    classifier: Classifier | Model | str | Path | None,
    seed: int,
) -> Lab:
    """For the ``chosen`` cells of a table; ``counts`` (n_cells, n_genes) where it does not hold them itself, other
    arguments as :func:`stplm.perturb` takes them."""
    from stplm.nn.tissue import TissueStage
    from stplm.tasks.cells import table_columns
    from stplm.tasks.classifier import Classifier
    from stplm.tokens.vocabulary import gene_places

    encoder = model.encoder
    known = np.flatnonzero(gene_places(table_columns(table), encoder.genes) >= 0)
    variants = variant_encoder(encoder, cells.rows, mode, cells.counts, measure=measure, dtype=dtype)

    def mean_of(name: str | None) -> Floats | None:
        if name is None:
            return None
        vectors = own_vectors(variants, cells, state_cells(table, name, states, seed))
        return np.asarray(vectors.mean(0), dtype=np.float32)

    def own_of(which: NDArray[np.int64]) -> Floats:
        return own_vectors(variants, cells, which)

    judge: Judge | HeadJudge | None = None
    seen: Seen | InTissue | None = None
    heads = heads_for(model, classifier)
    if heads is not None:
        judge = HeadJudge(heads, encoder, table)
        if heads.config.neighbours and cells.xy is not None:
            if isinstance(encoder, TissueStage):
                seen = InTissue(encoder, cells, chosen, own_of)
            else:
                seen = Seen.of(encoder, cells, chosen, own_of)
    elif classifier is not None:
        assert not isinstance(classifier, Model)
        head = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
        judge = Judge(head, table, model.fingerprint(), len(known))
        if Seen.is_mixed(encoder, cells):
            seen = Seen.of(encoder, cells, chosen, own_of)
    whole = counts_matrix(table) if counts is None else counts
    return Lab(variants, cells, whole, known, States(mean_of(goal), mean_of(start)), judge, seen)


def whole_vectors(lab: Lab, own: Floats, which: NDArray[np.int64]) -> Floats:
    """Cell vectors (n, dim), tissue part and all, of variants with own vectors (n, own_width) of the cells ``which``;
    the cells around stay as they are."""
    import torch

    from stplm.nn.tissue import TissueStage

    encoder, cells = lab.variants.encoder, lab.cells
    if cells.xy is None or not len(which):
        with torch.inference_mode():
            return np.asarray(encoder.alone(torch.from_numpy(own)).numpy())

    def own_of(some: NDArray[np.int64]) -> Floats:
        return own_vectors(lab.variants, cells, some)

    chosen = np.unique(which)
    if isinstance(encoder, TissueStage):
        return InTissue(encoder, cells, chosen, own_of)(own, which)
    return Seen.of(encoder, cells, chosen, own_of)(own, which)


def own_vectors(variants: VariantEncoder, cells: Cells, which: NDArray[np.int64]) -> Floats:
    """Own vectors (n, own_width) of some cells as they are."""
    found = np.empty((len(which), variants.encoder.config.own_width), dtype=np.float32)
    for start in range(0, len(which), variants.block):
        part = slice(start, start + variants.block)
        found[part] = variants.base(cells.dense(which[part]))
    return found
