"""One line of the table of speed and scale, and what every measurement of it shares."""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.heartbeat import resident_mb

_T = TypeVar("_T")


@dataclass
class Row:
    """What was measured, beside its reference in the same run.

    ``ours`` and ``reference`` are in ``unit``; ``ratio`` says how many times better ours is, whichever way is better.
    A figure that was not measured is None, and ``note`` says why (no GPU, say).
    """

    name: str
    cells: int
    ours: float | None
    reference: float | None
    unit: str
    ratio: float | None = None
    peak_mb: float | None = None
    """Most resident memory of the process that did our work."""
    agrees: bool | None = None
    """Whether ours gives the reference's result, within what ``note`` says; None where nothing is compared."""
    bar: str = ""
    """What was asked for, in words."""
    met: bool | None = None
    growth: float | None = None
    """Exponent of time over cells, from the sizes that were run (:func:`growth`)."""
    reference_cells: int | None = None
    """Cells that the reference ran on, where they are fewer: its figure is extrapolated to ``cells``."""
    note: str = ""
    """How it was measured, where that is not plain; why, where it was not."""
    module: str = ""
    """Of ``benchmarks/speed/``; set by the runner, as ``machine`` and ``growth`` are."""
    machine: str = ""
    """Cores, CPU, memory, and the load when the module began."""

    def __post_init__(self) -> None:
        if self.ratio is None and self.ours and self.reference:
            rate = self.unit.endswith("/s")
            self.ratio = self.ours / self.reference if rate else self.reference / self.ours


def seconds(work: Callable[[], _T], repeats: int = 1) -> tuple[float, _T]:
    """Least wall-clock seconds of ``repeats`` runs, and the last result."""
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        found = work()
        best = min(best, time.perf_counter() - start)
    return best, found


def peak_mb() -> float:
    """Most resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass
class Memory:
    """Resident memory over a stretch of work, in MB: before it, and the most during it."""

    before_mb: float = 0.0
    peak_mb: float = 0.0

    @property
    def grown_mb(self) -> float:
        """What the work took beyond what was held before it."""
        return max(self.peak_mb - self.before_mb, 0.0)


@contextlib.contextmanager
def memory() -> Iterator[Memory]:
    """Peak memory of this stretch alone: ``with memory() as used: ...``, then ``used.peak_mb``.

    Linux forgets its high-water mark when asked to. Where it does not, the peak is that of the process so far.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    found = Memory(resident_mb())
    try:
        yield found
    finally:
        found.peak_mb = _high_water_mb()


def _high_water_mb() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    return peak_mb()


def fill_growth(rows: Sequence[Row]) -> None:
    """Write the exponent of time over cells into all rows of one name that have one unit and were measured."""
    for name in {row.name for row in rows}:
        measured = [row for row in rows if row.name == name and row.ours and row.unit in _TIMES]
        found = growth([row.cells for row in measured], [_TIMES[row.unit](row) for row in measured])
        for row in measured:
            row.growth = found


_TIMES: dict[str, Callable[[Row], float]] = {
    "s": lambda row: row.ours or math.nan,
    "ms": lambda row: row.ours or math.nan,
    "cells/s": lambda row: row.cells / (row.ours or math.nan),
}


def growth(cells: Sequence[int], times: Sequence[float]) -> float | None:
    """Slope of log time over log cells by least squares: 1 is linear. None for fewer than two sizes."""
    if len(set(cells)) < 2:
        return None
    x, y = [math.log(n) for n in cells], [math.log(t) for t in times]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
