"""Losses of classification: balanced, focal (Lin et al., 2017) and plain cross-entropy, from log-probabilities.

The weights of the classes average 1 over the labelled cells, and no class weighs more than ``cap`` times another's
share would. So the loss, and with it a good learning rate, does not grow with the number of classes or with how rare
the rarest is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor


def class_weights(counts: npt.ArrayLike, cap: float = 20.0) -> npt.NDArray[np.float64]:
    """Weight (k,) of each class from its number of labels ``counts`` (k,), all above 0: inverse to it, capped.

    The rarest class weighs at most ``cap`` times as much as the commonest. The mean over the labels is 1:
    ``(counts * weights).sum() == counts.sum()``, whatever k. ``cap=1`` gives ones. Raises ValueError for a class
    without labels or a cap under 1.
    """
    n = np.asarray(counts, dtype=np.float64)
    if (n <= 0).any() or cap < 1:
        raise ValueError("every class needs a label, and the cap must be 1 or more")
    weights = np.minimum(n.max() / n, cap)
    return np.asarray(weights * n.sum() / (n * weights).sum())


def class_loss(
    log_proba: Tensor, codes: Tensor, weights: Tensor, *, gamma: float = 0.0, smoothing: float = 0.0
) -> Tensor:
    """Weighted mean over cells of the (focal) cross-entropy; a scalar.

    Parameters
    ----------
    log_proba
        (n, k) log-probabilities, each row adding up to 1.
    codes
        int64 (n,), the class of each cell.
    weights
        (k,) from :func:`class_weights`; their sum is not divided out, so a batch of one rare class weighs more.
    gamma
        Focal loss's: cells that are right already count ``(1 - p) ** gamma``. 0 is plain cross-entropy.
    smoothing
        Share of the target that is spread evenly over the classes (label smoothing).
    """
    finite = log_proba.clamp(min=-30.0)
    right = finite.gather(1, codes[:, None]).squeeze(1)
    loss = -(1 - smoothing) * right - smoothing * finite.mean(1)
    if gamma:
        loss = loss * (1 - right.exp()).clamp(min=1e-6) ** gamma
    return (loss * weights[codes]).mean()


def label_probabilities(counts: npt.ArrayLike, weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Class shares (k,) that a model trained on ``counts`` labels with ``weights`` takes for granted."""
    n = np.asarray(counts, dtype=np.float64) * np.asarray(weights, dtype=np.float64)
    return np.asarray(n / n.sum())
