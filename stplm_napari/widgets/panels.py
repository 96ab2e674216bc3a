"""A job as its dock shows it: bar, rate and Cancel while it runs; a sentence with folded details when it failed."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QProgressBar, QToolButton, QVBoxLayout, QWidget

from stplm.errors import StplmError
from stplm_napari.jobs import CANCELLED, FAILED, Job, Slot
from stplm_napari.widgets.style import button, text

_SHOW_AFTER_MS = 250
"""A job shorter than this shows no bar: it would only flicker."""
_SHOW_QUIET_AFTER_MS = 1500
"""The same for a job that follows every click: a dock that moves at each one is hard to read, and to paint."""
_NOTE_MS = 8000
"""How long a dock says that a job was cancelled."""


class ErrorPanel(QFrame):
    """What went wrong, what to do, and the details for whoever unfolds them."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("kind", "error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 8, 8)
        layout.setSpacing(4)
        top = QHBoxLayout()
        self.problem, self.mend = text(kind="bad"), text()
        close = QToolButton()
        close.setText("×")
        close.setProperty("kind", "link")
        close.setToolTip("Dismiss")
        close.clicked.connect(self.clear)
        top.addWidget(self.problem, 1)
        top.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(top)
        layout.addWidget(self.mend)
        self.unfold = button("Details", self._unfold, "link")
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setFixedHeight(150)
        self.details.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        layout.addWidget(self.unfold, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.details)
        self.clear()

    def show_error(self, error: StplmError, details: str = "") -> None:
        """Show an error instead of what was shown."""
        self.problem.setText(error.problem)
        self.mend.setText(error.mend or "")
        self.mend.setVisible(bool(error.mend))
        facts = [("Where", error.where), ("Found", error.found), ("Expected", error.expected)]
        lines = [f"{name}: {value}" for name, value in facts if value]
        self.details.setPlainText("\n".join([*lines, *([""] if lines and details else []), details]).strip())
        self.unfold.setVisible(bool(self.details.toPlainText()))
        self.details.setVisible(False)
        self.setVisible(True)

    def clear(self) -> None:
        """Show nothing."""
        self.setVisible(False)

    def _unfold(self) -> None:
        self.details.setVisible(self.details.isHidden())


class JobPanel(QWidget):
    """The latest job of a slot: its bar while it runs, its error when it failed, nothing otherwise.

    ``cancelled`` is what it says for a while after Cancel.
    """

    def __init__(self, slot: Slot, dock: Any, cancelled: str = "Cancelled. The section is as it was.") -> None:
        super().__init__()
        self._slot = slot
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._running = QWidget()
        rows = QVBoxLayout(self._running)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(6)
        self.words, self.bar = text(), QProgressBar()
        self.bar.setTextVisible(False)
        self.cancel = button("Cancel", self._cancel)
        row = QHBoxLayout()
        row.addWidget(self.bar, 100)
        row.addStretch(1)
        row.addWidget(self.cancel)
        rows.addWidget(self.words)
        rows.addLayout(row)
        self.error = ErrorPanel()
        self.note = text(cancelled, "hint")
        layout.addWidget(self._running)
        layout.addWidget(self.note)
        layout.addWidget(self.error)
        self._watched: Job | None = None
        self._shown_error: StplmError | None = None
        self._fade = QTimer(self)
        self._fade.setSingleShot(True)
        self._fade.setInterval(_NOTE_MS)
        self._fade.timeout.connect(self.refresh)
        dock.listen(slot.changed, self.refresh)
        self._timer = QTimer(self)
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._show_progress)
        self.refresh()

    def refresh(self) -> None:
        """Make what is shown equal to the slot's job."""
        job = self._slot.job
        running = job is not None and job.is_running
        if job is not None and running:
            self.error.clear()
            self._timer.start()
        else:
            self._timer.stop()
        if job is None:
            self.error.clear()
        elif job.state == FAILED and job.error is not self._shown_error and job.error is not None:
            self.error.show_error(job.error, job.details)
        self._shown_error = job.error if job is not None else None
        cancelled = job is not None and job.state == CANCELLED and job.age_ms < job.ended_ms + _NOTE_MS
        if cancelled:
            self._fade.start()
        self.note.setVisible(cancelled)
        self._show_progress()

    def _show_progress(self) -> None:
        job = self._slot.job
        running = job is not None and job.is_running
        shown = running and job is not None and job.age_ms >= (_SHOW_QUIET_AFTER_MS if job.quiet else _SHOW_AFTER_MS)
        self._running.setVisible(shown)
        waits = running and job is not None and not job.quiet
        self.setVisible(shown or waits or not self.note.isHidden() or not self.error.isHidden())
        if job is None or not running:
            return
        # A bar that only moves to and fro says nothing that a clock does not, and repaints the window all the time.
        self.bar.setVisible(job.total > 0)
        self.bar.setRange(0, max(job.total, 0))
        self.bar.setValue(job.done)
        self.words.setText(progress_words(job))
        self.cancel.setVisible(job.can_cancel)
        self.cancel.setEnabled(not job.is_cancelling)

    def _cancel(self) -> None:
        if self._slot.job is not None:
            self._slot.job.cancel()
            self._show_progress()


def progress_words(job: Job) -> str:
    """ "Embedding cells: 512 of 1,135 · 3,400 cells/s · 2 s left"."""
    if job.is_cancelling:
        return f"{job.title}: cancelling…"
    # A job that counts something has loaded nothing yet while its total is unknown.
    parts = [f"{job.title}: starting…" if job.unit else f"{job.title}… {_clock(job)}".rstrip()]
    if job.total and job.unit:
        parts = [f"{job.title}: {job.done:,} of {job.total:,}"]
        if job.rate > 0:
            parts.append(f"{job.rate:,.0f} {job.unit}/s")
    if job.unit and job.total and job.done >= job.total:
        parts = [f"{job.title}: finishing…"]
    elif job.unit and job.seconds_left is not None:
        parts.append(_time_left(job.seconds_left))
    return " · ".join(parts)


def _clock(job: Job) -> str:
    seconds = job.age_ms // 1000
    return f"{seconds:.0f} s" if seconds >= 2 else ""


def _time_left(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s left"
    return f"{round(seconds / 60)} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"
