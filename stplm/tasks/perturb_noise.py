"""The model's own noise: how much a cell's vector and probabilities move when nothing was perturbed.

- *Sampling.* A section counts a part of a cell's molecules. Drawn again, the cell would look a little different, and so
  would its vector. Here molecules are lost at random, at several rates (binomial thinning). A perturbation is held
  against the loss of as many molecules as it changed: less than that is not the gene, it is that something is missing.
- *Numerical.* The same cells in another order, and in half precision where the run is in it.

Of a set of n cells, a mean effect counts as none ("within noise") when it lies within 1.96 standard errors of what
random loss of the same dose does, or under the numerical noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.tasks.perturb_measures import Floats, shift_of
from stplm.tasks.perturb_vectors import VariantEncoder

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Shares of a cell's molecules that are lost."""
_Z = 1.96


@dataclass(frozen=True)
class Noise:
    """``rates`` (r,) of loss; ``mean`` and ``sd`` by measure, (r,) over cells; ``numerical``: mean shift of cells that
    were not changed."""

    rates: NDArray[np.float64]
    mean: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sd: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    numerical: float = 0.0

    def floor(self, measure: str, dose: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
        """How large the mean of ``n`` cells' values gets by chance, at a dose (share of molecules); inf without cells.

        Between the rates in proportion to the dose, as losses add up; beyond the highest, as at the highest."""
        at = np.concatenate([[0.0], self.rates])
        mean = np.interp(dose, at, np.concatenate([[0.0], self.mean[measure]]))
        sd = np.interp(dose, at, np.concatenate([[0.0], self.sd[measure]]))
        floor = np.abs(mean) + _Z * sd / np.sqrt(np.maximum(n, 1))
        if measure == "shift":
            floor = np.maximum(floor, self.numerical)
        return np.where(n > 0, floor, np.inf)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "rates": self.rates.tolist(),
            "mean": {name: value.tolist() for name, value in self.mean.items()},
            "sd": {name: value.tolist() for name, value in self.sd.items()},
            "numerical": self.numerical,
        }


def measure_noise(
    variants: VariantEncoder,
    counts: NDArray[np.float32],
    measured: Callable[[Floats, Floats, NDArray[np.float32]], dict[str, Floats]],
    *,
    seed: int = 0,
    step: Callable[[int], None] = lambda n: None,
) -> Noise:
    """Thin the ``counts`` (n, m) of some cells and see.

    ``measured`` gives what is measured, by name, from own vectors before and after (n, own_width) and the thinned
    counts; ``step`` is told how many cells were encoded.
    """
    random = np.random.default_rng(seed)
    before = variants.base(counts)
    step(len(counts))
    order = random.permutation(len(counts))
    again = np.empty_like(before)
    again[order] = variants.base(counts[order])
    numerical = float(shift_of(before, again).mean()) if len(counts) else 0.0
    if variants.dtype != "float32":
        half, variants.dtype = variants.dtype, "float32"
        exact = variants.base(counts)
        variants.dtype = half
        numerical = max(numerical, float(shift_of(exact, before).mean()))
    rows = []
    for rate in RATES:
        thinned = random.binomial(counts.astype(np.int64), 1 - rate).astype(np.float32)
        after, shift = variants.between(counts, thinned)
        found = measured(before, after, thinned)
        if shift is not None:
            found["shift"] = shift
        rows.append({name: value.astype(np.float64) for name, value in found.items()})
        step(len(counts))
    names = list(rows[0])
    table = pd.DataFrame({name: [(row[name].mean(), row[name].std()) for row in rows] for name in names})
    return Noise(
        np.array(RATES),
        {name: np.array([pair[0] for pair in table[name]]) for name in names},
        {name: np.array([pair[1] for pair in table[name]]) for name in names},
        numerical,
    )
