"""What an annotation step does to classes and labels: pure functions from a state to a change. No Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stplm.errors import LabelError
from stplm_napari.steps import Step


@dataclass(frozen=True)
class CellClass:
    """A class that cells may be given: its name, "#RRGGBB", key ("1" to "9" or "") and whether it means tumour."""

    name: str
    colour: str
    key: str = ""
    tumour: bool = False


class Label(NamedTuple):
    """A cell's class, and who gave it when (UTC, ISO 8601)."""

    name: str
    by: str
    at: str


@dataclass(frozen=True)
class State:
    """The classes in the user's order and the label of each labelled cell."""

    classes: tuple[CellClass, ...]
    labels: Mapping[str, Label]

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


@dataclass(frozen=True)
class Change:
    """What an action did: classes before and after, ``{cell: (before, after)}`` and the class it renamed, if any."""

    step: Step
    classes: tuple[tuple[CellClass, ...], tuple[CellClass, ...]]
    labels: Mapping[str, tuple[Label | None, Label | None]] = field(default_factory=dict)
    renamed: tuple[str, str] | None = None

    def reversed(self) -> Change:
        """The change that takes this one back."""
        return Change(
            self.step,
            (self.classes[1], self.classes[0]),
            {cell: (after, before) for cell, (before, after) in self.labels.items()},
            (self.renamed[1], self.renamed[0]) if self.renamed else None,
        )

    def __bool__(self) -> bool:
        return self.classes[0] != self.classes[1] or bool(self.labels)


def plan(step: Step, state: State, by: str, at: str) -> Change:
    """What ``step``, done by ``by`` at ``at``, changes in ``state``. Raises LabelError when it makes no sense."""
    todo = _PLANS.get(step.name)
    if todo is None:
        raise LabelError(f"There is no annotation step called {step.name!r}.", expected=", ".join(_PLANS))
    return todo(step, state, by, at)


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
    return Change(step, (state.classes, classes), _move(state, old.name, name), (old.name, name))


def _remove_class(step: Step, state: State, by: str, at: str) -> Change:
    old = state.known(step.params["name"])
    gone: dict[str, tuple[Label | None, Label | None]]
    gone = {cell: (label, None) for cell, label in state.labels.items() if label.name == old.name}
    return Change(step, (state.classes, tuple(c for c in state.classes if c != old)), gone)


def _merge_classes(step: Step, state: State, by: str, at: str) -> Change:
    old, into = state.known(step.params["name"]), state.known(step.params["into"])
    if old == into:
        raise LabelError("A class cannot be merged into itself.", mend="Choose two classes.")
    rest = tuple(c for c in state.classes if c != old)
    return Change(step, (state.classes, rest), _move(state, old.name, into.name))


def _set_labels(step: Step, state: State, by: str, at: str) -> Change:
    new = Label(state.known(step.params["name"]).name, by, at)
    before = {str(cell): state.labels.get(str(cell)) for cell in step.params["cells"]}
    changed = {cell: (old, new) for cell, old in before.items() if old is None or old.name != new.name}
    return Change(step, (state.classes, state.classes), changed)


def _clear_labels(step: Step, state: State, by: str, at: str) -> Change:
    cells: Iterable[str] = (str(cell) for cell in step.params["cells"])
    return Change(
        step,
        (state.classes, state.classes),
        {cell: (state.labels[cell], None) for cell in cells if cell in state.labels},
    )


_PLANS = {
    "add_class": _add_class,
    "change_class": _change_class,
    "remove_class": _remove_class,
    "merge_classes": _merge_classes,
    "set_labels": _set_labels,
    "clear_labels": _clear_labels,
}


def _move(state: State, name: str, to: str) -> dict[str, tuple[Label | None, Label | None]]:
    return {cell: (label, label._replace(name=to)) for cell, label in state.labels.items() if label.name == name}


def _new_name(state: State, name: str) -> str:
    name = name.strip()
    if not name:
        raise LabelError("A class needs a name.", mend="Type a name, e.g. Tumour.")
    if state.get(name) is not None:
        raise LabelError(f"There is already a class {name!r}.", mend="Choose another name, or merge the two classes.")
    return name


def _without_key(classes: tuple[CellClass, ...], key: str) -> tuple[CellClass, ...]:
    """A key belongs to one class: whoever held it gives it up."""
    return tuple(replace(c, key="") if key and c.key == key else c for c in classes)
