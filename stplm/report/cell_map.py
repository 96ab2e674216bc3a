"""The map (UMAP) as a figure: every cell a dot in the colour of its class, of a column or of a gene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm import keys
from stplm.errors import ExportError
from stplm.io.groups import as_table
from stplm.report.colouring import colour_cells
from stplm.report.figures import (
    FONT,
    MARGIN_IN,
    RC,
    WIDTH_IN,
    check_picture,
    draw_legend,
    legend_height,
    legend_width,
    row_height,
    save_figure,
    shorten,
)
from stplm.report.tissue import section_name

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_HEAD_IN, _FOOT_IN, _LABEL_IN = 0.32, 0.28, 0.12


def plot_map(
    section_or_table: SpatialData | AnnData,
    colour: str = keys.CLASS,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
    colours: Mapping[str, str] | None = None,
    dot: float | None = None,
    width_in: float = WIDTH_IN,
    dpi: int = 300,
) -> Figure:
    """Draw the map of the cells with a legend.

    Parameters
    ----------
    section_or_table
        The section, or its cell table, after :func:`stplm.umap`.
    colour
        Column of ``obs``, a gene symbol, or ``"tumour_call"``; as for the figure of the tissue.
    path
        Also save as ``.png``, ``.svg`` or ``.pdf``. The last two keep text as text; the dots are one picture in them,
        or a million would make a file that nothing opens.
    title
        By default the section's name; "" for none.
    legend
        Whether to draw the legend with counts, or the colour bar.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry.
    dot
        Diameter of a dot in points (1/72 inch); by default the more cells, the smaller.
    width_in
        Width of the figure in inches. Text keeps its size.
    dpi
        Pixels an inch, also of the dots in a vector file.

    Returns
    -------
    A matplotlib Figure of its own (no pyplot state). Groups are drawn over each other cell by cell in a fixed random
    order; for measurements high values are on top.

    Raises
    ------
    ExportError
        No map yet, nothing predicted yet, an unknown column, or a file that cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    table = as_table(section_or_table)
    if keys.UMAP not in table.obsm:
        raise ExportError("There is no map of these cells.", where=f"obsm[{keys.UMAP!r}]", mend="Run stplm.umap first.")
    xy = np.asarray(table.obsm[keys.UMAP], np.float64)[:, :2]
    colouring = colour_cells(table, colour, colours)
    title = section_name(table) if title is None else title
    side = legend_width(colouring) + MARGIN_IN if legend else 0.0
    room = width_in - side - 2 * MARGIN_IN - _LABEL_IN
    order = np.random.default_rng(0).permutation(len(xy))
    if colouring.limits is not None:  # brightest last
        order = order[np.argsort(colouring.rgb[order].sum(axis=1), kind="stable")]
    order = order[np.isfinite(xy[order]).all(axis=1)]
    dot = float(np.clip(300 * room / WIDTH_IN / max(len(order), 1) ** 0.5, 0.6, 7.0)) if dot is None else dot

    with rc_context(RC):
        row = row_height(colouring, room)
        body = max(room, legend_height(colouring, row)) if legend else room
        total_w, total_h = room + side + 2 * MARGIN_IN + _LABEL_IN, body + _HEAD_IN + _FOOT_IN
        figure = Figure(figsize=(total_w, total_h), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes(
            ((MARGIN_IN + _LABEL_IN) / total_w, (total_h - _HEAD_IN - room) / total_h, room / total_w, room / total_h)
        )
        x, y = xy[order].T
        axes.scatter(x, y, s=dot**2, c=colouring.rgb[order], linewidths=0, rasterized=True)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel("UMAP 1", fontsize=FONT, loc="left")
        axes.set_ylabel("UMAP 2", fontsize=FONT, loc="bottom", labelpad=1)
        axes.spines[["top", "right"]].set_visible(False)
        figure.text(
            MARGIN_IN / total_w,
            1 - 0.5 * _HEAD_IN / total_h,
            shorten(title, int(total_w / 0.085)),
            fontsize=10,
            fontweight="bold",
            va="center",
        )
        if legend:
            side -= MARGIN_IN
            left = (room + 2 * MARGIN_IN + _LABEL_IN) / total_w
            beside = figure.add_axes((left, (total_h - _HEAD_IN - body) / total_h, side / total_w, body / total_h))
            draw_legend(beside, colouring, side, body, row)
        if path is not None:
            save_figure(figure, Path(path), dpi)
    return figure
