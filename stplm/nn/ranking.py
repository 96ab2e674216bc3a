"""Cells as sentences of gene tokens, from dense counts on any device: what :func:`stplm.rank_encode` gives, in torch.

Training changes counts at every step (thinning, masking), so its sentences cannot be made beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.tokens.encoded import FIRST_OF_BIN

PAD, MASK, CLS, EOS = range(4)
FIRST_GENE = 4
"""Token ids: the special tokens, then gene row i is ``FIRST_GENE + i``."""
_MOST_PADDING = 0.10
_MOST_CELLS = 8192


@dataclass(frozen=True)
class Tokens:
    """Sentences, padded on the right to the longest of them.

    ``ids`` int64 (n, L); ``bins`` int64 (n, L), the count's bin (:func:`stplm.tokens.encoded.count_bins`), 0 at special
    tokens and padding; ``mask`` bool (n, L), True at tokens.
    """

    ids: Tensor
    bins: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @property
    def genes(self) -> Tensor:
        """True where a token is a gene's, bool (n, L)."""
        return self.ids >= FIRST_GENE

    def take(self, which: Tensor, width: int) -> Tokens:
        """The sentences ``which`` int64 (p,), their first ``width`` tokens."""
        return Tokens(self.ids[which, :width], self.bins[which, :width], self.mask[which, :width])


def tokenise(
    counts: Tensor, rows: Tensor, medians: Tensor, *, max_length: int, cls: bool = False, eos: bool = False
) -> Tokens:
    """Rank the detected genes of each cell by count / median, highest first.

    Ties go to the higher count, then to the lower token id; quotients are compared to 40 bits, as
    :func:`stplm.rank_encode` compares them.

    Parameters
    ----------
    counts
        Whole numbers, float (n, m).
    rows
        Gene row of each column, int64 (m,).
    medians
        What each column's counts are divided by, float64 (m,), above 0.
    max_length
        Longest sentence, special tokens included; the genes that rank last are cut.
    cls, eos
        Put these tokens first, last.
    """
    # Of two equal quotients the one of the higher count has the higher median. So ties are a matter of the columns'
    # order, and one stable sort will do.
    columns = rows.argsort(stable=True)
    columns = columns[medians[columns].argsort(descending=True, stable=True)]
    counts, ids = counts[:, columns], rows[columns] + FIRST_GENE
    # Bits of doubles that are not negative sort as whole numbers do.
    bits = (counts.double() / medians[columns]).view(torch.int64)
    ranked = ((bits + 0x800) & ~0xFFF).argsort(dim=1, descending=True, stable=True)
    lengths = (counts > 0).sum(1).clamp(max=max_length - cls - eos)
    ranked = ranked[:, : int(lengths.max()) if len(lengths) else 0]
    here = torch.arange(ranked.shape[1], device=counts.device) < lengths[:, None]
    genes = torch.where(here, ids[ranked], PAD)
    bins = torch.where(here, _bins(counts.gather(1, ranked)), 0)
    ends = (int(cls), int(eos))
    genes, bins, here = (torch.nn.functional.pad(t, ends) for t in (genes, bins, here))
    if cls:
        genes[:, 0], here[:, 0] = CLS, True
    if eos:
        last = lengths[:, None] + int(cls)
        genes, here = genes.scatter(1, last, EOS), here.scatter(1, last, True)
    return Tokens(genes, bins, here)


def _bins(counts: Tensor) -> Tensor:
    first = torch.as_tensor(FIRST_OF_BIN, dtype=counts.dtype, device=counts.device)
    return torch.bucketize(counts, first, right=True) - 1


def length_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Positions of sentences to run together, int64: of about the same length, shortest first.

    A batch is at most ``budget`` tokens with its padding (one sentence at least); padding adds at most a tenth to its
    tokens.
    """
    order = np.argsort(lengths, kind="stable")
    sizes = np.maximum(lengths[order], 1)
    start = 0
    while start < len(order):
        near = sizes[start : start + min(max(budget // int(sizes[start]), 1), _MOST_CELLS)]
        filled = near * np.arange(1, len(near) + 1)
        fits = (filled <= budget) & (filled <= (1 + _MOST_PADDING) * np.cumsum(near))
        # Once one is too long, so are those after it; the first always goes.
        size = max(len(near) if fits.all() else int(np.argmin(fits)), 1)
        yield order[start : start + size]
        start += size
