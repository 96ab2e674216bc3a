"""Neighbours by brute force: every cell against every other, the definition itself."""

from __future__ import annotations

import numpy as np


def nearest(xy: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n, k) and distances (n, k) of the k nearest other cells; of equally far ones the lower index first."""
    found, far = np.empty((len(xy), k), dtype=np.int64), np.empty((len(xy), k))
    for i, here in enumerate(xy):
        distance = np.sqrt(((xy - here) ** 2).sum(axis=1))
        distance[i] = np.inf
        near = np.flatnonzero(distance <= np.partition(distance, k - 1)[k - 1])
        found[i] = near[np.argsort(distance[near], kind="stable")][:k]
        far[i] = distance[found[i]]
    return found, far


def within(xy: np.ndarray, radius: float) -> list[np.ndarray]:
    """Of each cell, the others at most ``radius`` away, nearest first, then by index."""
    rows = []
    for i, here in enumerate(xy):
        distance = np.sqrt(((xy - here) ** 2).sum(axis=1))
        near = np.flatnonzero(distance <= radius)
        near = near[near != i]
        rows.append(near[np.argsort(distance[near], kind="stable")])
    return rows
