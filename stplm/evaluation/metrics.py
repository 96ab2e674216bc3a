"""Score predicted cells against known classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stplm import keys
from stplm.errors import LabelError
from stplm.evaluation.calibration import brier_score, expected_calibration_error
from stplm.palette import is_tumour_name

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

_CALL = 0.5
"""A cell whose tumour probability is at least this is called tumour."""
_ALARMS = 0.05
"""The share of known cells that may be taken for unknown ones."""


def evaluate(
    table: AnnData | SpatialData,
    truth: str | pd.Series = "cell_type",
    *,
    cells: npt.ArrayLike | None = None,
    tumour_classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare ``stplm.predict``'s result with the truth.

    Where the truth comes from an analysis of the same expression, the scores compare methods; they are no accuracy in
    the clinic. Score other cells than those that were labelled.

    Parameters
    ----------
    table
        A predicted cell table.
    truth
        The name of an obs column, or class names by cell id. Cells without a truth (NaN, None, "",
        "Unassigned") are left out.
    cells
        Which cells to score: a bool mask (n_cells,) or cell ids; by default all.
    tumour_classes
        Which classes of the truth are tumour; by default those whose name says so. Where there is none, nor any among
        the predicted classes, "tumour" is left out.

    Returns
    -------
    Plain values, as JSON takes them:

    - ``n_cells`` scored, ``n_unpredicted`` among them (without counts, hence without a class: they count as wrong);
    - ``accuracy``, ``balanced_accuracy`` (mean recall of the classes of the truth), ``macro_f1`` (mean over the classes
      that occur in the truth or are predicted, as in scikit-learn);
    - ``calibration_error`` of the confidence (15 bins, predicted cells only; None where there is none);
    - ``per_class``: ``{class: {"f1", "precision", "recall", "support", "predicted"}}``;
    - ``confusion``: ``{"truth": [...], "predicted": [...], "counts": [[...]]}``, a row a class of the truth;
      ``"Unassigned"`` is the column of cells without a class;
    - ``tumour``: ``{"f1", "precision", "recall", "auroc", "support", "calibration_error", "brier"}`` of the call at a
      probability of 0.5; "auroc" is None where the truth holds only one side; the last two are those of the
      probability, over cells that have one (15 bins);
    - ``unknown``, where the truth has classes that the classifier has not and the cells have an unknown score:
      ``{"auroc", "recall", "support", "false_alarms"}``: how well the score tells cells of those classes from all
      others; "recall" is their share above the score that 5 % of the others exceed, "false_alarms" the share of the
      others above 0.95. None for all but "support" where every scored cell is of such a class.

    Raises
    ------
    LabelError
        Nothing is predicted, there is no such column, cell or tumour class, no cell has a truth, or truth and
        prediction share no class name.
    """
    from stplm.io.groups import as_table

    table = as_table(table)
    if keys.CLASS not in table.obs:
        raise LabelError("No class has been predicted yet.", mend="Run stplm.predict (the Classify dock) first.")
    known = _truth(table, truth)
    chosen = known.notna().to_numpy() & _mask(table, cells)
    if not chosen.any():
        raise LabelError("None of the cells to score has a true class.", where=str(getattr(truth, "name", truth)))
    true = known[chosen].to_numpy(dtype=str)
    called = table.obs[keys.CLASS].astype(object)
    predictable = sorted(set(map(str, called.dropna())))
    called = called[chosen]
    has_class = called.notna().to_numpy()
    predicted = called.where(has_class, keys.UNASSIGNED).to_numpy(dtype=str)
    classes = sorted(set(true))
    extra = sorted(set(predicted[has_class]) - set(classes))
    if not set(classes) & set(predictable):
        raise LabelError(
            "The true classes and the predicted ones have no name in common.",
            found=f"true: {', '.join(classes[:6])}; predicted: {', '.join(predictable[:6]) or 'none'}",
            mend="Rename the classes of the truth so that they match.",
        )
    if unknown := sorted(set(tumour_classes or ()) - set(classes) - set(predictable)):
        raise LabelError("A tumour class is not among the classes.", found=unknown[0], expected=", ".join(classes))
    columns = [*classes, *extra, *([keys.UNASSIGNED] if not has_class.all() else [])]
    confusion = _confusion(true, predicted, classes, columns)
    per_class = _per_class(confusion, classes, columns)
    right = true == predicted
    score: dict[str, Any] = {
        "n_cells": int(chosen.sum()),
        "n_unpredicted": int((~has_class).sum()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([per_class[c]["recall"] for c in classes])),
        "macro_f1": float(np.mean([row["f1"] for row in per_class.values()])),
        "calibration_error": None,
        "per_class": per_class,
        "confusion": {"truth": classes, "predicted": columns, "counts": confusion.tolist()},
    }
    if keys.CONFIDENCE in table.obs and has_class.any():
        confidence = table.obs[keys.CONFIDENCE].to_numpy()[chosen][has_class]
        score["calibration_error"] = expected_calibration_error(confidence, right[has_class])
    tumour = [c for c in classes if is_tumour_name(c)] if tumour_classes is None else list(tumour_classes)
    if keys.TUMOUR in table.obs and (tumour or any(is_tumour_name(c) for c in extra)):
        probability = table.obs[keys.TUMOUR].to_numpy(dtype=np.float64)[chosen]
        score["tumour"] = _tumour(np.isin(true, tumour), np.where(has_class, probability, 0.0), has_class)
    if keys.UNKNOWN in table.obs:
        strange = table.obs[keys.UNKNOWN].to_numpy(dtype=np.float64)[chosen]
        without = ~np.isin(true, _learned(table, predictable))
        if (without & np.isfinite(strange)).any():
            score["unknown"] = _unknown(without[np.isfinite(strange)], strange[np.isfinite(strange)])
    return score


def _truth(table: AnnData, truth: str | pd.Series) -> pd.Series:
    """True class names in the table's order, None where there is none ("Unassigned" is none)."""
    if isinstance(truth, str):
        if truth not in table.obs:
            raise LabelError(
                f"There is no column {truth!r} in the cell table.",
                expected=f"one of {', '.join(map(str, table.obs.columns[:20]))}",
            )
        column = table.obs[truth].astype(object)
    else:
        given = truth.set_axis(truth.index.astype(str))
        if given.index.has_duplicates:
            raise LabelError("A cell has two true classes.", found=str(given.index[given.index.duplicated()][0]))
        if len(strange := given.index.difference(table.obs_names)):
            raise LabelError(
                "Some true classes are of cells that are not in this section.",
                found=f"{len(strange)} of {len(given)}, such as {strange[0]}",
            )
        column = given.astype(object).reindex(table.obs_names)
    names = column.astype(str).str.strip()
    known: pd.Series = names.astype(object).mask(column.isna() | names.isin(["", keys.UNASSIGNED]), None)
    return known


def _mask(table: AnnData, cells: npt.ArrayLike | None) -> npt.NDArray[np.bool_]:
    if cells is None:
        return np.ones(table.n_obs, dtype=bool)
    given = np.asarray(cells)
    if given.dtype == bool:
        if given.shape != (table.n_obs,):
            raise LabelError("The mask must have one value a cell.", found=str(given.shape), expected=str(table.n_obs))
        return given
    ids = pd.Index(given.astype(str))
    if len(strange := ids.difference(table.obs_names)):
        raise LabelError("Some of the cells to score are not in this section.", found=f"{len(strange)}: {strange[0]}")
    return np.asarray(table.obs_names.isin(ids))


def _confusion(
    true: npt.NDArray[np.str_], predicted: npt.NDArray[np.str_], rows: list[str], columns: list[str]
) -> npt.NDArray[np.int64]:
    """Counts (rows, columns)."""
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    place = pd.Index(rows).get_indexer(pd.Index(true)), pd.Index(columns).get_indexer(pd.Index(predicted))
    np.add.at(counts, place, 1)
    return counts


def _per_class(
    confusion: npt.NDArray[np.int64], classes: list[str], columns: list[str]
) -> dict[str, dict[str, float | int]]:
    scores: dict[str, dict[str, float | int]] = {}
    for j, name in enumerate(columns):
        if name == keys.UNASSIGNED:
            continue
        support = int(confusion[j].sum()) if j < len(classes) else 0
        predicted = int(confusion[:, j].sum())
        hits = int(confusion[j, j]) if j < len(classes) else 0
        scores[name] = {
            "f1": 2 * hits / (support + predicted),
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / support if support else 0.0,
            "support": support,
            "predicted": predicted,
        }
    return scores


def _learned(table: AnnData, predicted: list[str]) -> list[str]:
    """Classes that the classifier has, whether or not a cell was given each."""
    notes = table.uns.get(keys.UNS, {}).get(keys.UNS_PREDICTION, {})
    column = table.obs[keys.CLASS]
    offered = list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else []
    return sorted({*map(str, notes.get("classes", ())), *map(str, offered), *predicted})


def _tumour(
    true: npt.NDArray[np.bool_], probability: npt.NDArray[np.float64], has_class: npt.NDArray[np.bool_]
) -> dict[str, float | int | None]:
    from sklearn.metrics import roc_auc_score

    called = probability >= _CALL
    hits, n_called, support = int((true & called).sum()), int(called.sum()), int(true.sum())
    both_sides = 0 < support < len(true)
    given = probability[has_class]
    return {
        "f1": 2 * hits / (support + n_called) if support + n_called else 0.0,
        "precision": hits / n_called if n_called else 0.0,
        "recall": hits / support if support else 0.0,
        "auroc": float(roc_auc_score(true, probability)) if both_sides else None,
        "support": support,
        "calibration_error": expected_calibration_error(given, true[has_class]) if len(given) else None,
        "brier": brier_score(given, true[has_class]) if len(given) else None,
    }


def _unknown(without: npt.NDArray[np.bool_], strange: npt.NDArray[np.float64]) -> dict[str, float | int | None]:
    from sklearn.metrics import roc_auc_score

    support = int(without.sum())
    if support == len(without):
        return {"auroc": None, "recall": None, "support": support, "false_alarms": None}
    return {
        "auroc": float(roc_auc_score(without, strange)),
        "recall": float((strange[without] > np.quantile(strange[~without], 1 - _ALARMS)).mean()),
        "support": support,
        "false_alarms": float((strange[~without] > 1 - _ALARMS).mean()),
    }
