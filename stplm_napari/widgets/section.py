"""The Section dock: open a section, see what is in it, embed its cells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QVBoxLayout, QWidget

from stplm import keys
from stplm_napari.facts import section_facts
from stplm_napari.recent import recent_sections
from stplm_napari.sample import SCHEME, resolve
from stplm_napari.session_file import is_session
from stplm_napari.widgets.common import Dock, EmptyState, Facts
from stplm_napari.widgets.histogram import CountsHistogram
from stplm_napari.widgets.panels import JobPanel
from stplm_napari.widgets.sessions import choose_session, open_session, save_session
from stplm_napari.widgets.style import button, text

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NEXT = {"Annotate": "Label cells", "Classify": "Classify cells"}
_KINDS = {
    "xenium": "Xenium bundle",
    "spatialdata": "SpatialData",
    "h5ad": "AnnData file",
    "loom": "Loom file",
    "matrix": "10x feature-barcode matrix",
}
_SESSION = "Section, labels, classes, predictions, view and colours as they were when you saved them"
_FILES = "Sections (*.h5ad *.h5 *.loom *.xenium);;All files (*)"


class SectionWidget(Dock):
    """What is open: cells, genes matched to the model, counts; or how to open something."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState(
            "No section is open.\n\nOpen the output folder of a Xenium run, or drop it on the window.",
            "Open Xenium folder…",
            self.choose_folder,
            self._ways(),
        )
        self.opening = JobPanel(self.workspace.opening, self, "Cancelled.")
        self.drawing = JobPanel(
            self.workspace.drawing, self, "Cancelled: the cells are not drawn. Open the section again to see them."
        )
        self.name, self.source = text(kind="title"), text(kind="hint")
        self.facts, self.histogram = Facts(), CountsHistogram(keys.MIN_COUNTS)
        self.notes = text(kind="warn")
        self.action = button("Embed cells", self._act, "primary")
        self.embedding = JobPanel(self.workspace.embedding, self)
        self.next = text(kind="hint")
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        parts: tuple[QWidget, ...] = (self.name, self.source, self.facts, self.histogram, self.notes)
        for part in (*parts, self.action, self.embedding, self.next):
            layout.addWidget(part)
        layout.addSpacing(6)
        tip = "Section, labels, classes, predictions, view and colours, to be opened again as they are now"
        self.save = button("Save session…", lambda: save_session(self, self.workspace), tip=tip)
        self.saved, self.session_note = text(kind="hint"), text(kind="warn")
        self.saving = JobPanel(self.workspace.sessions.saving, self)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.save)
        row.addWidget(button("Open session…", self.choose_session, tip=_SESSION))
        row.addStretch(1)
        layout.addLayout(row)
        for part in (self.saving, self.saved, self.session_note):
            layout.addWidget(part)
        layout.addWidget(self._ways(another=True))
        for part in (self.empty, self.opening, self.drawing, self.content):
            self.body.addWidget(part)
        self.body.addStretch(1)
        for signal in (self.session.section_opened, self.session.embedded, self.session.predicted):
            self.listen(signal, self.refresh)
        slots = (self.workspace.opening, self.workspace.drawing, self.workspace.embedding)
        for slot in (*slots, self.workspace.sessions.saving):
            self.listen(slot.changed, self.refresh)
        self.refresh()

    # --- opening ---

    def open_path(self, path: str | Path) -> None:
        """Open the section at a path, in the background."""
        if is_session(path):
            open_session(self, self.workspace, path)
        else:
            self.workspace.open(path)

    def choose_folder(self) -> None:
        """Ask for a Xenium folder or a SpatialData .zarr."""
        if path := QFileDialog.getExistingDirectory(self, "Open a Xenium output folder or a SpatialData .zarr"):
            self.open_path(path)

    def choose_file(self) -> None:
        """Ask for an .h5ad, .loom or cell_feature_matrix.h5."""
        path, _ = QFileDialog.getOpenFileName(self, "Open cells from a file", filter=_FILES)
        if path:
            file = Path(path)
            self.open_path(file.parent if file.suffix == ".xenium" else file)

    def choose_session(self) -> None:
        """Ask for a saved session and open it."""
        choose_session(self, self.workspace)

    def open_demo(self) -> None:
        """Open the section that ships with the plugin."""
        self.open_path(resolve(f"{SCHEME}demo_section"))

    def _ways(self, another: bool = False) -> QWidget:
        """Small buttons for the other ways in."""
        made = QWidget()
        made.setProperty("kind", "clear")
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        if another:
            row.addWidget(
                button("Open folder…", self.choose_folder, "link", tip="A Xenium output folder or SpatialData .zarr")
            )
        tip = ".h5ad, .loom, or a 10x cell_feature_matrix.h5 (no positions: all but the tissue view works)"
        row.addWidget(button("File…", self.choose_file, "link", tip=tip))
        if not another:
            row.addWidget(button("Session…", self.choose_session, "link", tip=_SESSION))
        recent = button("Recent", lambda: self._show_recent(recent), "link", tip="Sections and sessions opened lately")
        row.addWidget(recent)
        tip = "A small breast tumour section that ships with the plugin"
        row.addWidget(button("Demo section", self.open_demo, "link", tip=tip))
        row.addStretch(1)
        return made

    def _show_recent(self, under: QWidget) -> None:
        menu = QMenu(self)
        for path in recent_sections():
            menu.addAction(f"{path.name}    {path.parent}", partial(self.open_path, path))
        if menu.isEmpty():
            menu.addAction("None yet").setEnabled(False)
        menu.popup(under.mapToGlobal(under.rect().bottomLeft()))

    # --- what is shown ---

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        is_open, opening = self.session.is_open, self.workspace.opening.is_busy
        self.empty.setVisible(not is_open and not opening)
        self.content.setVisible(is_open and not opening)
        if not is_open:
            return
        table, qc, path = self.session.table, self.session.qc, self.session.path
        about = table.uns.get(keys.UNS, {}).get(keys.UNS_SOURCE, {})
        self.name.setText(path.name if path is not None else "Section")
        self.source.setText(_source_words(about))
        self.source.setToolTip(str(path or ""))
        self.facts.show_facts(section_facts(table, qc))
        if keys.N_COUNTS in table.obs:
            self.histogram.show_counts(table.obs[keys.N_COUNTS].to_numpy())
        notes = [str(note) for note in qc.get("warnings", [])]
        if not any("no positions" in note for note in notes):
            notes.insert(0, self.workspace.message)
        self.notes.setText("\n".join(note for note in notes if note))
        self.notes.setVisible(bool(self.notes.text()))
        self._refresh_action()
        self._refresh_session()

    def _refresh_session(self) -> None:
        sessions = self.workspace.sessions
        self.save.setEnabled(not sessions.saving.is_busy)
        self.saved.setVisible(sessions.path is not None)
        self.saved.setText("" if sessions.path is None else f"Session {sessions.path.name}")
        self.saved.setToolTip(str(sessions.path or ""))
        self.session_note.setText(sessions.note)
        self.session_note.setVisible(bool(sessions.note))

    def _refresh_action(self) -> None:
        session = self.session
        self.action.setText(_NEXT[self._next_dock()] if session.is_embedded else "Embed cells")
        self.action.setEnabled(not self.workspace.embedding.is_busy)
        if not session.is_embedded:
            words = "Gives every cell a vector that says what it is and where it lies. Labels come after."
        elif not session.has_positions:
            words = "Cells without positions cannot be clicked: labels come from a column or from reference profiles."
        elif session.is_predicted:
            words = "The tissue is coloured by class. Label cells that are called wrongly, and it recolours."
        else:
            words = (
                "The tissue is coloured by clusters of the embedding. Label a few cells of each class and it "
                "recolours, or classify by reference profiles in the Classify dock."
            )
        self.next.setText(words)

    def _next_dock(self) -> str:
        return "Annotate" if self.session.has_positions else "Classify"

    def _act(self) -> None:
        if self.session.is_embedded:
            self.open_dock(self._next_dock())
        else:
            self.workspace.embed()


def _source_words(about: dict[str, object]) -> str:
    words = [_KINDS.get(str(about.get("kind", "")), str(about.get("kind", "")))]
    words += [str(about[key]) for key in ("tissue", "panel") if about.get(key)]
    return " · ".join(word for word in words if word)
