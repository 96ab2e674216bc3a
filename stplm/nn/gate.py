"""What a cell takes from its neighbours: their vectors, by content and distance, through a gate.

STPLM's fixed rule, 0.85 of a cell's own vector and 0.15 of its neighbours' mean, is one setting; and where the learned
gate starts from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stplm.nn.encoder import Encoder, Surroundings

MODES = ("learned", "fixed")


class NeighbourGate(nn.Module):
    """Mix each cell's vector with an average of its neighbours' vectors.

    "learned": attention over the neighbours (the Gaussian weights, times a content score and a decay with distance that
    each head learns), then a gate in (0, 1) from the cell, its context, and how many and how far its neighbours are. A
    new one is the fixed rule with Gaussian weights. "fixed": ``share`` of the neighbours' plain mean; no parameters.

    A cell without neighbours keeps its vector, bit by bit.

    Parameters
    ----------
    dim, heads
        Width of the vectors, a multiple of ``heads``.
    mode
        "learned" or "fixed". ValueError for others.
    share
        The neighbours' part, at the start or for good; between 0 and 1.
    scale
        Unit of distances in µm.
    """

    def __init__(self, dim: int, heads: int, mode: str = "learned", share: float = 0.15, scale: float = 20.0) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"gate must be one of {', '.join(MODES)}, not {mode!r}")
        if not 0 < share < 1:
            raise ValueError(f"the neighbours' share must lie between 0 and 1, not {share}")
        if dim % heads:
            raise ValueError(f"dim ({dim}) must be a multiple of heads ({heads})")
        self.mode, self.heads, self.share, self.scale = mode, heads, share, scale
        if mode == "fixed":
            return
        self.norm = nn.LayerNorm(dim)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.decay = nn.Parameter(torch.zeros(heads))
        self.change = nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim + 2, 1)
        # From zeros, so that a new gate does nothing that it has not learned; each gets gradients all the same.
        for layer in (self.query, self.change, self.gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.gate.bias, math.log(share / (1 - share)))

    def forward(self, own: Tensor, around: Surroundings) -> Tensor:
        """Vectors (t, dim) of the cells of ``around``, from the ``own`` vectors (n, dim) of all cells it points to."""
        there = around.weights > 0
        number = there.sum(1, keepdim=True)
        cells = own[around.cells]
        if self.mode == "fixed":
            equal = there / number.clamp(min=1)
            context = Encoder.mean_of_neighbours(own, around.neighbours, equal)
            gate: Tensor | float = self.share
        else:
            context = self._context(cells, own, around, there)
            distance = (around.distances * there).sum(1, keepdim=True) / number.clamp(min=1)
            about = [self.norm(cells), self.norm(context), torch.log1p(number.float()), distance / self.scale]
            gate = torch.sigmoid(self.gate(torch.cat(about, dim=1)))
        return torch.where(number > 0, cells + gate * (context - cells), cells)

    def _context(self, cells: Tensor, own: Tensor, around: Surroundings, there: Tensor) -> Tensor:
        """(t, dim): each head's average of the neighbours, over its own columns, and a learned change of it."""
        t, k = around.neighbours.shape
        # As in Encoder.mean_of_neighbours: gradients of shared neighbours add up in a fixed order.
        near = nn.functional.embedding(around.neighbours, own)
        query = self.query(self.norm(cells)).view(t, self.heads, -1)
        key = self.key(self.norm(near)).view(t, k, self.heads, -1)
        content = torch.einsum("thd,tkhd->thk", query, key).float() / math.sqrt(query.shape[-1])
        prior = around.weights.clamp(min=torch.finfo(torch.float32).tiny).log()
        decay = self.decay[:, None] * (around.distances / self.scale)[:, None]
        score = (content + prior[:, None] - decay).masked_fill(~there[:, None], -1e9)
        attention = torch.softmax(score, dim=2)
        context = torch.einsum("thk,tkhd->thd", attention, near.view(t, k, self.heads, -1)).reshape(t, -1)
        changed: Tensor = context + self.change(context)
        return changed
