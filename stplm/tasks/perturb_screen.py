"""Screens: of many genes, the few that move cells the most, found without running all.

- *Cell tokens*: every gene is estimated by gradient in every cell; twice the wanted genes go on to be run.
- *Gene tokens*: a gradient costs as much as many deletions, and errs by more than the best genes differ by. So real
  deletions are run, in ever more cells of ever fewer genes (:mod:`stplm.tasks.perturb_race`). The wanted genes go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.tasks.perturb_gradient import check_screen, estimate
from stplm.tasks.perturb_race import Race
from stplm.tasks.perturb_statistics import Expression
from stplm.tasks.perturb_tokens import TokenVariants

if TYPE_CHECKING:
    from stplm.tasks.perturb_run import Known, Lab
    from stplm.tasks.perturb_sets import GeneSets

FEWEST = 10
"""Of gene tokens, genes that fewer of the cells express do not race; of cell tokens, they come after all others: their
mean is mostly chance."""
_RUN = 2
"""Of cell tokens, so many times the wanted genes are run."""


@dataclass(frozen=True)
class Screened:
    """What a screen found of each set.

    ``kept``: rows of the sets that go on, ascending. ``effects`` float64 (n_sets,): the mean effect, of the ``cells``
    int64 (n_sets,) that were run, else estimated by gradient; NaN where no cell expresses the gene. ``known``: vectors
    that were made on the way.
    """

    kept: NDArray[np.int64]
    effects: NDArray[np.float64]
    cells: NDArray[np.int64]
    known: Known | None = None

    def to_json(self) -> str:
        """As text, without the vectors."""
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
    expression: Expression | None = None,
    seed: int = 0,
    step: Callable[[int], None] = lambda n: None,
) -> Screened:
    """The ``top`` genes (of cell tokens: twice as many) whose deletion has the largest mean ``effect`` in the
    ``chosen`` cells that express them; ``expression`` of those cells, where it is known. Raises as :func:`estimate`
    does."""
    check_screen(lab, sets)
    expression = expression or Expression.of(lab.cells.counts, chosen)
    number = expression.number[sets.columns]
    if not isinstance(lab.variants, TokenVariants):
        effects = estimate(lab, chosen, sets, effect, seed=seed, step=step)
        kept = _best(effects, number)[: _RUN * top]
        return Screened(np.sort(kept), effects, np.zeros(len(sets), dtype=np.int64))
    race = Race(lab, np.random.default_rng(seed).permutation(chosen), sets, effect, step)
    often = np.flatnonzero(number >= min(FEWEST, number.max(initial=1)))
    kept = race.winners(often, top)
    cells = np.array([len(values) for values in race.found], dtype=np.int64)
    effects = np.where(cells > 0, race.means()[0], np.nan)
    return Screened(np.sort(kept), effects, cells, race.known(kept))


def _best(effects: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by size of effect, the largest first; genes that few cells express after the others, unknown ones last."""
    size = np.nan_to_num(np.abs(effects), nan=-1.0)
    order = np.lexsort((-size, number < min(FEWEST, number.max(initial=0))))
    return np.asarray(order[number[order] > 0])
