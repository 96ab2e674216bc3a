"""A map of all cells: UMAP of the embedding, fitted on a sample of a large section, the other cells put in among it.

umap-learn does the sample (McInnes et al. 2018). Its own ``transform`` takes hours for a million cells; here the other
cells get the same treatment in one pass: nearest neighbours in the sample, umap's membership strengths as weights, the
weighted mean of the neighbours' places to begin with, and a few epochs of umap's gradient with the sample held still.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import Cancelled, SectionError
from stplm.kernels import ONE_AT_A_TIME
from stplm.models import versions
from stplm.progress import Progress, no_progress
from stplm.tasks.umap_sample import FittedMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from spatialdata import SpatialData

NEIGHBOURS, MIN_DIST, SAMPLE = 15, 0.1, 50_000
_BLOCK = 50_000
_RARE = 200
"""Cells of each cluster that the sample has at least, so that a rare kind is on the map."""


def umap(
    table: AnnData | SpatialData,
    *,
    neighbours: int = NEIGHBOURS,
    min_dist: float = MIN_DIST,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress = no_progress,
) -> AnnData:
    """Write a map of the embedded cells into ``table``: alike cells lie close together.

    Parameters
    ----------
    table
        A section or its cell table after :func:`stplm.embed`.
    neighbours
        Neighbours that a cell is to stay close to, 2 or more: few show detail, many the whole.
    min_dist
        How close cells may lie on the map, 0 to 1 in its own unit: small packs like cells tightly.
    sample
        Cells that the map is fitted on, drawn from every cluster of the embedding; of the others, each is put among
        the cells of the sample that it is most like. At least ``neighbours + 1``.
    seed
        Of the sample and of the fit: the same seed gives the same map.

    Returns
    -------
    The cell table, with ``obsm["X_umap"]`` (n_cells, 2) float32 and ``uns["stplm"]["map"]``. Distances on a map mean
    little beyond "close" and "far"; nothing else in the engine is computed from it. Nothing is written when the job is
    cancelled. Source: McInnes, Healy and Melville 2018 (UMAP); begun from principal components as Kobak and Linderman
    2021 advise.

    Raises
    ------
    SectionError
        When the cells are not embedded, are too few, or a setting is out of its range.
    Cancelled
        When ``progress`` raises it; while the sample is fitted, it is heard at the end of that.
    """
    from stplm.io.groups import as_table

    table = as_table(table)
    if keys.X_STPLM not in table.obsm:
        raise SectionError(
            "The cells are not embedded, so there is nothing to draw a map of.",
            where=f"obsm[{keys.X_STPLM!r}]",
            mend="Embed them first (stplm.embed).",
        )
    groups = table.obs[keys.CLUSTER].cat.codes.to_numpy() if keys.CLUSTER in table.obs else None
    vectors = np.asarray(table.obsm[keys.X_STPLM])
    settings: dict[str, Any] = {"neighbours": neighbours, "min_dist": min_dist, "sample": sample, "seed": seed}
    table.obsm[keys.UMAP] = map_vectors(vectors, groups, **settings, progress=progress)
    table.uns.setdefault(keys.UNS, {})[keys.UNS_MAP] = {
        **settings,
        "fitted": min(sample, table.n_obs),
        "vectors": _mark(vectors),
        "versions": versions(),
    }
    return table


def place_on_map(table: AnnData, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Places (m, 2) of other ``vectors`` (m, dim) on the map that :func:`umap` drew of the embedded cells of ``table``.

    They are put among the sample that the map was fitted on, as the table's other cells were. Raises SectionError where
    there is no such map, or it is of other vectors.
    """
    if not is_of_these_vectors(table):
        raise SectionError(
            "There is no map of these cells' vectors.",
            where=f"obsm[{keys.UMAP!r}]",
            mend="Draw one first (stplm.umap).",
        )
    made = table.uns[keys.UNS][keys.UNS_MAP]
    groups = table.obs[keys.CLUSTER].cat.codes.to_numpy() if keys.CLUSTER in table.obs else None
    random = np.random.default_rng(int(made["seed"]))
    chosen = draw_sample(table.n_obs, groups, int(made["sample"]), random)
    known = np.asarray(table.obsm[keys.X_STPLM])
    sample = FittedMap.of(known[chosen], int(made["neighbours"]), float(made["min_dist"]), int(made["seed"]))
    fitted = sample.at(np.asarray(table.obsm[keys.UMAP], np.float32)[chosen])
    parts = [fitted.put(vectors[start : start + _BLOCK], start) for start in range(0, len(vectors), _BLOCK)]
    return np.concatenate([*parts, np.zeros((0, 2), np.float32)])


def is_of_these_vectors(table: AnnData) -> bool:
    """Whether the map in a table is one of ours, and of the embedding that is there now."""
    made = table.uns.get(keys.UNS, {}).get(keys.UNS_MAP, {})
    here = keys.UMAP in table.obsm and keys.X_STPLM in table.obsm
    return here and made.get("vectors") == _mark(np.asarray(table.obsm[keys.X_STPLM]))


def _mark(vectors: NDArray[np.floating]) -> str:
    """Tells vectors of one embedding from those of another, by a thousand cells."""
    some = vectors[:: max(1, len(vectors) // 1000)]
    return f"{zlib.crc32(np.ascontiguousarray(some, np.float32).tobytes()):08x}"


def map_vectors(
    vectors: NDArray[np.floating],
    groups: NDArray[np.integer] | None = None,
    *,
    neighbours: int = NEIGHBOURS,
    min_dist: float = MIN_DIST,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """Positions (n_cells, 2) float32 of (n_cells, dim) vectors; settings and errors as for :func:`umap`.

    ``groups`` are whole numbers from -1 (none) that the sample is drawn by, one a cell. Progress counts cells; those of
    the sample come first.
    """
    n = len(vectors)
    _check(n, neighbours, min_dist, sample)
    random = np.random.default_rng(seed)
    chosen = draw_sample(n, groups, sample, random)
    progress(0, n)
    sample_of = FittedMap.of(vectors[chosen], neighbours, min_dist, seed)
    found, distances = sample_of.graph()
    fit = _fit(sample_of.points, found, distances, min_dist, seed, lambda share: progress(int(share * len(chosen)), n))
    fitted = sample_of.at(fit)
    result = np.empty((n, 2), np.float32)
    result[chosen] = fit
    others = np.setdiff1d(np.arange(n), chosen, assume_unique=True)
    for start in range(0, len(others), _BLOCK):
        progress(len(chosen) + start, n)
        rows = others[start : start + _BLOCK]
        result[rows] = fitted.put(vectors[rows], start)
    progress(n, n)
    return result


def draw_sample(
    n: int, groups: NDArray[np.integer] | None, size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of a sample, ascending: each group in proportion to its cells, but 200 of a rare one (or all it has)."""
    if size >= n:
        return np.arange(n)
    if groups is None:
        return np.sort(random.choice(n, size, replace=False))
    codes = np.asarray(groups).astype(np.int64) + 1
    counts = np.bincount(codes)
    least = np.minimum(counts, min(_RARE, size // len(counts)))
    quota = np.maximum(size * counts // n, least)
    spare = quota - least
    quota -= np.ceil(max(quota.sum() - size, 0) * spare / max(spare.sum(), 1)).astype(np.int64)
    shuffled = random.permutation(n)
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    place = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < np.repeat(quota, counts)])


def _check(n: int, neighbours: int, min_dist: float, sample: int) -> None:
    mend = "Change the setting."
    if neighbours < 2:
        raise SectionError("A map needs at least 2 neighbours a cell.", found=str(neighbours), mend=mend)
    if not 0 <= min_dist <= 1:
        raise SectionError("The smallest distance on a map is 0 to 1.", found=str(min_dist), mend=mend)
    if sample <= neighbours:
        raise SectionError(
            "The sample is smaller than a neighbourhood.", found=str(sample), expected=f"over {neighbours}", mend=mend
        )
    if n <= neighbours:
        raise SectionError(
            "These are too few cells for a map.",
            found=f"{n} cells",
            expected=f"more than {neighbours}, the neighbours of each",
            mend="Ask for fewer neighbours.",
        )


def _fit(
    points: NDArray[np.float32],
    found: NDArray[np.int32],
    distances: NDArray[np.float32],
    min_dist: float,
    seed: int,
    progress: Callable[[float], Any],
) -> NDArray[np.float32]:
    """umap-learn's layout of the sample, (n, 2). ``progress`` gets the share that is done, and may raise."""
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, simplicial_set_embedding

    random = np.random.RandomState(seed)  # what umap-learn takes
    with ONE_AT_A_TIME:
        graph, _, _ = fuzzy_simplicial_set(
            points, found.shape[1], random, "euclidean", knn_indices=found, knn_dists=distances
        )
    a, b = find_ab_params(1.0, min_dist)
    begin = points[:, :2] * (10 / np.abs(points[:, :2]).max().clip(1e-6))
    begin = begin + random.normal(scale=1e-4, size=begin.shape)
    epochs = _Epochs(progress)
    places, _ = simplicial_set_embedding(
        points,
        graph,
        2,
        1.0,
        a,
        b,
        1.0,
        5,
        None,
        begin.astype(np.float32),
        random,
        "euclidean",
        {},
        False,
        {},
        False,
        tqdm_kwds={"disable": False, "file": epochs, "bar_format": "{n} {total}", "mininterval": 0.2},
    )
    if epochs.stopped is not None:
        raise epochs.stopped
    return np.asarray(places, np.float32)


class _Epochs(io.StringIO):
    """umap-learn tells of its epochs through tqdm alone, and tqdm writes into this.

    Nothing is raised while tqdm writes: it would keep its lock, for which every later bar of the process waits.
    """

    def __init__(self, progress: Callable[[float], Any]) -> None:
        super().__init__()
        self._progress = progress
        self.stopped: Cancelled | None = None

    def write(self, words: str) -> int:
        numbers = words.split()
        if self.stopped is None and len(numbers) == 2 and all(number.isdigit() for number in numbers):
            try:
                self._progress(int(numbers[0]) / int(numbers[1]))
            except Cancelled as stopped:
                self.stopped = stopped
        return len(words)
