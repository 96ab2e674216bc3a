"""Parts of the report as plain values: shaded grids, scores against labels, tables of perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys
from stplm.report.summary import data_uri

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from stplm.evaluation.calibration import Reliability
    from stplm.evaluation.learning_curve import HeldOut
    from stplm.tasks.perturb_result import Perturbation

_ROWS = 40
"""Of a perturbation's table; the others are in its folder."""
_DECIMALS = {"detections": "{:,.0f}", "p_value": "{:.1e}", "fdr": "{:.1e}"}


def grid_of_shares(frame: pd.DataFrame) -> dict[str, Any]:
    """Shares from 0 to 1, shaded blue."""
    return _grid(frame, lambda v: f"{v:.2f}" if v >= 0.005 else "", lambda v: _blend("#0072B2", v))


def grid_of_counts(frame: pd.DataFrame) -> dict[str, Any]:
    """Counts, shaded by their share of the row."""
    share = frame.div(frame.sum(axis=1).clip(lower=1), axis=0)
    grid = _grid(frame, lambda v: f"{int(v):,}" if v else "", lambda v: "")
    shaded = _grid(share, lambda v: "", lambda v: _blend("#0072B2", v))
    rows = [
        (name, [(text, colour) for (text, _), (_, colour) in zip(cells, shades, strict=True)])
        for (name, cells), (_, shades) in zip(grid["rows"], shaded["rows"], strict=True)
    ]
    return {"columns": grid["columns"], "rows": rows}


def grid_of_z(frame: pd.DataFrame) -> dict[str, Any]:
    """z-scores: red above 0, blue below, full at the 90th percentile of their size."""
    top = max(float(np.percentile(np.abs(frame.to_numpy()), 90)), 1.0)
    return _grid(frame, lambda v: f"{v:.0f}", lambda v: _blend("#D55E00" if v > 0 else "#0072B2", abs(v) / top))


def truth_part(table: AnnData, truth: str | pd.Series) -> dict[str, Any]:
    """Scores, confusion and a reliability diagram against labels. Raises LabelError."""
    import stplm

    learnt = 0
    values = table.obs[truth] if isinstance(truth, str) and truth in table.obs else truth
    if isinstance(values, pd.Series) and keys.LABEL in table.obs:
        # Cells that the classifier has seen would flatter it.
        own = table.obs[keys.LABEL].notna().reindex(values.index).fillna(False).to_numpy(bool)
        learnt = int((own & values.notna().to_numpy()).sum())
        values = values.astype(object).where(~own, None)
    score = stplm.evaluate(table, values)
    confusion = score["confusion"]
    counts = pd.DataFrame(confusion["counts"], confusion["truth"], confusion["predicted"])
    return {
        "name": truth if isinstance(truth, str) else "the given labels",
        "cells": score["n_cells"],
        "learnt": learnt,
        **{n: score[n] for n in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")},
        "tumour": score.get("tumour"),
        "confusion": grid_of_counts(counts),
        "reliability": _reliability(table, values),
    }


def held_out_part(given: HeldOut | Mapping[str, Any]) -> dict[str, Any]:
    """Scores of labels that were held out in turn, and their confusion."""
    from stplm.evaluation.learning_curve import HeldOut

    found = given if isinstance(given, HeldOut) else HeldOut.of(given)
    return {
        "labels": found.n_labels,
        "cells": found.n_scored,
        "by": "squares of tissue" if found.spatial else "draw",
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "macro_f1": found.macro_f1,
        "confusion": grid_of_counts(pd.DataFrame(found.confusion, found.classes, found.classes)),
    }


def perturbation_table(given: Perturbation | str | Path) -> dict[str, Any]:
    """A perturbation's genes, strongest first, those within noise last. Raises StplmError for no such folder."""
    from stplm.tasks.perturb_result import Perturbation

    found = Perturbation.load(given) if isinstance(given, str | Path) else given
    frame, effect = found.genes, str(found.info.get("effect", "shift"))
    order = np.lexsort((-frame[effect].abs().fillna(0).to_numpy(), frame["within_noise"].to_numpy(bool)))
    shown = frame.iloc[order[:_ROWS]]
    columns = [c for c in shown if c not in ("within_noise", "dose") and not str(c).startswith("class: ")]
    rows = [([_text(c, row[c]) for c in columns], bool(row["within_noise"])) for row in shown.to_dict(orient="records")]
    info = {**found.info.get("run", {}), **found.info, "model": found.info.get("model_name", "")}
    words = {name: info.get(name) for name in ("model", "mode", "cells", "measure", "effect", "goal", "seed")}
    about = ", ".join(f"{name} {value}" for name, value in words.items() if value not in (None, ""))
    mode = str(words["mode"] or "")
    names = list(map(str, frame["genes"]))
    return {
        "title": f"{mode} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
        "remark": f"{about}. Grey rows are within the model's own noise.",
        "columns": [str(c).replace("_", " ") for c in columns],
        "rows": rows,
        "left_out": max(0, len(frame) - _ROWS),
    }


def _text(column: Any, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or not np.isfinite(value):
        return "–"
    return _DECIMALS.get(str(column), "{:.4f}").format(value)


def _grid(frame: pd.DataFrame, text: Any, colour: Any) -> dict[str, Any]:
    rows = [
        (str(name), [(text(v), colour(v)) for v in row])
        for name, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return {"columns": [str(c) for c in frame.columns], "rows": rows}


def _blend(colour: str, share: float) -> str:
    """White towards a colour, not so far that black text would not be read."""
    share = 0.75 * float(np.clip(share, 0, 1))
    parts = [round(255 + share * (int(colour[i : i + 2], 16) - 255)) for i in (1, 3, 5)]
    return "#{:02x}{:02x}{:02x}".format(*parts)


def _reliability(table: AnnData, truth: Any) -> str | None:
    from stplm.evaluation.calibration import reliability

    if keys.CONFIDENCE not in table.obs:
        return None
    values = truth.reindex(table.obs_names) if isinstance(truth, pd.Series) else table.obs[truth]
    known = values.notna().to_numpy() & table.obs[keys.CLASS].notna().to_numpy()
    right = values.astype(str).to_numpy() == table.obs[keys.CLASS].astype(str).to_numpy()
    return data_uri(_plot_reliability(reliability(table.obs[keys.CONFIDENCE].to_numpy(float)[known], right[known])))


def _plot_reliability(found: Reliability) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 2.6), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    some = found.count > 0
    confidence, accuracy, count = found.confidence[some], found.accuracy[some], found.count[some]
    axes.plot(confidence, accuracy, color="#0072B2", linewidth=1)
    axes.scatter(confidence, accuracy, s=4 + 60 * count / max(1, count.max(initial=1)), color="#0072B2")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("Confidence", fontsize=8)
    axes.set_ylabel("Share of right calls", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
