"""Macro-F1 on chosen cells: of a fine-tuned model, and of the few-shot head that fine-tuning has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from stplm.models import Model


def macro_f1(truth: NDArray[Any], called: NDArray[Any], cells: NDArray[np.bool_]) -> float:
    """Mean F1 over the classes among ``cells``, true or called; a cell without a call is wrong."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth[cells].astype(str), called[cells].astype(str), average="macro", zero_division=0.0))


def model_calls(model: Model, tables: list[AnnData], device: str) -> NDArray[Any]:
    """Class of every cell of the tables, one after the other, by a fine-tuned model. The tables stay as they are."""
    from stplm.tasks.apply import apply_heads

    return np.concatenate([_calls(apply_heads(_bare(table), model, device=device)) for table in tables])


class HeadBaseline:
    """The few-shot head (:func:`stplm.fit_classifier`) on the untuned model's vectors, embedded once.

    ``keep``: vectors that all tables have already are taken as they are. Several sections are one table to it, of the
    genes that they share.
    """

    def __init__(self, model: str | Path | Model, tables: list[AnnData], device: str, *, keep: bool = False) -> None:
        import anndata

        from stplm.tasks.embed import embed

        if keep and all(keys.X_STPLM in table.obsm for table in tables):
            parts = [_with_vectors(table) for table in tables]
        else:
            parts = [embed(_bare(table), model, adapt=False, device=device, clusters=0) for table in tables]
        self._table = parts[0]
        if len(parts) > 1:
            self._table = anndata.concat(parts, join="inner", merge="same", index_unique="-")
            self._table.uns = parts[0].uns

    def predicted(self, labels: NDArray[Any], seed: int, tumour_classes: Sequence[str] | None = None) -> AnnData:
        """The tables one after the other, called by what was learnt from ``labels`` (n,), None without one."""
        from stplm.tasks.classify import fit_classifier, predict

        head = fit_classifier(self._table, labels.tolist(), tumour_classes=tumour_classes, seed=seed)
        return predict(self._table, head)

    def calls(self, labels: NDArray[Any], seed: int) -> NDArray[Any]:
        """Class of every cell, learnt from ``labels`` as in :meth:`predicted`."""
        return _calls(self.predicted(labels, seed))


def _bare(table: AnnData) -> AnnData:
    """Counts, genes and positions alone, shared with ``table``, so that nothing is written into it."""
    import pandas as pd
    from anndata import AnnData

    positions = {keys.SPATIAL: table.obsm[keys.SPATIAL]} if keys.SPATIAL in table.obsm else {}
    return AnnData(table.X, obs=pd.DataFrame(index=table.obs_names), var=table.var, obsm=positions)


def _with_vectors(table: AnnData) -> AnnData:
    found = _bare(table)
    found.obsm[keys.X_STPLM] = table.obsm[keys.X_STPLM]
    found.uns[keys.UNS] = {keys.UNS_EMBEDDING: table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})}
    return found


def _calls(table: AnnData) -> NDArray[Any]:
    column = table.obs[keys.CLASS].astype(object)
    return np.asarray(column.where(column.notna(), keys.UNASSIGNED), dtype=object)
