"""Deletion screens by gradient: one pass and a few backward passes a cell estimate what deleting each gene would do.

To first order, a deletion changes a function f of the cell vector by its gradient times the change of the input, which
is known exactly for a bag of genes (:mod:`stplm.tasks.perturb_bag`). A shift of cosine has no gradient where it starts;
it is half the squared length of the vector's change across itself, which the squared change along random directions
across it gives on average (a Hutchinson estimate): many cells make up for few directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.errors import StplmError
from stplm.tasks.perturb_bag import BagVariants
from stplm.tasks.perturb_edits import Edits, edits_of
from stplm.tasks.perturb_measures import States
from stplm.tasks.perturb_tokens import TokenVariants

if TYPE_CHECKING:
    from stplm.tasks.perturb_run import Lab
    from stplm.tasks.perturb_sets import GeneSets

_DIRECTIONS = 4
"""Random directions a cell."""


def estimate(
    lab: Lab,
    chosen: NDArray[np.int64],
    sets: GeneSets,
    effect: str,
    *,
    seed: int = 0,
    step: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float64]:
    """Mean effect (n_sets,) of deleting each gene from the ``chosen`` cells that express it, estimated; NaN without
    one.
        ``effect``: "shift", "to_goal" or "from_start". ``step`` is told how many cells were done. Raises StplmError for
        sets of several genes, another mode, or a model of other than cell tokens.
    """
    check_screen(lab, sets)
    variants = lab.variants
    if not isinstance(variants, BagVariants):
        raise StplmError("This model's genes cannot be estimated by gradient.", mend="Leave top out.")
    random = torch.Generator().manual_seed(seed)
    total, number = np.zeros(len(sets)), np.zeros(len(sets), dtype=np.int64)
    for start in range(0, len(chosen), variants.block):
        counts = lab.cells.dense(chosen[start : start + variants.block])
        edits = edits_of(counts, sets, variants.rule)
        objective = _Objective(lab.states, effect, random, _DIRECTIONS)
        values = _bag(variants, counts, edits, objective)
        total += np.bincount(edits.sets, weights=values, minlength=len(sets))
        number += np.bincount(edits.sets, minlength=len(sets))
        step(len(counts))
    return np.asarray(np.divide(total, number, out=np.full(len(sets), np.nan), where=number > 0))


def check_screen(lab: Lab, sets: GeneSets) -> None:
    """Raises StplmError for what cannot be screened: sets of several genes, another mode, model or measure."""
    variants = lab.variants
    if variants.rule.mode != "delete" or (sets.sizes != 1).any():
        raise StplmError("Only deletions of single genes can be screened.", mend="Leave top out.")
    if not isinstance(variants, BagVariants | TokenVariants) or variants.measure != "cell":
        raise StplmError("This model or measure cannot be screened.", mend="Leave top out.")


class _Objective:
    """The functions whose gradients are asked for, and what their changes add up to."""

    def __init__(self, states: States, effect: str, random: torch.Generator, directions: int) -> None:
        self._random, self._directions = random, directions
        self._towards = effect == "to_goal"
        self._state = {"to_goal": states.goal, "from_start": states.start}.get(effect)

    @property
    def number(self) -> int:
        return self._directions if self._state is None else 1

    def values(self, vectors: Tensor) -> list[Tensor]:
        """(n,) each of the functions, of cell vectors (n, d)."""
        return [self._value(vectors) for _ in range(self.number)]

    def _value(self, vectors: Tensor) -> Tensor:
        if self._state is not None:
            cosine: Tensor = torch.cosine_similarity(vectors, torch.from_numpy(self._state).to(vectors)[None], dim=1)
            return cosine if self._towards else -cosine
        fixed = vectors.detach()
        size = fixed.norm(dim=1, keepdim=True).clamp(min=1e-12)
        along = fixed / size
        draw = torch.randn(fixed.shape, generator=self._random).to(fixed)
        across = draw - (draw * along).sum(1, keepdim=True) * along
        # Over d - 1 dimensions a standard normal's squared product with a change is, on average, its squared length.
        projected: Tensor = (across / size * vectors).sum(1)
        return projected

    def combine(self, changes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """What each variant comes to, from the change of each function."""
        if self._state is not None:
            return changes[0]
        return np.asarray(0.5 * np.mean([change**2 for change in changes], axis=0))


def _bag(
    variants: BagVariants, counts: NDArray[np.float32], edits: Edits, objective: _Objective
) -> NDArray[np.float64]:
    with torch.inference_mode():
        base = torch.cat([bags[:, : variants.width] for _, bags in variants.bags(counts, Edits.none(len(counts)))])
    hidden = base.clone().requires_grad_()
    vectors = variants.own(hidden)
    gradients = [torch.autograd.grad(value.sum(), hidden, retain_graph=True)[0] for value in objective.values(vectors)]
    changes = [np.empty(len(edits)) for _ in gradients]
    cells = torch.as_tensor(edits.cells, device=base.device)
    with torch.inference_mode():
        for start, bags in variants.bags(counts, edits):
            part = slice(start, start + len(bags))
            moved = bags[:, : variants.width] - base[cells[part]]
            for change, gradient in zip(changes, gradients, strict=True):
                change[part] = (moved * gradient[cells[part]]).sum(1).double().cpu().numpy()
    return objective.combine(changes)
