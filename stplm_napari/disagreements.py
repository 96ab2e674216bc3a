"""Disagreement maps: comparisons as sources of colours, and the cells that disagree, one by one. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from psygnal import Signal

from stplm import keys
from stplm.evaluation.disagreement import (
    OUTSIDE,
    Disagreement,
    disagreement,
    prediction_outside_regions,
    tumour_against_type,
)
from stplm.palette import UNASSIGNED_COLOUR
from stplm_napari.colouring_kinds import COLUMNS, columns, own_labels
from stplm_napari.colourings import Categories, Kind, Source, add_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.selection import CellGrid
    from stplm_napari.session import Session

COMPARE = "compare"
LABELS, TYPES, REGIONS = "labels", "types", "regions"
COLUMN = "column:"
"""``compare:column:NAME``."""
NAMES = ("agree", "disagree", "not compared")
_COLOURS = ("#56B4E9", "#E4007C", UNASSIGNED_COLOUR)
_OPACITIES = (0.3, 1.0, 0.12)
_GROUP = "Disagreements"
_TITLES = {
    LABELS: "Your labels and the prediction",
    TYPES: "Tumour call and type",
    REGIONS: "Prediction and drawn regions",
}


@dataclass(frozen=True, eq=False)
class Compared(Categories):
    """Agree, disagree or not compared; and what the comparison found."""

    found: Disagreement | None = None
    template: str = "{said} against {against}"

    def reason(self, row: int) -> str:
        """Why a cell is in the list."""
        assert self.found is not None
        return self.pair_words(*self.found.pair(row))

    def pair_words(self, said: str, against: str) -> str:
        """A disagreement in words."""
        if against == OUTSIDE:
            return f"called {said}, outside the regions drawn for it"
        return self.template.format(said=said, against=against)


def compared(session: Session, name: str) -> Compared | None:
    """The comparison of that name, see the constants; None where one side is missing."""
    if not session.is_predicted:
        return None
    table = session.table
    template = "called {said}, but {against} in " + name.removeprefix(COLUMN)
    if name == LABELS:
        said, sure = table.obs[keys.CLASS].array, table.obs[keys.CONFIDENCE].to_numpy()
        rows, given = own_labels(session)
        codes = np.full(table.n_obs, -1)
        codes[rows] = given
        found = disagreement(
            said, pd.Categorical.from_codes(codes, pd.Index([c.name for c in session.classes], dtype=object)), sure
        )
        words, template = "Your labels against the prediction.", "called {said}, but you labelled {against}"
        return _shown(found, words, template)
    said, sure = _said(session)
    if name == TYPES:
        tumour = {c.name for c in session.classes if c.tumour}
        found = tumour_against_type(table.obs[keys.TUMOUR].to_numpy(), said, tumour)
        words = "Tumour probability of 0.5 or more in a cell of another type, or the reverse."
        template = "{said} by its probability, {against} by its type"
    elif name == REGIONS:
        found = prediction_outside_regions(said, _cells_by_class(session), sure)
        words = "Cells called a class that has drawn regions, outside all of them."
    else:
        column = table.obs[name.removeprefix(COLUMN)]
        found = disagreement(said, pd.Categorical(column), sure)
        words = f"The prediction against {name.removeprefix(COLUMN)}."
        if found.unmatched:
            words += f" Not compared, for no class has that name: {', '.join(found.unmatched)}."
    return _shown(found, words, template)


def _shown(found: Disagreement, words: str, template: str) -> Compared:
    return Compared(found.states, NAMES, _COLOURS, words, _OPACITIES, found=found, template=template)


def _said(session: Session) -> tuple[pd.Categorical, NDArray[np.floating]]:
    """What each cell is called, and how sure that is. A cell that the user labelled is of that class, as it is on the
    tissue; it comes last, for it has been looked at."""
    called, sure = session.table.obs[keys.CLASS].array, session.table.obs[keys.CONFIDENCE].to_numpy()
    rows, given = own_labels(session)
    if not len(rows):
        return called, sure
    names = list(dict.fromkeys([*map(str, called.categories), *(c.name for c in session.classes)]))
    place = np.array([names.index(c.name) for c in session.classes])
    codes, sure = called.codes.astype(np.int16), sure.copy()
    codes[rows], sure[rows] = place[given], 0.0
    return pd.Categorical.from_codes(codes, pd.Index(names, dtype=object)), sure


def _cells_by_class(session: Session) -> dict[str, NDArray[np.int64]]:
    """Rows of the cells in the regions of each class; a tumour region holds all tumour classes."""
    from stplm_napari.selection import in_polygon

    regions = [region for region in session.annotations.regions if region.class_name]
    grid = _grid_of(session)
    inside: dict[str, list[NDArray[np.int64]]] = {}
    for region in regions:
        found = in_polygon(grid, region.arrays())
        for name in _named(session, region.class_name):
            inside.setdefault(name, []).append(found)
    return {name: np.unique(np.concatenate(parts)) for name, parts in inside.items()}


def _named(session: Session, name: str) -> list[str]:
    tumour = [c.name for c in session.classes if c.tumour]
    return tumour if name in tumour else [name]


def _offered(session: Session) -> list[Source]:
    if not session.is_predicted:
        return []
    found = [TYPES] if keys.TUMOUR in session.table.obs else []
    if len(session.annotations.labels):
        found.insert(0, LABELS)
    if session.has_positions and any(region.class_name for region in session.annotations.regions):
        found.append(REGIONS)
    texts = [c for c in columns(session) if c.group == COLUMNS and session.table.obs[c.words].dtype.kind not in "bifu"]
    return [
        *(Source(f"{COMPARE}:{what}", _TITLES[what], _GROUP) for what in found),
        *(Source(f"{COMPARE}:{COLUMN}{c.words}", f"Prediction and {c.words}", _GROUP) for c in texts),
    ]


_grids: WeakKeyDictionary[Session, tuple[int, CellGrid]] = WeakKeyDictionary()


def _grid_of(session: Session) -> CellGrid:
    from stplm_napari.selection import CellGrid

    opened = session.revision.section
    if session not in _grids or _grids[session][0] != opened:
        _grids[session] = opened, CellGrid(np.asarray(session.table.obsm[keys.SPATIAL], float)[:, :2])
    return _grids[session][1]


class Disagreements:
    """The cells that disagree in the comparison on the tissue, one by one.

    ``go_to(row, why)`` is called for the cell that is to be looked at, ``done()`` when none is left.
    """

    moved = Signal()

    def __init__(self, session: Session, go_to: Callable[[int, str], object], done: Callable[[], object]) -> None:
        self._session, self._go_to, self._done, self._at = session, go_to, done, 0
        self.row = -1
        """The cell looked at, or -1."""

    @property
    def shown(self) -> Compared | None:
        """The comparison that the tissue shows."""
        found = self._session.sources.of(self._session.colouring.by) if self._session.is_open else None
        return found if isinstance(found, Compared) else None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the cells that disagree, the surest first."""
        shown = self.shown
        return np.zeros(0, np.int64) if shown is None or shown.found is None else shown.found.rows

    @property
    def place(self) -> int:
        """Which of them is looked at, from 0; -1 for none."""
        found = np.flatnonzero(self.rows == self.row)
        return int(found[0]) if len(found) else -1

    def step(self, by: int) -> None:
        """Go on (1) or back (-1); a cell that was corrected leaves the list, and the next takes its place."""
        shown, rows, place = self.shown, self.rows, self.place
        if shown is None or not len(rows):
            self.row = -1
            self._done()
        else:
            self._at = (self._at if place < 0 else place + by) % len(rows)
            self.row = int(rows[self._at])
            self._go_to(self.row, shown.reason(self.row))
        self.moved.emit()


add_kind(Kind(COMPARE, _offered, compared, lasts="labels", slow=True))
