"""Screens: of many genes, the few that move cells the most, found without running all.

- *Cell tokens*: every gene is estimated by gradient in every cell; twice the wanted genes go on to be run.
- *Gene tokens*: gradients in some of the cells say which genes may be among the best, and a race among those
  (:mod:`stplm.tasks.perturb_race`), of real deletions in ever more cells, says which are. The wanted genes go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.perturb_gradient import estimate
from stplm.tasks.perturb_race import FIRST, Race, Z
from stplm.tasks.perturb_tokens import TokenVariants

if TYPE_CHECKING:
    from stplm.tasks.perturb_run import Lab
    from stplm.tasks.perturb_sets import GeneSets

FEWEST = 10
"""Genes that fewer of the cells express come after all others: their mean is mostly chance."""
_RUN = 2
"""Of cell tokens, so many times the wanted genes are run."""
GRADIENT_CELLS = 100
"""Of gene tokens, gradients are taken in so many cells."""
_LEAST_SPREAD = 0.2


@dataclass(frozen=True)
class Screened:
    """What a screen found of each set.

    ``kept``: rows of the sets that go on, ascending. ``effects`` float64 (n_sets,): the mean effect, of the ``cells``
    int64 (n_sets,) that were run, else estimated by gradient; NaN where no cell expresses the gene.
    """

    kept: NDArray[np.int64]
    effects: NDArray[np.float64]
    cells: NDArray[np.int64]

    def to_json(self) -> str:
        """As text."""
        plain = [None if np.isnan(v) else float(v) for v in self.effects]
        return json.dumps({"kept": self.kept.tolist(), "effects": plain, "cells": self.cells.tolist()})

    @classmethod
    def of(cls, text: str) -> Screened:
        """From :meth:`to_json`."""
        given: dict[str, Any] = json.loads(text)
        effects = np.array([np.nan if v is None else v for v in given["effects"]], dtype=np.float64)
        return cls(np.array(given["kept"], dtype=np.int64), effects, np.array(given["cells"], dtype=np.int64))


def screen(
    lab: Lab,
    chosen: NDArray[np.int64],
    sets: GeneSets,
    effect: str,
    top: int,
    *,
    seed: int = 0,
    step: Callable[[int], None] = lambda n: None,
) -> Screened:
    """The ``top`` genes (of cell tokens: twice as many) whose deletion has the largest mean ``effect`` in the
    ``chosen`` cells that express them. Raises as :func:`estimate` does."""
    number = _expressing(lab, chosen, sets)
    if not isinstance(lab.variants, TokenVariants):
        effects = estimate(lab, chosen, sets, effect, seed=seed, step=step)
        kept = _best(effects, number)[: _RUN * top]
        return Screened(np.sort(kept), effects, np.zeros(len(sets), dtype=np.int64))
    order = np.random.default_rng(seed).permutation(chosen)
    some = order[:GRADIENT_CELLS]
    effects = estimate(lab, np.sort(some), sets, effect, seed=seed, step=step)
    race = Race(lab, order, sets, effect, step)
    entered = _entrants(race, effects, number, _expressing(lab, some, sets), top)
    kept = race.winners(entered, top)
    cells = np.array([len(values) for values in race.values], dtype=np.int64)
    effects = np.where(cells > 0, race.means()[0], effects)
    return Screened(np.sort(kept), effects, cells)


def _entrants(
    race: Race,
    effects: NDArray[np.float64],
    number: NDArray[np.int64],
    estimated_in: NDArray[np.int64],
    top: int,
) -> NDArray[np.int64]:
    """Rows of the genes that may be among the ``top``, given what was run of the best estimated.

    An estimate's error is told by the ratio of what was run to it; that of an estimate from few cells is larger.
    """
    ranked = _best(effects, number)
    first = ranked[: 2 * top]
    race.run(first, FIRST)
    mean, error = race.means()
    size, guess = np.abs(mean), np.abs(np.nan_to_num(effects))
    both = first[(size[first] > 0) & (guess[first] > 0)]
    if len(both) < 2:
        return ranked
    apart = np.log(size[both] / guess[both])
    spread = max(float(np.std(apart)), _LEAST_SPREAD)
    high = guess * np.exp(float(np.mean(apart)) + Z * spread)
    low = np.maximum(size - Z * error, 0)[first]
    bar = np.partition(low, -top)[-top] if len(first) >= top else 0.0
    enough = number >= min(FEWEST, number.max(initial=0))
    possible = (high >= bar) | (estimated_in == 0)
    possible[first] = True
    return np.flatnonzero(possible & (number > 0) & enough)


def _best(effects: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by size of effect, the largest first; genes that few cells express after the others, unknown ones last."""
    size = np.nan_to_num(np.abs(effects), nan=-1.0)
    order = np.lexsort((-size, number < min(FEWEST, number.max(initial=0))))
    return np.asarray(order[number[order] > 0])


def _expressing(lab: Lab, cells: NDArray[np.int64], sets: GeneSets) -> NDArray[np.int64]:
    """(n_sets,) how many of the cells express each single gene."""
    part = lab.cells.counts[cells]
    here = np.bincount(part.indices, weights=part.data > 0, minlength=part.shape[1])
    return here.astype(np.int64)[sets.columns]
