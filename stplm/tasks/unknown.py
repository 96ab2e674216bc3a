"""How unlike every labelled class a cell is: from 0 (like the labels) to 1 (like none of them).

A class that nobody labelled still has a name to be called by: the classifier must choose, and often does so with
confidence. So strangeness is measured apart from the choice, on the section's typical cells
(:mod:`stplm.tasks.prototypes`), which few labels and faint cells disturb little. A typical cell is strange in two ways:

- no labelled class has a profile that explains its counts (relative entropy to the best of them);
- no labelled cells lie around it, for how many cells do (a smoothed ratio of the two densities).

A cell is as strange as the mixture of typical cells that it is, and more if it is far from all of them, as in another
section. Cells with few counts are drawn to the middle: they are uncertain, not unknown.

The score is one minus a conformal p-value (Vovk et al., "Algorithmic Learning in a Random World", 2005): the share of
known cells that look less strange, measured on labelled cells that were held out. With one label a class none can be;
then the score is the cell's rank in the section, and a class that is a tenth of the section lies above 0.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from stplm.evidence import evidence
from stplm.kernels import one_thread
from stplm.tasks.prototypes import Floats, Places, Prototypes, SectionKinds, Singles, find_kinds, profile

PREFIX = "unknown_"
"""Of the arrays' names in a classifier's safetensors."""
_KERNEL = 0.15
"""Relative entropy (nats) over which one typical cell stands for another."""
_COMMON, _SHARED = 0.5, 0.25
"""How much the density of all cells counts against that of the labelled ones, and the classes' shares in the latter.
Wholly (1), both would follow the shares' errors; not at all (0), common kinds of cells would look strange."""
_FLOOR = 1e-4
_FOLDS = 5
_BLOCK = 16_384
_SECTION_WEIGHT = 10.0
"""The section's own cells weigh as many held-out labels: they smooth the tail, and are all there is at one label."""
_QUANTILES = np.concatenate([np.linspace(0, 0.9, 91), np.linspace(0.9, 1, 41)[1:]])


@dataclass(frozen=True)
class UnknownScore:
    """What a cell's strangeness is measured against. Made by :func:`fit_unknown`.

    ``novelty`` float64 (p,): strangeness of each typical cell; ``reference`` float64: strangeness of known cells at
    fixed quantiles, ascending.
    """

    prototypes: Prototypes
    novelty: Floats
    reference: Floats

    def strangeness(self, vectors: npt.ArrayLike, depth: npt.ArrayLike) -> Floats:
        """(n,) on a scale of its own, higher is stranger; for vectors (n, d) and counts a cell (n,)."""
        given, novelty = np.asarray(vectors), self.novelty.astype(np.float32)
        raw = np.empty(len(given))
        for start in range(0, len(given), _BLOCK):
            mixtures, beyond = self.prototypes.mixtures(given[start : start + _BLOCK])
            raw[start : start + _BLOCK] = mixtures @ novelty + beyond
        middle = float(np.interp(0.5, _QUANTILES, self.reference))
        return np.asarray(middle + evidence(np.asarray(depth, dtype=np.float64)) * (raw - middle))

    def score(self, vectors: npt.ArrayLike, depth: npt.ArrayLike) -> Singles:
        """(n,) in [0, 1]; NaN for cells without counts. A cell's score depends on that cell only."""
        counts = np.asarray(depth, dtype=np.float64)
        share = np.interp(self.strangeness(vectors, counts), self.reference, _QUANTILES)
        return np.where(counts > 0, share, np.nan).astype(np.float32)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Flat arrays, to save beside a classifier's own."""
        about = self.prototypes
        arrays = {
            "middle": about.middle,
            "scale": about.scale,
            "centres": about.centres,
            "softness": np.array([about.softness]),
            "usual": about.usual,
            "novelty": self.novelty,
            "reference": self.reference,
        }
        return {PREFIX + name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> UnknownScore | None:
        """From arrays that :meth:`to_arrays` gave, among others; None where there are none. Raises ValueError where
        they do not fit each other, KeyError where one is missing."""
        mine = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        if not mine:
            return None
        made = cls(
            Prototypes(mine["middle"], mine["scale"], mine["centres"], float(mine["softness"][0]), mine["usual"]),
            mine["novelty"],
            mine["reference"],
        )
        p, d = made.prototypes.centres.shape
        shapes = [mine[name].shape for name in ("middle", "scale", "usual", "novelty", "reference")]
        if shapes != [(d,), (d,), (2,), (p,), _QUANTILES.shape]:
            raise ValueError(f"arrays of the unknown score do not fit: {shapes} for {p} centres of {d}")
        return made


def fit_unknown(
    vectors: npt.NDArray[np.floating],
    counts: csr_matrix,
    labelled: npt.ArrayLike,
    codes: npt.ArrayLike,
    *,
    middle: Floats | None = None,
    scale: Floats | None = None,
    class_shares: npt.ArrayLike | None = None,
    held_out: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    seed: int = 0,
) -> UnknownScore:
    """Learn what the labelled classes look like in a section, and what its other cells do.

    Parameters
    ----------
    vectors
        (n, d) of all cells: what the head looks at, without the counts.
    counts
        (n, n_genes) raw counts of all cells, CSR.
    labelled, codes
        Rows of the labelled cells (l,) and their classes (l,) as integers from 0.
    middle, scale
        (d,) to centre and scale the vectors; by default their mean and standard deviation.
    class_shares
        (n_classes,) in the section; by default equal.
    held_out
        Rows and classes of known cells that shaped neither ``vectors`` nor ``labelled``: a fine-tuned model's
        validation cells. By default, labelled cells are held out in turn, which is right for frozen vectors.
    seed
        Of samples and folds. The same input and seed give the same bytes.
    """
    rows = np.asarray(labelled, dtype=np.int64)
    middle = np.asarray(vectors.mean(0), dtype=np.float64) if middle is None else middle
    scale = np.asarray(vectors.std(0), dtype=np.float64) + 1e-6 if scale is None else scale
    kinds = find_kinds(vectors, counts, middle=middle, scale=scale, seed=seed)
    others = None
    if held_out is not None:
        apart = np.asarray(held_out[0], dtype=np.int64)
        others = (vectors[apart], _depth(counts[apart]), held_out[1])
    return unknown_score(
        kinds, vectors[rows], counts[rows], codes, class_shares=class_shares, held_out=others, seed=seed
    )


def unknown_score(
    kinds: SectionKinds,
    vectors: npt.NDArray[np.floating],
    counts: csr_matrix,
    codes: npt.ArrayLike,
    *,
    class_shares: npt.ArrayLike | None = None,
    held_out: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    seed: int = 0,
) -> UnknownScore:
    """:func:`fit_unknown` where the section's typical cells are known already; they do not depend on labels.

    ``vectors``, ``counts`` and ``codes`` are of the labelled cells (l,); ``held_out``: vectors, depth, codes of others.
    """
    of = np.asarray(codes, dtype=np.int64)
    shares = np.full(int(of.max()) + 1, 1.0) if class_shares is None else np.asarray(class_shares, dtype=np.float64)
    with one_thread():
        known = _Known(counts, *kinds.prototypes.mixtures(vectors), of, shares)
        novelty = _novelty(kinds, known)
        if held_out is None:
            raw, kept = _held_out_in_turn(kinds, known, seed)
            raw_of = of[kept]
            fade = evidence(_depth(counts)[kept])
        else:
            mixtures, beyond = kinds.prototypes.mixtures(held_out[0])
            raw_of = np.asarray(held_out[2], dtype=np.int64)
            raw, fade = mixtures @ novelty + beyond, evidence(np.asarray(held_out[1], dtype=np.float64))
        weight = shares[raw_of] / np.bincount(raw_of, minlength=len(shares))[raw_of]
        around = kinds.mixtures @ novelty + kinds.beyond
        fades = np.concatenate([fade, evidence(kinds.depth)])
        values = np.concatenate([raw, around])
        weights = np.concatenate(
            [
                weight * (len(raw) / weight.sum() if len(raw) else 1.0),
                np.full(len(around), _SECTION_WEIGHT / max(len(around), 1)),
            ]
        )
        # The middle is that of cells as they are; fading draws towards it and leaves it where it is.
        centre = _quantiles(values, weights, np.array([0.5]))[0]
        reference = _quantiles(centre + fades * (values - centre), weights, _QUANTILES)
    return UnknownScore(kinds.prototypes, novelty, reference)


def _depth(counts: csr_matrix) -> Floats:
    return np.asarray(counts.sum(1), dtype=np.float64).ravel()


@dataclass(frozen=True)
class _Known:
    """The labelled cells: counts (l, n_genes), mixtures (l, p), distances beyond the usual (l,), classes (l,); and the
    classes' shares."""

    counts: csr_matrix
    mixtures: Singles
    beyond: Singles
    codes: Places
    shares: Floats

    def without(self, held: npt.NDArray[np.bool_]) -> _Known:
        keep = ~held
        return _Known(self.counts[keep], self.mixtures[keep], self.beyond[keep], self.codes[keep], self.shares)


def _novelty(kinds: SectionKinds, known: _Known) -> Floats:
    """Strangeness (p,) of each typical cell: the two ways added, each in units of its spread over the section."""
    present, place = np.unique(known.codes, return_inverse=True)
    member = csr_matrix((np.ones(len(place)), (place, np.arange(len(place)))), shape=(len(present), len(place)))
    classes = profile(np.asarray((member @ known.counts).todense(), dtype=np.float64), kinds.average)
    unexplained = _relative_entropy(kinds.profiles, classes).min(1)
    near = np.exp(-_relative_entropy(kinds.profiles, kinds.profiles) / _KERNEL)
    weight = known.shares[known.codes] ** _SHARED / np.bincount(place)[place]
    labelled = near @ (weight / weight.sum() @ known.mixtures.astype(np.float64))
    lonely = _COMMON * np.log(near @ kinds.presence + _FLOOR) - np.log(labelled + _FLOOR)
    return _standard(unexplained, kinds.common) + _standard(lonely, kinds.common)


def _held_out_in_turn(kinds: SectionKinds, known: _Known, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Strangeness of labelled cells by what the others say, and which cells those are: not a class's only one."""
    raw, kept = np.zeros(len(known.codes)), np.zeros(len(known.codes), dtype=bool)
    for held in _folds(known.codes, seed):
        rest = known.without(held)
        held = held & np.isin(known.codes, rest.codes)
        if held.any() and len(rest.codes):
            raw[held] = known.mixtures[held] @ _novelty(kinds, rest) + known.beyond[held]
            kept |= held
    return raw[kept], kept


def _folds(codes: Places, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks (l,) of the cells to hold out; each class is spread over the folds."""
    random = np.random.default_rng(seed)
    fold = np.zeros(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        mine = random.permutation(np.flatnonzero(codes == code))
        fold[mine] = np.arange(len(mine)) % _FOLDS
    for number in range(_FOLDS):
        yield fold == number


def _relative_entropy(of: Floats, to: Floats) -> Floats:
    """(p, k) Kullback-Leibler divergence in nats, of profiles (p, n_genes) to profiles (k, n_genes)."""
    return np.asarray((of * np.log(of)).sum(1)[:, None] - of @ np.log(to).T)


def _standard(values: Floats, weight: Floats) -> Floats:
    mean = (weight * values).sum()
    return np.asarray((values - mean) / (np.sqrt((weight * (values - mean) ** 2).sum()) + 1e-12))


def _quantiles(values: Floats, weights: Floats, at: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    reach = np.cumsum(weights[order])
    return np.asarray(np.interp(at, (reach - weights[order] / 2) / reach[-1], values[order]))
