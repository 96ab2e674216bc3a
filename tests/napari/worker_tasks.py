"""Tasks that the tests run in a real worker process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from stplm.errors import GeneError
from stplm.progress import Progress


def count(folder: Path, params: dict[str, Any], progress: Progress) -> None:
    sys.stdout.write("libraries print; the protocol must not break\n")
    sys.stdout.flush()
    for i in range(params["steps"]):
        progress(i + 1, params["steps"])
        time.sleep(params.get("sleep", 0))
    (folder / "done.txt").write_text(str(os.getpid()))


def deaf(folder: Path, params: dict[str, Any], progress: Progress) -> None:
    time.sleep(60)


def fail(folder: Path, params: dict[str, Any], progress: Progress) -> None:
    raise GeneError("No gene is known.", found="mouse genes", mend="Open a human section.")


def crash(folder: Path, params: dict[str, Any], progress: Progress) -> None:
    sys.stderr.write("terminate called: out of memory\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def loaded(folder: Path, params: dict[str, Any], progress: Progress) -> None:
    (folder / "modules.txt").write_text("\n".join(sys.modules))
