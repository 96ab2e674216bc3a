"""A section in about a hundred typical cells: k-means centres of its vectors, each with the counts of its cells.

An average over many cells has little noise, so it says which kinds of cells a section has even where each cell is
faint. A cell is described by a smooth mixture of the centres near it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stplm.tasks.profiles import BACKGROUND

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

_NUMBER = 120
_CELLS_EACH = 8
_CENTRE_CELLS, _START_CELLS, _PROFILE_CELLS = 5_000, 2_500, 20_000
_ROUNDS = 6
_SMOOTHING_COUNTS = 50.0
_SPREAD = 0.3
"""A typical cell is a mixture of this share of the centres. Set on leave-one-class-out tests of three data sets."""
_SOFTNESS_CELLS = 1_000


@dataclass(frozen=True)
class Prototypes:
    """Typical cells of one section.

    ``middle`` and ``scale`` (d,) float64: (vector - middle) / scale is what distances are taken in; ``centres`` (p, d)
    float32, in those units; ``softness``: squared distance over which a centre's part in a mixture falls by e;
    ``usual`` (2,): median and 90 % quantile of the distance to the nearest centre.
    """

    middle: Floats
    scale: Floats
    centres: Singles
    softness: float
    usual: Floats

    def __len__(self) -> int:
        return len(self.centres)

    def mixtures(self, vectors: npt.ArrayLike) -> tuple[Singles, Singles]:
        """For vectors (n, d): the share of each centre (n, p), rows adding up to 1, and how far beyond the usual a
        cell is from its nearest centre (n,): 0 within the 90 % quantile, then 1 for each step from there to the
        median."""
        squared = squared_distances(self._scaled(vectors), self.centres)
        nearest = squared.min(1)
        beyond = (np.sqrt(nearest) - np.float32(self.usual[0])) / np.float32(self.usual[1] - self.usual[0])
        return _shares(squared, nearest, self.softness), np.maximum(beyond - 1, 0)

    def _scaled(self, vectors: npt.ArrayLike) -> Singles:
        scaled = np.asarray(vectors, dtype=np.float32) - self.middle.astype(np.float32)
        scaled /= self.scale.astype(np.float32)
        return scaled


@dataclass(frozen=True)
class SectionKinds:
    """Prototypes, and what is known of each from the section: ``profiles`` float64 (p, n_genes), share of each gene in
    the counts of its cells; ``common`` (p,) share of the section's cells nearest to it; ``presence`` (p,) its mean part
    in the mixtures; ``average`` (n_genes,) profile of the section; of the cells looked at, ``depth`` their counts,
    ``mixtures`` (n_sample, p) theirs and ``beyond`` how far each is beyond the usual."""

    prototypes: Prototypes
    profiles: Floats
    common: Floats
    presence: Floats
    average: Floats
    depth: Floats
    mixtures: Singles
    beyond: Singles


def find_kinds(
    vectors: npt.NDArray[np.floating],
    counts: csr_matrix,
    *,
    middle: Floats,
    scale: Floats,
    seed: int = 0,
) -> SectionKinds:
    """Typical cells of a section, from at most 20,000 of its cells that have counts.

    Parameters
    ----------
    vectors
        (n, d), one a cell; distances between them should mean something once scaled.
    counts
        (n, n_genes) raw counts, CSR.
    middle, scale
        (d,) what to subtract from vectors and to divide them by.
    seed
        Of the cells looked at. The same input and seed give the same result.
    """
    sample, random = kinds_sample(np.diff(counts.indptr), seed)
    return kinds_of(np.asarray(vectors)[sample], counts[sample], random, middle=middle, scale=scale)


def kinds_sample(n_genes: npt.NDArray[np.integer], seed: int) -> tuple[Places, np.random.Generator]:
    """Rows of the cells that :func:`find_kinds` looks at, of cells with ``n_genes`` (n,) genes each, and the random
    numbers that go on from there."""
    random = np.random.default_rng(seed)
    return random.permutation(np.flatnonzero(n_genes > 0))[:_PROFILE_CELLS], random


def kinds_of(
    given: npt.NDArray[np.floating], mine: csr_matrix, random: np.random.Generator, *, middle: Floats, scale: Floats
) -> SectionKinds:
    """What :func:`find_kinds` finds, from the vectors and the counts of its sample alone."""
    scaled = np.ascontiguousarray((given - middle) / scale, dtype=np.float32)
    centres = _k_means(scaled[:_CENTRE_CELLS], max(1, min(_NUMBER, len(given) // _CELLS_EACH)), random)
    squared = squared_distances(scaled, centres)
    nearest = squared.argmin(1)
    usual = np.quantile(np.sqrt(squared.min(1)), [0.5, 0.9]) if len(given) else np.zeros(2)
    usual[1] = max(usual[1], usual[0] * (1 + 1e-3), usual[0] + 1e-6)
    prototypes = Prototypes(middle, scale, centres, _softness(squared[:_SOFTNESS_CELLS]), usual)
    total = np.asarray(mine.sum(0), dtype=np.float64).ravel() + 1e-3
    average = total / total.sum()
    member = csr_matrix((np.ones(len(given)), (nearest, np.arange(len(given)))), shape=(len(centres), len(given)))
    mixtures, beyond = prototypes.mixtures(given)
    return SectionKinds(
        prototypes=prototypes,
        profiles=profile(np.asarray((member @ mine).todense(), dtype=np.float64), average),
        common=np.bincount(nearest, minlength=len(centres)) / max(len(given), 1),
        presence=mixtures.mean(0, dtype=np.float64),
        average=average,
        depth=np.asarray(mine.sum(1), dtype=np.float64).ravel(),
        mixtures=mixtures,
        beyond=beyond,
    )


def profile(counts: Floats, average: Floats) -> Floats:
    """Gene shares (k, n_genes) of summed counts, drawn towards the section's average where they are few."""
    shares = counts + _SMOOTHING_COUNTS * average
    shares /= shares.sum(1, keepdims=True)
    return np.asarray((1 - BACKGROUND) * shares + BACKGROUND * average)


def squared_distances(a: Singles, b: Singles) -> Singles:
    """(n, p) squared Euclidean distances of rows (n, d) and (p, d)."""
    squared: Singles = a @ b.T
    squared *= -2
    squared += (a * a).sum(1)[:, None]
    squared += (b * b).sum(1)
    np.maximum(squared, 0, out=squared)
    return squared


def _k_means(points: Singles, number: int, random: np.random.Generator) -> Singles:
    """Centres (number, d): k-means++ (Arthur and Vassilvitskii, 2007), then a few rounds of Lloyd's algorithm."""
    start = points[:_START_CELLS]
    centres = start[:1]
    if not len(start):
        return np.zeros((1, points.shape[1]), dtype=np.float32)
    nearest = squared_distances(start, centres)[:, 0]
    for _ in range(number - 1):
        reach = np.cumsum(nearest, dtype=np.float64)
        chosen = min(int(np.searchsorted(reach, random.random() * reach[-1])), len(start) - 1)
        centres = np.vstack([centres, start[chosen]])
        nearest = np.minimum(nearest, squared_distances(start, start[chosen : chosen + 1])[:, 0])
    for _ in range(_ROUNDS):
        owner = squared_distances(points, centres).argmin(1)
        size = np.bincount(owner, minlength=len(centres))
        member = csr_matrix(
            (np.ones(len(points), np.float32), (owner, np.arange(len(points)))), shape=(len(centres), len(points))
        )
        moved = np.asarray(member @ points) / np.maximum(size, 1)[:, None]
        centres = np.where(size[:, None] > 0, moved, centres).astype(np.float32)
    return centres


def _shares(squared: Singles, nearest: Singles, softness: float) -> Singles:
    """``squared`` is overwritten."""
    squared -= nearest[:, None]
    squared *= np.float32(-1 / softness)
    np.exp(squared, out=squared)
    squared /= squared.sum(1, keepdims=True)
    return squared


def _softness(squared: Singles) -> float:
    """The softness at which the median cell is a mixture of ``_SPREAD`` of the centres (its perplexity)."""
    if not squared.size or squared.shape[1] < 3:
        return float(max(squared.mean(), 1e-6)) if squared.size else 1.0
    nearest = squared.min(1)
    low, high = -10.0, 14.0
    for _ in range(16):
        middle = (low + high) / 2
        shares = _shares(squared.copy(), nearest, float(np.exp(middle)))
        # A share of exactly 0 adds nothing.
        entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum(1)
        few = np.exp(np.median(entropy)) < max(1.5, _SPREAD * squared.shape[1])
        low, high = (middle, high) if few else (low, middle)
    return float(np.exp((low + high) / 2))
