"""The few-shot classifier's second head: tumour against everything else, on the same features, calibrated on its own.

Linear, trained on the two sides in balance. The section's tumour share comes from the class shares, and the temperature
from labels that were held out. Plain arrays; how a linear head is fitted is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stplm.tasks.outcome import Floats, tumour_temperature

PREFIX = "tumour_"
"""Of the arrays' names in a classifier's safetensors."""
FitLinear = Callable[..., tuple[Floats, Floats]]
"""(design, codes, n_classes, sharp=...) -> coefficients (n_classes, n_features), bias (n_classes,)."""
Unfold = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""(coefficients (k, n_features), bias (k,)) -> dense, level and bias on unscaled features."""
_TEMPERATURE = 1.3
"""Where no label can be held out."""
_FOLDS = 3


@dataclass(frozen=True)
class TumourHead:
    """Log-odds of tumour at equal shares, before fading: ``dense`` (dense_width,) and ``level`` (n_genes,) coefficients
    on unscaled features, ``bias`` of two sides in balance, and the ``temperature`` that goes with the section's tumour
    share."""

    dense: Floats
    level: Floats
    bias: float
    temperature: float = 1.0

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Flat arrays, to save beside a classifier's own."""
        scalars = np.array([self.bias, self.temperature])
        arrays = {"dense": self.dense, "level": self.level, "scalars": scalars}
        return {PREFIX + name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> TumourHead | None:
        """From arrays that :meth:`to_arrays` gave, among others; None where there are none."""
        if PREFIX + "dense" not in arrays:
            return None
        bias, temperature = arrays[PREFIX + "scalars"]
        return cls(arrays[PREFIX + "dense"], arrays[PREFIX + "level"], float(bias), float(temperature))


def fit_tumour_head(
    design: npt.NDArray[np.floating],
    tumour: npt.ArrayLike,
    fit_linear: FitLinear,
    unfold: Unfold,
    *,
    sharpness: float,
    fade: Floats,
    share_odds: float,
    weight: Floats,
    calibrate: bool,
    seed: int = 0,
) -> TumourHead | None:
    """Fit and calibrate; None where all labels are on one side.

    Parameters
    ----------
    design
        (l, n_features) the labelled cells as the head sees them.
    tumour
        (l,) which of them are tumour.
    fit_linear
        Logistic regression, its bias as if both sides were equally common (:func:`stplm.tasks.head.fit_linear`).
    unfold
        :meth:`stplm.tasks.design.Design.unfold` of that design.
    sharpness
        Multiplies the log-odds, as it does the class head's logits.
    fade
        (l,) in [0, 1], how far each cell's counts are evidence.
    share_odds
        Log-odds of the tumour share in the section (:func:`stplm.tasks.outcome.share_odds`).
    weight
        (l,) how much each label counts in the calibration.
    calibrate
        Whether there are labels enough to hold some out.
    seed
        Of the folds.
    """
    from sklearn.model_selection import StratifiedKFold

    side = np.asarray(tumour, dtype=bool)
    if side.all() or not side.any():
        return None
    coefficients, bias = _fit(design, side, fit_linear, sharpness)
    dense, level, base = unfold(coefficients[None], np.array([bias]))
    temperature = _TEMPERATURE
    if calibrate and min(side.sum(), (~side).sum()) >= _FOLDS:
        odds = np.zeros(len(side))
        for train, held in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(design, side):
            some, offset = _fit(design[train], side[train], fit_linear, sharpness)
            odds[held] = design[held] @ some + offset
        temperature = tumour_temperature(odds * fade + share_odds, side, weight)
    return TumourHead(dense[0], level[0], float(base[0]), temperature)


def _fit(
    design: npt.NDArray[np.floating], side: npt.NDArray[np.bool_], fit_linear: FitLinear, sharpness: float
) -> tuple[Floats, float]:
    coefficients, bias = fit_linear(design, side.astype(np.int64), 2, sharp=sharpness)
    return coefficients[1] - coefficients[0], float(bias[1] - bias[0])
