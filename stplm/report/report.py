"""The report of a section: all that was found in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import StplmError
from stplm.io.groups import as_table
from stplm.report.parts import grid_of_shares, grid_of_z, held_out_part, perturbation_table, truth_part
from stplm.report.summary import check_summary, data_uri, page_of, write_page
from stplm.report.tissue import plot_tissue

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.evaluation.learning_curve import HeldOut
    from stplm.tasks.perturb_result import Perturbation

_MARKERS = 8
_LONGEST_STEP = 300


def write_report(
    section: SpatialData | AnnData,
    path: str | Path,
    *,
    truth: str | pd.Series | None = None,
    held_out: HeldOut | Mapping[str, Any] | None = None,
    perturbations: Sequence[Perturbation | str | Path] = (),
    steps: Sequence[Mapping[str, Any]] = (),
    colours: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write all that is known of a predicted section as one HTML file, pictures inside, readable offline.

    On top of what :func:`stplm.report.summary.write_summary` shows (quality control, tissue by class and tumour call,
    class counts, provenance with model checksum, versions and seeds): the map, scores with confusion and calibration
    where labels exist, marker genes, neighbourhoods, niches, perturbations, imputed genes, steps. What cannot be made
    of this section is named at its end, with the reason.

    Parameters
    ----------
    section
        SpatialData or cell table after ``stplm.predict``.
    path
        The ``.html`` file.
    truth
        Labels to score against: an obs column, or class names by cell id. Give cells that the classifier did not
        learn from.
    held_out
        Scores of the labels themselves, held out in turn (:func:`stplm.held_out`, or its ``to_dict()``).
    perturbations
        Results of :func:`stplm.perturb`, or their folders.
    steps
        What was done, as ``{"step": name, "params": {...}}``, oldest first.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry.
    extra
        ``{heading: text}`` to add beside the provenance, plain text.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    The file written.

    Raises
    ------
    ExportError
        Nothing has been predicted yet, or the file cannot be written.
    LabelError
        ``truth`` names no column, or shares no class with the prediction.
    """
    path = Path(path)
    check_summary(path, overwrite=overwrite)
    table = as_table(section)
    left_out: list[str] = []
    content: dict[str, Any] = page_of(section, colours, extra)
    content |= {
        "map": _map(table, colours, left_out),
        "truth": None if truth is None else truth_part(table, truth),
        "held_out": None if held_out is None else held_out_part(held_out),
        "markers": _markers(table, left_out),
        **_neighbours(table, left_out),
        **_niches(section, table),
        "perturbations": [perturbation_table(p) for p in perturbations],
        "imputed": _imputed(table),
        "steps": [(str(step["step"]), _short(step.get("params", {}))) for step in steps],
        "left_out": left_out,
    }
    return write_page("report.html", content, path, overwrite=overwrite)


def _map(table: AnnData, colours: Mapping[str, str] | None, left_out: list[str]) -> str | None:
    if keys.UMAP not in table.obsm:
        left_out.append("The map of the cells: no UMAP was made (the Map dock, or stplm.umap).")
        return None
    from stplm.report.cell_map import plot_map

    return data_uri(plot_map(table, keys.CLASS, title="", colours=colours, legend=False, width_in=5.0))


def _markers(table: AnnData, left_out: list[str]) -> list[tuple[str, str]]:
    from stplm.tasks.markers import rank_genes

    try:
        ranked = rank_genes(table)
    except StplmError as error:
        left_out.append(f"Marker genes: {error.problem}")
        return []
    ranked = ranked[(ranked["score"] > 0) & (ranked["p_adjusted"] < 0.05)]
    return [
        (str(name), ", ".join(f"{g} ({a:.0%}, {b:.0%})" for g, a, b in _best(part)))
        for name, part in ranked.groupby("group", sort=False)
    ]


def _best(part: pd.DataFrame) -> Any:
    return part.head(_MARKERS)[["gene", "share", "share_others"]].itertuples(index=False)


def _neighbours(table: AnnData, left_out: list[str]) -> dict[str, Any]:
    from stplm.tasks.neighbourhoods import neighbourhoods

    try:
        found = neighbourhoods(table)
    except StplmError as error:
        left_out.append(f"Neighbourhoods: {error.problem}")
        return {"enrichment": None, "interactions": None, "radius": ""}
    return {
        "enrichment": grid_of_z(found.enrichment),
        "interactions": grid_of_shares(found.interactions),
        "radius": f"{found.radius_um:g}",
    }


def _niches(section: Any, table: AnnData) -> dict[str, Any]:
    if keys.NICHE not in table.obs or keys.SPATIAL not in table.obsm:
        return {"niches": None, "niche_classes": None}
    shares = pd.crosstab(table.obs[keys.NICHE], table.obs[keys.CLASS], normalize="index")
    figure = plot_tissue(section, keys.NICHE, title="", width_in=5.0)
    return {"niches": data_uri(figure), "niche_classes": grid_of_shares(shares)}


def _imputed(table: AnnData) -> list[tuple[str, str, str]]:
    about = table.uns.get(keys.UNS, {}).get(keys.UNS_IMPUTED, {})
    columns = [list(np.asarray(about.get(name, []))) for name in ("genes", "how", "r")]
    return [(str(g), str(h), "–" if np.isnan(r) else f"{r:.2f}") for g, h, r in zip(*columns, strict=True)]


def _short(params: Mapping[str, Any]) -> str:
    """A step's parameters; long lists of cells by their number."""
    words = []
    for name, value in params.items():
        if isinstance(value, Mapping) and value and all(isinstance(v, list | tuple) for v in value.values()):
            value = ", ".join(f"{k}: {len(v):,} cells" for k, v in value.items())
        elif isinstance(value, list | tuple) and len(value) > 8:
            value = f"{len(value):,} values"
        words.append(f"{name} {value}")
    text = "; ".join(words)
    return text if len(text) <= _LONGEST_STEP else text[: _LONGEST_STEP - 1] + "…"
