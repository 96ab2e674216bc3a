"""What the cell-token encoder is asked in self-supervised training.

Each step draws cells from one section, splits their counts in two (see ``nn/thinning.py``) and asks three things:

- *own*: from one part of a cell's counts, predict the other part's genes (multinomial);
- *contrast*: the two parts of a cell are nearer to each other than to any other cell;
  for both, counts of a neighbouring cell may be mixed into either part, not the same neighbour's (``spill_over``);
- *tissue*: in a patch of tissue with some cells blanked and some genes masked, predict what was held out (negative
  binomial; CellPLM's masked expression, with the loss on what was masked only).

With several ``patches`` a step, the cells are dealt to as many pieces, each with a patch and losses of its own, and the
step's loss is their mean: it does not depend on how many processes share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.nn.encoder import Surroundings
from stplm.nn.losses import info_nce, negative_binomial_nll
from stplm.nn.thinning import random_mask, spill_counts, split_counts
from stplm.tasks.objectives import Objective, Parts, Share, dense_counts, draw_patch, drawable, place_patch

if TYPE_CHECKING:
    from stplm.tasks.cells import Cells


@dataclass(frozen=True)
class TissuePiece:
    """Counts (n, m) of random cells and (p, m) of a patch, its surroundings, what is yet to draw.

    ``near`` (2, n, m) are counts of two neighbours of each cell, zeros where it has none; None where nothing spills
    over. ``patch`` and ``around`` are None on steps without a patch.
    """

    counts: Tensor
    near: Tensor | None
    patch: Tensor | None
    around: Surroundings | None
    generator: torch.Generator


@dataclass(frozen=True)
class TissueBatch:
    """Pieces of a batch; the loss is the sum of theirs times ``weight``. Gene ``rows`` (m,)."""

    pieces: list[TissuePiece]
    weight: float
    rows: Tensor

    @property
    def cells(self) -> int:
        """How many cells are in it."""
        return sum(len(p.counts) + (0 if p.patch is None else len(p.patch)) for p in self.pieces)


class TissueObjective(Objective):
    """Own, contrast and tissue losses of a :class:`~stplm.nn.tissue.TissueEncoder`."""

    def draw(self, cells: Cells, step: int, random: np.random.Generator, share: Share) -> TissueBatch:
        known = drawable(cells)
        chosen = random.choice(known, min(self.config.batch, len(known)), replace=False)
        n = max(self.config.patches, share.count)
        seeds = random.integers(2**62, size=n)
        # Each piece draws for itself, so that it is the same whichever process has it.
        own = [random] if n == 1 else [np.random.default_rng(seed) for seed in seeds]
        pieces = [
            # Every piece needs a cell, or it has no loss to give.
            self._piece(cells, chosen[i::n] if len(chosen) >= n else chosen, step, own[i], int(seeds[i]))
            for i in range(share.index, n, share.count)
        ]
        return TissueBatch(pieces, share.count / n, torch.as_tensor(cells.rows, device=self.device))

    def _piece(
        self, cells: Cells, chosen: NDArray[np.int64], step: int, random: np.random.Generator, seed: int
    ) -> TissuePiece:
        config, device = self.config, self.device
        patch = around = None
        if step % 2 == 0 and cells.xy is not None and config.tissue_weight:
            where = draw_patch(cells, config.patch, random)
            patch, around = dense_counts(cells, where, device), place_patch(cells, where, random, device)
        near = near_counts(cells, chosen, random, device) if config.spill_over else None
        generator = torch.Generator(device=device).manual_seed(seed)
        return TissuePiece(dense_counts(cells, chosen, device), near, patch, around, generator)

    def forward(self, batch: TissueBatch) -> tuple[Tensor, Parts]:
        loss, parts = batch.rows.new_zeros((), dtype=torch.float32), dict[str, Tensor]()
        for piece in batch.pieces:
            found, of_piece = self._losses(piece, batch.rows)
            loss = loss + batch.weight * found
            for name, value in of_piece.items():
                parts[name] = parts.get(name, 0.0) + batch.weight * value
        return loss, parts

    def _losses(self, piece: TissuePiece, rows: Tensor) -> tuple[Tensor, Parts]:
        loss, parts = self._own_loss(piece, rows)
        if piece.patch is not None and piece.around is not None:
            tissue = self._tissue_loss(piece.patch, piece.around, piece.generator, rows)
            loss = loss + self.config.tissue_weight * tissue
            parts["tissue"] = tissue.detach()
        return loss, parts

    def _own_loss(self, batch: TissuePiece, rows: Tensor) -> tuple[Tensor, Parts]:
        config, encoder = self.config, self.encoder
        views = split_counts(batch.counts, config.thin_low, config.thin_high, batch.generator)
        seen = views
        if batch.near is not None:
            one, other = (
                spill_counts(v, near, config.spill_over, batch.generator)
                for v, near in zip(views, batch.near, strict=True)
            )
            seen = one, other
        vectors = [
            encoder.encode_own(
                view.masked_fill(random_mask(view.shape, config.gene_mask, view, batch.generator), 0.0), rows
            )
            for view in seen
        ]
        own = batch.counts.new_zeros(())
        for vector, other in zip(vectors, reversed(views), strict=True):
            own = own - 0.5 * (other * encoder.decode(vector, rows)).sum() / other.sum().clamp(min=1.0)
        a, b = (encoder.projection(v) for v in vectors)
        contrast = info_nce(a, b, config.temperature)
        return own + config.contrast_weight * contrast, {"own": own.detach(), "contrast": contrast.detach()}

    def _tissue_loss(self, counts: Tensor, around: Surroundings, generator: torch.Generator, rows: Tensor) -> Tensor:
        config, encoder = self.config, self.encoder
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


def near_counts(
    cells: Cells, chosen: NDArray[np.int64], random: np.random.Generator, on: torch.device
) -> Tensor | None:
    """Counts (2, n, m) of two neighbours of each of the ``chosen`` cells (n,), drawn at random and by themselves, so
    that they may be the same; zeros for cells without one. None without positions."""
    if cells.neighbours is None or cells.weights is None:
        return None
    many = (cells.weights[chosen] > 0).sum(1)
    column = (random.random((2, len(chosen))) * many).astype(np.int64)
    near = torch.stack([dense_counts(cells, cells.neighbours[chosen, c], on) for c in column])
    return near * torch.as_tensor(many > 0, device=on)[:, None]
