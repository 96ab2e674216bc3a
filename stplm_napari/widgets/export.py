"""The Export dock: which format, where to, and where it was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from stplm.errors import ExportError
from stplm_napari.menu import with_ending
from stplm_napari.region_export import GEOJSON, QUPATH, SELECTIONS
from stplm_napari.tasks import label_columns
from stplm_napari.widgets.common import Dock, EmptyState, More, compact, keep_choices
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

REPORT = "report"
_NOTHING = "nothing"
_FORMATS = (
    ("AnnData  (.h5ad)", "h5ad", ".h5ad"),
    ("SpatialData  (.zarr)", "zarr", ".zarr"),
    ("Xenium Explorer groups  (.csv)", "explorer", ".csv"),
    ("QuPath, GeoJSON  (.geojson)", "geojson", ".geojson"),
    ("Report, one page  (.html)", REPORT, ".html"),
    ("Regions for QuPath, in pixels  (.geojson)", QUPATH, ".geojson"),
    ("Regions in µm  (.geojson)", GEOJSON, ".geojson"),
    ("Regions for Xenium Explorer  (.csv)", SELECTIONS, ".csv"),
)
_TELLS = {
    "h5ad": "Cells: counts, embedding, classes, confidence, tumour probability, your labels; for scanpy and others.",
    "zarr": "The whole section: images, outlines and cells, for SpatialData and napari-spatialdata.",
    "explorer": "One group and colour for every cell. In Xenium Explorer: Cells, then Upload cell groups.",
    "geojson": "The outline of every cell with its class, colour and measurements.",
    REPORT: "Maps, class counts, marker genes, neighbours, perturbations, steps; scores, where labels are held out or "
    "scored against.",
    QUPATH: "The regions that you drew, with class, colour and note, as annotations on the image.",
    GEOJSON: "The regions that you drew, with class, colour and note, in micrometres.",
    SELECTIONS: "The regions that you drew as selection coordinates, in micrometres. Holes become cuts of no width.",
}


class ExportWidget(Dock):
    """Writes the section or its cells for other tools."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.what = ComboBox(name="what", label="Format", choices=[(words, what) for words, what, _ in _FORMATS])
        self.path = FileEdit(
            name="path",
            label="File",
            mode=FileDialogMode.OPTIONAL_FILE,
            tooltip="The file (for .zarr, the folder) to write",
        )
        self.of = ComboBox(
            name="of",
            label="Classes",
            choices=[("Predicted classes", "predicted"), ("My labels", "own")],
            tooltip="Which classes the file holds; cells without one are called Unassigned",
        )
        self.units = ComboBox(
            name="units",
            label="Units",
            choices=[("Image pixels (QuPath)", "pixels"), ("Micrometres", "microns")],
            tooltip="Unit of the outlines. QuPath places them in pixels of the full-resolution image.",
        )
        self.truth = ComboBox(
            name="truth",
            label="Score against",
            choices=[(_NOTHING, "")],
            tooltip="A column with known classes of cells that the classifier did not learn from",
        )
        self.overwrite = CheckBox(
            name="overwrite", text="Replace the file if it is there", tooltip="Otherwise an existing file is refused"
        )
        self.form = Container(widgets=[self.what, self.of, self.truth, self.path, self.overwrite], labels=True)
        advanced = Container(widgets=[self.units], labels=True)
        for form in (self.form, advanced):
            form.margins = (0, 0, 0, 0)
        self.more = More(advanced.native)
        self.tells = text(kind="hint")
        self.run = button("Export", self._run, "primary")
        self.progress = JobPanel(self.workspace.exporter.writing, self)
        self.written = text()
        self.show_folder = button("Open the folder", self._open_folder, "link")
        self.refused = ErrorPanel()
        self.steps = _Steps(self)
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        for part in (self.form.native, self.tells, self.more, self.run, self.refused, self.progress):
            layout.addWidget(part)
        for part in (self.written, self.show_folder, self.steps):
            layout.addWidget(part)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        compact(self.what, self.of, self.truth, self.units)
        keep_choices(self.workspace, "export", self.form, advanced)
        session = self.session
        self.listen(session.section_opened, self._suggest)
        for signal in (session.section_opened, session.predicted, session.labels_changed, session.regions_changed):
            self.listen(signal, self.refresh)
        self.listen(self.workspace.exporter.writing.changed, self.refresh)
        self.what.changed.connect(self._suggest)
        self.form.changed.connect(self.refused.clear)
        self.what.changed.connect(self.refresh)
        self.of.changed.connect(self.refresh)
        if str(self.path.value) in ("", "."):
            self._suggest()
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, workspace = self.session, self.workspace
        self.empty.setVisible(not session.is_open)
        self.content.setVisible(session.is_open)
        if not session.is_open:
            return
        what = self.what.value
        classes = what in ("explorer", "geojson")
        self.of.visible, self.truth.visible = classes, what == REPORT
        columns = ["", *label_columns(session.table)] if what == REPORT else [""]
        if list(self.truth.choices) != columns:
            self.truth.choices = [(name or _NOTHING, name) for name in columns]
        self.more.setVisible(what == "geojson")
        reason = self._missing() if classes or what == REPORT else ""
        if what.startswith("regions") and not session.annotations.regions:
            reason = "No regions yet: draw one in the Annotate dock, with the region tool."
        self.tells.setText(reason or _TELLS[what])
        self.run.setEnabled(not reason and not workspace.exporter.writing.is_busy)
        self.written.setVisible(workspace.exporter.written is not None)
        self.show_folder.setVisible(workspace.exporter.written is not None)
        if workspace.exporter.written is not None:
            self.written.setText(f"Written at {workspace.exporter.written_at} to\n{workspace.exporter.written}")

    def _missing(self) -> str:
        if (self.of.value == "predicted" or self.what.value == REPORT) and not self.session.is_predicted:
            return "No classes predicted yet: classify the cells first, in the Classify dock."
        if self.what.value != REPORT and self.of.value == "own" and not self.session.annotations.labels:
            return "No labels of yours yet: label cells first, in the Annotate dock."
        return ""

    def _suggest(self) -> None:
        """A file name beside the section, or in the home folder where that cannot be written to."""
        path = self.session.path
        if path is None:
            return
        ending = next(ending for _, what, ending in _FORMATS if what == self.what.value)
        chosen = Path(str(self.path.value))
        folder = chosen.parent if str(self.path.value) not in ("", ".") else self.workspace.exporter.folder()
        self.path.value = folder / f"{path.stem}_stplm{ending}"

    def _run(self) -> None:
        what, path = self.what.value, Path(str(self.path.value))
        if path.exists() and not self.overwrite.value:
            self.refused.show_error(
                ExportError(f"{path.name} is there already.", mend="Tick Replace, or choose another name.")
            )
            return
        self.refused.clear()
        if what == REPORT:
            self.workspace.exporter.report(path, truth=self.truth.value or None, overwrite=self.overwrite.value)
            return
        options = {"own_labels": self.of.value == "own"} if what in ("explorer", "geojson") else {}
        units = {"units": self.units.value} if what == "geojson" else {}
        self.workspace.exporter.export(path, what, overwrite=self.overwrite.value, **options, **units)

    def _open_folder(self) -> None:
        if self.workspace.exporter.written is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.workspace.exporter.written.parent)))


class _Steps(QWidget):
    """What was done, to be done again: as a script, a notebook, or a recipe for other sections."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._recorder = dock.workspace.recorder
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(text("Do it again", "title"))
        words = (
            "What was done to this section, to be run without a window. It gives the same classes to the last digit."
        )
        layout.addWidget(text(words, "hint"))
        row = QHBoxLayout()
        row.setSpacing(8)
        tip = "A Python script; many labels go into a CSV beside it"
        row.addWidget(button("Script…", lambda: self.save(".py", "Python script (*.py)"), tip=tip))
        tip = "The same as a Jupyter notebook, with a picture of the tissue"
        row.addWidget(button("Notebook…", lambda: self.save(".ipynb", "Jupyter notebook (*.ipynb)"), tip=tip))
        tip = "For other sections: stplm run recipe.yaml --sections 'cohort/*'. The classifier is saved beside it"
        row.addWidget(button("Recipe…", lambda: self.save(".yaml", "Recipe (*.yaml)"), tip=tip))
        row.addStretch(1)
        layout.addLayout(row)
        layout.addWidget(JobPanel(self._recorder.writing, dock))
        self.written = text(kind="hint")
        layout.addWidget(self.written)
        dock.listen(self._recorder.writing.changed, self.refresh)
        self.refresh()

    def save(self, ending: str, kind: str) -> None:
        """Ask where to, and write."""
        path, _ = QFileDialog.getSaveFileName(self, "Save what was done", str(self._recorder.suggest(ending)), kind)
        if path:
            write = self._recorder.save_recipe if ending == ".yaml" else self._recorder.export
            write(with_ending(path, ending))

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        self.written.setVisible(self._recorder.written is not None)
        self.written.setText(f"Written to {self._recorder.written}")
