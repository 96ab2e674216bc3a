"""The inner loop of putting new cells into a map that is there: umap's gradient, with the map held still."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from stplm.compiled import compiled
from stplm.random_numbers import mixed

_NEGATIVES = 5
"""Cells that a new one is pushed away from, for each that it is drawn to; umap-learn's number."""
_FIRST_STEP = 0.25
"""umap-learn's for new cells."""


def settle(
    places: NDArray[np.float32],
    found: NDArray[np.int32],
    weights: NDArray[np.float32],
    a: float,
    b: float,
    epochs: int,
    seed: int,
) -> NDArray[np.float32]:
    """Places (n, 2) float32 of new cells.

    Parameters
    ----------
    places
        (n_sample, 2): the map; it stays as it is, so each new cell is independent of the others.
    found, weights
        (n, k): rows of the sample that a new cell is like, and how much, above 0.
    a, b
        Of umap's curve 1 / (1 + a d^2b).
    epochs
        Rounds; in each, a neighbour counts in proportion to its weight.
    seed
        Of the cells that a new one is pushed away from.

    Notes
    -----
    Runs in parallel and gives the same places with any number of threads: each cell has random numbers of its own.
    Source: McInnes, Healy and Melville 2018, algorithm 5.
    """
    out = np.empty((len(found), 2), np.float32)
    _settle(places, found, weights, a, b, epochs, np.uint64(seed), out)
    return out


@compiled(parallel=True)
def _settle(places, found, weights, a, b, epochs, seed, out):  # type: ignore[no-untyped-def]
    for i in numba.prange(len(found)):
        total, top, x, y = 0.0, 0.0, 0.0, 0.0
        for k in range(found.shape[1]):
            w = weights[i, k]
            total += w
            top = max(top, w)
            x += w * places[found[i, k], 0]
            y += w * places[found[i, k], 1]
        if total <= 0.0:
            x, y, total, top = places[found[i, 0], 0], places[found[i, 0], 1], 1.0, 1.0
        x, y = x / total, y / total
        state = mixed(seed + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15))
        for epoch in range(epochs):
            step = _FIRST_STEP * (1.0 - epoch / epochs)
            for k in range(found.shape[1]):
                share = weights[i, k] / top
                if int((epoch + 1) * share) == int(epoch * share):
                    continue
                dx, dy = x - places[found[i, k], 0], y - places[found[i, k], 1]
                d2 = dx * dx + dy * dy
                if d2 > 0.0:
                    pull = -2.0 * a * b * d2 ** (b - 1.0) / (a * d2**b + 1.0)
                    x += step * _clip(pull * dx)
                    y += step * _clip(pull * dy)
                for _ in range(_NEGATIVES):
                    state = mixed(state)
                    j = np.int64(state % np.uint64(len(places)))
                    dx, dy = x - places[j, 0], y - places[j, 1]
                    d2 = dx * dx + dy * dy
                    if d2 > 0.0:
                        push = 2.0 * b / ((0.001 + d2) * (a * d2**b + 1.0))
                        x += step * _clip(push * dx)
                        y += step * _clip(push * dy)
        out[i, 0], out[i, 1] = x, y


@compiled()
def _clip(value):  # type: ignore[no-untyped-def]
    return min(max(value, -4.0), 4.0)
