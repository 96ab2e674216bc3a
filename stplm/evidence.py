"""How every head reads a cell's counts: one rule for the few-shot head, fine-tuned heads and the unknown score."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Depth = TypeVar("Depth", NDArray[np.float64], torch.Tensor)

FADE_COUNTS = 10.0
"""At this many counts, a cell's evidence weighs half; without counts, nothing but the classes' shares is left."""
TARGET_SUM = 100.0
"""Counts are scaled to this sum before the logarithm."""
PROFILE_WEIGHT = 2.0
"""How much more a column of the fit to reference profiles weighs than one of the vectors."""


def evidence(depth: Depth) -> Depth:
    """In [0, 1): how far cells with ``depth`` (n,) counts are evidence; an array or a tensor."""
    return depth / (depth + FADE_COUNTS)
