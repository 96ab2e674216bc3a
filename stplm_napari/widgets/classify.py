"""The Classify dock: labels from clicks, a column or reference profiles; then class, tumour call and confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, SpinBox

from stplm_napari.tasks import FROM_COLUMN, FROM_LABELS, FROM_PROFILES, label_columns
from stplm_napari.widgets.colouring import ColouringBar
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices, stack
from stplm_napari.widgets.legend import Legend
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.result import ResultLine
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

_SOURCES = (("My labels", FROM_LABELS), ("A column of the section", FROM_COLUMN), ("Reference profiles", FROM_PROFILES))
_PROFILES = (("Breast", "breast"),)


class ClassifyWidget(Dock):
    """Learns from a few labels and calls every cell."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.not_embedded = EmptyState("No cells embedded yet.", "Embed cells", lambda: self.workspace.embed())
        self.embedding = JobPanel(self.workspace.embedding, self)
        self.source = ComboBox(
            name="source",
            label="Labels from",
            choices=list(_SOURCES),
            tooltip="What the classifier learns from. Your labels always count.",
        )
        self.column = ComboBox(
            name="column",
            label="Column",
            choices=[],
            tooltip="A column of text or categories that came with the cells",
        )
        self.profiles = ComboBox(
            name="profiles",
            label="Tissue",
            choices=list(_PROFILES),
            tooltip="Which reference profiles name the cell types",
        )
        self.per_class = SpinBox(
            name="per_class",
            label="Cells a type",
            min=5,
            max=200,
            value=20,
            tooltip="How many confident cells of each type are picked as labels (number of cells)",
        )
        self.form = Container(widgets=[self.source, self.column, self.profiles], labels=True)
        advanced = Container(widgets=[self.per_class], labels=True)
        for form in (self.form, advanced):
            form.margins = (0, 0, 0, 0)
        self.more = More(advanced.native)
        self.explain = text(kind="hint")
        self.run = button("Classify cells", self._run, "primary")
        self.progress = JobPanel(self.workspace.classifying, self)
        self.result = ResultLine(self)
        self.colouring, self.legend = ColouringBar(self), Legend(self)
        self.ready = stack(self.form.native, self.explain, self.more, self.run, self.progress)
        self.content = stack(self.not_embedded, self.embedding, self.ready, self.result, self.colouring, self.legend)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        self._list_columns()
        compact(self.source, self.column, self.profiles)
        keep_choices(self.workspace, "classify", self.form, advanced)
        session = self.session
        self.listen(session.section_opened, self._list_columns)
        for signal in (session.section_opened, session.embedded, session.labels_changed, session.predicted):
            self.listen(signal, self.refresh)
        for slot in (self.workspace.embedding, self.workspace.classifying):
            self.listen(slot.changed, self.refresh)
        self.source.changed.connect(self.refresh)
        self.column.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, workspace = self.session, self.workspace
        self.empty.setVisible(not session.is_open)
        self.content.setVisible(session.is_open)
        self.not_embedded.setVisible(not session.is_embedded and not workspace.embedding.is_busy)
        self.ready.setVisible(session.is_embedded)
        self.legend.setVisible(session.is_predicted)
        source = self.source.value
        self.column.visible = source == FROM_COLUMN
        self.profiles.visible = source == FROM_PROFILES
        self.more.setVisible(source == FROM_PROFILES)
        reason = self._missing()
        self.explain.setText(reason or self._words())
        self.run.setEnabled(session.is_embedded and not reason and not workspace.classifying.is_busy)

    def _list_columns(self) -> None:
        if self.session.is_open:
            self.column.choices = label_columns(self.session.table)

    def _missing(self) -> str:
        """Why it cannot start yet; "" when it can."""
        if self.source.value == FROM_LABELS and len(self.session.annotations.counts()) < 2:
            if not self.session.has_positions:
                return "Cells without positions cannot be clicked: choose a column or reference profiles."
            return "Label cells of at least two classes first, in the Annotate dock; or start from reference profiles."
        if self.source.value == FROM_COLUMN and not self.column.value:
            return "This section has no column of class names."
        return ""

    def _words(self) -> str:
        counts = self.session.annotations.counts()
        own = f"{counts.total():,} labels of yours" if counts.total() != 1 else "one label of yours"
        if self.source.value == FROM_LABELS:
            return f"Learns from {own} in {len(counts)} classes."
        also = f" Your labels count too ({own})." if counts else ""
        if self.source.value == FROM_COLUMN:
            return f"Learns from every cell with a value in {self.column.value}.{also}"
        return (
            f"No clicks needed: picks {self.per_class.value} cells of each type that look most like reference profiles "
            f"made from marker genes, and learns from those. Nobody has looked at these cells: check them.{also}"
        )

    def _run(self) -> None:
        source = self.source.value
        if source == FROM_COLUMN:
            self.workspace.classify(source, column=self.column.value)
        elif source == FROM_PROFILES:
            self.workspace.classify(source, profiles=self.profiles.value, per_class=self.per_class.value)
        else:
            self.workspace.classify(source)
