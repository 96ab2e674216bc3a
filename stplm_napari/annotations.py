"""Classes and the labels given to cells, with undo, redo and a journal on disk. No Qt.

Every action is a :class:`~stplm_napari.steps.Step`; what it does is a :class:`~stplm_napari.changes.Change` that knows
both sides, so any action, a bulk one included, is undone exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from psygnal import Signal

from stplm.errors import LabelError, StplmError
from stplm.palette import class_colours, is_tumour_name
from stplm_napari.changes import CellClass, Change, Label, State, plan
from stplm_napari.journal import Journal, annotator
from stplm_napari.steps import Step

KEYS = tuple("123456789")


class Annotations:
    """Class registry and labels by cell id.

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
        self, cells: Container[str] | None = None, journal: Journal | None = None, classes: Iterable[CellClass] = ()
    ) -> None:
        self._cells = cells
        self._classes: tuple[CellClass, ...] = tuple(classes)
        self._labels: dict[str, Label] = {}
        self._done: list[Change] = []
        self._undone: list[Change] = []
        self._journal = journal
        self.not_restored = 0
        """Records of the journal that make no sense here, e.g. labels of cells that are not in the section."""
        if journal is not None:
            self._restore(journal)
            journal.about.setdefault("classes", [asdict(c) for c in self._classes])

    # --- what is there ---

    @property
    def classes(self) -> tuple[CellClass, ...]:
        """The registry, in the user's order."""
        return self._classes

    @property
    def labels(self) -> Mapping[str, Label]:
        """``{cell id: Label}``; read only."""
        return self._labels

    @property
    def journal(self) -> Journal | None:
        """Where the actions are written."""
        return self._journal

    def get(self, name: str) -> CellClass | None:
        """The class of that name, if there is one."""
        return self._state.get(name)

    def counts(self) -> Counter[str]:
        """Labels per class name."""
        return Counter(label.name for label in self._labels.values())

    def series(self) -> pd.Series:
        """Class names by cell id, as ``stplm.fit_classifier`` takes them."""
        return pd.Series({cell: label.name for cell, label in self._labels.items()}, dtype=object)

    def table(self) -> pd.DataFrame:
        """Columns cell_id, class, annotator, time (UTC), in the order the cells were first labelled."""
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
        self.do(Step("set_labels", {"cells": list(cells), "name": name}))

    def clear_labels(self, cells: Iterable[str]) -> None:
        """Take the labels of cells away; cells without one are left alone."""
        self.do(Step("clear_labels", {"cells": list(cells)}))

    def do(self, step: Step) -> None:
        """Run, record and announce a step; one that changes nothing leaves no trace."""
        by, at = annotator(), datetime.now(UTC).isoformat(timespec="seconds")
        change = self._plan(step, by, at)
        if change:
            self._do(change)
            self._settle(change, {**step.to_json(), "by": by, "at": at})

    def undo(self) -> Step | None:
        """Take the last action back; None when there is none."""
        if not self._done:
            return None
        change = self._undo()
        self._settle(change, {"step": "undo", "by": annotator()})
        return change.step

    def redo(self) -> Step | None:
        """Bring back what was undone last; None when there is nothing."""
        if not self._undone:
            return None
        change = self._redo()
        self._settle(change, {"step": "redo", "by": annotator()})
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
        return State(self._classes, self._labels)

    def _plan(self, step: Step, by: str, at: str) -> Change:
        cells = step.params.get("cells", ())
        if self._cells is not None and (strange := [str(c) for c in cells if str(c) not in self._cells]):
            raise LabelError(f"{len(strange)} cells are not in this section.", found=", ".join(strange[:3]))
        return plan(step, self._state, by, at)

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
        self._classes = change.classes[1]
        for cell, (_, after) in change.labels.items():
            if after is None:
                self._labels.pop(cell, None)
            else:
                self._labels[cell] = after

    def _settle(self, change: Change, record: Mapping[str, Any]) -> None:
        if self._journal is not None:
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
                    self._do(self._plan(step, str(record.get("by", "")), str(record.get("at", ""))))
            except (KeyError, IndexError, TypeError, LabelError):
                self.not_restored += 1
