"""Embedding with a neighbourhood as STPLM's published forward does it, written from its description.

One BERT reads the cell's ranked genes, another those of each of its neighbours: a neighbour is encoded again for every
cell that it is near. Sentences of a batch are padded to its longest (the published code pads to the model's full
length, which costs more). A cell's vector is 0.85 of its own, the mean over its tokens, and 0.15 of the mean over its
neighbours' vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHARE = 0.15
BATCH = 8


class TwoBert(nn.Module):
    """``cell`` and ``neighbour``: two own stages of a :class:`stplm.nn.rank.RankEncoder`, of any weights."""

    def __init__(self, cell: Any, neighbour: Any) -> None:
        super().__init__()
        self.cell, self.neighbour = cell, neighbour

    @torch.inference_mode()
    def forward(self, counts: np.ndarray, rows: np.ndarray, near: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Vectors (len(cells), hidden).

        Parameters
        ----------
        counts
            (n, m) of all cells; columns are gene ``rows`` (m,).
        near
            (n, k) rows of the neighbours, -1 where there is none.
        """
        made = []
        for start in range(0, len(cells), BATCH):
            batch = cells[start : start + BATCH]
            own = _encode(self.cell, counts[batch], rows)
            around = near[batch]
            found = _encode(self.neighbour, counts[around[around >= 0]], rows)
            total, here = torch.zeros_like(own), torch.from_numpy(np.nonzero(around >= 0)[0])
            total.index_add_(0, here, found)
            number = torch.from_numpy((around >= 0).sum(1)).float()[:, None]
            mixed = (1 - SHARE) * own + SHARE * total / number.clamp(min=1)
            made.append(torch.where(number > 0, mixed, own).numpy())
        return np.concatenate(made)


def _encode(encoder: Any, counts: np.ndarray, rows: np.ndarray) -> Tensor:
    tokens = encoder.tokenise(torch.from_numpy(counts.astype(np.float32)), torch.from_numpy(rows))
    hidden = encoder.body(
        inputs_embeds=encoder.words(tokens), attention_mask=tokens.mask.long(), return_dict=True
    ).last_hidden_state
    vectors: Tensor = encoder.pool(hidden, tokens)
    return vectors
