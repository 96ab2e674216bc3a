"""The process in which heavy torch work runs: ``python -m stplm_napari.worker``. No Qt, no napari.

It stays alive between tasks, so that torch is imported once. It speaks JSON lines: requests on stdin, messages on
stdout; tables and arrays go through files in a folder that the request names.

    -> {"id": 1, "task": "stplm_napari.tasks:embed_in_folder", "folder": "/tmp/x", "params": {...}}
    -> {"cancel": 1}
    <- {"id": 1, "kind": "progress", "done": 512, "total": 1135}
    <- {"id": 1, "kind": "done" | "cancelled"}  or  {"id": 1, "kind": "failed", "error": {...}, "details": "..."}

When stdin closes the parent is gone, and so is this process: no orphan keeps the machine busy.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from stplm.errors import Cancelled, StplmError
from stplm.memory import give_back

_ERROR_PARTS = ("problem", "where", "found", "expected", "mend")


class _Desk:
    """Requests in, messages out."""

    def __init__(self, requests: TextIO, messages: TextIO) -> None:
        self._requests, self._messages = requests, messages
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def listen(self) -> None:
        """Take requests until the parent goes away. Runs in its own thread, so that a cancel is heard at once."""
        for line in self._requests:
            request = json.loads(line)
            if "cancel" in request:
                self._cancelled.add(request["cancel"])
            else:
                self._waiting.put(request)
        os._exit(0)

    def next(self) -> dict[str, Any]:
        return self._waiting.get()

    def say(self, **message: Any) -> None:
        self._messages.write(json.dumps(message) + "\n")
        self._messages.flush()

    def serve(self, request: dict[str, Any]) -> None:
        number = request["id"]

        def progress(done: int, total: int) -> None:
            if number in self._cancelled:
                raise Cancelled
            self.say(id=number, kind="progress", done=int(done), total=int(total))

        try:
            module, function = request["task"].split(":")
            task = getattr(importlib.import_module(module), function)
            task(Path(request["folder"]), request["params"], progress)
            self.say(id=number, kind="done")
        except Cancelled:
            self.say(id=number, kind="cancelled")
        except StplmError as error:
            parts = {part: getattr(error, part) for part in _ERROR_PARTS}
            self.say(id=number, kind="failed", error=parts, details=traceback.format_exc())
        except MemoryError:
            parts = {"problem": "There is not enough memory for this.", "mend": "Close other programs and try again."}
            self.say(id=number, kind="failed", error=parts, details=traceback.format_exc())
        except Exception as error:  # whatever a task raises must reach the user, not this process's stderr
            parts = {"problem": f"The computation failed: {error or type(error).__name__}"}
            self.say(id=number, kind="failed", error=parts, details=traceback.format_exc())
        finally:
            give_back()


def main() -> None:
    """Serve until stdin closes."""
    # Libraries may print; stdout is the protocol's, so whatever is printed goes to stderr.
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)  # the window comes first
    sys.stdin = open(os.devnull)  # noqa: SIM115
    desk = _Desk(requests, messages)
    threading.Thread(target=desk.listen, daemon=True).start()
    while True:
        desk.serve(desk.next())


if __name__ == "__main__":
    main()
