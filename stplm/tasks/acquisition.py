"""What makes a cell worth a label, as arrays: the scores of candidates, and a choice of cells that differ.

A cell is worth asking about where the model wavers between two classes, where it looks unlike everything labelled,
where its class has few labels so far, or where no label lies near, in the embedding or in the tissue. A cell that
stands for many counts more than an outlier or a faint one. What is chosen is taken one by one, each far from what is
labelled and from what was chosen before: uncertainty alone would ask twenty times about the same border (Settles,
"Active Learning Literature Survey", 2009; Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
Core-Set Approach", 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stplm.evidence import evidence
from stplm.tasks.prototypes import Floats, Places, Singles, squared_distances

BETWEEN, UNLIKE, FEW, AWAY, FAR, TYPICAL = "between", "unlike", "few", "away", "far", "typical"
"""Why a cell is asked about: between two classes; unlike the labelled cells; its class has few labels; no label among
cells like it; none in its part of the tissue; typical of cells that nobody has labelled (while there is no model)."""
WEIGHTS = {BETWEEN: 1.0, UNLIKE: 1.0, FEW: 1.0, AWAY: 0.5, FAR: 0.2}
"""What each counts for. Set on one labelled section (docs/suggestions.md); not tuned one by one."""
_UNLIKE_POWER = 4
"""A score of 0.5 is that of an ordinary cell, so only the top end says something."""
_AROUND = 5
"""The distance to this neighbour among the reference cells says how dense the cells lie."""
_DENSITY_POWER, _RAREST, _DENSEST = 0.5, 0.3, 1.5
"""Density counts by its root and within limits: a rare class is not an outlier."""
_PLENTY = 30
"""Labels of the rarest class from which on classes no longer need labels for being rare."""
_SECOND = 0.25
"""From this probability on, the second class is one that the cell may be of."""
_REACH = 0.7
"""How far a chosen cell speaks for others, in typical distances between neighbours."""


@dataclass(frozen=True)
class Candidates:
    """Cells that may be asked about.

    ``points`` float32 (n, d): where they lie in the embedding, scaled; ``xy`` (n, 2) in µm, NaN where unknown;
    ``depth`` (n,) counts. ``proba`` (n, k), ``unknown`` (n,) in [0, 1] with NaN where unknown, and ``labels`` (k,),
    the labels each class has: all None while there is no model.
    """

    points: Singles
    xy: Floats
    depth: Floats
    proba: Floats | None = None
    unknown: Floats | None = None
    labels: Places | None = None

    def __len__(self) -> int:
        return len(self.points)

    def take(self, some: Places) -> Candidates:
        """Some of them."""
        return Candidates(
            self.points[some],
            self.xy[some],
            self.depth[some],
            None if self.proba is None else self.proba[some],
            None if self.unknown is None else self.unknown[some],
            self.labels,
        )


def wants(cells: Candidates) -> dict[str, Floats]:
    """What the model wants to know of each cell, each (n,) from 0 to 1: BETWEEN, UNLIKE, FEW. {} without a model."""
    if cells.proba is None or cells.labels is None:
        return {}
    order = np.argsort(-cells.proba, axis=1, kind="stable")[:, :2]
    first, second = np.take_along_axis(cells.proba, order, axis=1).T
    need = 1 / np.sqrt(np.maximum(cells.labels, 1))
    need = need / max(need.max(), 1 / np.sqrt(_PLENTY))
    strange = np.zeros(len(cells)) if cells.unknown is None else np.nan_to_num(cells.unknown)
    return {
        BETWEEN: 1 - (first - second),
        UNLIKE: strange**_UNLIKE_POWER,
        FEW: np.maximum(need[order[:, 0]], need[order[:, 1]] * (second > _SECOND)),
    }


def worth(wanted: dict[str, Floats], depth: Floats) -> Floats:
    """(n,) the weighted sum of :func:`wants`, less for cells with few counts: a look that needs no distances."""
    total = sum((WEIGHTS[why] * value for why, value in wanted.items()), np.zeros(len(depth)))
    return np.asarray(total * evidence(depth))


@dataclass(frozen=True)
class Choice:
    """Cells in the order they should be asked about: places among the candidates, what each was worth (falling), and
    why (one of the module's reasons)."""

    places: Places
    scores: Floats
    reasons: list[str]


def choose(
    cells: Candidates,
    reference: Singles,
    seen: Singles,
    seen_xy: Floats,
    n: int,
    *,
    apart_um: float,
    extent_um: float,
) -> Choice:
    """Take up to ``n`` candidates one by one: the most worth asking about, given what is labelled and taken already.

    Parameters
    ----------
    reference
        (r, d) points of ordinary cells, by which density is judged.
    seen, seen_xy
        (s, d) and (s, 2) points and positions of cells that have been asked about.
    apart_um
        No two of the chosen are closer than this, µm.
    extent_um
        Side of the tissue, µm: a part of it is a tenth of that wide.
    """
    wanted = wants(cells)
    crowd = np.sqrt(squared_distances(cells.points, reference))
    around = np.partition(crowd, min(_AROUND, crowd.shape[1] - 1), axis=1)[:, min(_AROUND, crowd.shape[1] - 1)]
    usual = float(np.median(around)) or 1.0
    density = np.clip(usual / np.maximum(around, 1e-9), _RAREST, _DENSEST)
    near = np.sqrt(squared_distances(cells.points, seen).min(1)) if len(seen) else np.full(len(cells), np.inf)
    close = _distances(cells.xy, seen_xy)
    picked_near = np.full(len(cells), np.inf)
    parts: dict[str, Floats] = {}
    place: list[int] = []
    score: list[float] = []
    reasons: list[str] = []
    for _ in range(min(n, len(cells))):
        if wanted:
            parts = {
                **wanted,
                AWAY: np.clip(near / (2 * usual), 0, 1),
                FAR: np.clip(close / (extent_um / 10), 0, 1),
            }
            value = worth(parts, cells.depth) * density**_DENSITY_POWER
            value = value * (1 - np.exp(-((near / (_REACH * usual)) ** 2)))
            value = value * (1 - np.exp(-((picked_near / (2 * apart_um)) ** 2)))
        else:
            # Without a model, cover the embedding: farthest first, of cells that have many like them.
            value = np.where(np.isfinite(near), near, 1.0) * density * evidence(cells.depth)
        value = np.where(picked_near < apart_um, 0.0, value)
        best = int(value.argmax())
        if value[best] <= 0:
            break
        place.append(best)
        score.append(float(value[best]))
        reasons.append(_reason(parts, best) if wanted else TYPICAL)
        near = np.minimum(near, np.sqrt(((cells.points - cells.points[best]) ** 2).sum(1)))
        step = np.hypot(*(cells.xy - cells.xy[best]).T)
        # Cells without a position are nowhere near.
        step = np.where(np.isfinite(step), step, np.inf)
        picked_near, close = np.minimum(picked_near, step), np.minimum(close, step)
        picked_near[best] = 0.0
    return Choice(np.array(place, dtype=np.int64), np.array(score), reasons)


def _reason(parts: dict[str, Floats], place: int) -> str:
    """What sets this candidate apart from the usual one."""
    return max(parts, key=lambda why: WEIGHTS[why] * float(parts[why][place] - np.median(parts[why])))


def _distances(xy: Floats, to: Floats) -> Floats:
    """(n,) µm to the nearest of ``to``; infinite where there is none, 0 for cells without a position."""
    from scipy.spatial import cKDTree

    to = to[np.isfinite(to).all(1)]
    found = np.full(len(xy), np.inf)
    placed = np.isfinite(xy).all(1)
    if len(to) and placed.any():
        found[placed] = cKDTree(to).query(xy[placed])[0]
    found[~placed] = 0.0
    return found


def spread_sample(random: np.random.Generator, rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """At most ``n`` of the rows, drawn at random, ascending."""
    return rows if len(rows) <= n else np.sort(random.choice(rows, n, replace=False, shuffle=False))
