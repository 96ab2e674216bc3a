"""The colours of a session's cells, put on a cell overlay. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stplm import keys
from stplm.palette import class_colours
from stplm_napari import session as by
from stplm_napari.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.overlay import CellOverlay

UNKNOWN_MAP = "cividis"
"""Another map than confidence has, so that neither is taken for the other; bright is unlike every label."""


def paint(overlay: CellOverlay, session: Session) -> None:
    """Colour the cells as the session says; the user's own labels show in their class's colour, with a ring."""
    table, how = session.table, session.colouring
    rows, given = own_labels(session)
    if how.by == by.TUMOUR and session.is_predicted:
        overlay.show_values(table.obs[keys.TUMOUR].to_numpy(float), cmap="tumour", missing="grey")
    elif how.by == by.CONFIDENCE and session.is_predicted:
        overlay.show_values(table.obs[keys.CONFIDENCE].to_numpy(float), cmap="viridis", missing="grey")
    elif how.by == by.UNKNOWN and by.UNKNOWN in session.possible_colourings():
        overlay.show_values(table.obs[keys.UNKNOWN].to_numpy(float), cmap=UNKNOWN_MAP, missing="grey")
    elif how.by == by.CLASS and session.is_predicted:
        _paint_classes(overlay, session, rows, given)
    else:
        clusters = how.by == by.CLUSTER and keys.CLUSTER in table.obs
        groups = table.obs[keys.CLUSTER].cat if clusters else None
        names = [] if groups is None else [str(n) for n in groups.categories]
        codes = np.full(table.n_obs, -1) if groups is None else groups.codes.to_numpy().astype(int)
        codes[rows] = given + len(names)
        overlay.show_classes(codes, [*class_colours(names).values(), *(c.colour for c in session.classes)])
    overlay.highlight(rows)


def own_labels(session: Session) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the cells that the user labelled, and the index of each one's class in ``session.classes``."""
    labels = session.annotations.labels
    rows, given = labels.rows, labels.codes(c.name for c in session.classes)
    return rows[given >= 0], given[given >= 0]


def _paint_classes(overlay: CellOverlay, session: Session, rows: NDArray[np.int64], given: NDArray[np.int64]) -> None:
    table, how, classes = session.table, session.colouring, session.classes
    index = {c.name: i for i, c in enumerate(classes)}
    predicted = table.obs[keys.CLASS].cat
    # One entry more: cells without a class have code -1, the last one.
    place = np.array([*(index[str(n)] for n in predicted.categories), -1])
    codes = place[predicted.codes.to_numpy()]
    unsure = table.obs[keys.CONFIDENCE].to_numpy() < how.unsure_below
    codes[rows], unsure[rows] = given, False
    overlay.show_classes(
        codes,
        [c.colour for c in classes],
        visible=[c.name not in how.hidden for c in classes],
        opacities=[how.opacity.get(c.name, 1.0) for c in classes],
        unsure=unsure,
    )
