"""The Annotate dock: choose a class and a tool, label cells, draw regions, watch the tissue recolour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.changes import CellClass
from stplm_napari.journal import annotator, choose_annotator
from stplm_napari.session import Session
from stplm_napari.steps import Step
from stplm_napari.tools import BRUSH, CLEAR, LABEL, LASSO, POLYGON, REGION, SELECT
from stplm_napari.widgets.categories import CategoryList
from stplm_napari.widgets.classform import ask_class
from stplm_napari.widgets.colouring import ColouringBar
from stplm_napari.widgets.common import Dock, EmptyState, More
from stplm_napari.widgets.legend import Legend
from stplm_napari.widgets.nextcell import NextCellCard
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.regionlist import RegionList
from stplm_napari.widgets.result import ResultLine
from stplm_napari.widgets.style import button, text
from stplm_napari.widgets.toolbar import ToolBar

if TYPE_CHECKING:
    from napari.viewer import Viewer


class AnnotateWidget(Dock):
    """Labels cells by clicking. While the dock is in front, clicks on the tissue label cells."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.how = text()
        self.not_embedded = EmptyState(
            "No cells embedded yet. Your labels are kept; the tissue recolours once the cells are embedded.",
            "Embed cells",
            lambda: self.workspace.embed(),
        )
        self.no_tissue = EmptyState(
            "These cells have no positions, so there is no tissue to click. "
            "They can learn from a column or from reference profiles.",
            "Classify cells",
            lambda: self.open_dock("Classify"),
        )
        self.embedding = JobPanel(self.workspace.embedding, self)
        self.tools = ToolBar(self)
        self.selection = SelectionBar(self)
        self.picking = JobPanel(self.workspace.picking, self)
        self.legend = Legend(self)
        self.next_cell = NextCellCard(self)
        self.regions = RegionList(self)
        self.undo = button("Undo", self.workspace.undo, tip="Ctrl-Z")
        self.redo = button("Redo", self.workspace.redo, tip="Ctrl-Shift-Z")
        self.add = button("+ Class", self.add_class, tip="Add a class")
        self.live = button("Live", self._toggle_live, tip="From the second class on, every label recolours the tissue")
        self.live.setCheckable(True)
        self.update_now = button("Update the tissue", self._update_now, "primary")
        self.error = ErrorPanel()
        self.fitting = JobPanel(self.workspace.classifying, self)
        self.result = ResultLine(self)
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(self.tools)
        layout.addWidget(self.how)
        layout.addWidget(self.selection)
        layout.addWidget(self.picking)
        layout.addWidget(self.not_embedded)
        layout.addWidget(self.embedding)
        layout.addWidget(self.legend)
        row = QHBoxLayout()
        row.setSpacing(6)
        for made in (self.add, self.undo, self.redo):
            row.addWidget(made)
        row.addStretch(1)
        row.addWidget(self.live)
        layout.addLayout(row)
        layout.addWidget(self.next_cell)
        layout.addWidget(self.regions)
        layout.addWidget(self.update_now)
        layout.addWidget(self.error)
        layout.addWidget(self.fitting)
        layout.addWidget(self.result)
        layout.addWidget(ColouringBar(self))
        layout.addWidget(CategoryList(self))
        layout.addWidget(More(self._signature()))
        for part in (self.empty, self.no_tissue, self.content):
            self.body.addWidget(part)
        self.body.addStretch(1)
        session = self.session
        for signal in (session.section_opened, session.embedded, session.labels_changed, session.predicted):
            self.listen(signal, self.refresh)
        for signal in (session.active_class_changed, self.workspace.live_changed, self.workspace.embedding.changed):
            self.listen(signal, self.refresh)
        for signal in (session.regions_changed, session.skips_changed, session.tool_changed, session.classes_changed):
            self.listen(signal, self.refresh)
        session.failed.connect(self.error.show_error)
        self._connections.append(lambda: session.failed.disconnect(self.error.show_error))
        self.listen(session.labels_changed, self.error.clear)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session = self.session
        self.empty.setVisible(not session.is_open)
        self.no_tissue.setVisible(session.is_open and not session.has_positions)
        self.content.setVisible(session.has_positions)
        if not session.is_open:
            return
        self.how.setText(how_words(session))
        busy = self.workspace.embedding.is_busy
        self.not_embedded.setVisible(not session.is_embedded and not busy)
        undo, redo = session.annotations.can_undo, session.annotations.can_redo
        self.undo.setEnabled(undo is not None)
        self.undo.setToolTip(f"Undo: {step_words(undo)}  (Ctrl-Z)" if undo else "Nothing to undo")
        self.redo.setEnabled(redo is not None)
        self.redo.setToolTip(f"Redo: {step_words(redo)}  (Ctrl-Shift-Z)" if redo else "Nothing to redo")
        self.live.setChecked(self.workspace.live)
        self.update_now.setVisible(session.is_embedded and not self.workspace.live)
        self.update_now.setEnabled(len(session.annotations.counts()) >= 2)

    def add_class(self) -> None:
        """Ask for a new class."""
        start = self.session.annotations.propose_class("")
        new = ask_class(self, CellClass("", start.colour, start.key), "Add a class")
        if new is not None:
            self._try(lambda: self._add(new))

    def _add(self, new: CellClass) -> None:
        self.session.annotations.add_class(new.name, colour=new.colour, key=new.key, tumour=new.tumour)
        self.session.choose_class(new.name)

    def _signature(self) -> QWidget:
        """Who signs the labels."""
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(text("Annotator", "name", wrap=False))
        self.annotator = QLineEdit(annotator())
        self.annotator.setToolTip("Stands in the journal beside each of your actions, with the time; empty: login name")
        self.annotator.editingFinished.connect(self._sign)
        row.addWidget(self.annotator, 1)
        return made

    def _sign(self) -> None:
        self._try(lambda: choose_annotator(self.annotator.text()))
        self.annotator.setText(annotator())

    def _toggle_live(self) -> None:
        self.workspace.live = self.live.isChecked()

    def _update_now(self) -> None:
        self.workspace.refit()

    def _try(self, action: Any) -> None:
        try:
            action()
        except StplmError as error:
            self.error.show_error(error)

    # Clicks label cells only while the dock is in front: a stray click elsewhere must not change anything.

    def in_front(self, on: bool) -> None:
        """A dock's."""
        self.session.annotating = on

    def showEvent(self, event: Any) -> None:
        """Qt's."""
        self.session.annotating = True
        super().showEvent(event)


class SelectionBar(QWidget):
    """How many cells are selected, and what can be done with them; nothing while there are none."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._session, self._workspace = dock.session, dock.workspace
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.words = text(wrap=False)
        layout.addWidget(self.words)
        row = QHBoxLayout()
        row.setSpacing(6)
        self.label = button("Label", lambda: self._act(LABEL), tip="Give the selected cells the chosen class")
        self.clear = button("Clear labels", lambda: self._act(CLEAR), tip="Take the labels of the selected cells away")
        self.drop = button("Deselect", lambda: self._session.select([]), tip="Esc")
        for part in (self.label, self.clear, self.drop):
            row.addWidget(part)
        row.addStretch(1)
        layout.addLayout(row)
        for signal in (self._session.selection_changed, self._session.section_opened):
            dock.listen(signal, self.refresh)
        dock.listen(self._session.active_class_changed, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the number."""
        n = len(self._session.selected)
        self.setVisible(n > 0)
        self.words.setText(f"{n:,} cell{'' if n == 1 else 's'} selected")
        self.label.setText(f"Label {self._session.active_class}")
        self.label.setEnabled(bool(self._session.active_class))

    def _act(self, does: str) -> None:
        self._workspace.try_to_act_on(self._session.selected, does)


def how_words(session: Session) -> str:
    """What the tool in hand will do, in a sentence or two."""
    tool, name = session.tool, session.active_class
    if not name and tool.does == LABEL:
        return "Add a class, then click cells on the tissue."
    to_do = {LABEL: f"label them <b>{name}</b>", CLEAR: "take their labels away", SELECT: "select them"}
    if tool.does == REGION:
        what = {LASSO: "Drag around", POLYGON: "Click the corners of", BRUSH: "Drag over"}.get(tool.shape)
        of = f" It becomes a region of <b>{name}</b>." if name else ""
        return f"{what} a part of the tissue.{of}" if what else "Choose lasso, polygon or brush to draw a region."
    if tool.shape == LASSO:
        return f"Drag around cells on the tissue to {to_do[tool.does]}."
    if tool.shape == POLYGON:
        return f"Click corners around cells to {to_do[tool.does]}; a double click closes the polygon, Esc drops it."
    if tool.shape == BRUSH:
        return f"Drag over cells on the tissue to {to_do[tool.does]}."
    if tool.does == LABEL:
        more = "A right click takes a label away; keys 1 to 9 change the class."
        return f"Click cells on the tissue to {to_do[LABEL]}. {more}"
    return f"Click cells on the tissue to {to_do[tool.does]}."


def step_words(step: Step) -> str:
    """An annotation step in a few words."""
    p = step.params
    n = len(p.get("cells", ()))
    cells = f"{n:,} cell{'s' if n != 1 else ''}"
    words = {
        "set_labels": f"label {cells} {p.get('name')}",
        "clear_labels": f"clear {cells}",
        "add_class": f"add {p.get('name')}",
        "change_class": f"change {p.get('name')}",
        "remove_class": f"remove {p.get('name')}",
        "merge_classes": f"merge {p.get('name')} into {p.get('into')}",
        "import_column": f"import the column {p.get('name')}",
        "skip_cells": f"skip {cells}",
        "clear_skips": "ask about skipped cells again",
        "add_region": f"draw {p.get('name')}",
        "change_region": f"change {p.get('name')}",
        "remove_region": f"remove {p.get('name')}",
    }
    return words.get(step.name, step.name)
