"""The line under a result: from which labels and model, when, and whether it is out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from stplm_napari.widgets.style import text

if TYPE_CHECKING:
    from stplm_napari.widgets.common import Dock


class ResultLine(QWidget):
    """Where the classes on the tissue come from."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock = dock
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        self.words, self.old = text(kind="hint"), text(kind="warn")
        layout.addWidget(self.words)
        layout.addWidget(self.old)
        session = dock.session
        for signal in (session.section_opened, session.predicted, session.embedded, session.labels_changed):
            dock.listen(signal, self.refresh)
        dock.listen(dock.workspace.classifying.changed, self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the state."""
        session, made = self._dock.session, self._dock.session.prediction
        self.setVisible(session.is_predicted)
        if made is None:
            self.words.setText("The section came with predicted classes." if session.is_predicted else "")
        else:
            model = f", with the embedding of {made.model}" if made.model else ""
            self.words.setText(f"Classes from {made.source}{model}, at {made.at}.")
        stale = session.outdated
        self.old.setVisible(bool(stale) and not self._dock.workspace.will_refit)
        self.old.setText(f"Out of date: {stale}.")
