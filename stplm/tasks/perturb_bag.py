"""Variants of the cell-token encoder: an edit is a change of rank one in a bag of genes.

The encoder starts from the sum of its genes' embeddings, weighted by level, log1p(100 × count / depth). An edit changes
one term, and the depth all others get divided by; but variants of a cell that end at the same depth (most genes lose
one, two or three molecules) share that sum. So a sum is made once for each cell and depth, and a variant is that plus
one row of a table. The first layer's matrix product is linear in the same bag, so it is read from the table too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stplm.nn.tissue import Residual, TissueEncoder
from stplm.tasks.perturb_edits import Edits, Rule
from stplm.tasks.perturb_vectors import VariantEncoder, to_numpy

_CHUNK = 1024


class BagVariants(VariantEncoder):
    """Variants of a :class:`TissueEncoder`. In exact arithmetic the vectors are those of ``encode_own``."""

    encoder: TissueEncoder

    def __init__(self, encoder: TissueEncoder, rows: NDArray[np.int64], rule: Rule, dtype: str = "float32") -> None:
        super().__init__(encoder, rows, dtype)
        self.rule = rule
        first = encoder.own_blocks[0]
        assert isinstance(first, Residual)
        self._first = first
        with torch.no_grad():
            index = torch.as_tensor(rows, device=self.device)
            bag = encoder.gene_input[index] / encoder.gene_spread[index][:, None]
            # Layer norm is (x - mean) / spread, stretched: the product with x itself can be made beforehand.
            stretched = first.up.weight * first.norm.weight
            self._table = torch.cat([bag, bag @ stretched.T], dim=1)
            start = encoder.input_bias
            self._start = torch.cat([start, start @ stretched.T])
            self._ones = stretched.sum(1)
            self._constant = first.up.weight @ first.norm.bias + first.up.bias
        self.width, self._target = bag.shape[1], encoder.config.target_sum

    def base(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = np.empty((len(counts), self.encoder.config.own_width), dtype=np.float32)
        for which, of, _ in self.parts(counts, Edits.none(len(counts))):
            vectors[which] = of
        return vectors

    def parts(
        self, counts: NDArray[np.float32], edits: Edits
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
        with torch.inference_mode():
            for start, bags in self.bags(counts, edits):
                yield np.arange(start, start + len(bags)), to_numpy(self._finish(bags)), None

    def bags(self, counts: NDArray[np.float32], edits: Edits) -> Iterator[tuple[int, Tensor]]:
        """From which variant on, and the bags (p, hidden + first layer's width) of the next p."""
        owner = edits.owner
        lost = np.bincount(owner, weights=edits.new.astype(np.float64) - edits.old, minlength=len(edits))
        depth = np.maximum(counts.sum(1, dtype=np.float64)[edits.cells] + lost, 1.0).astype(np.float32)
        for start in range(0, len(edits), _CHUNK):
            part = edits.take(slice(start, start + _CHUNK))
            depths = depth[start : start + len(part)]
            # Depths are at least 1, so their bits are positive and make one key with the cell.
            pairs, sums = np.unique(part.cells << 32 | depths.view(np.int32), return_inverse=True)
            cells, shared = pairs >> 32, pairs.astype(np.int32).view(np.float32)
            level = self._level(torch.from_numpy(counts[cells]).to(self.device), shared[:, None])
            bags = (level @ self._table + self._start)[torch.as_tensor(sums, device=self.device)]
            if len(part.columns):
                whose = part.owner
                at = depths[whose]
                new, old = (self._level(torch.from_numpy(c).to(self.device), at) for c in (part.new, part.old))
                rows = self._table[torch.as_tensor(part.columns, device=self.device)]
                by = (new - old)[:, None]
                if len(whose) == len(part):
                    bags.addcmul_(by, rows)
                else:
                    bags.index_add_(0, torch.as_tensor(whose, device=self.device), by * rows)
            yield start, bags

    def own(self, hidden: Tensor) -> Tensor:
        """Own vectors (p, own_width) from bags (p, hidden), as ``encode_own`` goes on from there."""
        vectors: Tensor = self.encoder.own_out(self.encoder.own_blocks(hidden))
        return vectors

    def _level(self, counts: Tensor, depth: NDArray[np.float32]) -> Tensor:
        return torch.log1p(counts * torch.from_numpy(self._target / depth).to(counts))

    def _finish(self, bags: Tensor) -> Tensor:
        hidden, product = bags[:, : self.width], bags[:, self.width :]
        # In float32 whatever the precision of the rest: the sums are where a deletion shows.
        _, mean, spread = torch.native_layer_norm(hidden, [self.width], None, None, self._first.norm.eps)
        up = torch.addcmul(product, mean, self._ones, value=-1).mul_(spread).add_(self._constant)
        with self.half():
            hidden = hidden + self._first.down(nn.functional.gelu(up))
            for block in list(self.encoder.own_blocks)[1:]:
                hidden = block(hidden)
            vectors: Tensor = self.encoder.own_out(hidden)
        return vectors
