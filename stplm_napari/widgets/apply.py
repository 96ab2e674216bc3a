"""The Apply dock: the classifier of the open section on a list of others, a bar each, and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.widgets.applyrow import ApplyRow
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices, stack
from stplm_napari.widgets.embed import device_choice
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from stplm.tasks.section_runs import SectionRun

_FORMATS = (
    ("h5ad", "AnnData (.h5ad)", True),
    ("explorer", "Xenium Explorer groups (.csv)", True),
    ("geojson", "QuPath, GeoJSON (.geojson)", False),
    ("zarr", "SpatialData (.zarr)", False),
)
_LOOK_MS = 200
_FILES = "Sections (*.h5ad *.loom *.h5 *.xenium);;All files (*)"


class ApplyWidget(Dock):
    """Runs the few-shot classifier or the fine-tuned model on other sections."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.applying = self.workspace.applying
        self.setAcceptDrops(True)
        self.empty = EmptyState("No classifier yet.", "Classify cells", lambda: self.open_dock("Classify"))
        self.which = text(kind="hint")
        self.add_files = button("Add files…", self._add_files, tip="Cell tables: .h5ad, .loom, .h5, .xenium")
        tip = "A Xenium folder or .zarr; or a folder of sections: each in it is added"
        self.add_folder = button("Add a folder…", self._add_folder, tip=tip)
        self.clear = button("Clear", self.applying.clear, "link", tip="Takes all sections off the list")
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        for part in (self.add_files, self.add_folder):
            row.addWidget(part)
        row.addStretch(1)
        row.addWidget(self.clear)
        self.hint = text("Drop sections here: Xenium folders, .zarr, .h5ad.", "hint")
        self.rows: list[ApplyRow] = []
        self.list = QWidget()
        self._list = QVBoxLayout(self.list)
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(2)
        tip = "Each section gets a folder of its own in this one"
        self.out = FileEdit(name="out", label="Write to", mode=FileDialogMode.EXISTING_DIRECTORY, tooltip=tip)
        self.report = CheckBox(name="report", text="Summary page (.html)", value=True, tooltip="A page a section")
        self.formats = {
            what: CheckBox(name=what, text=words, value=on, tooltip="Written for every section")
            for what, words, on in _FORMATS
        }
        self.shares = ComboBox(
            name="shares",
            label="Class shares",
            choices=[("Of each section", "section"), ("Of the open section", "fitted")],
            tooltip="How common each class is taken to be. Each section: estimated anew from its own cells, since a "
            "class may be rarer there. Open section: as in the one learnt from.",
        )
        self.device = device_choice()
        self.again = CheckBox(
            name="again",
            text="Do again what is done",
            tooltip="Otherwise sections whose folder holds just this result already are passed over",
        )
        self.form = Container(widgets=[self.out], labels=True)
        advanced = Container(widgets=[self.report, *self.formats.values(), self.shares, self.device, self.again])
        for form in (self.form, advanced):
            form.margins = (0, 0, 0, 0)
        compact(self.shares, self.device)
        self.more = More(advanced.native)
        self.run = button("Apply", self._run, "primary")
        self.refused = ErrorPanel()
        self.progress = JobPanel(self.applying.job, self, "Cancelled. Sections that were done stay done.")
        self.summary = text()
        self.table = QTableWidget()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().setVisible(False)
        self.table.setToolTip("Cells of each class. Unknown: share of the cells that are unlike every class.")
        self.show_folder = button("Open the folder", self._open_folder, "link")
        parts = (self.which, buttons, self.hint, self.list, self.form.native, self.more, self.run, self.refused)
        self.content = stack(*parts, self.progress, self.summary, self.table, self.show_folder)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        keep_choices(self.workspace, "apply", self.form, advanced)
        if str(self.out.value) in ("", "."):
            self._suggest()
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._show_states)
        session = self.session
        self.listen(session.section_opened, self._suggest)
        for signal in (session.section_opened, session.predicted, self.applying.changed, self.applying.job.changed):
            self.listen(signal, self.refresh)
        self.form.changed.connect(self.refused.clear)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        applying = self.applying
        busy, runs = applying.job.is_busy, applying.runs
        reason = applying.missing()
        self.empty.setVisible(bool(reason) and not runs)
        self.content.setVisible(not reason or bool(runs))
        self.empty.words.setText(reason)
        self.which.setText(reason or f"{applying.in_words()} It is applied to each of these sections.")
        for part in (self.add_files, self.add_folder, self.clear):
            part.setEnabled(not busy)
        self.clear.setVisible(bool(runs))
        self.hint.setVisible(not runs)
        if len(self.rows) != len(runs):
            self._rebuild()
        self.run.setText(f"Apply to {len(runs)} section{'' if len(runs) == 1 else 's'}")
        self.run.setEnabled(bool(runs) and not reason and not busy)
        self._timer.start() if busy else self._timer.stop()
        self._show_states()

    def dragEnterEvent(self, event: Any) -> None:
        """Qt's."""
        if event.mimeData().hasUrls() and not self.applying.job.is_busy:
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Qt's."""
        self.applying.add([url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()])
        event.acceptProposedAction()

    # --- inside ---

    def _rebuild(self) -> None:
        for row in self.rows:
            row.setParent(None)
            row.deleteLater()
        self.rows = [ApplyRow(i, self.applying.remove) for i in range(len(self.applying.runs))]
        for row in self.rows:
            self._list.addWidget(row)

    def _show_states(self) -> None:
        applying = self.applying
        busy = applying.job.is_busy
        for row, run, share in zip(self.rows, applying.runs, applying.shares_done, strict=False):
            row.show_run(run, share, can_remove=not busy)
        ended = [run for run in applying.runs if run.state in ("done", "skipped")]
        self.summary.setVisible(any(run.state != "waiting" for run in applying.runs))
        self.summary.setText(applying.summary())
        self.table.setVisible(bool(ended))
        self.show_folder.setVisible(bool(ended))
        if (ended and self.table.rowCount() != len(ended)) or not busy:
            self._fill(ended)

    def _fill(self, ended: list[SectionRun]) -> None:
        classes = list(dict.fromkeys(name for run in ended for name in run.classes))
        heads = ["Section", "Cells", "Tumour", "Unknown", *classes, "Unassigned"]
        table = self.table
        table.setColumnCount(len(heads))
        table.setRowCount(len(ended))
        table.setHorizontalHeaderLabels(heads)
        for i, run in enumerate(ended):
            shares = ["–" if v is None else f"{v:.1%}" for v in (run.tumour, run.unknown)]
            counts = [f"{run.classes.get(name, 0):,}" for name in classes]
            for j, words in enumerate([run.folder.name, f"{run.cells:,}", *shares, *counts, f"{run.unassigned:,}"]):
                item = QTableWidgetItem(words)
                if j:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                table.setItem(i, j, item)
        table.resizeColumnsToContents()
        rows = min(len(ended), 8)
        table.setFixedHeight(table.horizontalHeader().height() + rows * table.rowHeight(0) + 22 if ended else 0)

    def _suggest(self) -> None:
        """A folder beside the open section."""
        path = self.session.path
        if path is not None:
            self.out.value = self.workspace.exporter.folder() / f"{path.stem}_applied"

    def _add_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Add sections", "", _FILES)
        self.applying.add(paths)

    def _add_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Add a section's folder, or a folder of sections"):
            self.applying.add([path])

    def _run(self) -> None:
        exports = [what for what, box in self.formats.items() if box.value]
        if not exports and not self.report.value:
            self.refused.show_error(StplmError("Nothing would be written.", mend="Tick a format under More."))
            return
        self.refused.clear()
        self.applying.start(
            Path(str(self.out.value)),
            exports=exports,
            report=self.report.value,
            shares=self.shares.value,
            device=self.device.value,
            again=self.again.value,
        )

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.out.value)))
