"""One section of the Apply dock's list: name, bar, state, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QToolButton, QVBoxLayout

from stplm.tasks.section_runs import FAILED, RUNNING, SectionRun
from stplm_napari.widgets.short import ShortLabel
from stplm_napari.widgets.style import text

_WORDS = {
    "waiting": "waiting",
    "running": "running…",
    "done": "done",
    "skipped": "done before",
    "failed": "failed",
    "cancelled": "cancelled",
}


class ApplyRow(QFrame):
    """Shows a run; × takes it off the list."""

    def __init__(self, place: int, remove: Callable[[int], Any]) -> None:
        super().__init__()
        self.setProperty("kind", "row")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 3, 4, 3)
        layout.setSpacing(2)
        top = QHBoxLayout()
        self.name, self.state = ShortLabel(Qt.TextElideMode.ElideLeft), text(kind="hint", wrap=False)
        self.remove = QToolButton()
        self.remove.setText("×")
        self.remove.setToolTip("Take it off the list")
        self.remove.clicked.connect(lambda: remove(place))
        top.addWidget(self.name, 1)
        top.addWidget(self.state)
        top.addWidget(self.remove, 0, Qt.AlignmentFlag.AlignTop)
        self.bar = QProgressBar()
        self.bar.setRange(0, 100)
        self.bar.setTextVisible(False)
        self.error = text(kind="warn")
        layout.addLayout(top)
        layout.addWidget(self.bar)
        layout.addWidget(self.error)

    def show_run(self, run: SectionRun, share: float, *, can_remove: bool) -> None:
        """Show how far a section is: ``share`` 0 to 1 of it is done."""
        path = run.section
        name = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
        self.name.show_words(name, str(path))
        words = _WORDS[run.state]
        self.state.setText(f"{words} · {run.cells:,} cells" if run.cells else words)
        self.bar.setVisible(run.state != FAILED)
        self.bar.setValue(round(100 * share))
        self.remove.setEnabled(can_remove and run.state != RUNNING)
        error = run.error
        self.error.setVisible(error is not None)
        if error is not None:
            self.error.setText(f"{error.problem} {error.mend or ''}".strip())
            self.error.setToolTip(str(error))
