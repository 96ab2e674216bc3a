"""The colours of a session's cells, put on a cell overlay. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stplm_napari.colouring_kinds import own_labels
from stplm_napari.colourings import BOTH, CELLS, OUTLINE, Categories, Numbers
from stplm_napari.session import Session

if TYPE_CHECKING:
    from stplm_napari.overlay import CellOverlay

_FILLED, _OUTLINED = 0.7, 1.0
"""Opacity of the layer: under filled cells, the image still shows."""


def paint(overlay: CellOverlay, session: Session) -> None:
    """Colour the cells as the session says; the user's own labels have a ring."""
    overlay.highlight(session.annotations.labels.rows, now=False)
    shown = session.sources.of(session.colouring.by)
    if isinstance(shown, Numbers):
        _paint_numbers(overlay, session, shown)
    else:
        nothing = Categories(np.full(session.table.n_obs, -1, np.int16), [], [], under_labels=True)
        _paint_categories(overlay, session, shown or nothing)


def paint_style(overlay: CellOverlay, outlines: CellOverlay, session: Session) -> None:
    """Fill the cells, draw their outlines in their colours, or both: filled, with outlines of one colour."""
    how = session.colouring
    as_outlines = how.style == OUTLINE and how.by != CELLS
    overlay.draw_outlines(how.outline_px if as_outlines else 0)
    overlay.layer.opacity = _OUTLINED if as_outlines else _FILLED
    outlines.draw_outlines(how.outline_px)
    outlines.layer.visible = how.style == BOTH or how.by == CELLS


def _paint_numbers(overlay: CellOverlay, session: Session, shown: Numbers) -> None:
    how = session.colouring
    values, (lo, hi) = shown.values, session.sources.range_of(how.by, shown)
    if how.by in how.logs and lo >= 0:
        values, lo, hi = np.log1p(values), float(np.log1p(lo)), float(np.log1p(hi))
    overlay.show_values(values, cmap=shown.cmap, lo=lo, hi=hi, missing="grey")


def _paint_categories(overlay: CellOverlay, session: Session, shown: Categories) -> None:
    how = session.colouring
    codes, colours = shown.codes, list(shown.colours)
    visible = [name not in how.hidden_now for name in shown.names]
    opacities = list(shown.opacities or np.ones(len(colours)))
    if how.is_of_classes:
        opacities = [o * how.opacity.get(name, 1.0) for o, name in zip(opacities, shown.names, strict=True)]
    if shown.under_labels:
        (rows, given), classes = own_labels(session), session.classes
        codes = codes.astype(np.int64)
        codes[rows] = given + len(colours)
        colours += [c.colour for c in classes]
        visible, opacities = visible + [True] * len(classes), opacities + [1.0] * len(classes)
    overlay.show_classes(codes, colours, visible=visible, opacities=opacities, unsure=shown.unsure)
