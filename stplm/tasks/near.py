"""Nearest neighbours in some tens of dimensions, nearly all of them: points in lists around centres, the nearest lists
looked through.

A k-d tree looks at most of its points in so many dimensions. Here a point is compared with the centres, then with the
points of the lists whose centres are nearest: an inverted file (Jégou, Douze and Schmid 2011), without its compression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stplm.compiled import compiled
from stplm.kernels import in_blocks, one_thread

_LIST = 256
"""Points of a list, about."""
_ROUNDS = 6
"""Of Lloyd's algorithm (k-means): centres need not be settled."""
_ROWS = 4_096


@dataclass(frozen=True)
class Lists:
    """``columns`` float32 (dim, n): the points, list after list; ``rows`` int32 (n,): which point each was; list j is
    ``starts[j]`` to ``starts[j + 1]``; ``centres`` float32 (dim, lists)."""

    columns: NDArray[np.float32]
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]
    centres: NDArray[np.float32]

    @classmethod
    def of(cls, points: NDArray[np.float32], seed: int = 0) -> Lists:
        """Lists of (n, dim) points, n at least 1. ``seed``: of the centres; the same gives the same lists."""
        n, number = len(points), max(1, len(points) // _LIST)
        with one_thread():
            centres = points[np.sort(np.random.default_rng(seed).choice(n, number, replace=False))].astype(np.float32)
            member = _nearest_centre(points, centres)
            for _ in range(_ROUNDS if number > 1 else 0):
                sums = np.zeros((number, points.shape[1]))
                np.add.at(sums, member, points)
                size = np.bincount(member, minlength=number)[:, None]
                centres = np.where(size > 0, sums / np.maximum(size, 1), centres).astype(np.float32)
                member = _nearest_centre(points, centres)
        order = np.argsort(member, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(member, minlength=number))])
        return cls(
            np.ascontiguousarray(points[order].T), order.astype(np.int32), starts, np.ascontiguousarray(centres.T)
        )

    def nearest(self, points: NDArray[np.float32], k: int, lists: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The ``k`` nearest of the points for each of (m, dim) others, nearest first, and how far they are: (m, k).

        ``lists`` are looked through, more where those hold fewer than ``k``; with as many as there are, none is missed.
        ``k`` is at most n. The same bytes with any number of threads.
        """
        found, distances = np.empty((len(points), k), np.int32), np.empty((len(points), k), np.float32)
        given = (self.columns, self.rows, self.starts, self.centres, min(lists, len(self.starts) - 1))

        def look(start: int, stop: int) -> None:
            _look(points[start:stop], *given, found[start:stop], distances[start:stop])

        in_blocks(look, len(points), _ROWS)
        return found, distances


def _nearest_centre(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    half = (centres.astype(np.float32) ** 2).sum(1) / 2
    parts = [(half - points[start : start + _ROWS] @ centres.T).argmin(1) for start in range(0, len(points), _ROWS)]
    return np.concatenate(parts)


@compiled(nogil=True)
def _look(points, columns, rows, starts, centres, lists, found, distances):  # type: ignore[no-untyped-def]
    k, number = found.shape[1], centres.shape[1]
    longest = 0
    for j in range(number):
        longest = max(longest, starts[j + 1] - starts[j])
    far, away = np.empty(longest, np.float32), np.empty(number, np.float32)
    for i in range(len(points)):
        _squares(points[i], centres, 0, number, away)
        order = np.argsort(away)
        have = 0
        for turn in range(number):
            if turn >= lists and have >= k:
                break
            start, stop = starts[order[turn]], starts[order[turn] + 1]
            _squares(points[i], columns, start, stop, far)
            for at in range(stop - start):
                if have == k and far[at] >= distances[i, k - 1]:
                    continue
                place = min(have, k - 1)
                while place > 0 and distances[i, place - 1] > far[at]:
                    distances[i, place], found[i, place] = distances[i, place - 1], found[i, place - 1]
                    place -= 1
                distances[i, place], found[i, place] = far[at], rows[start + at]
                have = min(have + 1, k)
        for place in range(k):
            distances[i, place] = np.sqrt(distances[i, place])


@compiled(nogil=True)
def _squares(point, columns, start, stop, out):  # type: ignore[no-untyped-def]
    """Squared distances of a point from columns ``start`` to ``stop``."""
    out[: stop - start] = 0
    for j in range(len(point)):
        value, column = point[j], columns[j, start:stop]
        for at in range(stop - start):
            difference = column[at] - value
            out[at] += difference * difference
