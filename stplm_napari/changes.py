"""What an annotation step does to classes, labels and regions: pure functions from a state to a change. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stplm.errors import LabelError
from stplm_napari.labels import Label, LabelChange, Labels
from stplm_napari.regions import Region, free_name, rings_from
from stplm_napari.steps import Step

__all__ = ["CellClass", "Change", "Label", "State", "plan"]


@dataclass(frozen=True)
class CellClass:
    """A class that cells may be given: its name, "#RRGGBB", key ("1" to "9" or "") and whether it means tumour."""

    name: str
    colour: str
    key: str = ""
    tumour: bool = False


@dataclass(frozen=True)
class State:
    """Classes in the user's order, the label of each labelled cell, regions in the order they were drawn."""

    classes: tuple[CellClass, ...]
    labels: Labels
    regions: tuple[Region, ...] = ()
    skipped: frozenset[str] = frozenset()
    """Cells that were suggested and left without a label on purpose."""

    def get(self, name: str) -> CellClass | None:
        """The class of that name, if there is one."""
        return next((c for c in self.classes if c.name == name), None)

    def known(self, name: str) -> CellClass:
        """The class of that name. Raises LabelError."""
        found = self.get(name)
        if found is None:
            raise LabelError(
                f"There is no class {name!r}.",
                expected=", ".join(c.name for c in self.classes) or "a class",
                mend="Add the class first (+).",
            )
        return found

    def region(self, name: str) -> Region:
        """The region of that name. Raises LabelError."""
        found = next((r for r in self.regions if r.name == name), None)
        if found is None:
            raise LabelError(f"There is no region {name!r}.", expected=", ".join(r.name for r in self.regions) or None)
        return found


@dataclass(frozen=True)
class Change:
    """What an action did.

    Classes before and after; labels as ``{cell: (before, after)}``, see :class:`~stplm_napari.labels.LabelChange`; the
    class it renamed, if any; regions before and after, or None where it touched none.
    """

    step: Step
    classes: tuple[tuple[CellClass, ...], tuple[CellClass, ...]]
    labels: Mapping[str, tuple[Label | None, Label | None]] = field(default_factory=dict)
    renamed: tuple[str, str] | None = None
    regions: tuple[tuple[Region, ...], tuple[Region, ...]] | None = None
    skipped: tuple[frozenset[str], frozenset[str]] | None = None
    """Skipped cells before and after."""
    outside: tuple[Callable[[], None], Callable[[], None]] | None = None
    """Of an action elsewhere than on the annotations, e.g. on the cell table: what takes it back, what does it."""

    def reversed(self) -> Change:
        """The change that takes this one back."""
        return Change(
            self.step,
            (self.classes[1], self.classes[0]),
            self.labels.reversed() if isinstance(self.labels, LabelChange) else {},
            (self.renamed[1], self.renamed[0]) if self.renamed else None,
            (self.regions[1], self.regions[0]) if self.regions else None,
            (self.skipped[1], self.skipped[0]) if self.skipped else None,
            (self.outside[1], self.outside[0]) if self.outside else None,
        )

    @property
    def classes_used(self) -> set[str]:
        """Classes that any of the cells it touched had or has."""
        return self.labels.class_names() if isinstance(self.labels, LabelChange) else set()

    def __bool__(self) -> bool:
        return (
            self.classes[0] != self.classes[1]
            or bool(self.labels)
            or (self.regions is not None and self.regions[0] != self.regions[1])
            or (self.skipped is not None and self.skipped[0] != self.skipped[1])
            or self.outside is not None
        )


def plan(step: Step, state: State, by: str, at: str) -> Change:
    """What ``step``, done by ``by`` at ``at``, changes in ``state``. Raises LabelError when it makes no sense."""
    todo = _PLANS.get(step.name)
    if todo is None:
        raise LabelError(f"There is no annotation step called {step.name!r}.", expected=", ".join(_PLANS))
    return todo(step, state, by, at)


# --- classes ---


def _add_class(step: Step, state: State, by: str, at: str) -> Change:
    new = CellClass(**{**step.params, "name": _new_name(state, step.params["name"])})
    return Change(step, (state.classes, (*_without_key(state.classes, new.key), new)))


def _change_class(step: Step, state: State, by: str, at: str) -> Change:
    what = dict(step.params)
    old = state.known(what.pop("name"))
    name = what.pop("new_name", old.name)
    if name != old.name:
        name = _new_name(state, name)
    try:
        new = replace(old, name=name, **what)
    except TypeError as error:
        raise LabelError("A class has a name, a colour, a key and a tumour flag.", found=str(error)) from error
    others = _without_key(state.classes, new.key if new.key != old.key else "")
    classes = tuple(new if c.name == old.name else c for c in others)
    if name == old.name:
        return Change(step, (state.classes, classes))
    moved = state.labels.moved(old.name, name)
    return Change(step, (state.classes, classes), moved, (old.name, name), _regions_follow(state, old.name, name))


def _remove_class(step: Step, state: State, by: str, at: str) -> Change:
    old = state.known(step.params["name"])
    rest = tuple(c for c in state.classes if c != old)
    cleared = state.labels.moved(old.name, None)
    return Change(step, (state.classes, rest), cleared, None, _regions_follow(state, old.name, ""))


def _merge_classes(step: Step, state: State, by: str, at: str) -> Change:
    old, into = state.known(step.params["name"]), state.known(step.params["into"])
    if old == into:
        raise LabelError("A class cannot be merged into itself.", mend="Choose two classes.")
    rest = tuple(c for c in state.classes if c != old)
    moved = state.labels.moved(old.name, into.name)
    return Change(step, (state.classes, rest), moved, None, _regions_follow(state, old.name, into.name))


# --- labels ---


def _set_labels(step: Step, state: State, by: str, at: str) -> Change:
    new = Label(state.known(step.params["name"]).name, by, at)
    return Change(step, (state.classes, state.classes), state.labels.given(_rows(step, state), new))


def _clear_labels(step: Step, state: State, by: str, at: str) -> Change:
    return Change(step, (state.classes, state.classes), state.labels.cleared(_rows(step, state)))


def _take_in(step: Step, state: State, by: str, at: str) -> Change:
    """Classes, labels and regions of elsewhere in one action; with ``replace``, instead of those that are there."""
    p = step.params
    instead = bool(p.get("replace"))
    given = [CellClass(**c) for c in p.get("classes", ())]
    classes: tuple[CellClass, ...] = () if instead else state.classes
    for new in given:
        if all(c.name != new.name for c in classes):
            taken = {c.key for c in classes}
            classes = (*classes, new if new.key not in taken else replace(new, key=""))
    here = State(classes, state.labels, () if instead else state.regions)
    labels = []
    for entry in p.get("labels", ()):
        rows = state.labels.rows_of(entry["cells"])
        name = here.known(entry["name"]).name
        labels.append((rows[rows >= 0], Label(name, str(entry.get("by", by)), str(entry.get("at", at)))))
    regions = here.regions
    for r in p.get("regions", ()):
        name = str(r["name"]).strip()
        names = [known.name for known in regions]
        name = name if name and name not in names else free_name(names, name or r.get("class_name") or "Region")
        if kind := str(r.get("class_name", "")):
            here.known(kind)
        note, who, when = str(r.get("note", "")).strip(), str(r.get("by") or by), str(r.get("at") or at)
        regions = (*regions, Region(name, rings_from(r["rings"]), kind, note, who, when))
    change = state.labels.taken_in(labels, replace=instead)
    skipped = (state.skipped, frozenset(p["skipped"])) if "skipped" in p else None
    return Change(step, (state.classes, classes), change, regions=(state.regions, regions), skipped=skipped)


def _skip_cells(step: Step, state: State, by: str, at: str) -> Change:
    _rows(step, state)
    return _with_skipped(step, state, state.skipped | set(step.params["cells"]))


def _clear_skips(step: Step, state: State, by: str, at: str) -> Change:
    return _with_skipped(step, state, frozenset())


def _with_skipped(step: Step, state: State, skipped: frozenset[str]) -> Change:
    return Change(step, (state.classes, state.classes), skipped=(state.skipped, skipped))


def _rows(step: Step, state: State) -> Any:
    cells = step.params["cells"]
    rows = state.labels.rows_of(cells)
    if len(rows) and rows.min() < 0:
        strange = [str(cell) for cell, row in zip(cells, rows, strict=True) if row < 0]
        raise LabelError(f"{len(strange)} cells are not in this section.", found=", ".join(strange[:3]))
    return rows


# --- regions ---


def _add_region(step: Step, state: State, by: str, at: str) -> Change:
    p = step.params
    class_name = str(p.get("class_name", ""))
    if class_name:
        state.known(class_name)
    new = Region(
        _new_region_name(state, p["name"]), rings_from(p["rings"]), class_name, str(p.get("note", "")).strip(), by, at
    )
    return _with_regions(step, state, (*state.regions, new))


def _change_region(step: Step, state: State, by: str, at: str) -> Change:
    what = dict(step.params)
    old = state.region(what.pop("name"))
    name = what.pop("new_name", old.name)
    if name != old.name:
        name = _new_region_name(state, name)
    if what.get("class_name"):
        state.known(what["class_name"])
    if "rings" in what:
        what["rings"] = rings_from(what["rings"])
    try:
        new = replace(old, name=name, **what)
    except TypeError as error:
        raise LabelError("A region has a name, an outline, a class and a note.", found=str(error)) from error
    new = new if new == old else replace(new, by=by, at=at)
    return _with_regions(step, state, tuple(new if r == old else r for r in state.regions))


def _remove_region(step: Step, state: State, by: str, at: str) -> Change:
    old = state.region(step.params["name"])
    return _with_regions(step, state, tuple(r for r in state.regions if r != old))


def _with_regions(step: Step, state: State, regions: tuple[Region, ...]) -> Change:
    return Change(step, (state.classes, state.classes), regions=(state.regions, regions))


def _regions_follow(state: State, name: str, to: str) -> tuple[tuple[Region, ...], tuple[Region, ...]] | None:
    """Regions of a class that was renamed, merged or removed."""
    after = tuple(replace(r, class_name=to) if r.class_name == name else r for r in state.regions)
    return (state.regions, after) if after != state.regions else None


_PLANS = {
    "add_class": _add_class,
    "change_class": _change_class,
    "remove_class": _remove_class,
    "merge_classes": _merge_classes,
    "set_labels": _set_labels,
    "clear_labels": _clear_labels,
    "take_in": _take_in,
    "skip_cells": _skip_cells,
    "clear_skips": _clear_skips,
    "add_region": _add_region,
    "change_region": _change_region,
    "remove_region": _remove_region,
}


def _new_name(state: State, name: str) -> str:
    name = name.strip()
    if not name:
        raise LabelError("A class needs a name.", mend="Type a name, e.g. Tumour.")
    if state.get(name) is not None:
        raise LabelError(f"There is already a class {name!r}.", mend="Choose another name, or merge the two classes.")
    return name


def _new_region_name(state: State, name: str) -> str:
    name = str(name).strip()
    if not name:
        raise LabelError("A region needs a name.", mend="Type a name, e.g. DCIS 1.")
    if any(r.name == name for r in state.regions):
        raise LabelError(f"There is already a region {name!r}.", mend="Choose another name.")
    return name


def _without_key(classes: tuple[CellClass, ...], key: str) -> tuple[CellClass, ...]:
    """A key belongs to one class: whoever held it gives it up."""
    return tuple(replace(c, key="") if key and c.key == key else c for c in classes)
