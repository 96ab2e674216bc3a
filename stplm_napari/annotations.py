"""Classes, labels of cells and regions of tissue, with undo, redo and a journal on disk. No Qt.

Every action is a :class:`~stplm_napari.steps.Step`; what it does is a :class:`~stplm_napari.changes.Change` that knows
both sides, so any action, a bulk one included, is undone exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from psygnal import Signal

from stplm.errors import LabelError, StplmError
from stplm.palette import class_colours, is_tumour_name
from stplm_napari.changes import CellClass, Change, State, plan
from stplm_napari.journal import Journal, annotator
from stplm_napari.labels import LabelChange, Labels
from stplm_napari.packing import pack, unpack
from stplm_napari.regions import Region, free_name, rings_from
from stplm_napari.steps import Step

KEYS = tuple("123456789")


class Annotations:
    """Class registry, labels by cell id, and named regions.

    Parameters
    ----------
    cells
        The ids that may be labelled (of a million, a pandas index: it is hashed already); None takes any.
    journal
        Where each action is written as it happens; what it holds already is restored.
    classes
        The classes a new section starts with; a journal remembers those it was begun with.
    """

    changed = Signal(Change)
    """After every action, undo and redo."""
    save_failed = Signal(StplmError)
    """The action stands, but it is not on disk."""

    def __init__(
        self, cells: Iterable[str] | None = None, journal: Journal | None = None, classes: Iterable[CellClass] = ()
    ) -> None:
        self._classes: tuple[CellClass, ...] = tuple(classes)
        self._labels = Labels(cells)
        self._regions: tuple[Region, ...] = ()
        self._skipped: frozenset[str] = frozenset()
        self._done: list[Change] = []
        self._undone: list[Change] = []
        self._journal = journal
        self.not_restored = 0
        """Records of the journal that make no sense here, and labels of cells that are not in the section."""
        if journal is not None:
            self._restore(journal)
            journal.about.setdefault("classes", [asdict(c) for c in self._classes])

    # --- what is there ---

    @property
    def classes(self) -> tuple[CellClass, ...]:
        """The registry, in the user's order."""
        return self._classes

    @property
    def labels(self) -> Labels:
        """``{cell id: Label}``, and the same as arrays; read only."""
        return self._labels

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, in the order they were drawn."""
        return self._regions

    @property
    def skipped(self) -> frozenset[str]:
        """Ids of cells that were suggested and left without a label on purpose."""
        return self._skipped

    def region(self, name: str) -> Region:
        """The region of that name. Raises LabelError."""
        return self._state.region(name)

    @property
    def journal(self) -> Journal | None:
        """Where the actions are written."""
        return self._journal

    def get(self, name: str) -> CellClass | None:
        """The class of that name, if there is one."""
        return self._state.get(name)

    def counts(self) -> Counter[str]:
        """Labels per class name."""
        return self._labels.counts()

    def by_class(self) -> dict[str, list[str]]:
        """``{class: [cell ids]}`` of the classes that have labels, both in the order of registry and section."""
        rows, codes = self._labels.rows, self._labels.codes(c.name for c in self._classes)
        parts = ((c.name, rows[codes == i]) for i, c in enumerate(self._classes))
        return {name: self._labels.ids_at(part).tolist() for name, part in parts if len(part)}

    def series(self) -> pd.Series:
        """Class names by cell id, as ``stplm.fit_classifier`` takes them."""
        return pd.Series(self._labels.names(), index=pd.Index(list(self._labels), dtype=object), dtype=object)

    def table(self) -> pd.DataFrame:
        """Columns cell_id, class, annotator, time (UTC), in the order of the section."""
        rows = [(cell, *label) for cell, label in self._labels.items()]
        return pd.DataFrame(rows, columns=["cell_id", "class", "annotator", "time"])

    @property
    def can_undo(self) -> Step | None:
        """The step that :meth:`undo` would take back."""
        return self._done[-1].step if self._done else None

    @property
    def can_redo(self) -> Step | None:
        """The step that :meth:`redo` would bring back."""
        return self._undone[-1].step if self._undone else None

    # --- actions: each raises LabelError when it makes no sense, and then changes nothing ---

    def add_class(
        self, name: str, *, colour: str | None = None, key: str | None = None, tumour: bool | None = None
    ) -> CellClass:
        """A new class; colour, key and tumour flag are chosen where they are not given."""
        given: dict[str, Any] = {"colour": colour, "key": key, "tumour": tumour}
        given = {what: value for what, value in given.items() if value is not None}
        new = replace(self.propose_class(name), **given)
        self.do(Step("add_class", asdict(new)))
        return new

    def change_class(self, name: str, **what: Any) -> None:
        """Change any of ``new_name``, ``colour``, ``key``, ``tumour`` of a class; its labels follow a new name."""
        self.do(Step("change_class", {"name": name, **what}))

    def remove_class(self, name: str) -> None:
        """Remove a class and its labels."""
        self.do(Step("remove_class", {"name": name}))

    def merge_classes(self, name: str, into: str) -> None:
        """Give the labels of one class to another, and remove the first."""
        self.do(Step("merge_classes", {"name": name, "into": into}))

    def set_labels(self, cells: Iterable[str], name: str) -> None:
        """Label cells; a cell has one label, the latest."""
        self.do(Step("set_labels", {"cells": _listed(cells), "name": name}))

    def clear_labels(self, cells: Iterable[str]) -> None:
        """Take the labels of cells away; cells without one are left alone."""
        self.do(Step("clear_labels", {"cells": _listed(cells)}))

    def skip_cells(self, cells: Iterable[str]) -> None:
        """Leave suggested cells without a label; they are not suggested again."""
        self.do(Step("skip_cells", {"cells": _listed(cells)}))

    def clear_skips(self) -> None:
        """Let skipped cells be suggested again."""
        self.do(Step("clear_skips"))

    def add_region(self, outline: Sequence[Any], name: str = "", *, class_name: str = "", note: str = "") -> Region:
        """A new region from one closed outline of (x, y) in µm, or several (even-odd); named after its class if not."""
        name = name or free_name((r.name for r in self._regions), class_name or "Region")
        rings = [[list(point) for point in ring] for ring in rings_from(outline)]
        self.do(Step("add_region", {"name": name, "rings": rings, "class_name": class_name, "note": note}))
        return self._regions[-1]

    def change_region(self, name: str, **what: Any) -> None:
        """Change any of ``new_name``, ``class_name``, ``note``, ``rings`` of a region."""
        self.do(Step("change_region", {"name": name, **what}))

    def remove_region(self, name: str) -> None:
        """Remove a region; labels of its cells stay."""
        self.do(Step("remove_region", {"name": name}))

    def take_in(
        self,
        classes: Iterable[CellClass] = (),
        labels: Iterable[Mapping[str, Any]] = (),
        regions: Iterable[Mapping[str, Any]] = (),
        *,
        replace: bool = False,
        skipped: Iterable[str] | None = None,
    ) -> None:
        """Classes, labels and regions of elsewhere as one action; with ``replace``, instead of those that are there.

        ``labels`` are ``{"name", "cells"}``, with ``"by"`` and ``"at"`` where somebody else gave them; cells of other
        sections are passed over. ``regions`` are as :meth:`Region.to_json` gives them. ``skipped`` cells are those of
        elsewhere from now on; None leaves them as they are.
        """
        given = {"classes": [asdict(c) for c in classes], "labels": list(labels), "regions": list(regions)}
        left_open = {} if skipped is None else {"skipped": list(skipped)}
        self.do(Step("take_in", {**given, "replace": replace, **left_open}))

    def to_records(self) -> dict[str, Any]:
        """All that is there as JSON can hold it; :meth:`take_records` takes it back."""
        kinds = self._labels.by_kind()
        labels = [{**kind._asdict(), "cells": pack(self._labels.ids_at(rows).tolist())} for kind, rows in kinds]
        return {
            "classes": [asdict(c) for c in self._classes],
            "labels": labels,
            "regions": [r.to_json() for r in self._regions],
            "skipped": sorted(self._skipped),
        }

    def take_records(self, records: Mapping[str, Any]) -> tuple[int, bool]:
        """Make what is there equal to :meth:`to_records`, as one action that can be undone.

        Returns the number of labels of cells that are not in the section, and whether anything changed.
        """
        labels = [{**entry, "cells": unpack(entry["cells"])} for entry in records.get("labels", ())]
        lost = sum(int((self._labels.rows_of(entry["cells"]) < 0).sum()) for entry in labels)
        before = len(self._done)
        classes = [CellClass(**c) for c in records.get("classes", ())]
        skipped = records.get("skipped", ())
        self.take_in(classes, labels, records.get("regions", ()), replace=True, skipped=skipped)
        return lost, len(self._done) > before

    def do(self, step: Step) -> None:
        """Run, record and announce a step; one that changes nothing leaves no trace."""
        by, at = annotator(), _now()
        change = plan(step, self._state, by, at)
        if change:
            self._do(change)
            self._settle(change, {**_packed(step).to_json(), "by": by, "at": at})

    def do_outside(self, step: Step, do: Callable[[], None], take_back: Callable[[], None]) -> None:
        """Do something elsewhere, e.g. on the cell table, that undo and redo are to reach too. What ``do`` raises goes
        to the caller, and then nothing was done. It is not in the journal: what it did ends with the session."""
        self._do(change := Change(step, (self._classes, self._classes), outside=(take_back, do)))
        self._settle(change, {})

    def undo(self) -> Step | None:
        """Take the last action back; None when there is none."""
        if not self._done:
            return None
        change = self._undo()
        self._settle(change, {"step": "undo", "by": annotator(), "at": _now()})
        return change.step

    def redo(self) -> Step | None:
        """Bring back what was undone last; None when there is nothing."""
        if not self._undone:
            return None
        change = self._redo()
        self._settle(change, {"step": "redo", "by": annotator(), "at": _now()})
        return change.step

    def propose_class(self, name: str) -> CellClass:
        """A class of that name with a free colour, the next free key and a tumour flag read from the name."""
        keys = [k for k in KEYS if k not in {c.key for c in self._classes}]
        taken = {c.colour.upper() for c in self._classes}
        names = [name, *(f"class {i}" for i in range(len(taken) + 1))]
        colours = [c for c in class_colours(names).values() if c.upper() not in taken]
        return CellClass(name.strip(), colours[0], keys[0] if keys else "", is_tumour_name(name))

    # --- inside ---

    @property
    def _state(self) -> State:
        return State(self._classes, self._labels, self._regions, self._skipped)

    def _do(self, change: Change) -> None:
        self._apply(change)
        self._done.append(change)
        self._undone.clear()

    def _undo(self) -> Change:
        change = self._done.pop()
        self._undone.append(change)
        self._apply(back := change.reversed())
        return back

    def _redo(self) -> Change:
        change = self._undone.pop()
        self._done.append(change)
        self._apply(change)
        return change

    def _apply(self, change: Change) -> None:
        if change.outside is not None:
            change.outside[1]()
        self._classes = change.classes[1]
        if isinstance(change.labels, LabelChange):
            self._labels.apply(change.labels)
        if change.regions is not None:
            self._regions = change.regions[1]
        if change.skipped is not None:
            self._skipped = change.skipped[1]

    def _settle(self, change: Change, record: Mapping[str, Any]) -> None:
        if self._journal is not None and change.outside is None:
            try:
                self._journal.append(record)
            except StplmError as error:
                self.save_failed.emit(error)
        self.changed.emit(change)

    def _restore(self, journal: Journal) -> None:
        records = journal.read()
        if begun_with := journal.about.get("classes"):
            self._classes = tuple(CellClass(**c) for c in begun_with)
        for record in records:
            try:
                step = Step.from_json(record)
                if step.name == "undo":
                    self._undo()
                elif step.name == "redo":
                    self._redo()
                else:
                    step = self._unpacked(step)
                    self._do(plan(step, self._state, str(record.get("by", "")), str(record.get("at", ""))))
            except (KeyError, IndexError, TypeError, ValueError, LabelError):
                self.not_restored += 1

    def _unpacked(self, step: Step) -> Step:
        """A step as it was before the journal, less the cells that the section no longer has."""
        if "labels" in step.params:
            labels = [{**entry, "cells": unpack(entry["cells"])} for entry in step.params["labels"]]
            return replace(step, params={**step.params, "labels": labels})
        if "cells" not in step.params:
            return step
        cells = unpack(step.params["cells"])
        rows = self._labels.rows_of(cells)
        self.not_restored += int((rows < 0).sum())
        return replace(step, params={**step.params, "cells": self._labels.cells_at(rows[rows >= 0])})


def _listed(cells: Iterable[str]) -> list[str]:
    return cells if isinstance(cells, list) else list(cells)


def _packed(step: Step) -> Step:
    if "labels" in step.params:
        labels = [{**entry, "cells": pack(entry["cells"])} for entry in step.params["labels"]]
        return replace(step, params={**step.params, "labels": labels})
    if "cells" not in step.params:
        return step
    return replace(step, params={**step.params, "cells": pack(step.params["cells"])})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
