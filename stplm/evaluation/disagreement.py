"""Where two sources name a cell differently: the model and a person, its two heads, a drawing, an older annotation.

Which cells are compared at all is part of the answer: a cell that one side says nothing about, or names in a way that
the other side has no word for, is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

AGREE, DISAGREE, NOT_COMPARED = 0, 1, 2
TUMOUR, NOT_TUMOUR, OUTSIDE = "tumour", "not tumour", "outside its regions"


@dataclass(frozen=True, eq=False)
class Disagreement:
    """What a comparison found.

    ``states`` is (n_cells,) int8 of AGREE, DISAGREE, NOT_COMPARED; ``rows`` the cells that disagree, the one whose
    name the first side is surest of first; ``said`` and ``against`` are both sides' names, categorical, (n_cells,);
    ``unmatched`` the names of the second side that the first one does not know.
    """

    states: NDArray[np.int8]
    rows: NDArray[np.int64]
    said: pd.Categorical
    against: pd.Categorical
    unmatched: tuple[str, ...] = ()

    @property
    def n_compared(self) -> int:
        """Cells that both sides name."""
        return int((self.states != NOT_COMPARED).sum())

    def pairs(self) -> pd.Series:
        """Number of disagreeing cells by (said, against), the most frequent first."""
        width = len(self.against.categories)
        both = self.said.codes[self.rows].astype(np.int64) * width + self.against.codes[self.rows]
        many = np.bincount(both)
        kept = np.flatnonzero(many)
        kept = kept[np.argsort(-many[kept], kind="stable")]
        sides = [self.said.categories.take(kept // width), self.against.categories.take(kept % width)]
        return pd.Series(many[kept], pd.MultiIndex.from_arrays(sides, names=["said", "against"]))

    def pair(self, row: int) -> tuple[str, str]:
        """What both sides call a cell."""
        return str(self.said[row]), str(self.against[row])


def disagreement(said: pd.Categorical, against: pd.Categorical, sure: ArrayLike | None = None) -> Disagreement:
    """Compare two names of each cell.

    Parameters
    ----------
    said, against
        Categorical, (n_cells,), in the same order; missing where a side says nothing. Names match whatever their case,
        spaces and underscores.
    sure
        (n_cells,) how sure the first side is; disagreeing cells are listed by it, highest first. In row order without.

    Raises
    ------
    ValueError
        The two are not equally long.
    """
    if len(said) != len(against):
        raise ValueError(f"{len(said)} cells cannot be compared with {len(against)}")
    ids: dict[str, int] = {}
    mine = _common(said, ids)
    known = len(ids)
    theirs = _common(against, ids)
    compared = (mine >= 0) & (theirs >= 0) & (theirs < known)
    differ = compared & (mine != theirs)
    states = np.full(len(mine), NOT_COMPARED, np.int8)
    states[compared], states[differ] = AGREE, DISAGREE
    rows = np.flatnonzero(differ)
    if sure is not None:
        rows = rows[np.argsort(-np.asarray(sure, np.float32)[rows], kind="stable")]
    unmatched = tuple(str(n) for n in against.categories if ids[_plain(str(n))] >= known)
    return Disagreement(states, rows, said, against, unmatched)


def tumour_against_type(
    tumour: ArrayLike, types: pd.Categorical, tumour_types: Collection[str], threshold: float = 0.5
) -> Disagreement:
    """The tumour call against the cell type.

    Parameters
    ----------
    tumour
        (n_cells,) probability of tumour; NaN where there is none.
    types
        Categorical, (n_cells,): the type of each cell.
    tumour_types
        Types that are tumour.
    threshold
        Probability from which a cell is called tumour.
    """
    score = np.asarray(tumour, float)
    called = np.where(np.isfinite(score), (score >= threshold).astype(np.int8), -1)
    flags = np.array([*(int(str(n) in tumour_types) for n in types.categories), -1], np.int8)
    return disagreement(
        _named(called, [NOT_TUMOUR, TUMOUR]),
        _named(flags[types.codes], [NOT_TUMOUR, TUMOUR]),
        np.abs(np.nan_to_num(score, nan=threshold) - threshold),
    )


def prediction_outside_regions(
    said: pd.Categorical, inside: Mapping[str, NDArray[np.integer]], sure: ArrayLike | None = None
) -> Disagreement:
    """Cells that are given a class outside of the regions drawn for it.

    Parameters
    ----------
    said
        Categorical, (n_cells,): the class of each cell.
    inside
        ``{class: rows}`` of the cells in any region of that class. Cells of classes without a region are not compared;
        nor is a cell of another class within a region, for tissue is mixed.
    sure
        As in :func:`disagreement`.
    """
    names = [str(n) for n in said.categories]
    lut = np.array([*(names.index(n) if n in inside else -1 for n in names), -1])
    codes = lut[said.codes]
    against = np.where(codes >= 0, len(names), -1)
    for name, rows in inside.items():
        if name in names:
            place = names.index(name)
            against[rows[codes[rows] == place]] = place
    known = [*names, OUTSIDE]
    return disagreement(_named(codes, known), _named(against, known), sure)


def _named(codes: NDArray[Any], names: list[str]) -> pd.Categorical:
    return pd.Categorical(pd.Categorical.from_codes(codes, pd.Index(names, dtype=object)))


def _common(names: pd.Categorical, ids: dict[str, int]) -> NDArray[np.int32]:
    """Each cell's number of its name, in ``ids``, which grows; -1 for none."""
    lut = [ids.setdefault(_plain(str(n)), len(ids)) for n in names.categories]
    return np.asarray(np.array([*lut, -1], np.int32)[names.codes])


def _plain(name: str) -> str:
    return "".join(name.casefold().replace("_", " ").split())
