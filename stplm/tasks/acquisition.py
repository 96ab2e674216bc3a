"""What makes a cell worth a label, as arrays: the scores of candidates, and a choice of cells that differ.

Two things are multiplied. One is how much of the section is new with the cell: how far it lies from everything that is
labelled, and how many cells lie around it, for an outlier or a faint cell stands for none. The other is what the model
wants to know of it: whether it wavers between two classes, finds the cell unlike everything labelled, or knows its
class from few labels. With few labels the first decides, for a model that has seen few classes is sure of the wrong
things (Hacohen et al., "Active Learning on a Budget", 2022); as labels come, distances even out and the second does.

Cells are taken one by one, each far from what is labelled and from what was chosen before: uncertainty alone would ask
twenty times about the same border (Settles, "Active Learning Literature Survey", 2009; Sener and Savarese, "Active
Learning for Convolutional Neural Networks: A Core-Set Approach", 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stplm.evidence import evidence
from stplm.tasks.prototypes import Floats, Places, Singles, squared_distances

BETWEEN, UNLIKE, FEW, AWAY, TYPICAL = "between", "unlike", "few", "away", "typical"
"""Why a cell is asked about: between two classes; unlike the labelled cells; its class has few labels; no label among
cells like it; typical of cells that nobody has labelled (while there is no model)."""
_ANYHOW = 0.2
"""What a cell counts for where the model wants to know nothing; each thing wanted counts for up to 1."""
_UNLIKE_POWER = 4
"""A score of 0.5 is that of an ordinary cell, so only the top end says something."""
_AROUND = 5
"""The distance to this neighbour among the reference cells says how dense the cells lie."""
_RAREST, _DENSEST = 0.3, 1.5
"""Density counts within limits: a rare class is not an outlier."""
_PLENTY = 30
"""Labels of the rarest class from which on classes no longer need labels for being rare."""
_SECOND = 0.25
"""From this probability on, the second class is one that the cell may be of."""


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
    """(n,) the sum of :func:`wants`, less for cells with few counts: a look that needs no distances."""
    total = sum(wanted.values(), np.full(len(depth), _ANYHOW))
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
    n: int,
    *,
    apart_um: float,
) -> Choice:
    """Take up to ``n`` candidates one by one: the most worth asking about, given what is labelled and taken already.

    Parameters
    ----------
    reference
        (r, d) points of ordinary cells, by which density is judged.
    seen
        (s, d) points of cells that have been asked about.
    apart_um
        No two of the chosen are closer than this, µm.
    """
    wanted = wants(cells)
    crowd = np.sqrt(squared_distances(cells.points, reference))
    around = np.partition(crowd, min(_AROUND, crowd.shape[1] - 1), axis=1)[:, min(_AROUND, crowd.shape[1] - 1)]
    usual = float(np.median(around)) or 1.0
    density = np.clip(usual / np.maximum(around, 1e-9), _RAREST, _DENSEST)
    # With nothing seen, all are farther than any two cells are: the first is the one that stands for most.
    near = np.full(len(cells), 2 * float(crowd.max()) or 1.0)
    if len(seen):
        near = np.sqrt(squared_distances(cells.points, seen).min(1))
    asked = worth(wanted, cells.depth)
    picked_near = np.full(len(cells), np.inf)
    place: list[int] = []
    score: list[float] = []
    reasons: list[str] = []
    for _ in range(min(n, len(cells))):
        new = near / usual * density
        value = asked * new * (1 - np.exp(-((picked_near / (2 * apart_um)) ** 2)))
        value = np.where(picked_near < apart_um, 0.0, value)
        best = int(value.argmax())
        if value[best] <= 0:
            break
        place.append(best)
        score.append(float(value[best]))
        reasons.append(_reason(wanted, asked, new, best) if wanted else TYPICAL)
        near = np.minimum(near, np.sqrt(((cells.points - cells.points[best]) ** 2).sum(1)))
        step = np.hypot(*(cells.xy - cells.xy[best]).T)
        # Cells without a position are nowhere near.
        step = np.where(np.isfinite(step), step, np.inf)
        picked_near = np.minimum(picked_near, step)
        picked_near[best] = 0.0
    return Choice(np.array(place, dtype=np.int64), np.array(score), reasons)


def _reason(wanted: dict[str, Floats], asked: Floats, new: Floats, place: int) -> str:
    """What sets this candidate apart from the usual one: the greater of the two factors, and what is most in it."""
    if new[place] * np.median(asked) >= asked[place] * np.median(new):
        return AWAY
    return max(wanted, key=lambda why: float(wanted[why][place] - np.median(wanted[why])))


def spread_sample(random: np.random.Generator, rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """At most ``n`` of the rows, drawn at random, ascending."""
    return rows if len(rows) <= n else np.sort(random.choice(rows, n, replace=False, shuffle=False))
