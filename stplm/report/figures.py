"""What all figures share: their look, the legend beside them, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import ExportError
from stplm.io.staged import staged_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stplm.report.colouring import Colouring

ENDINGS = (".png", ".svg", ".pdf")
WIDTH_IN = 7.2
"""Two columns of a journal."""
MARGIN_IN = 0.12
FONT = 8.0
_ROW_IN = 0.185
_TIGHT_ROW_IN = 0.135
"""Rows of a long legend come closer, down to this, before the figure grows."""
CHAR_IN = 0.056
"""Width of a character of the legend, on the broad side, so that nothing is cut off."""
_LONGEST_NAME = 30
RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "stplm",
    "pdf.fonttype": 42,
}


def check_picture(path: str | Path | None) -> None:
    """Raise ExportError where a name does not end as a picture does."""
    if path is not None and Path(path).suffix.lower() not in ENDINGS:
        raise ExportError("Unknown kind of picture.", where=path, expected="a name ending in " + ", ".join(ENDINGS))


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, SVG or PDF."""
    # Without dates, the same section gives the same bytes.
    undated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with staged_file(path) as part:
        figure.savefig(part, dpi=dpi, metadata=undated.get(path.suffix.lower()))


def shorten(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def legend_width(colouring: Colouring) -> float:
    """Inches that a legend needs."""
    names = [shorten(name, _LONGEST_NAME) for name, _, _ in colouring.entries]
    widest = max((len(name) for name in names), default=0) * CHAR_IN
    # swatch, name, count and share
    table = 0.22 + widest + 1.05 if names else 0.0
    texts = [len(line) * CHAR_IN for line in colouring.notes] + [len(colouring.title) * CHAR_IN * 1.15]
    return float(min(3.2, max(1.5, table, *texts) + 0.05))


def legend_height(colouring: Colouring, row: float) -> float:
    """Inches, with rows that high."""
    rows = len(colouring.entries) + len(colouring.notes) + (0.5 if colouring.notes else 0)
    return 0.3 + rows * row + (1.9 if colouring.limits else 0.0)


def row_height(colouring: Colouring, room: float) -> float:
    """The usual height of a legend row, or less where that makes the legend as tall as the tissue."""
    excess = legend_height(colouring, _ROW_IN) - room
    rows = max(1, len(colouring.entries) + len(colouring.notes))
    return float(np.clip(_ROW_IN - excess / rows, _TIGHT_ROW_IN, _ROW_IN))


def draw_legend(axes: Axes, colouring: Colouring, width: float, height: float, row: float) -> None:
    """Draw a legend into axes of that size. Coordinates are inches, from the upper left."""
    from matplotlib.patches import Rectangle

    font = FONT * (0.5 + 0.5 * row / _ROW_IN)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.text(0, 0.02, colouring.title, fontsize=FONT + 1, fontweight="bold", va="top")
    y = 0.3
    if colouring.limits is not None:
        y = _draw_colour_bar(axes, colouring, y, width, height)
    total = len(colouring.rgb)
    for name, colour, count in colouring.entries:
        middle = y + row / 2
        box = (0, middle - 0.3 * row)
        axes.add_patch(Rectangle(box, 0.13, 0.6 * row, facecolor=colour, edgecolor="#333333", linewidth=0.4))
        axes.text(0.2, middle, shorten(name, _LONGEST_NAME), fontsize=font, va="center_baseline")
        axes.text(width - 0.46, middle, f"{count:,}", fontsize=font, va="center_baseline", ha="right")
        share = f"{count / max(1, total):.1%}"
        axes.text(width, middle, share, fontsize=font - 0.5, va="center_baseline", ha="right", color="#666666")
        y += row
    y += 0.5 * row
    for line in colouring.notes:
        axes.text(0, y, line, fontsize=font, va="top", color="#444444")
        y += row


def _draw_colour_bar(axes: Axes, colouring: Colouring, y: float, width: float, height: float) -> float:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    assert colouring.limits is not None
    box, tall = axes.get_position(), 1.65
    inner = axes.figure.add_axes(
        (
            box.x0 + 0.02 / width * box.width,
            box.y1 - (y + tall) / height * box.height,
            0.16 / width * box.width,
            tall / height * box.height,
        )
    )
    bar = axes.figure.colorbar(ScalarMappable(Normalize(*colouring.limits), colouring.colour_map), cax=inner)
    bar.outline.set_linewidth(0.4)
    inner.tick_params(labelsize=FONT - 1, width=0.5, length=2)
    return y + tall + 0.25
