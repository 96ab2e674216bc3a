"""Background jobs of one viewer: threads that report progress, can be cancelled, and end in the GUI thread.

A job's function gets a ``progress(done, total)`` that raises Cancelled once the job is cancelled; heavy functions hand
it on to the worker process. Nothing here waits: the GUI thread starts a job and hears of its end.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal

from stplm.errors import Cancelled, StplmError
from stplm.progress import Progress

RUNNING, DONE, FAILED, CANCELLED, STALE = "running", "done", "failed", "cancelled", "stale"
_REPORT_S = 0.05
ACTIVITY_AFTER_MS = 400
"""Jobs shorter than this do not flash up in napari's activity dock."""
QUIET_MS = 2000
"""The same for quiet jobs, which follow every click."""
_SIGN_PERCENT = 10
"""Pace of napari's moving sign while a job of ours runs. Each of its pictures repaints the window: under software
rendering, at full pace, that takes half a core from what the sign stands for."""


class Job:
    """One background job. Signals come in the GUI thread."""

    progressed = Signal()
    ended = Signal()

    def __init__(self, title: str, unit: str = "", can_cancel: bool = True, quiet: bool = False) -> None:
        self.title, self.unit, self.can_cancel, self.quiet = title, unit, can_cancel, quiet
        self.state = RUNNING
        self.done, self.total = 0, 0
        self.error: StplmError | None = None
        self.details = ""
        """The traceback of a failure, for whoever unfolds it."""
        self.started = time.monotonic()
        self.ended_ms = 0.0
        """Its age when it ended."""
        self._first: tuple[float, int] | None = None
        self._cancel = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state == RUNNING

    @property
    def is_cancelling(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask it to stop; it ends as cancelled soon after."""
        self._cancel.set()
        if self.is_running:
            self.progressed.emit()

    @property
    def age_ms(self) -> float:
        """Milliseconds since it was started."""
        return 1000 * (time.monotonic() - self.started)

    @property
    def rate(self) -> float:
        """Units a second since the first report; 0 while unknown."""
        if self._first is None:
            return 0.0
        at, done = self._first
        elapsed = time.monotonic() - at
        return (self.done - done) / elapsed if elapsed > 0.2 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while unknown."""
        return (self.total - self.done) / self.rate if self.total and self.rate > 0 else None

    def report(self, done: int, total: int) -> None:
        """Called by :class:`Jobs` in the GUI thread."""
        if (done, total) == (self.done, self.total) and self._first is not None:
            return
        if done < self.done or total != self.total or self._first is None:
            self._first = (time.monotonic(), done)  # a new stage counts from its own start
        self.done, self.total = done, total
        self.progressed.emit()


class Slot:
    """The latest job of one kind, so that a dock opened later shows what an earlier one started."""

    changed = Signal()

    def __init__(self) -> None:
        self.job: Job | None = None

    def clear(self) -> None:
        """Show nothing; a job that can be cancelled is."""
        if self.job is not None:
            if self.job.can_cancel:
                self.job.cancel()
            self.job = None
            self.changed.emit()

    @property
    def is_busy(self) -> bool:
        """Whether its job has not ended."""
        return self.job is not None and self.job.is_running

    def take(self, job: Job) -> Job:
        """Show this job from now on."""
        self.job = job
        job.ended.connect(self._on_ended)
        self.changed.emit()
        return job

    def _on_ended(self) -> None:
        self.changed.emit()


class Jobs(QObject):
    """Starts jobs and brings their reports to the GUI thread.

    Parameters
    ----------
    activity
        Show long jobs in napari's activity dock.
    """

    _call = QtSignal(object)

    def __init__(self, parent: QObject | None = None, activity: bool = False) -> None:
        super().__init__(parent)
        self._activity = activity
        self._running: list[Job] = []
        self._call.connect(_run, Qt.ConnectionType.QueuedConnection)

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs that have not ended."""
        return tuple(self._running)

    def start(
        self,
        title: str,
        function: Callable[[Progress], Any],
        on_done: Callable[[Any], bool | None],
        *,
        unit: str = "",
        can_cancel: bool = True,
        quiet: bool = False,
    ) -> Job:
        """Run ``function(progress)`` in a thread, then ``on_done(result)`` in the GUI thread.

        ``on_done`` returns False when the result is stale and was dropped. A StplmError from either ends the job as
        failed; any other exception too, wrapped in one. A ``quiet`` job is one that follows every click.
        """
        job = Job(title, unit, can_cancel, quiet)
        self._running.append(job)
        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if job.is_cancelling:
                raise Cancelled
            now = time.monotonic()
            if now - last >= _REPORT_S or done >= total > 0:
                last = now
                self.later(lambda: job.report(done, total) if job.is_running else None)

        def work() -> None:
            try:
                result = function(progress)
            except BaseException as error:  # of any kind: a job must end, or its dock would wait for ever
                failure, details = error, traceback.format_exc()
                self.later(lambda: self._fail(job, failure, details))
            else:
                self.later(lambda: self._finish(job, result, on_done))

        if self._activity:
            QTimer.singleShot(QUIET_MS if quiet else ACTIVITY_AFTER_MS, lambda: _show_activity(job))
        threading.Thread(target=work, name=f"stplm {title}", daemon=True).start()
        return job

    def cancel_all(self) -> None:
        """Ask every job to stop."""
        for job in self.running:
            job.cancel()

    def later(self, call: Callable[[], Any]) -> None:
        """Make a call in the GUI thread, soon; any thread may ask."""
        with contextlib.suppress(RuntimeError):  # the window was closed meanwhile: nobody is left to tell
            self._call.emit(call)

    # --- inside ---

    def _finish(self, job: Job, result: Any, on_done: Callable[[Any], bool | None]) -> None:
        if job.is_cancelling and job.can_cancel:
            self._end(job, CANCELLED)
            return
        try:
            kept = on_done(result)
        except Exception as error:
            self._fail(job, error, traceback.format_exc())
        else:
            self._end(job, STALE if kept is False else DONE)

    def _fail(self, job: Job, error: BaseException, details: str) -> None:
        if isinstance(error, Cancelled):
            self._end(job, CANCELLED)
            return
        job.error = error if isinstance(error, StplmError) else _unexpected(error)
        job.details = getattr(error, "details", "") or details
        self._end(job, FAILED)

    def _end(self, job: Job, state: str) -> None:
        job.state, job.ended_ms = state, job.age_ms
        self._running.remove(job)
        job.ended.emit()


def _unexpected(error: BaseException) -> StplmError:
    if isinstance(error, MemoryError):
        return StplmError("There is not enough memory for this.", mend="Close other programs and try again.")
    return StplmError(f"Something went wrong: {error or type(error).__name__}", found=type(error).__name__)


def _run(call: Callable[[], Any]) -> None:
    call()


def _show_activity(job: Job) -> None:
    if not job.is_running:
        return
    from napari.utils import progress

    bar = progress(total=job.total, desc=job.title)

    def follow() -> None:
        if bar.total != job.total:
            bar.total = job.total
            bar.reset(job.total) if job.done < bar.n else None
        if job.done > bar.n:
            bar.update(job.done - bar.n)

    def close() -> None:
        bar.close()
        _turn_sign(100)

    follow()
    _turn_sign(_SIGN_PERCENT)
    job.progressed.connect(follow)
    job.ended.connect(close)


def _turn_sign(percent: int) -> None:
    """How fast napari's moving sign moves, in percent of its own pace; of a napari that has another sign, nothing."""
    with contextlib.suppress(AttributeError, ImportError):
        from napari._qt.qt_main_window import _QtMainWindow

        for window in _QtMainWindow._instances:
            window._activity_dialog._toggleButton._inProgressIndicator.movie().setSpeed(percent)
