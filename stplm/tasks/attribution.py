"""Which genes make the classifier call a cell what it calls it: each expressed gene is taken away, and asked for again.

Occlusion, as it is used to explain image classifiers (Zeiler & Fergus, "Visualizing and Understanding Convolutional
Networks", 2014), with a gene's counts in the place of a patch of the image. Every deletion is run, none is estimated:
vectors of a cell without one gene come from :mod:`stplm.tasks.perturb_vectors`, which share what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import LabelError
from stplm.models import DEFAULT, Model, load_model
from stplm.progress import Progress, no_progress
from stplm.tasks.outcome import tumour_odds
from stplm.tasks.perturb_edits import Edits
from stplm.tasks.perturb_heads import heads_for, is_tuned

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from stplm.nn.heads import ClassHeads
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.perturb_measures import Floats
    from stplm.tasks.perturb_run import Lab

_BLOCK = 64


def attribute(
    table: AnnData | SpatialData,
    classifier: Classifier | Model | str | Path,
    cells: Any,
    model: str | Path | Model | None = None,
    *,
    of: str | None = None,
    against: str | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Attribute a classifier's opinion of cells to the genes that they express.

    A gene's *attribution* is the log-odds of a class for the cell, less the log-odds for the same cell without that
    gene's counts: positive where the gene speaks for the class. The model's vector, the fit to reference profiles, the
    log-normalised levels and the cell's depth all change as they would had the gene not been measured; the vectors of
    its neighbours stay. Log-odds are those of the class head's logits, as it sharpens and calibrates them, the
    section's class shares included: log(p / (1 - p)) in natural units. Attributions of a cell do not add up to its
    log-odds, since genes stand in for each other.

    They say what the model used to tell this cell's class. They say neither that a gene causes anything nor that it
    marks the class in general (for that: :func:`stplm.rank_genes`), and nothing of genes that the cell lacks.

    Parameters
    ----------
    table
        A section or its cell table. It need not be embedded, and stays as it is. The result for a cell needs only its
        own counts and, where the head sees more than the cell's own vector (preset "rank", most fine-tuned models), the
        cells around it in the table.
    classifier
        A few-shot head (:func:`stplm.fit_classifier`) or its folder; or a fine-tuned model (:func:`stplm.finetune`) or
        its folder, whose own heads are asked. Where these look at the tissue around a cell, that stays as it is.
    cells
        Which cells: a boolean mask (n_cells,), positions, or cell ids. Some thousands of a cell-token model; of a
        gene-token model, where each deletion is a sentence of its own, rather some dozens.
    model
        The model that the classifier was fitted on: a bundled model's name, a model folder, or a loaded model; by
        default the fine-tuned classifier itself, else the default model.
    of
        The class; by default the one predicted for each cell.
    against
        The class that it is held against, log(p(of) / p(against)); by default all others together.
    device
        As :func:`stplm.embed` takes it.
    progress
        Counts cells.

    Returns
    -------
    A table with a row for each chosen cell and gene that it expresses, by cell as in the table and then from the
    highest attribution down: ``cell`` (its id), ``gene`` (symbol), ``counts`` (int), ``attribution`` (float), and, the
    same for all genes of a cell, ``of`` (the class) and ``log_odds`` (of the cell as it is). A cell without counts has
    no row. The same input gives the same table, whichever cells are asked for together, up to rounding.

    Raises
    ------
    LabelError
        ``of`` or ``against`` is no class of the classifier, or both are the same.
    ModelError
        The classifier was fitted on another model's vectors, is another fine-tuned model or one without heads, or its
        folder is damaged.
    SectionError
        No cell was chosen, or one that is not there.
    Cancelled
        When ``progress`` raises it.
    """
    import pandas as pd

    from stplm.io.groups import as_table
    from stplm.nn.heads import ClassHeads
    from stplm.tasks.device import choose_device
    from stplm.tasks.perturb_cells import chosen_cells

    table = as_table(table)
    head, loaded = _asked(classifier, model)
    classes = list(head.config.classes if isinstance(head, ClassHeads) else head.classes)
    for name in (of, against):
        if name is not None and name not in classes:
            raise LabelError(f"The classifier has no class {name!r}.", expected=", ".join(classes))
    chosen = chosen_cells(table, cells)
    try:
        loaded.encoder.to(choose_device(device)).eval()
        question = _Question(_lab(table, loaded, head, chosen), of, against)
        parts = []
        for start in range(0, len(chosen), _BLOCK):
            parts.append(question.answer(chosen[start : start + _BLOCK]))
            progress(min(start + _BLOCK, len(chosen)), len(chosen))
    finally:
        loaded.encoder.to("cpu")
    cell, gene, counts, attribution, code, log_odds = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((gene, -attribution, cell))
    cell, gene = cell[order], gene[order]
    ids, rows = np.unique(cell, return_inverse=True)
    return pd.DataFrame(
        {
            "cell": pd.Categorical.from_codes(rows, table.obs_names[ids].astype(str)),
            "gene": table.var_names.to_numpy().astype(str)[gene],
            "counts": counts[order],
            "attribution": attribution[order],
            "of": pd.Categorical.from_codes(code[order], pd.Index(classes)),
            "log_odds": log_odds[order],
        }
    )


def log_odds(logits: NDArray[np.float64], of: NDArray[np.int64], against: int | None = None) -> NDArray[np.float64]:
    """(n,) log-odds of the class ``of`` (n,) against another, or against all others, from class logits (n, k)."""
    if against is not None:
        own: NDArray[np.float64] = logits[np.arange(len(of)), of] - logits[:, against]
        return own
    found = np.empty(len(of))
    for code in np.unique(of):
        rows = of == code
        found[rows] = tumour_odds(logits[rows], np.arange(logits.shape[1]) == code)
    return found


@dataclass(frozen=True)
class _Question:
    """Why is a cell of a class, and not of another?"""

    lab: Lab
    of: str | None
    against: str | None

    def answer(self, block: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """For each expressed gene of some cells, by cell: row of the cell, column of the gene, counts, attribution,
        code of the class, log-odds of the cell."""
        lab, judge = self.lab, self.lab.judge
        assert judge is not None
        counts = lab.counts[block]
        dense = lab.cells.dense(block)
        base = lab.variants.base(dense)
        seen = self._seen(base, block)
        before = judge.logits(seen, counts)
        codes = self._codes(seen, counts, block)
        edits = _deletions(counts)
        own = base[edits.cells]
        known, column = self._known(edits)
        for which, vectors, _ in lab.variants.parts(dense, replace(edits.some(known), columns=column)):
            own[known[which]] = vectors
        edited = edits.apply(counts, np.arange(counts.shape[1]))
        after = judge.logits(self._seen(own, block[edits.cells]), edited)
        against = None if self.against is None else judge.classes.index(self.against)
        odds, of = log_odds(before, codes, against), codes[edits.cells]
        change = odds[edits.cells] - log_odds(after, of, against)
        return block[edits.cells], edits.columns, edits.old.astype(np.int64), change, of, odds[edits.cells]

    def _seen(self, own: Floats, which: NDArray[np.int64]) -> Floats:
        return own if self.lab.seen is None else self.lab.seen(own, which)

    def _codes(self, seen: Floats, counts: csr_matrix, block: NDArray[np.int64]) -> NDArray[np.int64]:
        judge = self.lab.judge
        assert judge is not None
        if self.of is not None:
            codes = np.full(len(block), judge.classes.index(self.of))
        else:
            codes = judge(seen, counts)[0].argmax(1)
        if self.against is not None and (codes == judge.classes.index(self.against)).any():
            raise LabelError(
                f"A class cannot be held against itself: {self.against}.",
                mend="Name another class (of=...), or choose cells that are predicted as another.",
            )
        return codes

    def _known(self, edits: Edits) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Deletions of genes that the model knows, and where they are among its columns."""
        place = np.full(self.lab.counts.shape[1], -1, dtype=np.int64)
        place[self.lab.known] = np.arange(len(self.lab.known))
        column = place[edits.columns]
        known = np.flatnonzero(column >= 0)
        return known, column[known]


def _deletions(counts: csr_matrix) -> Edits:
    """A variant for each expressed gene of each cell, by cell; columns are the table's."""
    there = counts.copy()
    there.eliminate_zeros()
    cells, columns = np.repeat(np.arange(there.shape[0]), np.diff(there.indptr)), there.indices.astype(np.int64)
    old, n = there.data.astype(np.float32), there.nnz
    return Edits(cells, columns, np.arange(n + 1), columns, old, np.zeros_like(old), np.full(n, -1, dtype=np.int64))


def _asked(classifier: Any, model: str | Path | Model | None) -> tuple[Classifier | ClassHeads, Model]:
    """Who says what class a cell is, and the model whose vectors that is told by."""
    from stplm.tasks.classifier import Classifier

    if is_tuned(classifier):
        loaded = load_model(classifier if model is None else model)
        heads = heads_for(loaded, classifier)
        assert heads is not None
        return heads, loaded
    head = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    return head, load_model(DEFAULT if model is None else model)


def _lab(table: AnnData, model: Model, head: Classifier | ClassHeads, chosen: NDArray[np.int64]) -> Lab:
    from stplm.tasks.cells import prepare_cells
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.perturb_lab import build_lab

    cells = prepare_cells(table, model.encoder.genes, model.encoder.config)
    few_shot = head if isinstance(head, Classifier) else None
    about = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
    if few_shot is not None and not about.get("tissue", True):  # the head was fitted on vectors of cells by themselves
        cells = replace(cells, xy=None)
    return build_lab(
        table,
        model,
        cells,
        chosen,
        mode="delete",
        measure="cell",
        dtype="float32",
        goal=None,
        start=None,
        states=None,
        classifier=model if few_shot is None else few_shot,
        seed=0,
    )
