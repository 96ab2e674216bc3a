"""The tissue as a figure: cells coloured by class, call, probability or gene over the nuclear stain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.io.groups import as_table
from stplm.report.canvas import Field, edges, field_of, paint_cells, stain
from stplm.report.colouring import TUMOUR_CALL, Colouring, colour_cells
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

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

__all__ = ["TUMOUR_CALL", "plot_tissue", "section_name"]

_TALLEST = 1.0
"""Height of the tissue at most, in widths of the figure."""
_OUTLINE_FROM_PX = 7.0
"""Narrower cells would be all outline."""
_NUCLEUS_LIGHT = 0.5


def plot_tissue(
    section_or_table: SpatialData | AnnData,
    colour: str = keys.CLASS,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
    colours: Mapping[str, str] | None = None,
    image: bool = True,
    outlines: bool | None = None,
    opacity: float = 1.0,
    scale_bar_um: float | None = None,
    region: tuple[float, float, float, float] | None = None,
    width_in: float = WIDTH_IN,
    dpi: int = 300,
) -> Figure:
    """Draw the tissue with a legend and a scale bar, for a paper or a report.

    Cells are the areas of the label image, else their outlines, else dots. Colours are those of the legend, the map
    and the exports; measurements use viridis, which is even to the eye and safe for any colour vision.

    Parameters
    ----------
    section_or_table
        The section, or its cell table alone (dots, no stain).
    colour
        Column of ``obs``, a gene symbol, or ``"tumour_call"`` (the tumour probability cut at 0.5).
    path
        Also save as ``.png``, ``.svg`` or ``.pdf``; the last two keep text as text.
    title
        By default the section's name; "" for none.
    legend
        Whether to draw the legend with counts, or the colour bar.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry.
    image
        Whether to show the nuclear stain below the cells.
    outlines
        Whether to draw the cells' borders; by default where cells are wide enough to see them.
    opacity
        Of the cells' colour over the stain, 0 to 1. At 1 nuclei still show, as lighter spots in their cells.
    scale_bar_um
        Length of the scale bar in µm; by default a round length near a fifth of the width.
    region
        (x0, y0, x1, y1) in µm to show; by default all.
    width_in
        Width of the figure in inches; the default is that of two columns of a journal. Text keeps its size.
    dpi
        Pixels an inch.

    Returns
    -------
    A matplotlib Figure of its own (no pyplot state).

    Raises
    ------
    ExportError
        Nothing predicted yet, an unknown column, no positions, or a file that cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    table = as_table(section_or_table)
    section = None if section_or_table is table else section_or_table
    colouring = colour_cells(table, colour, colours)
    title = section_name(table) if title is None else title
    side = legend_width(colouring) + MARGIN_IN if legend else 0.0
    room = width_in - side - 2 * MARGIN_IN
    probe = field_of(section, table, 1000, region)
    scale = min(room / probe.width, _TALLEST * width_in / probe.height)
    width, height = probe.width * scale, probe.height * scale
    field = field_of(section, table, max(64, round(max(width, height) * dpi)), region)
    picture = _compose(section, table, field, colouring, image=image, outlines=outlines, opacity=opacity)

    with rc_context(RC):
        head, foot = 0.32 if title else 0.04, 0.28
        row = row_height(colouring, height)
        body = max(height, legend_height(colouring, row)) if legend else height
        total_w, total_h = width + side + 2 * MARGIN_IN, body + head + foot
        figure = Figure(figsize=(total_w, total_h), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes(
            (MARGIN_IN / total_w, (total_h - head - height) / total_h, width / total_w, height / total_h)
        )
        axes.imshow(picture, interpolation="none", aspect="auto", extent=(0, field.width, field.height, 0))
        axes.set_axis_off()
        axes.set_autoscale_on(False)
        _scale_bar(axes, field, field.width / width, scale_bar_um)
        figure.text(
            MARGIN_IN / total_w,
            1 - 0.5 * head / total_h,
            shorten(title, int(total_w / 0.085)),
            fontsize=10,
            fontweight="bold",
            va="center",
        )
        if legend:
            side -= MARGIN_IN
            left = (width + 2 * MARGIN_IN) / total_w
            beside = figure.add_axes((left, foot / total_h, side / total_w, body / total_h))
            draw_legend(beside, colouring, side, body, row)
        if path is not None:
            save_figure(figure, Path(path), dpi)
    return figure


def section_name(table: AnnData) -> str:
    """What to call the section: its run and region as the instrument noted them, else its file or folder."""
    source = table.uns.get(keys.UNS, {}).get(keys.UNS_SOURCE, {})
    noted = [str(source[name]) for name in ("run", "region") if source.get(name)]
    if noted:
        return " · ".join(noted)
    return Path(str(source["path"])).name if source.get("path") else "Section"


def _compose(
    section: Any,
    table: AnnData,
    field: Field,
    colouring: Colouring,
    *,
    image: bool,
    outlines: bool | None,
    opacity: float,
) -> NDArray[np.uint8]:
    """(rows, columns, 3): the colours over the stain, or over white where there is none."""
    cells = paint_cells(section, table, field)
    grey = stain(section, table, field) if image else None
    shown = cells >= 0
    if grey is None:
        picture = np.ones((*field.shape, 3), dtype=np.float32)
        opacity = 1.0
    else:
        picture = np.repeat(grey[..., None], 3, axis=2)
    colours = colouring.rgb[cells[shown]]
    if grey is not None:
        # Brighter where the stain is, never darker: the body of a cell has just the colour of the legend.
        # Measurements get less of it: there, lightness is the message.
        light = _NUCLEUS_LIGHT if colouring.limits is None else 0.4 * _NUCLEUS_LIGHT
        colours += light * grey[shown][:, None] * (1 - colours)
    picture[shown] = (1 - opacity) * picture[shown] + opacity * colours
    if outlines is None:
        there = np.count_nonzero(np.bincount(cells[shown], minlength=1))
        outlines = bool(there) and float(np.sqrt(shown.sum() / there)) >= _OUTLINE_FROM_PX
    if outlines:
        picture[edges(cells)] *= 0.3
    return np.round(picture * 255).astype(np.uint8)


def _scale_bar(axes: Axes, field: Field, inch: float, length: float | None) -> None:
    """Below the picture, where it hides no cell; ``inch`` is how many µm an inch of the figure shows."""
    if length is None:
        rough = field.width / 5
        power = 10 ** np.floor(np.log10(rough))
        length = float(power * max(step for step in (1, 2, 5) if step * power <= rough))
    y = field.height + 0.12 * inch
    axes.plot((0, length), (y, y), color="black", linewidth=2.2, solid_capstyle="butt", clip_on=False)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    axes.text(length + 0.07 * inch, y, text, fontsize=FONT, ha="left", va="center_baseline")
