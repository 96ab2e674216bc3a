"""What self-supervised training asks of an encoder, one module a preset.

An objective *draws* a batch from one section, on the CPU and from the step's own random numbers, and *forward* gives
its loss. Two calls, so that a data-parallel wrapper may stand in for the second, and so that a run can be taken up at
any step: what a step draws depends on seed and step alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stplm.nn.encoder import Surroundings
from stplm.tasks.cells import patch_surroundings

if TYPE_CHECKING:
    from stplm.nn.encoder import GeneDecoder
    from stplm.tasks.cells import Cells
    from stplm.tasks.training import TrainingConfig

Parts = dict[str, Tensor]
"""Losses and scores by name, each a number without gradient."""


@dataclass(frozen=True)
class Share:
    """The part of a step's batch that is this process's: ``index`` of ``count``."""

    index: int = 0
    count: int = 1


class Objective(nn.Module, ABC):
    """Base of the objectives."""

    def __init__(self, encoder: GeneDecoder, config: TrainingConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config

    @property
    def device(self) -> torch.device:
        """Where the encoder is, hence where batches go."""
        return next(self.encoder.parameters()).device

    def prepare(self, tables: list[Cells]) -> None:
        """Called once before training; the encoder is on its device."""

    def release(self) -> None:
        """Called once after training, whatever came of it."""

    @abstractmethod
    def draw(self, cells: Cells, step: int, random: np.random.Generator, share: Share) -> Any:
        """This process's part of a step's batch. Every process draws the same random numbers."""

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, Parts]:
        """The loss, to be averaged over the processes, and its parts."""


def make_objective(encoder: GeneDecoder, config: TrainingConfig, *, frozen: bool = True) -> Objective:
    """The objective of the encoder's preset; ``frozen``: the hybrid's own stage stays as it is."""
    if encoder.preset == "tissue":
        from stplm.tasks.objectives_tissue import TissueObjective

        return TissueObjective(encoder, config)
    if encoder.preset == "hybrid" and frozen:
        from stplm.tasks.objectives_hybrid import HybridObjective

        return HybridObjective(encoder, config)
    from stplm.tasks.objectives_rank import RankObjective

    return RankObjective(encoder, config)


def drawable(cells: Cells) -> NDArray[np.int64]:
    """Cells with counts."""
    return np.flatnonzero(np.diff(cells.counts.indptr) > 0)


def draw_patch(cells: Cells, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The cells nearest to a random cell, at most ``size``, in the order of the table.

    Without positions: random cells with counts.
    """
    if cells.xy is None:
        known = drawable(cells)
        return np.sort(random.choice(known, min(size, len(known)), replace=False))
    centre = cells.xy[random.integers(len(cells))]
    distance = ((cells.xy - centre) ** 2).sum(1)
    size = min(size, len(cells))
    return np.sort(np.argpartition(distance, size - 1)[:size])


def turned(xy: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Positions about their centre, turned by a random angle and mirrored at random: tissue has no up."""
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centred = xy - (xy.min(0) + xy.max(0)) / 2
    placed: NDArray[np.float64] = centred @ turn * np.array([random.choice([-1.0, 1.0]), 1.0])
    return placed


def place_patch(
    cells: Cells, patch: NDArray[np.int64], random: np.random.Generator, on: torch.device
) -> Surroundings | None:
    """The patch's surroundings, turned at random; None without positions."""
    if cells.xy is None:
        return None
    return patch_surroundings(cells, patch, turned(np.asarray(cells.xy[patch]), random), on)


def dense_counts(cells: Cells, which: NDArray[Any], on: torch.device) -> Tensor:
    """Counts of some cells, float32 (len(which), m)."""
    return torch.from_numpy(cells.dense(which)).to(on)
