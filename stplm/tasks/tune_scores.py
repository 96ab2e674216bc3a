"""Macro-F1 on chosen cells: of a fine-tuned model, and of the few-shot head that fine-tuning has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys

if TYPE_CHECKING:
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

    Several sections are one table to it, of the genes that they share.
    """

    def __init__(self, model: Model, tables: list[AnnData], device: str) -> None:
        import anndata

        from stplm.tasks.embed import embed

        parts = [embed(_bare(table), model, device=device, clusters=0) for table in tables]
        self._table = parts[0]
        if len(parts) > 1:
            self._table = anndata.concat(parts, join="inner", merge="same", index_unique="-")
            self._table.uns = parts[0].uns

    def calls(self, labels: NDArray[Any], seed: int) -> NDArray[Any]:
        """Class of every cell, learnt from ``labels`` (n,): None without one; the tables one after the other."""
        from stplm.tasks.classify import fit_classifier, predict

        return _calls(predict(self._table, fit_classifier(self._table, labels.tolist(), seed=seed)))


def _bare(table: AnnData) -> AnnData:
    """Counts, genes and positions alone, shared with ``table``, so that nothing is written into it."""
    import pandas as pd
    from anndata import AnnData

    positions = {keys.SPATIAL: table.obsm[keys.SPATIAL]} if keys.SPATIAL in table.obsm else {}
    return AnnData(table.X, obs=pd.DataFrame(index=table.obs_names), var=table.var, obsm=positions)


def _calls(table: AnnData) -> NDArray[Any]:
    column = table.obs[keys.CLASS].astype(object)
    return np.asarray(column.where(column.notna(), keys.UNASSIGNED), dtype=object)
