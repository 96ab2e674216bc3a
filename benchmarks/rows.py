"""One line of the table of speed and scale, and what every measurement of it shares."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

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


def growth(cells: Sequence[int], times: Sequence[float]) -> float | None:
    """Slope of log time over log cells by least squares: 1 is linear. None for fewer than two sizes."""
    if len(cells) < 2:
        return None
    x, y = [math.log(n) for n in cells], [math.log(t) for t in times]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
