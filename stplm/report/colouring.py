"""From a column of the cell table, or a gene, to one colour a cell and what the legend says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ExportError
from stplm.io.groups import cell_groups
from stplm.palette import TUMOUR_COLOUR, UNASSIGNED_COLOUR

if TYPE_CHECKING:
    from anndata import AnnData

TUMOUR_CALL = "tumour_call"
"""Not a column of the table: the tumour probability cut at the call threshold."""
CALL_THRESHOLD = 0.5
_NOT_TUMOUR_COLOUR = "#56B4E9"
_COLOUR_MAP = "viridis"
"""Perceptually even, readable with any colour vision and in print."""
_TITLES = {
    keys.CLASS: "Predicted class",
    keys.CLUSTER: "Embedding cluster",
    keys.CONFIDENCE: "Confidence",
    keys.TUMOUR: "Tumour probability",
    keys.UNKNOWN: "Unknown score",
    keys.N_COUNTS: "Counts per cell",
    keys.N_GENES: "Genes per cell",
    TUMOUR_CALL: "Tumour call",
}
_UNIT_RANGE = (keys.CONFIDENCE, keys.TUMOUR, keys.UNKNOWN)


@dataclass
class Colouring:
    """One colour a cell.

    ``rgb`` is (n_cells, 3) float32 in [0, 1]. For groups, ``entries`` holds (name, "#RRGGBB", cells) in legend order;
    for measurements, ``limits`` and ``colour_map`` describe the colour bar and ``entries`` only the cells without a
    value. ``notes`` are lines to print under the legend.
    """

    title: str
    rgb: NDArray[np.float32]
    entries: list[tuple[str, str, int]] = field(default_factory=list)
    limits: tuple[float, float] | None = None
    colour_map: str = _COLOUR_MAP
    notes: list[str] = field(default_factory=list)


def colour_cells(table: AnnData, colour: str, colours: Mapping[str, str] | None = None) -> Colouring:
    """Colours of all cells by a column of ``obs``, a gene, or the tumour call.

    Raises
    ------
    ExportError
        Neither a column nor a gene; nothing predicted yet.
    """
    import pandas as pd

    if colour == TUMOUR_CALL:
        return _call(table)
    if colour in table.obs:
        values = table.obs[colour]
        if pd.api.types.is_float_dtype(values.dtype) or colour in (keys.N_COUNTS, keys.N_GENES, keys.CONTROL_COUNTS):
            return _measured(table, colour, values.to_numpy(dtype=np.float64))
        return _grouped(table, colour, colours)
    if colour in table.var_names:
        column = table[:, colour].X
        dense = np.asarray(column.todense() if hasattr(column, "todense") else column, dtype=np.float64).ravel()
        shown = _measured(table, colour, dense, at_least=1.0)
        shown.title = f"{colour} (counts)"
        return shown
    if colour in (keys.CLASS, keys.TUMOUR, keys.CONFIDENCE):
        raise ExportError(
            "Nothing has been predicted for these cells yet.",
            where=f"obs[{colour!r}]",
            mend="Run Classify first (stplm.predict).",
        )
    raise ExportError(
        f"{colour!r} is neither a column of the cell table nor a gene of its panel.",
        expected="one of " + ", ".join(map(str, table.obs.columns)) + ", or a gene symbol",
    )


def tumour_calls(table: AnnData) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Which cells are called tumour, which have a call at all, and the threshold of the call.

    Raises
    ------
    ExportError
        Nothing has been predicted.
    """
    if keys.TUMOUR not in table.obs:
        raise ExportError(
            "No cell has a tumour probability yet.",
            where=f"obs[{keys.TUMOUR!r}]",
            mend="Run Classify first (stplm.predict) with classes that name tumour cells.",
        )
    probability = table.obs[keys.TUMOUR].to_numpy(dtype=np.float64)
    known = np.isfinite(probability)
    if keys.CLASS in table.obs:
        known &= table.obs[keys.CLASS].notna().to_numpy()
    return known & (probability >= CALL_THRESHOLD), known, CALL_THRESHOLD


def _call(table: AnnData) -> Colouring:
    tumour, known, threshold = tumour_calls(table)
    names = ("Tumour", "Not tumour", keys.UNASSIGNED)
    code = np.where(~known, 2, np.where(tumour, 0, 1))
    hexes = (TUMOUR_COLOUR, _NOT_TUMOUR_COLOUR, UNASSIGNED_COLOUR)
    counts = np.bincount(code, minlength=3)
    entries = [(n, c, int(k)) for n, c, k in zip(names, hexes, counts, strict=True) if k or n != keys.UNASSIGNED]
    return Colouring(_TITLES[TUMOUR_CALL], _rgb(hexes)[code], entries, notes=[f"Tumour: probability ≥ {threshold:g}"])


def _grouped(table: AnnData, column: str, colours: Mapping[str, str] | None) -> Colouring:
    groups, palette = cell_groups(table, column, colours)
    names = list(palette)
    code = groups.map({name: i for i, name in enumerate(names)}).to_numpy(dtype=np.int64)
    counts = np.bincount(code, minlength=len(names))
    entries = [(n, palette[n], int(k)) for n, k in zip(names, counts, strict=True) if k or n != keys.UNASSIGNED]
    return Colouring(_TITLES.get(column, column), _rgb(list(palette.values()))[code], entries)


def _measured(table: AnnData, column: str, values: NDArray[np.float64], at_least: float = 0.0) -> Colouring:
    from matplotlib import colormaps

    known = np.isfinite(values)
    if column in (keys.CONFIDENCE, keys.TUMOUR) and keys.CLASS in table.obs:
        known &= table.obs[keys.CLASS].notna().to_numpy()
    if column in _UNIT_RANGE:
        low, high = 0.0, 1.0
    else:
        # A few extreme cells must not darken all the others.
        low = float(min(0.0, values[known].min(initial=0.0)))
        high = float(np.percentile(values[known], 99)) if known.any() else 1.0
        high = max(high, low + at_least)
        high = high if high > low else low + 1.0
    share = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    rgb = colormaps[_COLOUR_MAP](share)[:, :3].astype(np.float32)
    rgb[~known] = _rgb([UNASSIGNED_COLOUR])[0]
    entries = [("No value", UNASSIGNED_COLOUR, int((~known).sum()))] if not known.all() else []
    notes = []
    if column == keys.TUMOUR:
        tumour, called, threshold = tumour_calls(table)
        notes.append(f"{int(tumour.sum()):,} of {int(called.sum()):,} cells ≥ {threshold:g}")
    elif column not in _UNIT_RANGE and known.any() and values[known].max() > high:
        notes.append("Colours end at the 99th percentile")
    elif column in _UNIT_RANGE and known.any():
        notes.append(f"Mean {values[known].mean():.2f}")
    return Colouring(_TITLES.get(column, column), rgb, entries, (low, high), notes=notes)


def _rgb(hexes: tuple[str, ...] | list[str]) -> NDArray[np.float32]:
    channels = [[int(h[i : i + 2], 16) / 255 for i in (1, 3, 5)] for h in hexes]
    return np.array(channels, dtype=np.float32).reshape(-1, 3)
