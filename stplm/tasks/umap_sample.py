"""The sample of cells that a map is fitted on, and how other cells are put among it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stplm.kernels import ONE_AT_A_TIME
from stplm.tasks.near import Lists

_COMPONENTS = 24
"""Principal components that neighbours are looked for in: 0.93 of the variance of the bundled model's vectors."""
_FIT_LISTS, _PUT_LISTS = 24, 8
"""Lists that are looked through for a cell of the sample and for another one: of a sample of 50,000, all neighbours are
found, and 0.99 of them in six tenths of the time."""
_SETTLE_EPOCHS = 15
"""Half of umap-learn's own number for more than 10,000 new cells, in half the time."""


@dataclass(frozen=True)
class FittedMap:
    """``points`` float32 (s, ·): the sample as neighbours are looked for, by ``project`` from vectors; ``places``
    float32 (s, 2) on the map, once they are known (:meth:`at`)."""

    points: NDArray[np.float32]
    project: Callable[[NDArray[np.floating]], NDArray[np.float32]]
    lists: Lists
    neighbours: int
    min_dist: float
    seed: int
    places: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, vectors: NDArray[np.floating], neighbours: int, min_dist: float, seed: int) -> FittedMap:
        """From the sample's vectors (s, dim)."""
        from threadpoolctl import threadpool_limits

        # One thread adds up in a fixed order: the same bytes on every run.
        with threadpool_limits(1, user_api="blas"):
            project = _projection(vectors)
            points = project(vectors)
        return cls(points, project, Lists.of(points, seed), neighbours, min_dist, seed)

    def at(self, places: NDArray[np.float32]) -> FittedMap:
        """The same with its places (s, 2)."""
        return replace(self, places=places)

    def graph(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Neighbours (s, k) of the sample's cells among themselves, and how far they are."""
        return self.lists.nearest(self.points, self.neighbours, _FIT_LISTS)

    def put(self, vectors: NDArray[np.floating], number: int = 0) -> NDArray[np.float32]:
        """Places (m, 2) of other vectors (m, dim). ``number`` tells one block of them from another: what is drawn at
        random follows from it, the seed and the row."""
        from threadpoolctl import threadpool_limits

        assert self.places is not None
        with threadpool_limits(1, user_api="blas"):
            block = self.project(vectors)
        found, distances = self.lists.nearest(block, self.neighbours, _PUT_LISTS)
        return _put_among(self.places, found, distances, self.min_dist, (self.seed, number))


def _projection(sample: NDArray[np.floating]) -> Callable[[NDArray[np.floating]], NDArray[np.float32]]:
    """Standardised columns (as for the clusters), then principal components; both from the sample."""
    sample = sample.astype(np.float64)
    mean, spread = sample.mean(0), sample.std(0) + 1e-6
    scaled = (sample - mean) / spread
    _, axes = np.linalg.eigh(scaled.T @ scaled)
    axes = axes[:, ::-1][:, :_COMPONENTS] / spread[:, None]

    def project(rows: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.ascontiguousarray((rows - mean) @ axes, np.float32)

    return project


def _put_among(
    places: NDArray[np.float32],
    found: NDArray[np.int32],
    distances: NDArray[np.float32],
    min_dist: float,
    seed: tuple[int, int],
) -> NDArray[np.float32]:
    """Places of new cells among those of the sample, from their neighbours there."""
    from umap.umap_ import compute_membership_strengths, find_ab_params, smooth_knn_dist

    from stplm.tasks.settle import settle

    k = found.shape[1]
    a, b = find_ab_params(1.0, min_dist)
    start = int(np.random.default_rng(seed).integers(2**62))
    with ONE_AT_A_TIME:
        sigmas, rhos = smooth_knn_dist(distances, float(k), local_connectivity=0.0)
        _, _, weights, _ = compute_membership_strengths(found, distances, sigmas, rhos, bipartite=True)
        return settle(places, found, weights.reshape(-1, k), a, b, _SETTLE_EPOCHS, start)
