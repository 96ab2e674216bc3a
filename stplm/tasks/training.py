"""How an encoder is trained without labels: the figures of a run, and its schedule of learning rates.

What is asked of each preset is in ``objectives_*.py``, the loop in ``trainer.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from stplm.nn.encoder import GeneDecoder
    from stplm.tasks.cells import Cells


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; what a step draws, and how much each loss counts.

    Attributes
    ----------
    steps
        Optimiser steps.
    batch
        Cells a step for the own-cell losses of the tissue preset.
    patch
        Neighbouring cells of a patch of tissue (the tissue preset sees one on every second step).
    learning_rate, weight_decay, clip
        Of AdamW; the gradient's norm is cut to ``clip``.
    warm_up, schedule
        Steps to the full learning rate, and its way down: "cosine" or "linear" to zero, or "constant".
    contrast_weight, temperature
        Of the contrast between two thinned views of a cell; a weight of 0 leaves it out.
    tissue_weight
        Of what the vectors in the tissue must predict.
    thin_low, thin_high
        Range of the share of a cell's counts that the encoder sees.
    spill_over
        Counts of a neighbouring cell that are mixed into what the encoder sees of a cell, up to this share of the
        cell's own, so that vectors change little with them (tissue preset; sections with positions).
    gene_mask, cell_mask
        Share of genes that are masked, and of a patch's cells that are blanked.
    seed
        The same seed gives the same weights.
    patches
        Patches a step, shared by the processes, which get one each at least. For the tissue preset also the pieces that
        ``batch`` is dealt to.
    masked_gene_weight, own_weight
        Of masked genes, and of what a cell's own vector must predict (rank).
    precision
        "float32", or "bfloat16" for matrix products in half precision.
    """

    steps: int = 3000
    batch: int = 512
    patch: int = 400
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warm_up: int = 100
    contrast_weight: float = 0.5
    temperature: float = 0.2
    tissue_weight: float = 1.0
    thin_low: float = 0.3
    thin_high: float = 0.8
    gene_mask: float = 0.15
    cell_mask: float = 0.2
    seed: int = 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: float = 1.0
    patches: int = 1
    masked_gene_weight: float = 1.0
    own_weight: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    spill_over: float = 0.0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 2, "patch": 2, "patches": 1, "warm_up": 0, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be {value} or more, not {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")
        if not 0 <= self.thin_low <= self.thin_high <= 1:
            raise ValueError(f"thin_low and thin_high must rise within 0 to 1, not {self.thin_low}, {self.thin_high}")
        if not 0 <= self.spill_over <= 1:
            raise ValueError(f"spill_over must be 0 to 1, not {self.spill_over}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``provenance.json``."""
        return asdict(self)


_DEFAULTS = {
    "tissue": TrainingConfig(contrast_weight=2.0, spill_over=0.3),
    "rank": TrainingConfig(
        steps=4000,
        patch=128,
        patches=2,
        learning_rate=5e-4,
        warm_up=200,
        contrast_weight=0.0,
        thin_low=0.4,
        thin_high=0.9,
        cell_mask=0.15,
    ),
    "hybrid": TrainingConfig(steps=2000, patch=400, learning_rate=1e-3, contrast_weight=0.0),
}


def training_defaults(preset: str, **changes: Any) -> TrainingConfig:
    """The figures that a preset is trained with, with ``changes``. Raises TypeError for a name that there is not."""
    return replace(_DEFAULTS[preset], **changes)


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Share of the learning rate at a step from 0: linear warm-up, times the schedule."""
    warm = min(1.0, (step + 1) / max(config.warm_up, 1))
    done = step / config.steps
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * done))
    return warm * (1 - done) if config.schedule == "linear" else warm


def train_self_supervised(
    encoder: GeneDecoder, tables: Sequence[Cells], config: TrainingConfig, progress: Progress = no_progress
) -> list[float]:
    """Train ``encoder`` in place for ``config.steps`` steps; the loss of each. The same seed gives the same weights.

    Cells without counts are never drawn for their own sake. Raises what ``progress`` raises (``Cancelled``).
    """
    from stplm.tasks.objectives import make_objective
    from stplm.tasks.trainer import train

    return train(make_objective(encoder, config), tables, config, progress=progress)
