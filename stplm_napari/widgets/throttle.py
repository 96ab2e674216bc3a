"""A slider that is dragged says more than can be painted: the first value at once, then the latest, once a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

FRAME_MS = 40


class Throttle(QObject):
    """Calls ``act`` with what :meth:`take` is given: at once, but once in ``FRAME_MS`` at most, and with the last at
    the end. ``parent`` is the widget that it goes with."""

    def __init__(self, act: Callable[..., Any], parent: QObject) -> None:
        super().__init__(parent)
        self._act = act
        self._waiting: tuple[Any, ...] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self._next)

    def take(self, *values: Any) -> None:
        """The latest value; the former one need not be shown any more."""
        self._waiting = values
        if not self._timer.isActive():
            self._next()

    def _next(self) -> None:
        if self._waiting is not None:
            values, self._waiting = self._waiting, None
            self._act(*values)
            self._timer.start()
