"""Clusters of cells by their vectors: something to colour the tissue by before anything is labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.kernels import in_blocks, one_thread
from stplm.memory import let_go

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = 20_000
_CHUNK = 65_536
_ROWS = 4096


def cluster(vectors: NDArray[np.float32], clusters: int, seed: int = 0) -> pd.Categorical[str]:
    """k-means clusters of the vectors' standardised columns, largest first, as a categorical "1", "2", ...

    ``vectors`` (n, d) may be a memory-mapped file. Centres are found on at most 20,000 cells (drawn with ``seed``).
    """
    import pandas as pd
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    n = len(vectors)
    mean, spread = _mean_and_spread(vectors)
    chosen = np.arange(n) if n <= _SAMPLE else np.sort(np.random.default_rng(seed).choice(n, _SAMPLE, replace=False))
    sample = (_rows(vectors, chosen) - mean) / spread
    clusters = min(clusters, len(sample))
    # One thread adds up in a fixed order: the same bytes on every run.
    with threadpool_limits(1, user_api="openmp"), one_thread():
        centres = KMeans(clusters, n_init=2, random_state=seed).fit(sample).cluster_centers_
    # Of |x - c|², what differs between centres is |c|² - 2 x c; the scaling is folded into both.
    weights = 2 * (centres / spread).T
    start = -(centres**2).sum(1) - mean @ weights
    codes = np.empty(n, dtype=np.int64)

    def nearest(first: int, last: int) -> None:
        codes[first:last] = (vectors[first:last].astype(np.float64) @ weights + start).argmax(1)

    for first in range(0, n, _CHUNK):
        with one_thread():
            in_blocks(lambda a, b, at=first: nearest(at + a, at + b), min(_CHUNK, n - first), _ROWS)  # type: ignore[misc]
        let_go(vectors)
    rank = np.argsort(np.argsort(-np.bincount(codes, minlength=clusters), kind="stable"), kind="stable")
    return pd.Categorical.from_codes(rank[codes], pd.Index([str(i + 1) for i in range(clusters)]))


def _rows(vectors: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Some rows, ascending, in stretches: to a file that is mapped, each costs the pages around it."""
    parts = []
    for first in range(0, len(vectors), _CHUNK):
        low, high = np.searchsorted(chosen, [first, first + _CHUNK])
        parts.append(vectors[chosen[low:high]])
        let_go(vectors)
    return np.concatenate(parts)


def _mean_and_spread(vectors: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """float64 mean and standard deviation (d,) of each column, about the first rows' mean for the digits' sake."""
    about = vectors[:_CHUNK].mean(0, dtype=np.float64)
    total, square = np.zeros((2, vectors.shape[1]))
    for first in range(0, len(vectors), _CHUNK):
        part = vectors[first : first + _CHUNK].astype(np.float64) - about
        total += part.sum(0)
        square += np.einsum("nd,nd->d", part, part)
        let_go(vectors)
    mean = total / len(vectors)
    return about + mean, np.sqrt(np.maximum(square / len(vectors) - mean**2, 0)) + 1e-6
