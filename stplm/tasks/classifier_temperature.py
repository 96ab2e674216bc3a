"""How sure a few-shot head may be: its temperature, from labels that are held out (Guo et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stplm.tasks.head import fit_linear
from stplm.tasks.outcome import class_temperature, tumour_odds, tumour_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm.tasks.classifier import Classifier
    from stplm.tasks.head import Heads, Rows

_CELLS = 1_500
_DEFAULT = 1.3


def held_out_temperature(
    classifier: Classifier,
    design: Rows,
    codes: NDArray[np.int64],
    depth: NDArray[np.float64],
    sharp: float,
    *,
    penalty: float | None = None,
    heads: Heads | None = None,
    seed: int = 0,
) -> float:
    """Temperature that makes held-out labels most likely at the classes' shares; fixed under 5 labels a class.

    Sets the classifier's temperature of the tumour call too.

    Parameters
    ----------
    classifier
        Whose shares and classes they are.
    design, codes, depth
        (l, n_features), (l,) and (l,): the labelled cells as the head sees them, their classes, their counts.
    sharp, penalty, heads
        As the classifier was fitted with: :func:`stplm.tasks.head.sharpness`, and of
        :func:`stplm.tasks.head.fit_linear`.
    seed
        Of the folds, and of the labels that are drawn where there are more than enough.
    """
    from sklearn.model_selection import StratifiedKFold

    k = len(classifier.classes)
    if np.bincount(codes, minlength=k).min() < 5:
        return _DEFAULT
    random = np.random.default_rng(seed)
    if len(codes) > _CELLS:
        keep = np.sort(random.choice(len(codes), _CELLS, replace=False))
        if np.bincount(codes[keep], minlength=k).min() < 5:
            return _DEFAULT
        design, codes, depth = design[keep], codes[keep], depth[keep]
    logits = np.zeros((len(codes), k))
    for fit, held in StratifiedKFold(3, shuffle=True, random_state=seed).split(design, codes):
        coefficients, bias = fit_linear(design[fit], codes[fit], k, sharp=sharp, penalty=penalty, heads=heads)
        logits[held] = design[held] @ coefficients.T + bias
    logits = classifier.faded(logits, depth) + classifier.prior_weight * classifier.log_prior
    weight = np.exp(classifier.log_prior)[codes] / np.bincount(codes, minlength=k)[codes]

    temperature = class_temperature(logits, codes, weight, limits=(0.5, 3.0))
    if 0 < classifier.is_tumour.sum() < k:
        odds = tumour_odds(logits / temperature, classifier.is_tumour)
        classifier.tumour_temperature = tumour_temperature(odds, classifier.is_tumour[codes], weight)
    return temperature
