"""The one-page HTML summary of a section: a single file, pictures inside, readable offline and in print."""

from __future__ import annotations

import base64
import datetime
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import __version__, keys
from stplm.errors import ExportError
from stplm.io.groups import as_table
from stplm.io.staged import check_target, staged_file
from stplm.palette import TUMOUR_COLOUR
from stplm.report.colouring import TUMOUR_CALL, tumour_calls
from stplm.report.tables import class_rows
from stplm.report.tissue import plot_tissue, section_name

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_DPI = 200
_NOT_AS_ROWS = ("classes", "seeded")
"""Provenance that the page says elsewhere."""
_WORDS = {
    "n_labels": "Labelled cells",
    "tumour_classes": "Classes counted as tumour",
    "n_cells": "Cells",
    "n_genes": "Genes",
    "dim": "Dimensions",
}


def write_summary(
    section: SpatialData | AnnData,
    path: str | Path,
    *,
    colours: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write the summary of a predicted section as one self-contained HTML file.

    It shows the section's quality control, the tissue by class, by tumour call and by tumour probability, counts and
    confidence, which model and labels the result comes from, and what it cannot tell.

    Parameters
    ----------
    section
        SpatialData or cell table after ``stplm.predict``. Without positions the tissue is left out.
    path
        The ``.html`` file.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry.
    extra
        ``{heading: text}`` to add below, such as an accuracy on held-out labels; plain text.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    The file written.

    Raises
    ------
    ExportError
        Nothing has been predicted yet, or the file cannot be written.
    """
    path = Path(path)
    check_summary(path, overwrite=overwrite)
    return write_page("summary.html", page_of(section, colours, extra), path, overwrite=overwrite)


def page_of(
    section: SpatialData | AnnData, colours: Mapping[str, str] | None, extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the template of the summary shows; pages that extend it add to this. Raises ExportError."""
    table = as_table(section)
    return summarise(table, colours) | {"extra": dict(extra or {}), "pictures": _pictures(section, table, colours)}


def write_page(template: str, content: Mapping[str, Any], path: Path, *, overwrite: bool) -> Path:
    """Fill a template of ours and write it. Raises ExportError."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stplm.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(template).render(content)
    with staged_file(path, overwrite=overwrite) as part:
        part.write_text(page, encoding="utf-8")
    return path


def check_summary(path: str | Path, *, overwrite: bool = True) -> None:
    """Raise ExportError where :func:`write_summary` could not write, so that long work need not end in it."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ExportError("The summary is an HTML page.", where=path, expected="a name ending in .html")
    check_target(path, overwrite=overwrite)


def summarise(table: AnnData, colours: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the page says, as plain values (see the template for the names). Raises ExportError before prediction."""
    rows = class_rows(table, colours)
    about = table.uns.get(keys.UNS, {})
    prediction = dict(about.get(keys.UNS_PREDICTION, {}))
    qc = dict(about.get(keys.UNS_QC, {}))
    assigned = table.obs[keys.CLASS].notna().to_numpy()
    confidence = table.obs[keys.CONFIDENCE].to_numpy(dtype=np.float64)[assigned] if keys.CONFIDENCE in table.obs else []
    tumour = None
    if keys.TUMOUR in table.obs:
        called, known, threshold = tumour_calls(table)
        share = called.sum() / max(1, known.sum())
        tumour = {"cells": int(called.sum()), "of": int(known.sum()), "share": float(share), "threshold": threshold}
    unknown = None
    if keys.UNKNOWN in table.obs:
        strange = table.obs[keys.UNKNOWN].to_numpy(dtype=np.float64)[assigned]
        cells, of = int((strange > keys.STRANGE).sum()), int(np.isfinite(strange).sum())
        unknown = {"cells": cells, "of": of, "share": cells / max(1, of), "threshold": keys.STRANGE}
    return {
        "name": section_name(table),
        "figures": _key_figures(table, qc),
        "warnings": [str(line) for line in _lines(qc.get("warnings"))],
        "classes": rows.to_dict("records"),
        "most": max(1, int(rows["cells"].max())),
        "tumour": tumour,
        "tumour_colour": TUMOUR_COLOUR,
        "unknown": unknown,
        "mean_confidence": float(np.mean(confidence)) if len(confidence) else None,
        "unassigned": int((~assigned).sum()),
        "seeded": bool(prediction.get("seeded", False)),
        "n_labels": prediction.get("n_labels"),
        "n_genes": table.n_vars,
        "min_counts": keys.MIN_COUNTS,
        "provenance": [
            (title, _rows(dict(about.get(key, {}))))
            for title, key in (
                ("Prediction", keys.UNS_PREDICTION),
                ("Embedding", keys.UNS_EMBEDDING),
                ("Source", keys.UNS_SOURCE),
            )
            if about.get(key)
        ],
        "version": __version__,
        "date": datetime.date.today().isoformat(),
    }


def plot_distributions(table: AnnData) -> Figure:
    """Two small histograms: counts per cell with the cut for faint cells, and confidence of the classes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = table.obs[keys.N_COUNTS].to_numpy(dtype=np.float64) if keys.N_COUNTS in table.obs else _sums(table)
    figure = Figure(figsize=(5.4, 1.55), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    top = max(counts.max(initial=1), 2 * keys.MIN_COUNTS)
    # A bin of whole numbers each at first: narrower ones would show gaps that are not in the data.
    bins = np.unique(np.round(np.geomspace(1, top + 1, 46)))
    left.hist(np.maximum(counts, 1), bins=list(bins - 0.5), color="#5B7C99")
    left.set_xscale("log")
    left.set_xlim(0.5, top * 1.1)
    left.axvline(keys.MIN_COUNTS - 0.5, color="#222222", linewidth=1, linestyle="--")
    height = left.get_ylim()[1]
    left.text(keys.MIN_COUNTS * 0.9, 0.97 * height, f"under {keys.MIN_COUNTS}", ha="right", va="top", fontsize=7)
    left.set(xlabel="Counts per cell", ylabel="Cells")
    if keys.CONFIDENCE in table.obs:
        has_class = table.obs[keys.CLASS].notna().to_numpy()
        right.hist(table.obs[keys.CONFIDENCE].to_numpy(dtype=float)[has_class], bins=25, range=(0, 1), color="#5B7C99")
        right.set(xlabel="Confidence of the class", ylabel="Cells", xlim=(0, 1))
    else:
        right.set_axis_off()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    return figure


def _pictures(section: Any, table: AnnData, colours: Mapping[str, str] | None) -> dict[str, str]:
    """Data URIs by name. The tissue is left out where there are no positions."""
    pictures = {"distributions": data_uri(plot_distributions(table))}
    if keys.SPATIAL not in table.obsm:
        return pictures
    # The page's own table is the legend of the first picture.
    wanted: dict[str, tuple[str, bool, float]] = {"classes": (keys.CLASS, False, 6.2)}
    if keys.TUMOUR in table.obs:
        wanted |= {"call": (TUMOUR_CALL, True, 5.0), "probability": (keys.TUMOUR, True, 5.0)}
    for name, (colour, legend, width) in wanted.items():
        figure = plot_tissue(section, colour, title="", legend=legend, colours=colours, width_in=width, dpi=_DPI)
        pictures[name] = data_uri(figure)
    return pictures


def data_uri(figure: Figure) -> str:
    """A figure as a PNG inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _key_figures(table: AnnData, qc: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(number, what it is, a remark) for the strip at the top."""
    counts = _sums(table)
    n_low, n_empty = int((counts < keys.MIN_COUNTS).sum()), int((counts == 0).sum())
    known = qc.get("n_known_genes")
    figures = [
        (f"{table.n_obs:,}", "cells", f"{n_empty:,} without counts" if n_empty else ""),
        (f"{table.n_vars:,}", "genes", "" if known is None else f"{int(known):,} known to the model"),
        (f"{np.median(counts) if len(counts) else 0:,.0f}", "median counts per cell", ""),
        (f"{n_low:,}", f"cells under {keys.MIN_COUNTS} counts", f"{n_low / max(1, table.n_obs):.1%}, flagged"),
    ]
    controls = qc.get("control_counts")
    if isinstance(controls, Mapping) and controls:
        total = sum(int(value) for value in controls.values())
        share = total / max(1.0, total + float(counts.sum()))
        figures.append((f"{total:,}", "control counts, dropped", f"{share:.2%} of all counts"))
    return figures


def _sums(table: AnnData) -> Any:
    return np.asarray(table.X.sum(axis=1), dtype=np.float64).ravel()


def _lines(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        text = _plain(value)
        if key not in _NOT_AS_ROWS and text:
            rows.append((_WORDS.get(key, key.replace("_", " ").capitalize()), text))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | np.ndarray):
        return ", ".join(_plain(inner) for inner in value)
    return "" if value is None else str(value)
