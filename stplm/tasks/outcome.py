"""The two outputs of a classification, tumour call and cell type, from logits; always in agreement with each other.

Two schemes. *Joint*: one head over all classes; the tumour probability is the sum over the tumour classes, with a
temperature of its own. *Hierarchical*, as in STPLM: a binary head decides on tumour first; the tumour classes share
its probability, the others the rest, each side in the proportions of the class head.

Plain arrays in, plain arrays out: the few-shot head and fine-tuned models call the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stplm.scheme import Scheme

Floats = npt.NDArray[np.float64]
CERTAIN = 30.0
"""Log-odds are kept within this: further out is nothing but rounding."""


def outcomes(
    logits: npt.ArrayLike,
    is_tumour: Sequence[bool] | npt.NDArray[np.bool_],
    *,
    tumour_logit: npt.ArrayLike | None = None,
    temperature: npt.ArrayLike = 1.0,
    tumour_temperature: npt.ArrayLike = 1.0,
    scheme: Scheme = "joint",
) -> tuple[Floats, Floats]:
    """Class probabilities and tumour probability of cells.

    Parameters
    ----------
    logits
        (n, n_classes), class shares already in.
    is_tumour
        (n_classes,) which classes are tumour.
    tumour_logit
        (n,) log-odds of tumour by the binary head, tumour share already in; needed by the hierarchical scheme where
        there are classes on both sides, unused otherwise.
    temperature, tumour_temperature
        Divide the class logits and the log-odds of tumour; one for all cells or one a cell.
    scheme
        See the module.

    Returns
    -------
    ``proba`` (n, n_classes), rows adding up to 1, and ``tumour`` (n,), the sum over the tumour classes: 0 where no
    class is tumour, 1 where all are.
    """
    scaled = np.asarray(logits, dtype=np.float64) / _column(temperature)
    side = np.asarray(is_tumour, dtype=bool)
    if side.all() or not side.any():
        proba = softmax(scaled)
        return proba, np.full(len(proba), 1.0 if side.all() else 0.0)
    if scheme == "hierarchical":
        if tumour_logit is None:
            raise ValueError("the hierarchical scheme needs the binary head's log-odds")
        odds = np.asarray(tumour_logit, dtype=np.float64)
    else:
        odds = tumour_odds(scaled, side)
    tumour = _sigmoid(np.clip(odds / np.asarray(tumour_temperature, dtype=np.float64), -CERTAIN, CERTAIN))
    proba = np.empty_like(scaled)
    proba[:, side] = softmax(scaled[:, side]) * tumour[:, None]
    proba[:, ~side] = softmax(scaled[:, ~side]) * (1 - tumour)[:, None]
    return proba, tumour


def tumour_odds(logits: npt.ArrayLike, is_tumour: Sequence[bool] | npt.NDArray[np.bool_]) -> Floats:
    """(n,) log-odds of all tumour classes together against all others, from class logits (n, n_classes)."""
    values, side = np.asarray(logits, dtype=np.float64), np.asarray(is_tumour, dtype=bool)
    return _log_sum(values[:, side]) - _log_sum(values[:, ~side])


def share_odds(log_prior: npt.ArrayLike, is_tumour: Sequence[bool] | npt.NDArray[np.bool_]) -> float:
    """Log-odds of the tumour classes' share, from the log of the class shares (n_classes,): what a binary head that was
    trained on both sides in balance lacks. 0 where all classes are on one side."""
    side = np.asarray(is_tumour, dtype=bool)
    if side.all() or not side.any():
        return 0.0
    return float(tumour_odds(np.asarray(log_prior, dtype=np.float64)[None, :], side)[0])


def class_temperature(
    logits: npt.ArrayLike,
    codes: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    limits: tuple[float, float] = (0.3, 8.0),
    cautious: float = 0.0,
) -> float:
    """Temperature under which held-out labels are most likely (Guo et al., "On Calibration of Modern Neural Networks",
    ICML 2017).

    Parameters
    ----------
    logits
        (n, n_classes) of cells that the head was not fitted on.
    codes
        (n,) their classes.
    weight
        (n,), by default equal.
    limits
        The lowest and the highest temperature.
    cautious
        Pulls towards 1, as strongly as this many cells: a handful of labels says little about how sure to be.
    """
    from scipy.optimize import minimize_scalar

    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(codes, dtype=np.int64)
    share = _weights(weight, len(truth))

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        unlikely = -(share * (scaled[np.arange(len(truth)), truth] - _log_sum(scaled))).sum()
        return float(unlikely + cautious * log_temperature**2 / len(truth))

    found = minimize_scalar(loss, bounds=(float(np.log(limits[0])), float(np.log(limits[1]))), method="bounded")
    return float(np.exp(found.x))


def tumour_temperature(
    odds: npt.ArrayLike,
    tumour: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    limits: tuple[float, float] = (0.3, 8.0),
    cautious: float = 10.0,
) -> float:
    """The same for log-odds (n,) of held-out cells and whether each is tumour (n,); 1 where all are on one side."""
    values, truth = np.asarray(odds, dtype=np.float64), np.asarray(tumour, dtype=bool)
    if truth.all() or not truth.any():
        return 1.0
    pair = np.stack([np.zeros_like(values), values], axis=1)
    return class_temperature(pair, truth.astype(np.int64), weight, limits=limits, cautious=cautious)


def _weights(weight: npt.ArrayLike | None, n: int) -> Floats:
    given = np.full(n, 1.0) if weight is None else np.asarray(weight, dtype=np.float64)
    normalised: Floats = given / given.sum()
    return normalised


def _column(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(1)
    total: Floats = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return total


def softmax(logits: Floats) -> Floats:
    """Probabilities, rows adding up to 1."""
    proba: Floats = np.exp(logits - logits.max(1, keepdims=True))
    proba /= proba.sum(1, keepdims=True)
    return proba


def _sigmoid(odds: Floats) -> Floats:
    value: Floats = 1.0 / (1.0 + np.exp(-odds))
    return value
