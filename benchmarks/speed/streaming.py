"""Sections that never lie in memory: a cell table simulated, embedded and classified on the disk by the command line.

10,000,000 cells are measured where they are asked for: ``python -m benchmarks.run --only streaming --sizes 10000000``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Row
from benchmarks.sections import Sections

BAR_MB, BAR_CELLS = 8 * 1024, 10_000_000


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Three rows a size: simulate, embed, classify, each in a process of its own."""
    sections.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for cells in sizes:
        with tempfile.TemporaryDirectory(dir=sections.folder) as folder:
            plain, embedded, called = (str(Path(folder) / f"{name}.h5ad") for name in ("cells", "embedded", "called"))
            for name, command in (
                ("simulate", ["simulate", plain, "--cells", str(cells), "--table"]),
                ("embed", ["embed", plain, "--out", embedded]),
                ("classify", ["classify", embedded, "--out", called]),
            ):
                took, peak = run_apart(command)
                row = Row(
                    f"on the disk: stplm {name}",
                    cells,
                    took,
                    None,
                    "s",
                    peak_mb=peak,
                    note="Wall clock of the whole command; memory of its process.",
                )
                if cells >= BAR_CELLS and name != "simulate":
                    row.bar, row.met = f"< {BAR_MB // 1024} GB resident", peak < BAR_MB
                rows.append(row)
    return rows


def run_apart(command: list[str]) -> tuple[float, float]:
    """Seconds and most resident MB of ``stplm`` with these arguments. Raises RuntimeError where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "stplm.cli", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"stplm {command[0]} ended with {process.returncode}")
    return time.perf_counter() - start, used.ru_maxrss / 1024
