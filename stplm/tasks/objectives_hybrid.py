"""What the hybrid's second stage is asked in self-supervised training: from the cells around it, the counts of a cell.

The own stage stays as it was trained, so each cell's own vector is made once. Each step draws patches of tissue and
blanks some cells, which get the own vector of a cell without counts; all their counts are to be predicted (negative
binomial), and the loss is on them only. To train both stages, take the gene-token encoder's objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.errors import SectionError
from stplm.nn.encoder import Surroundings
from stplm.nn.losses import negative_binomial_nll
from stplm.nn.team import Team
from stplm.tasks.encode import encode_own
from stplm.tasks.objectives import Objective, Parts, Share, dense_counts, draw_patch, place_patch
from stplm.tasks.sources import Source

if TYPE_CHECKING:
    from stplm.nn.encoder import GeneDecoder
    from stplm.nn.hybrid import HybridEncoder
    from stplm.tasks.cells import Cells
    from stplm.tasks.training import TrainingConfig

_SECOND_STAGE = ("own_norm.", "tissue_", "gene_decode_tissue", "gene_log_dispersion")


@dataclass(frozen=True)
class HybridPatch:
    """Own vectors (p, own_dim) with those of blanked cells replaced, all counts (p, m), which are ``blank`` (p, 1)."""

    own: Tensor
    counts: Tensor
    blank: Tensor
    around: Surroundings


@dataclass(frozen=True)
class HybridBatch:
    """Patches of one section; the loss is the sum over them times ``weight``."""

    patches: list[HybridPatch]
    weight: float
    rows: Tensor

    @property
    def cells(self) -> int:
        """How many cells are in it."""
        return sum(len(patch.own) for patch in self.patches)


class HybridObjective(Objective):
    """Loss of the second stage of a :class:`~stplm.nn.hybrid.HybridEncoder`."""

    encoder: HybridEncoder

    def __init__(self, encoder: GeneDecoder, config: TrainingConfig) -> None:
        super().__init__(encoder, config)
        self._own: dict[int, NDArray[np.float32]] = {}
        self._empty = np.zeros(encoder.config.own_width, dtype=np.float32)

    def prepare(self, tables: list[Cells]) -> None:
        """Encode every cell, and keep the own stage out of training."""
        if all(cells.xy is None for cells in tables):
            raise SectionError(
                "No section has positions, and the hybrid's second stage learns from nothing else.",
                mend="Choose a section with positions, or train the own stage too.",
            )
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name.startswith(_SECOND_STAGE))
        encoder = self.encoder.eval()
        with torch.inference_mode():
            rows = torch.as_tensor(tables[0].rows, device=self.device)
            self._empty = encoder.encode_own(torch.zeros(1, len(rows), device=self.device), rows).cpu().numpy()[0]
        for cells in tables:
            self._own[id(cells)] = own_vectors(encoder, cells)

    def release(self) -> None:
        self.encoder.requires_grad_(True)
        self._own = {}

    def draw(self, cells: Cells, step: int, random: np.random.Generator, share: Share) -> HybridBatch:
        n = max(self.config.patches, share.count)
        seeds = random.integers(2**62, size=n)[share.index :: share.count]
        patches = [patch for seed in seeds if (patch := self._patch(cells, np.random.default_rng(seed))) is not None]
        return HybridBatch(patches, share.count / n, torch.as_tensor(cells.rows, device=self.device))

    def _patch(self, cells: Cells, random: np.random.Generator) -> HybridPatch | None:
        where = draw_patch(cells, self.config.patch, random)
        around = place_patch(cells, where, random, self.device)
        if around is None:
            return None
        blank = random.random((len(where), 1)) < self.config.cell_mask
        own = np.where(blank, self._empty, self._own[id(cells)][where])
        return HybridPatch(
            torch.from_numpy(own).to(self.device),
            dense_counts(cells, where, self.device),
            torch.from_numpy(blank).to(self.device),
            around,
        )

    def forward(self, batch: HybridBatch) -> tuple[Tensor, Parts]:
        encoder, rows = self.encoder, batch.rows
        # Without a patch (a section without positions) there is nothing to learn; the zero keeps the graph whole.
        loss = 0.0 * encoder.gene_decode_tissue.sum()
        for patch in batch.patches:
            vectors = encoder.in_tissue(patch.own, encoder.shared(patch.own), patch.around)
            expected = encoder.decode(vectors, rows).float().exp() * patch.counts.sum(1, keepdim=True)
            weight = patch.blank.expand_as(expected).float()
            loss = loss + batch.weight * negative_binomial_nll(
                patch.counts, expected, encoder.gene_log_dispersion[rows], weight
            )
        return loss, {"tissue": loss.detach()}


def own_vectors(encoder: HybridEncoder, cells: Cells) -> NDArray[np.float32]:
    """Own vectors (n, own_dim) of all cells; on the disk beside the counts where those are there."""
    out = cells.scratch("own", (len(cells), encoder.config.own_width))
    with Team(next(encoder.parameters()).device) as team:
        for _ in encode_own(encoder, Source.of_cells(cells), out, team):
            pass
    return out
