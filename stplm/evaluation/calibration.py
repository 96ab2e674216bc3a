"""How far confidence can be believed: among cells predicted at 0.8, are 80 % right?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Reliability:
    """Cells by confidence, in bins of equal width over [0, 1]; empty bins are NaN in ``confidence`` and ``accuracy``.

    ``edges`` (bins + 1,), ``count`` (bins,) int64, ``confidence`` and ``accuracy`` (bins,) means within each bin.
    """

    edges: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def reliability(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> Reliability:
    """Mean confidence against the share that is right, bin by bin: what a reliability diagram draws.

    ``confidence`` (n,) in [0, 1] and ``correct`` (n,) bool, one a cell. A confidence of exactly 1 is in the last bin.
    Raises ValueError when the two differ in length, a confidence is outside [0, 1], or ``bins`` is under 1.
    """
    p = np.asarray(confidence, dtype=np.float64).ravel()
    right = np.asarray(correct, dtype=bool).ravel()
    if len(p) != len(right):
        raise ValueError(f"{len(p)} confidences for {len(right)} cells")
    if bins < 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("confidence must be in [0, 1], and there must be a bin")
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, weights=p, minlength=bins) / count
        accuracy = np.bincount(which, weights=right, minlength=bins) / count
    return Reliability(np.linspace(0, 1, bins + 1), count, mean, accuracy)


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their cells; NaN without cells.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (AAAI 2015); the 15 bins are
    those of Guo et al. (ICML 2017). Raises ValueError as :func:`reliability` does.
    """
    table = reliability(confidence, correct, bins)
    total = int(table.count.sum())
    if total == 0:
        return float("nan")
    gap = np.nan_to_num(np.abs(table.accuracy - table.confidence))
    return float((gap * table.count).sum() / total)


def brier_score(probability: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Mean squared gap between a probability (n,) and what happened (n,) bool: 0 is perfect, 0.25 is always saying one
    half; NaN without cells.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability" (1950). Unlike the calibration error,
    it is not small for a call that is calibrated and says nothing. Raises ValueError where the two differ in length.
    """
    p = np.asarray(probability, dtype=np.float64).ravel()
    truth = np.asarray(happened, dtype=bool).ravel()
    if len(p) != len(truth):
        raise ValueError(f"{len(p)} probabilities for {len(truth)} cells")
    return float(np.mean((p - truth) ** 2)) if len(p) else float("nan")
