"""The small dialog that asks for a region's name, class and note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from magicgui.widgets import ComboBox, Container, LineEdit, TextEdit
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from stplm_napari.regions import Region
from stplm_napari.widgets.common import align_labels


class RegionForm(QDialog):
    """A region to edit. ``value`` is what was entered."""

    def __init__(self, parent: QWidget, start: Region, classes: Sequence[str]) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Edit {start.name}")
        self._start = start
        self.name = LineEdit(name="name", label="Name", value=start.name)
        self.of_class = ComboBox(
            name="of_class",
            label="Class",
            choices=[("none", ""), *((c, c) for c in classes)],
            value=start.class_name,
            tooltip="What the region is; its outline takes the class's colour.",
        )
        self.note = TextEdit(name="note", label="Note", value=start.note)
        self.note.native.setFixedHeight(80)
        form = Container(widgets=[self.name, self.of_class, self.note], labels=True)
        align_labels(form)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(form.native)
        layout.addWidget(buttons)
        self._form = form

    @property
    def value(self) -> Region:
        """What was entered."""
        return replace(
            self._start,
            name=self.name.value.strip(),
            class_name=self.of_class.value or "",
            note=self.note.value.strip(),
        )


def ask_region(parent: Any, start: Region, classes: Sequence[str]) -> Region | None:
    """Show the dialog; None when it was cancelled."""
    form = RegionForm(parent, start, classes)
    return form.value if form.exec() else None
