"""Expected counts of genes in every cell: masked, noisy or unmeasured ones, from a cell's other genes and neighbours.

CellPLM's imputation task (Wen et al., 2023). Where a gene's values come from depends on what there is to go by:

- ``panel``: the section measures the gene. A cell's own count of it is hidden; the model's vector of the other genes,
  the model's decoder and the neighbours' counts predict it (:mod:`stplm.tasks.impute_panel`).
- ``reference``: it does not, and a single-cell reference does: cells of the reference that are near in the model's
  space (:mod:`stplm.tasks.impute_reference`).
- ``model``: it does not, there is no reference, but the model was trained on it: the model's decoder.

All requested genes are hidden together, so that what is asked for never answers for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import GeneError, SectionError
from stplm.io.cell_table import counts_matrix
from stplm.models import DEFAULT, Model, load_model, versions
from stplm.progress import Progress, no_progress
from stplm.tasks.cells import prepare_cells, table_genes
from stplm.tasks.device import choose_device
from stplm.tasks.encode import encode
from stplm.tokens.vocabulary import gene_places, match_genes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.nn.encoder import Encoder
    from stplm.tasks.cells import Cells

PANEL, REFERENCE, MODEL = "panel", "reference", "model"
CHUNK = 65_536
"""Cells whose predictions are made at a time."""
_MOST_HIDDEN = 0.98


@dataclass(frozen=True)
class Visible:
    """A section with the requested genes taken away, as imputation sees it.

    ``cells`` as the encoder takes them; ``vectors`` float32 (n, dim); ``depth`` float32 (n,): counts of the visible
    genes; ``genes`` their Ensembl ids; ``encoder`` is the model's.
    """

    cells: Cells
    vectors: NDArray[np.float32]
    depth: NDArray[np.float32]
    genes: NDArray[np.str_]
    encoder: Encoder

    def decoded(self, rows: NDArray[np.int64], part: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Counts of gene ``rows`` (m,) that the decoder expects for each count of a visible gene, (cells, m)."""
        import torch

        known = len(self.cells.rows)
        with torch.inference_mode():
            every = torch.as_tensor(np.concatenate([self.cells.rows, rows]))
            share = self.encoder.decode(torch.from_numpy(self.vectors[part]), every).exp().numpy()
        return np.asarray(share[:, known:] / share[:, :known].sum(1, keepdims=True))


def impute(
    table: AnnData | SpatialData,
    model: str | Path | Model = DEFAULT,
    *,
    genes: Sequence[str],
    reference: AnnData | None = None,
    hidden: NDArray[np.bool_] | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Expected counts of ``genes`` in every cell.

    Parameters
    ----------
    table
        A section or its cell table, integer counts; it need not be embedded. Without positions there are no neighbours.
    model
        A bundled model's name, a model folder, or a loaded model.
    genes
        Symbols or Ensembl ids, in the panel or not.
    reference
        Single-cell counts with a name or an Ensembl id for each gene, for genes outside the panel.
    hidden
        (n_cells,) bool: cells whose counts of these genes must not be looked at, because they are bad or are to be
        predicted blindly (evaluation). Only for genes of the panel.
    seed
        Of the sample of cells that the regression is fitted on.
    progress
        Counts cells.

    Returns
    -------
    float32 (n_cells, n_genes), cells by ``genes`` as they were asked for: counts expected at the cell's own depth; 0 in
    cells without counts of any other gene. The same is written to ``obsm["stplm_imputed"]``, and to
    ``uns["stplm"]["imputed"]`` the genes, where each comes from (``how``), and ``r``: for genes of the panel, Pearson's
    r with the log-normalised counts of cells that the fit did not see, NaN for others.

    Raises
    ------
    GeneError
        A gene that is in neither panel, reference nor model, or is named twice; no other gene to go by.
    SectionError
        Counts that are not integers; ``hidden`` of another length, or hiding nearly every cell.
    Cancelled
        When ``progress`` raises it; nothing is written then.
    """
    from stplm.io.groups import as_table
    from stplm.tasks.impute_panel import Regression
    from stplm.tasks.impute_reference import Reference

    table = as_table(table)
    loaded = load_model(model)
    ids, places = _find(table, genes)
    how = _sources(ids, places, genes, loaded, reference)
    visible = _look(table, loaded.encoder, places[places >= 0], device, lambda d, n: progress(d * 8 // 10, n))
    values = np.zeros((table.n_obs, len(how)), np.float32)
    trust = np.full(len(how), np.nan)
    panel, model_only, outside = (np.flatnonzero(how == kind) for kind in (PANEL, MODEL, REFERENCE))
    rows = gene_places(ids, loaded.encoder.genes)
    if len(panel):
        counts = counts_matrix(table)[:, places[panel]].toarray()
        fitted = Regression.fit(visible, counts, rows[panel], _mask(hidden, table.n_obs), seed)
        trust[panel] = fitted.r
    if len(outside):
        assert reference is not None
        found = Reference.of(reference, loaded.encoder, visible.genes, ids[outside], device)
    for start in range(0, table.n_obs, CHUNK):
        part = slice(start, min(start + CHUNK, table.n_obs))
        if len(panel):
            values[part, panel] = fitted.predict(part)
        if len(model_only):
            values[part, model_only] = visible.decoded(rows[model_only], part)
        if len(outside):
            values[part, outside] = found.predict(visible.vectors[part])
        progress((8 * table.n_obs + 2 * part.stop) // 10, table.n_obs)
    values *= visible.depth[:, None]
    names = [str(g) for g in genes]
    table.obsm[keys.IMPUTED] = values
    table.uns.setdefault(keys.UNS, {})[keys.UNS_IMPUTED] = {
        "genes": names,
        "how": how.tolist(),
        "r": trust.tolist(),
        "model": loaded.name,
        "sha256": loaded.fingerprint(),
        "seed": int(seed),
        "versions": versions(),
    }
    return pd.DataFrame(values, index=table.obs_names, columns=pd.Index(names))


def _find(table: AnnData, genes: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Ensembl id of each gene asked for, and its column in the table, -1 for none."""
    names = [str(g).strip() for g in genes]
    places = gene_places(names, table.var_names)
    own = table_genes(table)
    ids = match_genes(names)
    ids[places >= 0] = own[places[places >= 0]]
    by_id = gene_places(ids, own)
    places = np.where(places >= 0, places, by_id)
    twice = [n for i, n in enumerate(names) if n in names[:i] or (ids[i] and ids[i] in ids[:i])]
    if not names or twice:
        raise GeneError(
            "No gene to impute was named." if not names else "A gene was named twice.",
            found=", ".join(twice) or None,
            mend="Name each gene once.",
        )
    return ids, places


def _sources(
    ids: NDArray[np.str_],
    places: NDArray[np.int64],
    genes: Sequence[str],
    model: Model,
    reference: AnnData | None,
) -> NDArray[np.str_]:
    """Where the values of each gene come from. Raises GeneError for one that is nowhere."""
    has = np.zeros(len(ids), bool)
    if reference is not None:
        has = gene_places(ids, table_genes(reference)) >= 0
    knows = gene_places(ids, model.encoder.genes) >= 0
    how = np.where(places >= 0, PANEL, np.where(has, REFERENCE, np.where(knows, MODEL, "")))
    lost = [str(g) for g, found in zip(genes, how, strict=True) if not found]
    if lost:
        raise GeneError(
            "Nothing tells how much there is of these genes.",
            found=", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else ""),
            expected=f"genes of the panel, of the model {model.name}"
            + ("" if reference is None else ", or of the reference"),
            mend="Check their names, or give a single-cell reference of the same tissue that has them.",
        )
    return how


def _look(table: AnnData, encoder: Encoder, taken: NDArray[np.int64], device: str, progress: Progress) -> Visible:
    """The section without the columns ``taken``, encoded."""
    rest = np.setdiff1d(np.arange(table.n_vars), taken)
    others = table[:, rest]
    cells = prepare_cells(others, encoder.genes, encoder.config)
    vectors = encode(encoder, cells, device=choose_device(device), progress=progress)
    depth = np.asarray(counts_matrix(table)[:, rest].sum(1), np.float32).ravel()
    return Visible(cells, vectors, depth, table_genes(table)[rest], encoder)


def _mask(hidden: NDArray[np.bool_] | None, n_cells: int) -> NDArray[np.bool_]:
    if hidden is None:
        return np.zeros(n_cells, bool)
    mask = np.asarray(hidden)
    if mask.shape != (n_cells,) or mask.dtype != bool or mask.mean() > _MOST_HIDDEN:
        raise SectionError(
            "The mask of hidden cells does not fit.",
            found=f"{mask.dtype} of shape {mask.shape}, {np.mean(mask != 0):.0%} hidden",
            expected=f"true or false for each of {n_cells} cells, at most {_MOST_HIDDEN:.0%} of them hidden",
        )
    return mask
