"""A run of fine-tuning as it goes: its history on disk, line by line, and whether it is to end early.

Whoever shows a run in another process reads the history's file; whoever takes a run up again finds what was before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SELECT, REFIT = "select", "refit"
"""The two trainings of a run: the one that finds the best epoch, and the one on all labels."""
_EVERY_S = 0.1
"""Steps closer together than this are not all written."""


class Watch:
    """Writes a run's history, and says when to stop.

    Parameters
    ----------
    history
        File of JSON lines, added to; None for nowhere.
    stop
        Asked before each step; True ends the training with the best weights so far.
    stop_after
        Steps after which the first training ends.
    seconds
        After which the run ends, 0 for no limit; ``parts`` trainings share it.
    """

    def __init__(
        self,
        history: str | Path | None = None,
        stop: Callable[[], bool] | None = None,
        stop_after: int | None = None,
        seconds: float = 0.0,
        parts: int = 1,
    ) -> None:
        self._history, self._stop, self._stop_after = history, stop, stop_after
        self._seconds, self._parts = seconds, parts
        self._began, self._last = time.monotonic(), 0.0
        self._first = True
        self.stage = SELECT
        self.stopped_at: int | None = None
        """The step before which the training of this stage ended early."""
        self.was_asked = False
        """Whether it was ``stop`` that ended it."""

    @property
    def can_stop(self) -> bool:
        """Whether it may end early at all."""
        return self._stop is not None or self._stop_after is not None or self._seconds > 0

    def enter(self, stage: str) -> None:
        """The next training begins."""
        self.stage, self.stopped_at = stage, None

    def should_stop(self, step: int) -> bool:
        """Whether to end before this step."""
        if self._stop is not None and self._stop():
            self.was_asked = True
            return True
        first = self.stage == SELECT
        if first and self._stop_after is not None and step >= self._stop_after:
            return True
        limit = self._seconds / (self._parts if first else 1)
        return self._seconds > 0 and time.monotonic() - self._began > limit

    def on_step(self, step: int, epoch: float, epochs: int, loss: float) -> None:
        """A step's loss, ``epoch`` epochs into the training."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            self._write({"step": step, "epoch": round(epoch, 4), "epochs": epochs, "loss": round(loss, 6)})

    def on_epoch(self, epoch: int, epochs: int, scores: Mapping[str, float]) -> None:
        """What held-out cells gave after so many epochs; 0 is the start."""
        self._write({"epoch": epoch, "epochs": epochs, "scores": {k: round(v, 6) for k, v in scores.items()}})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._history is not None:
            with Path(self._history).open("a", encoding="utf-8") as file:
                # A kill may have cut the last line short; it must not swallow this one.
                start = "\n" if self._first and file.tell() else ""
                file.write(start + json.dumps({"stage": self.stage, **line}) + "\n")
            self._first = False


class HistoryTail:
    """Reads a history while it grows: each :meth:`read` looks at what was added since."""

    def __init__(self, path: str | Path) -> None:
        self._path, self._at, self._rest = Path(path), 0, b""
        self._found: dict[tuple[Any, ...], dict[str, Any]] = {}

    def read(self) -> list[dict[str, Any]]:
        """The lines in their order, each step and epoch once, as it was told last; [] where there is none yet.

        A line that is being written, or that a kill cut short, is left out.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                added = file.read()
        except OSError:
            return []
        self._at += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            try:
                told = json.loads(line)
                of_step = "loss" in told
                key = told["stage"], of_step, told["step"] if of_step else told["epoch"]
                self._found[key] = told
            except (ValueError, KeyError, TypeError):
                continue
        return sorted(self._found.values(), key=lambda t: (t["stage"] == REFIT, t["epoch"]))


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """All of a history, as :class:`HistoryTail` reads it."""
    return HistoryTail(path).read()
