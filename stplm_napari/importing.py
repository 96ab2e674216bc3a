"""What other programs drew or chose, put into the session: read, looked at, confirmed, then one step to undo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stplm.errors import LabelError
from stplm.io.exchange import PIXELS, Exchange, Outline, Units, point_rows, read_exchange
from stplm.io.units import UnitsFound, find_units, in_microns
from stplm.palette import class_colours, is_tumour_name
from stplm_napari.annotations import Annotations
from stplm_napari.changes import CellClass
from stplm_napari.jobs import Job, Slot
from stplm_napari.replay import put_column
from stplm_napari.script import Beside, writes
from stplm_napari.steps import Step
from stplm_napari.tasks import FROM_LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.progress import Progress
    from stplm_napari.workspace import Workspace

_SPELT = (("tumor", "tumour"), ("_", " "), ("-", " "))
NEW = "\0new"
"""A class of the file's own name, to be added to the list."""
LEFT_OUT = ""


@dataclass(frozen=True)
class Preview:
    """A file that was read, before anything of it is put in.

    ``units`` is None where nothing in it has a place. ``counts`` are outlines, points and cells of each class;
    ``known_cells`` those of its cells that the section has.
    """

    path: Path
    exchange: Exchange
    units: UnitsFound | None
    known_cells: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Choice:
    """What the user confirmed.

    ``classes``: ``{class in the file: own class}``, :data:`NEW` or :data:`LEFT_OUT`. ``column``: put the cells into
    this column of the cell table instead of labelling them. ``label_inside``: label the cells in the outlines too.
    ``pixel_size``: µm a pixel, of drawings on another image.
    """

    units: Units
    classes: Mapping[str, str]
    column: str = ""
    label_inside: bool = False
    pixel_size: float | None = None


class Importer:
    """Reads files and puts them into one workspace's session."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.reading, self.putting = Slot(), Slot()
        self.preview: Preview | None = None
        self.done = ""
        """What was put in last, in words."""
        workspace.session.section_opened.connect(self.drop)

    def read(self, path: str | Path) -> Job:
        """Look at a file."""
        path, session = Path(path), self._workspace.session
        section, table, opened = session.section, session.table, session.revision.section
        self.drop()

        def run(progress: Progress) -> Preview:
            progress(0, 0)
            return preview_of(path, section, table)

        def show(found: Preview) -> bool:
            if self._workspace.session.revision.section != opened:
                return False
            self.preview = found
            return True

        return self.reading.take(self._workspace.jobs.start(f"Reading {path.name}", run, show))

    def drop(self) -> None:
        """Forget the file that was looked at."""
        self.preview, self.done = None, ""
        self.putting.job = None
        self.reading.clear()
        self.reading.changed.emit()

    def put_in(self, choice: Choice) -> Job:
        """Put what was looked at into the session, as the user confirmed it."""
        session, preview = self._workspace.session, self.preview
        if preview is None:
            raise LabelError("No file was read.", mend="Choose a file first.")
        table, section, opened = session.table, session.section, session.revision.section
        canvas = self._workspace.canvas
        grid_of = canvas.layers.picker if canvas is not None else None
        classes = new_classes(session.annotations, preview.exchange, choice.classes)
        names = {group: group if to == NEW else to for group, to in choice.classes.items()}

        def run(progress: Progress) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            progress(0, 0)
            placed = preview.exchange
            if preview.units is not None:
                placed = in_microns(placed, choice.units, section, table, choice.pixel_size)
            labels = [] if choice.column else labels_of(placed, table, names)
            if choice.label_inside and grid_of is not None and grid_of.grid is not None:
                labels = [*labels_inside(placed.outlines, grid_of.grid, table, names), *labels]
            return labels, [_region(outline, names) for outline in placed.outlines]

        def put(found: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> bool:
            if session.revision.section != opened:
                return False
            labels, regions = found
            used = {entry["name"] for entry in labels} | {region["class_name"] for region in regions}
            session.annotations.take_in([c for c in classes if c.name in used], labels, regions)
            words = [f"{len(regions)} regions"] if regions else []
            n = sum(len(entry["cells"]) for entry in labels)
            words += [f"{n:,} labels"] if n else []
            if choice.column:
                self._put_column(preview.path, choice.column, names)
                words.append(f"the column {choice.column}")
            self.preview = None
            self.done = f"{preview.path.name}: {' and '.join(words) or 'nothing'} put in."
            return True

        return self.putting.take(self._workspace.jobs.start(f"Importing {preview.path.name}", run, put))

    def _put_column(self, path: Path, name: str, classes: Mapping[str, str]) -> None:
        """Write a column of the cell table, as an action that can be undone. Raises LabelError."""
        workspace, session = self._workspace, self._workspace.session
        table, before = session.table, session.table.obs.get(name)
        put_column(table, path, name, classes)
        made = table.obs[name]
        step = Step("import_column", {"path": str(path), "name": name, "classes": dict(classes)})

        def do() -> None:
            table.obs[name] = made
            session.record(step)
            session.columns_changed()

        def take_back() -> None:
            if before is None:
                del table.obs[name]
            else:
                table.obs[name] = before
            session.steps = [old for old in session.steps if old is not step]
            if before is None and workspace.base.get("column") == name:
                workspace.base = {"source": FROM_LABELS}
            session.columns_changed()

        session.annotations.do_outside(step, do, take_back)


def preview_of(path: Path, section: Any, table: Any) -> Preview:
    """Read a file and find its units. Raises ExportError."""
    exchange = read_exchange(path)
    placed = bool(exchange.outlines) or len(exchange.points) > 0
    counts: dict[str, int] = {}
    for group in (*(o.group for o in exchange.outlines), *exchange.point_groups):
        counts[group] = counts.get(group, 0) + 1
    known = 0
    if exchange.cells is not None:
        there = exchange.cells[exchange.cells.index.isin(table.obs_names)]
        known = len(there)
        for name, n in exchange.cells.value_counts(sort=False).items():
            counts[str(name)] = counts.get(str(name), 0) + int(n)
    return Preview(path, exchange, find_units(exchange, section, table) if placed else None, known, counts)


def suggest_class(group: str, classes: Iterable[CellClass]) -> str:
    """The user's class that a file's class is: the same but for case, signs and spelling; else :data:`NEW`."""
    return next((c.name for c in classes if _bare(c.name) == _bare(group)), NEW)


def new_classes(own: Annotations, exchange: Exchange, chosen: Mapping[str, str]) -> list[CellClass]:
    """The classes to add, in the file's colours where nothing else has them."""
    names = [group for group, to in chosen.items() if to == NEW and own.get(group) is None]
    taken = {c.colour.upper() for c in own.classes}
    keys = [k for k in "123456789" if k not in {c.key for c in own.classes}]
    spare = [f"class {i}" for i in range(len(taken) + len(names))]
    free = [c for c in class_colours([*names, *spare]).values() if c.upper() not in taken]
    made = []
    for name in names:
        wanted = exchange.colours.get(name, "").upper()
        colour = wanted if wanted and wanted not in taken else next(c for c in free if c.upper() not in taken)
        taken.add(colour.upper())
        made.append(CellClass(name, colour, keys.pop(0) if keys else "", is_tumour_name(name)))
    return made


def labels_of(placed: Exchange, table: Any, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Labels for the cells and points of a file in µm: ``{"name", "cells"}`` of each class."""
    rows, groups = [], []
    if placed.cells is not None:
        rows.append(table.obs_names.get_indexer(placed.cells.index))
        groups.append(placed.cells.to_numpy(object))
    if len(placed.points):
        named = table.obs_names.get_indexer(pd.Index(placed.point_names, dtype=object))
        rows.append(np.where(named >= 0, named, point_rows(table, placed.points)))
        groups.append(np.array(placed.point_groups, object))
    if not rows:
        return []
    row, group = np.concatenate(rows), np.concatenate(groups)
    to = pd.Series(group).map(dict(names)).fillna(LEFT_OUT).to_numpy(object)
    return [
        {"name": str(name), "cells": table.obs_names[np.unique(row[(to == name) & (row >= 0)])].tolist()}
        for name in pd.unique(to)
        if name != LEFT_OUT
    ]


def labels_inside(outlines: Sequence[Outline], grid: Any, table: Any, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Labels for the cells whose centroid is in an outline with a class."""
    from stplm_napari.selection import in_polygon

    found = []
    for outline in outlines:
        if name := names.get(outline.group, LEFT_OUT):
            rows: NDArray[np.int64] = in_polygon(grid, list(outline.rings))
            found.append({"name": name, "cells": table.obs_names[rows].tolist()})
    return found


@writes("import_column", "A column from a file")
def _import_column(params: Mapping[str, Any], beside: Beside) -> list[str]:
    given = f"{params['path']!r}, {params['name']!r}, {dict(params['classes'])!r}"
    return [f"replay.put_column(table, {given})"]


def _region(outline: Outline, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": outline.name,
        "rings": [ring.tolist() for ring in outline.rings],
        "class_name": names.get(outline.group, ""),
        "note": outline.note,
    }


def _bare(name: str) -> str:
    low = name.lower()
    for old, new in _SPELT:
        low = low.replace(old, new)
    return " ".join(low.split())


def units_words(found: UnitsFound) -> str:
    """What was found out about units, in a sentence or two."""
    share = found.inside[PIXELS if found.units == PIXELS else "microns"]
    inside = "" if share >= 0.98 else f" {share:.0%} of the corners would lie on this section."
    return f"{found.reason}{inside}"
