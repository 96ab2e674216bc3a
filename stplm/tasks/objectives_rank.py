"""What the gene-token encoder is asked in self-supervised training.

Each step draws patches of neighbouring cells from one section and splits their counts in two (binomial thinning). The
encoder reads the ranked genes of one part; some cells are blanked, nothing but ``<cls>``. Asked are

- *masked genes* (Devlin et al., 2019; Geneformer): of 15 % of the gene tokens, 80 % become ``<mask>`` without a count
  bin, 10 % another gene of the panel, 10 % stay; predict the gene, among the genes of the panel, at these places only;
- *own*: from a cell's own vector, the genes of the part that it did not see (multinomial);
- *gate*: from its vector with its neighbours', the same, and all counts of blanked cells.

A step's loss is the mean over its patches, each with random numbers of its own, so it does not depend on how many
processes share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stplm.nn.encoder import Surroundings
from stplm.nn.losses import info_nce
from stplm.nn.ranking import FIRST_GENE, MASK, Tokens
from stplm.tasks.objectives import Objective, Parts, Share, draw_patch, place_patch

if TYPE_CHECKING:
    from stplm.nn.rank import RankEncoder, RankStage
    from stplm.tasks.cells import Cells

KEEP, HIDE, SWAP, ASK = range(4)
"""What happens to a gene's token: nothing; ``<mask>``; another gene; it stays but is asked for."""


@dataclass(frozen=True)
class RankBatch:
    """Patches one after the other: p cells, m genes.

    ``seen``, ``own_target``, ``gate_target`` float32 (p, m): counts that are read, and that are to be predicted from a
    cell's own vector and with its neighbours'. ``action`` int8 (p, m), ``other`` int64 (p, m): what happens to a gene's
    token, and the column of the gene that may take its place. ``patch`` int64 (p,): of each cell. ``weight`` of each
    patch in the loss.
    """

    seen: Tensor
    own_target: Tensor
    gate_target: Tensor
    action: Tensor
    other: Tensor
    patch: Tensor
    patches: int
    weight: float
    rows: Tensor
    around: Surroundings | None

    @property
    def cells(self) -> int:
        """How many cells are in it."""
        return len(self.seen)

    def mean(self, values: Tensor, of: Tensor, counts: Tensor | None = None) -> Tensor:
        """Weighted sum over patches of the mean of ``values`` (q,), which belong to patches ``of`` (q,).

        ``counts`` (q,): how many each of the values is the sum of (default: one).
        """
        size = torch.ones_like(values) if counts is None else counts
        sums = values.new_zeros(2, self.patches).index_add(1, of, torch.stack([values, size]))
        return self.weight * (sums[0] / sums[1].clamp(min=1.0)).sum()


class RankObjective(Objective):
    """Masked genes, own and gate losses of a :class:`~stplm.nn.rank.RankEncoder`."""

    encoder: RankEncoder

    def draw(self, cells: Cells, step: int, random: np.random.Generator, share: Share) -> RankBatch:
        n = max(self.config.patches, share.count)
        seeds = random.integers(2**62, size=n)[share.index :: share.count]
        drawn = [_Patch.draw(cells, np.random.default_rng(seed), self) for seed in seeds]
        starts = np.cumsum([0, *(len(patch.seen) for patch in drawn)])
        device = self.device

        def joined(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(patch, name) for patch in drawn])).to(device)

        return RankBatch(
            joined("seen"),
            joined("own_target"),
            joined("gate_target"),
            joined("action"),
            joined("other"),
            torch.as_tensor(np.repeat(np.arange(len(drawn)), np.diff(starts)), device=device),
            len(drawn),
            share.count / n,
            torch.as_tensor(cells.rows, device=device),
            _side_by_side([patch.around for patch in drawn], starts),
        )

    def forward(self, batch: RankBatch) -> tuple[Tensor, Parts]:
        config, encoder, rows = self.config, self.encoder, batch.rows
        tokens = encoder.tokenise(batch.seen, rows)
        corrupted, asked, column = corrupt(tokens, batch, len(encoder.genes))
        hidden = encoder.encode_tokens(corrupted)
        own = encoder.pool(hidden, corrupted)
        masked, right = masked_gene_loss(encoder, hidden, asked, column, batch)
        losses = {"masked_gene": masked, "own": _multinomial(encoder.decode(own, rows), batch.own_target, batch)}
        loss = config.masked_gene_weight * masked + config.own_weight * losses["own"]
        if batch.around is not None and config.tissue_weight:
            around = encoder.in_tissue(own, encoder.shared(own), batch.around)
            losses["gate"] = _multinomial(encoder.decode(around, rows), batch.gate_target, batch)
            loss = loss + config.tissue_weight * losses["gate"]
        if config.contrast_weight:
            there = (batch.own_target.sum(1) > 0).nonzero().ravel()
            other = encoder.encode_own(batch.own_target[there], rows)
            pair = (encoder.project(own[there]).float(), encoder.project(other).float())
            losses["contrast"] = _contrast(*pair, batch.patch[there], batch, config.temperature)
            loss = loss + config.contrast_weight * losses["contrast"]
        return loss, {**{name: part.detach() for name, part in losses.items()}, "masked_gene_accuracy": right}


def corrupt(tokens: Tokens, batch: RankBatch, n_genes: int) -> tuple[Tokens, Tensor, Tensor]:
    """Sentences with masked genes; bool (p, L), where a gene is asked for; int64 (p, L), the column of each gene."""
    rows = batch.rows
    column_of = rows.new_zeros(n_genes)
    column_of[rows] = torch.arange(len(rows), device=rows.device)
    genes = tokens.genes
    column = torch.where(genes, column_of[(tokens.ids - FIRST_GENE).clamp(min=0)], 0)
    action = torch.where(genes, batch.action.gather(1, column), KEEP)
    ids = torch.where(action == HIDE, MASK, tokens.ids)
    ids = torch.where(action == SWAP, rows[batch.other.gather(1, column)] + FIRST_GENE, ids)
    # A hidden gene's count would tell which gene it is.
    bins = torch.where(action == HIDE, 0, tokens.bins)
    return Tokens(ids, bins, tokens.mask), action != KEEP, column


def masked_gene_loss(
    encoder: RankStage, hidden: Tensor, asked: Tensor, column: Tensor, batch: RankBatch
) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the panel's genes at the places that are ``asked`` (p, L), and the share that is right."""
    logits = encoder.gene_logits(hidden[asked], batch.rows).float()
    truth, of = column[asked], batch.patch[:, None].expand_as(asked)[asked]
    loss = batch.mean(functional.cross_entropy(logits, truth, reduction="none"), of)
    with torch.no_grad():
        right = batch.mean((logits.argmax(1) == truth).float(), of)
    return loss, right


def _multinomial(log_share: Tensor, target: Tensor, batch: RankBatch) -> Tensor:
    """Negative log-likelihood a molecule."""
    return batch.mean(-(target * log_share.float()).sum(1), batch.patch, target.sum(1))


def _contrast(a: Tensor, b: Tensor, of: Tensor, batch: RankBatch, temperature: float) -> Tensor:
    """A cell against the others of its patch: those of other patches may be another process's."""
    inside = [of == patch for patch in of.unique()]
    return batch.weight * sum((info_nce(a[here], b[here], temperature) for here in inside), a.new_zeros(()))


@dataclass(frozen=True)
class _Patch:
    """One patch's arrays, as in :class:`RankBatch`."""

    seen: NDArray[np.float32]
    own_target: NDArray[np.float32]
    gate_target: NDArray[np.float32]
    action: NDArray[np.int8]
    other: NDArray[np.int64]
    around: Surroundings | None

    @classmethod
    def draw(cls, cells: Cells, random: np.random.Generator, objective: RankObjective) -> _Patch:
        config = objective.config
        where = draw_patch(cells, config.patch, random)
        counts = cells.counts[where].astype(np.float32)
        share = random.uniform(config.thin_low, config.thin_high, len(where))
        seen = counts.copy()
        seen.data = random.binomial(counts.data.astype(np.int64), np.repeat(share, np.diff(counts.indptr))).astype(
            np.float32
        )
        blank = random.random((len(where), 1)) < config.cell_mask
        everything, read = counts.toarray(), seen.toarray()
        held_out = everything - read
        draw = random.random(everything.shape, dtype=np.float32)
        action = np.full(everything.shape, KEEP, dtype=np.int8)
        for what, below in ((ASK, 1.0), (SWAP, 0.9), (HIDE, 0.8)):
            action[draw < below * config.gene_mask] = what
        return cls(
            np.where(blank, np.float32(0), read),
            np.where(blank, np.float32(0), held_out),
            np.where(blank, everything, held_out),
            action,
            random.integers(everything.shape[1], size=everything.shape),
            place_patch(cells, where, random, objective.device),
        )


def _side_by_side(parts: list[Surroundings | None], starts: NDArray[np.int64]) -> Surroundings | None:
    """Surroundings of several patches whose cells stand one patch after the other."""
    there = [part for part in parts if part is not None]
    if not there:
        return None
    shifted = list(zip(there, starts[:-1].tolist(), strict=True))
    return Surroundings(
        torch.cat([part.cells + start for part, start in shifted]),
        torch.cat([part.neighbours + start for part, start in shifted]),
        *(torch.cat([getattr(part, name) for part in there]) for name in ("weights", "distances", "place")),
    )
