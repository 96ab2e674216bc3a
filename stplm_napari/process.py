"""The near end of the worker process: start it, ask it, cancel it, notice its death. No Qt."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stplm.errors import Cancelled, StplmError
from stplm.progress import Progress, no_progress

HEARTBEAT_S = 0.1
"""How often a waiting call looks whether it was cancelled."""
GRACE_S = 3.0
"""A worker that was asked to cancel and has not after this time is killed."""


class WorkerError(StplmError):
    """A task failed in the worker process. ``details`` holds its traceback or last words."""

    details: str = ""


class WorkerProcess:
    """One worker process, started at the first call and again after it died.

    Parameters
    ----------
    environment
        Set on top of this process's own environment.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._last_words: Any = None
        self._busy = threading.Lock()
        self._writing = threading.Lock()
        self._number = 0

    @property
    def pid(self) -> int | None:
        """Of the running process; None when there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def is_busy(self) -> bool:
        """Whether a call is waiting for the process."""
        return self._busy.locked()

    def call(self, task: str, folder: Path, params: Mapping[str, Any], progress: Progress = no_progress) -> None:
        """Run ``module:function(folder, params, progress)`` in the worker and wait for it.

        Blocks; call it from a thread. ``progress`` is called about ten times a second even when the task says
        nothing, so that raising Cancelled from it always works. Raises what the task raised as WorkerError, and
        WorkerError when the process died.
        """
        while not self._busy.acquire(timeout=HEARTBEAT_S):
            progress(0, 0)
        try:
            self._start()
            self._number += 1
            self._send({"id": self._number, "task": task, "folder": str(folder), "params": dict(params)})
            try:
                self._wait(self._number, progress)
            except Cancelled:
                self._cancel(self._number)
                raise
        finally:
            self._busy.release()

    def stop(self) -> None:
        """End the process; a call that is waiting raises WorkerError."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            _close(process)
            if self._last_words is not None:
                self._last_words.close()

    # --- inside ---

    def _start(self) -> None:
        if self.pid is not None:
            return
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self._messages = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stplm_napari.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._last_words,
            env=self._environment,
            encoding="utf-8",
        )
        threading.Thread(target=_listen, args=(self._process, self._messages), daemon=True).start()

    def _send(self, request: Mapping[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        # A dead process is noticed by whoever waits for its answer.
        with self._writing, contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()

    def _wait(self, number: int, progress: Progress) -> None:
        at = (0, 0)
        while True:
            message = self._next()
            if message is None:
                raise self._died()
            if message.get("kind") == "progress" and message["id"] == number:
                at = (message["done"], message["total"])
            progress(*at)
            if message.get("id") != number:
                continue
            if message["kind"] == "done":
                return
            if message["kind"] == "cancelled":
                raise Cancelled
            if message["kind"] == "failed":
                error = WorkerError(**message["error"])
                error.details = message["details"]
                raise error

    def _next(self) -> dict[str, Any] | None:
        """The next message; {} when none came within a heartbeat, None when the process has gone."""
        try:
            return self._messages.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            return {}

    def _cancel(self, number: int) -> None:
        self._send({"cancel": number})
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            message = self._next()
            if message is None or (message.get("id") == number and message["kind"] != "progress"):
                return
        self.stop()

    def _died(self) -> WorkerError:
        process, self._process = self._process, None
        code = _close(process) if process is not None else None
        error = WorkerError(
            "The computation stopped unexpectedly; the section is as it was before.",
            found="it was closed" if code is None else f"the worker process ended with code {code}",
            mend="Run it again. If it stops again, the memory may be too small: close other programs.",
        )
        with contextlib.suppress(OSError, ValueError):
            self._last_words.seek(0)
            error.details = self._last_words.read()[-4000:].decode(errors="replace")
            self._last_words.close()
        return error


def _close(process: subprocess.Popen[str]) -> int:
    """Wait for a process that is dead or dying; its exit code."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    return process.wait(timeout=5)


def _listen(process: subprocess.Popen[str], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                messages.put(json.loads(line))
    messages.put(None)
