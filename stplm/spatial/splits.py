"""Which cells are learnt from and which are scored: whole squares of tissue apart, never random cells.

Neighbouring cells share transcripts, segmentation errors and surroundings, so a random cell is half known from the cell
beside it and a score on random cells promises too much (Roberts et al., 2017, on blocked cross-validation). Here whole
squares are held out, and cells within a buffer of a held-out cell are left out of both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stplm.errors import LabelError, SectionError

_SMALLEST_BLOCK = 50.0
"""µm. Under this, most of a square's cells would lie in a neighbour's buffer."""
_DRAWS = 200
_BUFFERED = 12
"""Of the draws, this many best ones are judged again after the buffer has taken its cells."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """``train`` and ``test``, bool (n,): a cell is in one of them or in neither.

    ``missing`` names the classes that are not on both sides; ``block`` is the side of the squares in µm (0 where whole
    sections were split).
    """

    train: Mask
    test: Mask
    missing: tuple[str, ...] = ()
    block: float = 0.0


def split_blocks(
    xy: ArrayLike,
    *,
    block: float = 200.0,
    buffer: float = 30.0,
    share: float = 0.2,
    seed: int = 0,
    labels: Sequence[object] | NDArray[Any] | None = None,
    strict: bool = True,
) -> Split:
    """Hold out squares of tissue.

    Parameters
    ----------
    xy
        (n, 2), µm. Of several sections: :func:`side_by_side`.
    block
        Side of the squares, µm. Halved, down to 50 µm, as long as a class that could be on both sides is not.
    buffer
        Cells at most this far from a held-out cell, in µm, are on neither side.
    share
        About this share of the cells, of each class where there are labels, is held out.
    seed
        Of the draws. Of many, the one is taken that has the most classes on both sides, and of those the one that holds
        out closest to ``share`` of each class.
    labels
        One class name a cell, None or NaN where there is none. Then only labelled cells are on either side. By default
        every cell counts.
    strict
        Raise where a class cannot be on both sides. Otherwise ``Split.missing`` names these classes.

    Raises
    ------
    LabelError
        No labels; or a class cannot be on both sides (``strict``).
    SectionError
        Positions that are not (n, 2) or not finite; or, without labels, a section too small to hold out a part of it.
    ValueError
        ``block``, ``buffer`` or ``share`` out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    places, codes, names = _known(xy, labels, block, buffer)
    best: Split | None = None
    for side in _sides(block):
        squares, counts = _squares(places, codes, len(names), side)
        for held in _best_draws(counts, share, seed):
            split = _buffered(places, codes, held[squares], buffer, names, side)
            if best is None or len(split.missing) < len(best.missing):
                best = split
            if not best.missing:
                return best
        if best is not None and not set(best.missing) - _hopeless(codes, names):
            break
    if best is None:
        best = Split(codes >= 0, np.zeros(len(places), dtype=bool), tuple(names), block)
    if best.missing and (strict or labels is None or len(best.missing) == len(names)):
        raise _not_both_sides(best.missing, buffer, labels is not None)
    return best


def fold_blocks(
    xy: ArrayLike,
    *,
    folds: int = 5,
    block: float = 200.0,
    buffer: float = 30.0,
    seed: int = 0,
    labels: Sequence[object] | NDArray[Any] | None = None,
    strict: bool = True,
) -> list[Split]:
    """Cross-validation by squares: each (labelled) cell is held out in exactly one of the ``folds`` splits.

    Parameters and errors as for :func:`split_blocks`; ``strict`` wants every class on both sides of every fold. Raises
    ValueError for fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, not {folds}")
    places, codes, names = _known(xy, labels, block, buffer)
    best: list[Split] = []
    for side in _sides(block):
        squares, counts = _squares(places, codes, len(names), side)
        fold_of = _spread(counts, folds, seed)[squares]
        splits = [_buffered(places, codes, fold_of == fold, buffer, names, side) for fold in range(folds)]
        if not best or _n_missing(splits) < _n_missing(best):
            best = splits
        if _n_missing(best) == 0:
            break
    lost = tuple(n for n in names if any(n in split.missing for split in best))
    if lost and (strict or labels is None):
        raise _not_both_sides(lost, buffer, labels is not None, folds)
    return best


def split_sections(n_sections: int, share: float = 0.2, seed: int = 0) -> Split:
    """Hold out whole sections: masks over sections, at least one on each side. Raises SectionError for fewer than two.

    Where sections of one patient are among them, keep them together by splitting patients instead.
    """
    if n_sections < 2:
        raise SectionError(
            "One section cannot be split by section.", found=str(n_sections), mend="Split it by spatial block."
        )
    held = int(np.clip(round(share * n_sections), 1, n_sections - 1))
    test = np.zeros(n_sections, dtype=bool)
    test[np.random.default_rng(seed).permutation(n_sections)[:held]] = True
    return Split(~test, test)


def side_by_side(positions: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Positions (n, 2) in µm of several sections as one: beside each other in x, 10 mm apart, so that none touch."""
    left, placed = 0.0, []
    for xy in map(_checked, positions):
        placed.append(xy - xy.min(0) + [left, 0.0])
        left = float(placed[-1][:, 0].max()) + 10_000.0
    return np.concatenate(placed)


def _checked(xy: ArrayLike) -> NDArray[np.float64]:
    places = np.asarray(xy, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2:
        raise SectionError("Cell positions must be x and y.", found=f"shape {places.shape}", expected="(n, 2) in µm")
    if len(places) == 0:
        raise SectionError("There are no cells.")
    if bad := int((~np.isfinite(places).all(axis=1)).sum()):
        raise SectionError("Some cells have no position.", found=f"{bad} of {len(places)}", mend="Leave them out.")
    return places


def _known(
    xy: ArrayLike, labels: Sequence[object] | NDArray[Any] | None, block: float, buffer: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Positions; the class of each cell as a number, -1 where it has none; the classes' names, sorted."""
    import pandas as pd

    if not block > 0 or not buffer >= 0:
        raise ValueError(f"block must be above 0 and buffer at least 0 µm, not block={block}, buffer={buffer}")
    places = _checked(xy)
    if labels is None:
        return places, np.zeros(len(places), dtype=np.int64), ["cells"]
    given = np.asarray(labels, dtype=object)
    if given.shape != (len(places),):
        raise LabelError("There must be one label a cell.", found=str(given.shape), expected=str(len(places)))
    known = ~pd.isna(given)
    if not known.any():
        raise LabelError("No cell has a label.", mend="Label cells of two classes or more.")
    codes = np.full(len(places), -1, dtype=np.int64)
    names, codes[known] = np.unique(given[known].astype(str), return_inverse=True)
    return places, codes, names.tolist()


def _sides(block: float) -> Iterator[float]:
    yield block
    while (block := block / 2) >= _SMALLEST_BLOCK:
        yield block


def _squares(
    places: NDArray[np.float64], codes: NDArray[np.int64], n_classes: int, side: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The square of each cell (n,), and how many cells of each class it has (n_squares, n_classes).

    Squares without a cell to count are all one, the last; it is never drawn, as its row is left off the counts.
    """
    column, row = np.floor((places - places.min(0)) / side).astype(np.int64).T
    square = column * (int(row.max()) + 1) + row
    known = codes >= 0
    used = np.unique(square[known])
    at = np.searchsorted(used, square)
    at = np.where(np.isin(square, used), at, len(used))
    counts = np.zeros((len(used), n_classes), dtype=np.int64)
    np.add.at(counts, (at[known], codes[known]), 1)
    return at, counts


def _best_draws(counts: NDArray[np.int64], share: float, seed: int) -> list[Mask]:
    """The best draws of squares, each bool (n_squares + 1,), best first; none where there is but one square."""
    if len(counts) < 2:
        return []
    random = np.random.default_rng(seed)
    total = counts.sum(0)
    drawn = []
    for i in range(_DRAWS):
        held = _draw(counts, share, random, cover=i % 2 == 1)
        test = counts[held].sum(0)
        missing = int(((test == 0) | (test == total)).sum())
        drawn.append((missing, float(np.abs(test / total - share).mean()), i, held))
    drawn.sort(key=lambda d: d[:3])
    return [np.append(held, False) for *_, held in drawn[:_BUFFERED]]


def _draw(counts: NDArray[np.int64], share: float, random: np.random.Generator, *, cover: bool) -> Mask:
    """Squares in random order up to ``share`` of the cells; with ``cover``, first one square of each rare class."""
    first: list[int] = []
    if cover:
        for c in np.argsort((counts > 0).sum(0), kind="stable"):
            having = np.flatnonzero(counts[:, c])
            if len(having) > 1 and not counts[first, c].any():
                first.append(int(random.choice(having)))
    order = random.permutation(len(counts))
    order = np.concatenate([np.array(first, dtype=np.int64), order[~np.isin(order, first)]])
    held_out = np.cumsum(counts.sum(1)[order])
    closest = int(np.abs(held_out - share * held_out[-1]).argmin()) + 1
    held = np.zeros(len(counts), dtype=bool)
    held[order[: min(max(closest, len(first)), len(counts) - 1)]] = True
    return held


def _spread(counts: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each square (n_squares + 1,), -1 for the last: each class, rare ones first, as even as can be."""
    random = np.random.default_rng(seed)
    fold_of = np.full(len(counts) + 1, -1, dtype=np.int64)
    have = np.zeros((folds, counts.shape[1]))
    weight = 1 / np.maximum(counts.sum(0), 1)
    order = random.permutation(len(counts))
    rarest = np.where(counts > 0, (counts > 0).sum(0), np.iinfo(np.int64).max).min(axis=1)
    for square in order[np.argsort(rarest[order], kind="stable")]:
        # What adding it to a fold costs: the more of these classes the fold has already, the more.
        cost = ((have + counts[square]) ** 2 - have**2) @ weight**2
        fold = int(cost.argmin())
        fold_of[square], have[fold] = fold, have[fold] + counts[square]
    return fold_of


def _buffered(
    places: NDArray[np.float64],
    codes: NDArray[np.int64],
    held: Mask,
    buffer: float,
    names: list[str],
    side: float,
) -> Split:
    from scipy.spatial import cKDTree

    test = held & (codes >= 0)
    train = ~held & (codes >= 0)
    if test.any() and train.any():
        near, _ = cKDTree(places[test]).query(places[train], k=1, distance_upper_bound=buffer * (1 + 1e-9) + 1e-9)
        train[np.flatnonzero(train)[np.isfinite(near)]] = False
    both = [bool(train[codes == c].any() and test[codes == c].any()) for c in range(len(names))]
    return Split(train, test, tuple(n for n, ok in zip(names, both, strict=True) if not ok), side)


def _hopeless(codes: NDArray[np.int64], names: list[str]) -> set[str]:
    """Classes of a single cell: no smaller square helps them."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return {n for n, count in zip(names, counts, strict=True) if count < 2}


def _n_missing(splits: list[Split]) -> int:
    return sum(len(split.missing) for split in splits)


def _not_both_sides(
    missing: tuple[str, ...], buffer: float, labelled: bool, folds: int = 1
) -> LabelError | SectionError:
    if not labelled:
        return SectionError(
            "The section is too small, or has too few cells, to hold out a part of it.",
            expected=f"several squares of {_SMALLEST_BLOCK:g} µm or more with cells",
            mend="Hold out a whole section, or take a smaller buffer.",
        )
    where = "on both sides of the split" if folds == 1 else f"on both sides of each of {folds} folds"
    return LabelError(
        f"These classes cannot be {where}: their labelled cells lie too close together or are too few.",
        found=", ".join(missing),
        expected=f"labelled cells of each class in several places, more than {buffer:g} µm apart",
        mend="Label cells of these classes elsewhere in the tissue too, leave the classes out, or take a smaller buffer"
        + ("." if folds == 1 else " or fewer folds."),
    )
