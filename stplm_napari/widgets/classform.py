"""The small dialog that asks for a class: name, colour, key, tumour flag."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QDialog, QDialogButtonBox, QPushButton, QVBoxLayout, QWidget

from stplm.palette import is_tumour_name
from stplm_napari.annotations import KEYS
from stplm_napari.changes import CellClass
from stplm_napari.widgets.common import align_labels


class ClassForm(QDialog):
    """A class to edit or to add. ``value`` is what was entered."""

    def __init__(self, parent: QWidget, start: CellClass, title: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self._colour = start.colour
        self.name = LineEdit(name="name", label="Name", value=start.name)
        self.key = ComboBox(
            name="key",
            label="Key",
            choices=[("none", ""), *((k, k) for k in KEYS)],
            value=start.key,
            tooltip="Press it to choose this class; a class that had the key loses it.",
        )
        self.tumour = CheckBox(
            name="tumour",
            text="Counts as tumour",
            value=start.tumour,
            tooltip="The tumour probability of a cell is the sum over the classes that count as tumour.",
        )
        self._named = bool(start.name)
        self.name.changed.connect(self._guess_tumour)
        form = Container(widgets=[self.name, self.key, self.tumour], labels=True)
        align_labels(form)
        self.colour = QPushButton("Colour")
        self.colour.clicked.connect(self._choose_colour)
        self._show_colour()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(form.native)
        layout.addWidget(self.colour)
        layout.addWidget(buttons)
        self._form = form

    @property
    def value(self) -> CellClass:
        """What was entered."""
        return CellClass(self.name.value.strip(), self._colour, self.key.value or "", self.tumour.value)

    def _guess_tumour(self, name: str) -> None:
        if not self._named:
            self.tumour.value = is_tumour_name(name)

    def _choose_colour(self) -> None:
        colour = QColorDialog.getColor(QColor(self._colour), self, "Colour of the class")
        if colour.isValid():
            self._colour = colour.name().upper()
            self._show_colour()

    def _show_colour(self) -> None:
        ink = "black" if QColor(self._colour).lightnessF() > 0.5 else "white"
        self.colour.setStyleSheet(f"background-color: {self._colour}; color: {ink}; padding: 5px; border-radius: 4px;")


def ask_class(parent: Any, start: CellClass, title: str) -> CellClass | None:
    """Show the dialog; None when it was cancelled."""
    form = ClassForm(parent, start, title)
    return form.value if form.exec() else None
