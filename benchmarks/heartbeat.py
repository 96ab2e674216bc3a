"""Measuring a window from within: how long its thread is blocked, by whose code, and how much memory it all takes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

BEAT_MS = 5
_LOOK_S = 0.01
_OURS, _THEIRS = ("stplm_napari", "stplm"), ("napari", "vispy")


@dataclass
class Phase:
    """What happened in a stretch of time: the longest block of the window's thread in ms, and where samples of that
    thread were taken while it was blocked for more than ``LONG_MS``, as ``{place: samples}``."""

    name: str
    worst_ms: float = 0.0
    worst_cpu_ms: float = 0.0
    """The most processor time that the thread itself used in one block: what is left of it on an idle machine."""
    worst_ours_ms: float = 0.0
    """The longest block in which the thread was in our code all the time, and not in napari's that it called."""
    places: Counter[str] = field(default_factory=Counter)


class Heartbeat:
    """A timer in the window's thread that should fire every few milliseconds, and a thread that looks why it does not.

    ``process_of`` gives the ids of other processes whose memory counts, e.g. a worker's.
    """

    LONG_MS = 50.0

    def __init__(self, process_of: Callable[[], list[int]] = list) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._process_of = process_of
        self._window_thread = threading.get_ident()
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()
        self._phase = Phase("")
        self._stack: list[tuple[float, bool, str]] = []
        self.phases: list[Phase] = []
        self.peak_mb, self.peak_with_others_mb = 0.0, 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()
        self._stop = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Measure a stretch of time apart."""
        self._beat()
        before, self._phase = self._phase, Phase(name)
        try:
            yield self._phase
        finally:
            self._beat()
            self.phases.append(self._phase)
            self._phase = before

    def stop(self) -> None:
        """Stop looking."""
        self._timer.stop()
        self._stop.set()

    def _beat(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        blocked, used, phase = 1000 * (now - self._last) - BEAT_MS, 1000 * (cpu - self._last_cpu), self._phase
        phase.worst_ms, phase.worst_cpu_ms = max(phase.worst_ms, blocked), max(phase.worst_cpu_ms, used)
        seen, self._stack = list(self._stack), []
        if blocked > self.LONG_MS:
            phase.places.update(place for _, _, place in seen)
        # Our part of a block: its longest run of looks that found our code on the stack.
        run = longest = 0.0
        ends = [*(at for at, _, _ in seen[1:]), now]
        for (at, ours, _), then in zip(seen, ends, strict=False):
            run = run + then - at if ours else 0.0
            longest = max(longest, run)
        phase.worst_ours_ms = max(phase.worst_ours_ms, min(1000 * longest, blocked))
        self._last, self._last_cpu = now, cpu

    def _look(self) -> None:
        turn = 0
        while not self._stop.wait(_LOOK_S):
            now = time.perf_counter()
            if now - self._last > 2 * BEAT_MS / 1000 + _LOOK_S:
                # No name for the frame here: it would keep what the frame holds, a painter at work among it, alive.
                self._stack.append((now, *_place(sys._current_frames().get(self._window_thread))))
            turn += 1
            if turn % 10 == 0:
                mine, others = resident_mb(), sum(resident_mb(pid) for pid in self._process_of())
                self.peak_mb = max(self.peak_mb, mine)
                self.peak_with_others_mb = max(self.peak_with_others_mb, mine + others)


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process in MB, shared libraries and all; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return float(status.split("VmRSS:")[1].split()[0]) / 1024
    return 0.0


def _place(frame: FrameType | None) -> tuple[bool, str]:
    """Whether a thread is in our code, or in a library's that napari did not call, and where."""
    innermost = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        words = f"{module}.{frame.f_code.co_qualname}"
        innermost = innermost or words
        root = module.split(".")[0]
        if root in (*_OURS, *_THEIRS):
            return root in _OURS, words if innermost == words else f"{words} ({innermost})"
        frame = frame.f_back
    return False, innermost
