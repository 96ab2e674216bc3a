"""What the cell-token encoder is asked in self-supervised training.

Each step draws cells from one section, splits their counts in two (see ``nn/thinning.py``) and asks three things:

- *own*: from one part of a cell's counts, predict the other part's genes (multinomial);
- *contrast*: the two parts of a cell are nearer to each other than to any other cell;
- *tissue*: in a patch of tissue with some cells blanked and some genes masked, predict what was held out (negative
  binomial; CellPLM's masked expression, with the loss on what was masked only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stplm.nn.encoder import Surroundings
from stplm.nn.losses import info_nce, negative_binomial_nll
from stplm.nn.thinning import random_mask, split_counts
from stplm.tasks.objectives import Objective, Parts, Share, dense_counts, draw_patch, drawable, place_patch

if TYPE_CHECKING:
    from stplm.tasks.cells import Cells


@dataclass(frozen=True)
class TissueBatch:
    """Counts (n, m) of random cells and (p, m) of a patch, its surroundings, gene rows (m,), what is yet to draw.

    ``patch`` and ``around`` are None on steps without a patch.
    """

    counts: Tensor
    patch: Tensor | None
    around: Surroundings | None
    rows: Tensor
    generator: torch.Generator
    cells: int


class TissueObjective(Objective):
    """Own, contrast and tissue losses of a :class:`~stplm.nn.tissue.TissueEncoder`."""

    def draw(self, cells: Cells, step: int, random: np.random.Generator, share: Share) -> TissueBatch:
        config, device = self.config, self.device
        known = drawable(cells)
        chosen = random.choice(known, min(config.batch, len(known)), replace=False)
        # Every process needs a cell, or it has no loss to give.
        mine = chosen[share.index :: share.count] if len(chosen) >= share.count else chosen
        seeds = random.integers(2**62, size=share.count)
        patch = around = None
        if step % 2 == 0 and cells.xy is not None and config.tissue_weight:
            where = [draw_patch(cells, config.patch, random) for _ in range(share.count)][share.index]
            patch, around = dense_counts(cells, where, device), place_patch(cells, where, random, device)
        return TissueBatch(
            dense_counts(cells, mine, device),
            patch,
            around,
            torch.as_tensor(cells.rows, device=device),
            torch.Generator(device=device).manual_seed(int(seeds[share.index])),
            len(mine) + (0 if patch is None else len(patch)),
        )

    def forward(self, batch: TissueBatch) -> tuple[Tensor, Parts]:
        loss, parts = self._own_loss(batch)
        if batch.patch is not None and batch.around is not None:
            tissue = self._tissue_loss(batch.patch, batch.around, batch)
            loss = loss + self.config.tissue_weight * tissue
            parts["tissue"] = tissue.detach()
        return loss, parts

    def _own_loss(self, batch: TissueBatch) -> tuple[Tensor, Parts]:
        config, encoder, rows = self.config, self.encoder, batch.rows
        views = split_counts(batch.counts, config.thin_low, config.thin_high, batch.generator)
        vectors = [
            encoder.encode_own(
                view.masked_fill(random_mask(view.shape, config.gene_mask, view, batch.generator), 0.0), rows
            )
            for view in views
        ]
        own = batch.counts.new_zeros(())
        for vector, other in zip(vectors, reversed(views), strict=True):
            own = own - 0.5 * (other * encoder.decode(vector, rows)).sum() / other.sum().clamp(min=1.0)
        a, b = (encoder.projection(v) for v in vectors)
        contrast = info_nce(a, b, config.temperature)
        return own + config.contrast_weight * contrast, {"own": own.detach(), "contrast": contrast.detach()}

    def _tissue_loss(self, counts: Tensor, around: Surroundings, batch: TissueBatch) -> Tensor:
        config, encoder, rows, generator = self.config, self.encoder, batch.rows, batch.generator
        seen, held_out = split_counts(counts, config.thin_low, config.thin_high, generator)
        genes = random_mask(counts.shape, config.gene_mask, counts, generator)
        blank = random_mask((len(counts), 1), config.cell_mask, counts, generator)
        hidden = genes | blank
        # Where a gene or a cell is hidden, all its counts are to be predicted; elsewhere the part that was split off.
        target = torch.where(hidden, counts, held_out)
        # A blanked cell has only the tissue's vector to go by: its own is that of an empty cell.
        own = encoder.encode_own(seen.masked_fill(hidden, 0.0), rows)
        share = encoder.decode(encoder.in_tissue(own, encoder.shared(own), around), rows).exp()
        expected = share * target.sum(1, keepdim=True)
        return negative_binomial_nll(target, expected, encoder.gene_log_dispersion[rows])
