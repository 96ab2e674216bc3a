"""Self-supervised training of the cell-token encoder, shared by pretraining and adaptation.

Each step draws cells from one table, splits their counts in two (see ``nn/thinning.py``) and asks three things:

- *own*: from one part of a cell's counts, predict the other part's genes (multinomial);
- *contrast*: the two parts of a cell are nearer to each other than to any other cell;
- *tissue*: in a patch of tissue with some cells blanked and some genes masked, predict what was held out (negative
  binomial; CellPLM's masked expression, with the loss on what was masked only).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.nn.losses import info_nce, negative_binomial_nll
from stplm.nn.thinning import random_mask, split_counts
from stplm.nn.tissue import TissueEncoder
from stplm.progress import Progress, no_progress
from stplm.tasks.cells import Cells, patch_surroundings


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: ``steps`` of ``batch`` cells each, and a tissue patch of ``patch`` cells on every second one."""

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``provenance.json``."""
        return asdict(self)


def set_gene_statistics(encoder: TissueEncoder, tables: Sequence[Cells], rows: Tensor | None = None) -> None:
    """Set gene spread (of log-normalised expression) and base rate from the data, of all genes or of ``rows`` only."""
    n = len(encoder.genes)
    total, square, count, molecules = (np.zeros(n) for _ in range(4))
    for cells in tables:
        for start in range(0, len(cells), 8192):
            x = cells.dense(slice(start, start + 8192)).astype(np.float64)
            level = np.log1p(x * (encoder.config.target_sum / np.maximum(x.sum(1, keepdims=True), 1)))
            total[cells.rows] += level.sum(0)
            square[cells.rows] += (level**2).sum(0)
            count[cells.rows] += len(x)
            molecules[cells.rows] += x.sum(0)
    seen = np.maximum(count, 1)
    spread = np.sqrt(np.maximum(square / seen - (total / seen) ** 2, 0)) + 0.1
    rate = np.log((molecules + 1) / (molecules + 1).sum())
    chosen = torch.arange(n) if rows is None else rows
    with torch.no_grad():
        encoder.gene_spread[chosen] = torch.tensor(spread, dtype=torch.float32)[chosen]
        encoder.gene_bias[chosen] = torch.tensor(rate, dtype=torch.float32)[chosen]


def train_self_supervised(
    encoder: TissueEncoder, tables: Sequence[Cells], config: TrainingConfig, progress: Progress = no_progress
) -> list[float]:
    """Train ``encoder`` in place for ``config.steps`` steps; the loss of each. The same seed gives the same weights.

    Cells without counts are never drawn. Raises what ``progress`` raises (``Cancelled``).
    """
    device = next(encoder.parameters()).device
    random = np.random.default_rng(config.seed)
    generator = torch.Generator(device=device).manual_seed(config.seed)
    drawable = [np.flatnonzero(np.diff(cells.counts.indptr) > 0) for cells in tables]
    weight = np.array([len(d) for d in drawable], dtype=float)
    rows = [torch.as_tensor(cells.rows, device=device) for cells in tables]
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    losses = []
    encoder.train()
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        t = int(random.choice(len(tables), p=weight / weight.sum()))
        batch = random.choice(drawable[t], min(config.batch, len(drawable[t])), replace=False)
        loss = _own_loss(encoder, _counts(tables[t], batch, device), rows[t], config, generator)
        if step % 2 == 0 and tables[t].xy is not None and config.tissue_weight:
            patch = _draw_patch(tables[t], config.patch, random)
            loss = loss + config.tissue_weight * _tissue_loss(
                encoder, tables[t], patch, rows[t], config, generator, random
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        progress(step + 1, config.steps)
    encoder.eval()
    return losses


def _schedule(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    return min(1.0, (step + 1) / max(config.warm_up, 1)) * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _counts(cells: Cells, which: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(cells.dense(which)).to(device)


def _own_loss(
    encoder: TissueEncoder, counts: Tensor, rows: Tensor, config: TrainingConfig, generator: torch.Generator
) -> Tensor:
    parts = split_counts(counts, config.thin_low, config.thin_high, generator)
    vectors = [
        encoder.encode_own(part.masked_fill(random_mask(part.shape, config.gene_mask, part, generator), 0.0), rows)
        for part in parts
    ]
    loss = counts.new_zeros(())
    for vector, other in zip(vectors, reversed(parts), strict=True):
        loss = loss - 0.5 * (other * encoder.decode(vector, rows)).sum() / other.sum().clamp(min=1.0)
    a, b = (encoder.projection(v) for v in vectors)
    return loss + config.contrast_weight * info_nce(a, b, config.temperature)


def _draw_patch(cells: Cells, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """The cells nearest to a random cell, at most ``size``."""
    assert cells.xy is not None
    centre = cells.xy[random.integers(len(cells))]
    distance = ((cells.xy - centre) ** 2).sum(1)
    size = min(size, len(cells))
    return np.sort(np.argpartition(distance, size - 1)[:size])


def _tissue_loss(
    encoder: TissueEncoder,
    cells: Cells,
    patch: NDArray[np.int64],
    rows: Tensor,
    config: TrainingConfig,
    generator: torch.Generator,
    random: np.random.Generator,
) -> Tensor:
    assert cells.xy is not None
    device = rows.device
    counts = _counts(cells, patch, device)
    seen, held_out = split_counts(counts, config.thin_low, config.thin_high, generator)
    genes = random_mask(counts.shape, config.gene_mask, counts, generator)
    blank = random_mask((len(patch), 1), config.cell_mask, counts, generator)
    hidden = genes | blank
    # Where a gene or a cell is hidden, all its counts are to be predicted; elsewhere the part that was split off.
    target = torch.where(hidden, counts, held_out)
    own = encoder.encode_own(seen.masked_fill(hidden, 0.0), rows)
    around = patch_surroundings(cells, patch, _turned(cells.xy[patch], random), device)
    # A blanked cell has only the tissue's vector to go by: its own is that of an empty cell.
    log_share = encoder.decode(encoder.in_tissue(own, encoder.shared(own), around), rows)
    depth = target.sum(1, keepdim=True)
    expected = torch.softmax(log_share, dim=1) * depth
    return negative_binomial_nll(target, expected, encoder.gene_log_dispersion[rows])


def _turned(xy: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Positions about their centre, turned by a random angle and mirrored at random: tissue has no up."""
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centred = xy - (xy.min(0) + xy.max(0)) / 2
    turned: NDArray[np.float64] = centred @ turn * np.array([random.choice([-1.0, 1.0]), 1.0])
    return turned
