"""The View dock: what the tissue is coloured by, its legend, disagreements, transcripts, and the image under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from stplm_napari.widgets.categories import CategoryList
from stplm_napari.widgets.channels import Channels
from stplm_napari.widgets.colouring import ColouringBar
from stplm_napari.widgets.common import Dock, EmptyState, More
from stplm_napari.widgets.disagreements import DisagreementList
from stplm_napari.widgets.drawstyle import DrawStyle
from stplm_napari.widgets.legend import Legend
from stplm_napari.widgets.panels import ErrorPanel, JobPanel
from stplm_napari.widgets.transcripts import Transcripts

if TYPE_CHECKING:
    from napari.viewer import Viewer


class ViewWidget(Dock):
    """Changes what is seen, never the cells."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.empty = EmptyState("No section is open.", "Open a section", lambda: self.open_dock("Section"))
        self.colouring = ColouringBar(self)
        self.legend, self.categories = Legend(self), CategoryList(self)
        self.disagreements = DisagreementList(self)
        self.draw_style = DrawStyle(self)
        self.transcripts, self.channels = Transcripts(self), Channels(self)
        self.error = ErrorPanel()
        self.content = QWidget()
        layout = QVBoxLayout(self.content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        self.folded = {"Transcripts": More(self.transcripts, "Transcripts"), "Image": More(self.channels, "Image")}
        for part in (
            self.colouring,
            JobPanel(self.workspace.viewing.making, self),
            self.error,
            self.disagreements,
            self.categories,
            self.legend,
            self.draw_style,
            *self.folded.values(),
        ):
            layout.addWidget(part)
        self.body.addWidget(self.empty)
        self.body.addWidget(self.content)
        self.body.addStretch(1)
        session = self.session
        for signal in (session.section_opened, session.colouring_changed):
            self.listen(signal, self.refresh)
        session.failed.connect(self.error.show_error)
        self._connections.append(lambda: session.failed.disconnect(self.error.show_error))
        self.listen(session.colouring_changed, self.error.clear)
        if self.workspace.viewing.transcripts.genes:
            self.folded["Transcripts"].toggle.setChecked(True)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session = self.session
        self.empty.setVisible(not session.is_open)
        self.content.setVisible(session.is_open)
        self.legend.setVisible(session.is_open and session.colouring.is_of_classes)
        self.draw_style.setVisible(session.is_open and session.has_positions)
