"""Neighbours by a grid of squares: cells lie in memory square by square, so that a search reads what lies together.

A section is about evenly filled, so a grid beats a tree; where cells are piled up, :class:`Grid` says so.
"""

from __future__ import annotations

import numba
import numpy as np

from stplm.compiled import compiled
from stplm.kernels import ONE_AT_A_TIME

_MOST_SQUARES_A_SIDE = 4096
_ROWS_A_TASK = 256
_SLACK = 1e-9
"""Of a square's side: rounding must not put a cell two squares from where its distance says."""


class Grid:
    """Cells (n, 2) float64, n > 0, in squares of about ``side`` µm (larger where that would be too many squares)."""

    def __init__(self, xy: np.ndarray, side: float) -> None:
        self.low = xy.min(axis=0)
        extent = xy.max(axis=0) - self.low
        self.side = max(side, float(extent.max()) / _MOST_SQUARES_A_SIDE) * (1 + _SLACK)
        self.columns, self.rows = (int(v) + 1 for v in np.floor(extent / self.side))
        self.order, self.starts, self.xy = _bin(xy, self.low, self.side, self.columns, self.rows)

    @property
    def fullest(self) -> int:
        """Cells in the fullest square."""
        return int(np.diff(self.starts).max())

    def within(self, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """indptr int64, indices int32, distances float32 of all pairs at most ``radius`` apart, each row sorted by
        exact distance, then index."""
        around = int(np.ceil(radius / self.side))
        indptr = np.zeros(len(self.order) + 1, dtype=np.int64)
        given = (self.xy, self.order, self.starts, self.low, self.side, self.columns, self.rows, radius, around)
        with ONE_AT_A_TIME:
            _count(*given, indptr)
        np.cumsum(indptr, out=indptr)
        indices = np.empty(indptr[-1], dtype=np.int32)
        distances = np.empty(indptr[-1], dtype=np.float32)
        with ONE_AT_A_TIME:
            _fill(*given, indptr, indices, distances)
        return indptr, indices, distances

    def nearest(self, k: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k nearest others at most ``radius`` away: degrees int64 (n,), indices int32 (n, k) and distances float32
        (n, k), of which the first ``degrees`` of a row count. Of equally far ones the lower index first."""
        n = len(self.order)
        degrees, indices, distances = np.empty(n, np.int64), np.empty((n, k), np.int32), np.empty((n, k), np.float32)
        given = (self.xy, self.order, self.starts, self.low, self.side, self.columns, self.rows)
        with ONE_AT_A_TIME:
            _nearest(*given, radius, degrees, indices, distances)
        return degrees, indices, distances


@compiled()
def _bin(xy, low, side, columns, rows):  # type: ignore[no-untyped-def]
    """Cells square by square, by index in a square: their indices, where squares start, their positions."""
    n = len(xy)
    square = np.empty(n, np.int64)
    starts = np.zeros(columns * rows + 1, np.int64)
    for i in range(n):
        column = min(int((xy[i, 0] - low[0]) / side), columns - 1)
        row = min(int((xy[i, 1] - low[1]) / side), rows - 1)
        square[i] = row * columns + column
        starts[square[i] + 1] += 1
    for s in range(columns * rows):
        starts[s + 1] += starts[s]
    free = starts[:-1].copy()
    order, there = np.empty(n, np.int32), np.empty((n, 2), np.float64)
    for i in range(n):
        at = free[square[i]]
        free[square[i]] += 1
        order[at] = i
        there[at] = xy[i]
    return order, starts, there


@compiled()
def _count_rows(first, last, xy, order, starts, low, side, columns, rows, radius, around, indptr):  # type: ignore[no-untyped-def]
    limit = radius * radius
    for here in range(first, last):
        x, y = xy[here, 0], xy[here, 1]
        column, row = min(int((x - low[0]) / side), columns - 1), min(int((y - low[1]) / side), rows - 1)
        left, right = max(column - around, 0), min(column + around, columns - 1)
        count = -1  # the cell itself
        for line in range(max(row - around, 0), min(row + around, rows - 1) + 1):
            for at in range(starts[line * columns + left], starts[line * columns + right + 1]):
                dx, dy = x - xy[at, 0], y - xy[at, 1]
                count += dx * dx + dy * dy <= limit
        indptr[order[here] + 1] = count


@compiled()
def _fill_rows(  # type: ignore[no-untyped-def]
    first, last, xy, order, starts, low, side, columns, rows, radius, around, indptr, indices, distances
):
    limit = radius * radius
    longest = 0
    for here in range(first, last):
        longest = max(longest, indptr[order[here] + 1] - indptr[order[here]])
    square, found = np.empty(longest + 1, np.float64), np.empty(longest + 1, np.int32)
    for here in range(first, last):
        x, y = xy[here, 0], xy[here, 1]
        column, row = min(int((x - low[0]) / side), columns - 1), min(int((y - low[1]) / side), rows - 1)
        left, right = max(column - around, 0), min(column + around, columns - 1)
        count = 0
        for line in range(max(row - around, 0), min(row + around, rows - 1) + 1):
            for at in range(starts[line * columns + left], starts[line * columns + right + 1]):
                dx, dy = x - xy[at, 0], y - xy[at, 1]
                d2 = dx * dx + dy * dy
                if d2 <= limit and at != here:
                    j = order[at]
                    slot = count
                    while slot > 0 and (square[slot - 1] > d2 or (square[slot - 1] == d2 and found[slot - 1] > j)):
                        square[slot], found[slot] = square[slot - 1], found[slot - 1]
                        slot -= 1
                    square[slot], found[slot] = d2, j
                    count += 1
        base = indptr[order[here]]
        for slot in range(count):
            indices[base + slot] = found[slot]
            distances[base + slot] = np.sqrt(square[slot])


@compiled()
def _nearest_rows(first, last, xy, order, starts, low, side, columns, rows, radius, degrees, indices, distances):  # type: ignore[no-untyped-def]
    k = indices.shape[1]
    far, found = np.empty(k, np.float64), np.empty(k, np.int32)
    for here in range(first, last):
        x, y = xy[here, 0], xy[here, 1]
        column, row = min(int((x - low[0]) / side), columns - 1), min(int((y - low[1]) / side), rows - 1)
        # How far the cell is from the nearest edge of its square: rings of squares reach that much further.
        inner = min(
            min(x - low[0] - column * side, (column + 1) * side - x + low[0]),
            min(y - low[1] - row * side, (row + 1) * side - y + low[1]),
        )
        count, around, whole = 0, 0, max(max(column, columns - 1 - column), max(row, rows - 1 - row))
        while True:
            for line in range(max(row - around, 0), min(row + around, rows - 1) + 1):
                edge = line == row - around or line == row + around
                step = 1 if edge or around == 0 else 2 * around
                for place in range(column - around, column + around + 1, step):
                    if place < 0 or place >= columns:
                        continue
                    for at in range(starts[line * columns + place], starts[line * columns + place + 1]):
                        dx, dy = x - xy[at, 0], y - xy[at, 1]
                        d = np.sqrt(dx * dx + dy * dy)
                        if at == here or d > radius or (count == k and d > far[k - 1]):
                            continue
                        j = order[at]
                        if count == k and d == far[k - 1] and j > found[k - 1]:
                            continue
                        slot = count if count < k else k - 1
                        while slot > 0 and (far[slot - 1] > d or (far[slot - 1] == d and found[slot - 1] > j)):
                            far[slot], found[slot] = far[slot - 1], found[slot - 1]
                            slot -= 1
                        far[slot], found[slot] = d, j
                        count = min(count + 1, k)
            reached = inner + around * side - _SLACK * side
            if around >= whole or reached > radius or (count == k and far[k - 1] < reached):
                break
            around += 1
        own = order[here]
        degrees[own] = count
        for slot in range(count):
            indices[own, slot], distances[own, slot] = found[slot], far[slot]


# The parallel loops only: numba takes long to compile a parallel function, and longer the more is in it.


@compiled(parallel=True)
def _count(xy, order, starts, low, side, columns, rows, radius, around, indptr):  # type: ignore[no-untyped-def]
    n = len(order)
    for task in numba.prange((n + _ROWS_A_TASK - 1) // _ROWS_A_TASK):
        first = task * _ROWS_A_TASK
        last = min(first + _ROWS_A_TASK, n)
        _count_rows(first, last, xy, order, starts, low, side, columns, rows, radius, around, indptr)


@compiled(parallel=True)
def _fill(xy, order, starts, low, side, columns, rows, radius, around, indptr, indices, distances):  # type: ignore[no-untyped-def]
    n = len(order)
    for task in numba.prange((n + _ROWS_A_TASK - 1) // _ROWS_A_TASK):
        first = task * _ROWS_A_TASK
        last = min(first + _ROWS_A_TASK, n)
        given = (xy, order, starts, low, side, columns, rows, radius, around, indptr, indices, distances)
        _fill_rows(first, last, *given)


@compiled(parallel=True)
def _nearest(xy, order, starts, low, side, columns, rows, radius, degrees, indices, distances):  # type: ignore[no-untyped-def]
    n = len(order)
    for task in numba.prange((n + _ROWS_A_TASK - 1) // _ROWS_A_TASK):
        first = task * _ROWS_A_TASK
        last = min(first + _ROWS_A_TASK, n)
        given = (xy, order, starts, low, side, columns, rows, radius, degrees, indices, distances)
        _nearest_rows(first, last, *given)
