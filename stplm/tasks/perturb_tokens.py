"""Variants of the gene-token encoders: sentences with tokens dropped or moved, packed by length.

A variant's sentence is its cell's, cut to the model's places before it is edited, as in Geneformer's tokenised data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.errors import StplmError
from stplm.nn.rank import RankStage
from stplm.nn.rank_even import EvenPasses
from stplm.nn.ranking import CLS, EOS, FIRST_GENE, PAD, Tokens, length_batches, tokenise
from stplm.tasks.perturb_edits import Edits, RankRule
from stplm.tasks.perturb_vectors import VariantEncoder, to_numpy
from stplm.tokens.encoded import count_bins

_TOKENS = 16_384


class TokenVariants(VariantEncoder):
    """Variants of a :class:`RankStage`.

    ``measure``: "cell", "cls" (the vector of ``<cls>`` before and after), or "genes" (one minus the mean cosine over
    the genes that are in both sentences and were not edited).
    """

    block, cost = 64, 400
    encoder: RankStage
    rule: RankRule

    def __init__(
        self, encoder: RankStage, rows: NDArray[np.int64], mode: str, measure: str = "cell", dtype: str = "float32"
    ) -> None:
        super().__init__(encoder, rows, dtype)
        if measure == "cls" and not encoder.config.cls:
            raise StplmError("This model's sentences have no <cls> token.", mend="Take measure='cell' or 'genes'.")
        self.measure = measure
        self._rows = torch.as_tensor(rows)
        self._medians = encoder.gene_median.cpu()[self._rows]
        self._column = np.full(len(encoder.genes) + FIRST_GENE, -1, dtype=np.int64)
        self._column[rows + FIRST_GENE] = np.arange(len(rows))
        self.rule = RankRule(mode, self._medians.numpy(), self.sentences)
        self._even: dict[str, EvenPasses] = {}

    def sentences(self, counts: NDArray[np.float32]) -> NDArray[np.int64]:
        """Columns of each cell's ranked genes (b, L), -1 after the end; as many as the model has places for."""
        c = self.encoder.config
        room = c.max_length - c.cls - c.eos
        tokens = tokenise(torch.from_numpy(counts), self._rows, self._medians, max_length=room)
        return np.asarray(self._column[tokens.ids.numpy()])

    def base(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        sentences = self.sentences(counts)
        vectors = np.empty((len(counts), self.encoder.config.own_width), dtype=np.float32)
        with torch.inference_mode():
            for which in length_batches((sentences >= 0).sum(1) + 1, _TOKENS):
                tokens = self.tokens(sentences[which], counts[which])
                vectors[which] = to_numpy(self.encoder.pool(self._encode(tokens), tokens))
        return vectors

    def parts(
        self, counts: NDArray[np.float32], edits: Edits
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
        sentences = self.sentences(counts)
        with torch.inference_mode():
            before = self._before(sentences, counts)
            lengths = (sentences >= 0).sum(1)[edits.cells]
            # Longest first, so that what does not fit shows at once.
            for which in reversed(list(length_batches(lengths + 1, _TOKENS))):
                which = np.sort(which)
                part = edits.some(which)
                order, levels = self._edited(sentences, counts, part)
                tokens = self.tokens(order, levels)
                hidden = self._encode(tokens)
                own = to_numpy(self.encoder.pool(hidden, tokens))
                shift = None
                if before is not None:
                    edited = np.zeros((len(part), len(self.rows) + 1), dtype=bool)
                    edited[part.owner, part.columns] = True
                    shift = self._shift(before, sentences, part.cells, edited, order, hidden)
                yield which, own, shift

    def between(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        sentences, order = self.sentences(before), self.sentences(after)
        with torch.inference_mode():
            tokens = self.tokens(order, after)
            hidden = self._encode(tokens)
            own, old = to_numpy(self.encoder.pool(hidden, tokens)), self._before(sentences, before)
            if old is None:
                return own, None
            unedited = np.zeros((len(after), len(self.rows) + 1), dtype=bool)
            return own, self._shift(old, sentences, np.arange(len(after)), unedited, order, hidden)

    def _edited(
        self, sentences: NDArray[np.int64], counts: NDArray[np.float32], edits: Edits
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Sentences (v, L) of variants, and their counts (v, m)."""
        owner, mode = edits.owner, self.rule.mode
        levels = counts[edits.cells]
        levels[owner, edits.columns] = edits.new
        before = sentences[edits.cells]
        width = before.shape[1]
        # Even keys for tokens in their places; an edited token goes between them.
        key = np.where(before >= 0, 2 * np.arange(width), 4 * width + 4)
        place = np.full((len(edits), counts.shape[1]), -1, dtype=np.int64)
        rows, ranks = np.nonzero(before >= 0)
        place[rows, before[rows, ranks]] = ranks
        at = place[owner, edits.columns]
        there = at >= 0
        if mode == "delete":
            key[owner[there], at[there]] = 4 * width + 4
            before[owner[there], at[there]] = -1
        elif mode == "overexpress":
            # Genes that the cell lacks come to the front too; a set keeps its order, new ones last.
            most = int(np.bincount(owner, minlength=len(edits)).max(initial=0))
            before = np.pad(before, ((0, 0), (0, most)), constant_values=-1)
            key = np.pad(key, ((0, 0), (0, most)), constant_values=4 * width + 4)
            key[owner[there], at[there]] -= 4 * width
            inside = np.arange(len(owner)) - edits.offsets[:-1][owner]
            new = ~there
            before[owner[new], width + inside[new]] = edits.columns[new]
            key[owner[new], width + inside[new]] = -2 * width + inside[new]
        else:
            later = mode == "inhibit"
            key[owner, at] = np.where(edits.place == at, 2 * at, 2 * edits.place + (1 if later else -1))
        order = np.argsort(key, axis=1, kind="stable")
        edited = np.take_along_axis(before, order, axis=1)
        c = self.encoder.config
        return edited[:, : min(edited.shape[1], c.max_length - c.cls - c.eos)], levels

    def tokens(self, sentences: NDArray[np.int64], counts: NDArray[np.float32]) -> Tokens:
        """Sentences of columns as the encoder takes them."""
        c = self.encoder.config
        here = sentences >= 0
        width = int(here.sum(1).max(initial=0))
        sentences, here = sentences[:, :width], here[:, :width]
        columns = np.where(here, sentences, 0)
        ids = np.where(here, self.rows[columns] + FIRST_GENE, PAD)
        whole = np.take_along_axis(counts, columns, axis=1).astype(np.int64)
        bins = np.where(here, count_bins(whole), 0).astype(np.int64)
        ends = ((0, 0), (int(c.cls), int(c.eos)))
        ids, bins, mask = np.pad(ids, ends), np.pad(bins, ends), np.pad(here, ends)
        if c.cls:
            ids[:, 0], mask[:, 0] = CLS, True
        if c.eos:
            last = here.sum(1) + int(c.cls)
            ids[np.arange(len(ids)), last], mask[np.arange(len(ids)), last] = EOS, True
        return Tokens(*(torch.from_numpy(a).to(self.device) for a in (ids, bins, mask)))

    def _encode(self, tokens: Tokens) -> Tensor:
        """Hidden states (n, L, hidden) of the last layer."""
        if not EvenPasses.fits(self.encoder):
            with self.half():
                return self.encoder.encode_tokens(tokens)
        if self.dtype not in self._even:
            self._even[self.dtype] = EvenPasses(self.encoder, getattr(torch, self.dtype))
        return self._even[self.dtype](tokens)

    def _before(self, sentences: NDArray[np.int64], counts: NDArray[np.float32]) -> Tensor | None:
        """Hidden states (b, L, hidden) of the cells as they are, where the measure needs them."""
        if self.measure == "cell":
            return None
        return self._encode(self.tokens(sentences, counts)).float()

    def _shift(
        self,
        before: Tensor,
        sentences: NDArray[np.int64],
        cells: NDArray[np.int64],
        edited: NDArray[np.bool_],
        order: NDArray[np.int64],
        hidden: Tensor,
    ) -> NDArray[np.float32]:
        """Shift (v,) of sentences ``order`` (v, L) with states ``hidden``, of the ``cells`` (v,) with states
        ``before``.
                ``edited`` bool (v, m + 1): the genes left out of the mean; its last column stands for padding.
        """
        hidden = hidden.float()
        whose = torch.as_tensor(cells, device=self.device)
        if self.measure == "cls":
            return to_numpy((1 - torch.cosine_similarity(before[whose, 0], hidden[:, 0], dim=1)).clamp(min=0))
        first = int(self.encoder.config.cls)
        place = np.full((len(sentences), len(self.rows) + 1), -1, dtype=np.int64)
        rows, ranks = np.nonzero(sentences >= 0)
        place[rows, sentences[rows, ranks]] = ranks
        # A token's counterpart; -1 for padding (which finds the last column) and for what was edited.
        at = place[cells[:, None], order]
        at[np.take_along_axis(edited, order % edited.shape[1], axis=1)] = -1
        width = min(order.shape[1], hidden.shape[1] - first)
        at = at[:, :width]
        other = torch.as_tensor(np.maximum(at, 0) + first, device=self.device)
        cosine = torch.cosine_similarity(before[whose[:, None], other], hidden[:, first : first + width], dim=2)
        both = torch.as_tensor(at >= 0, device=self.device)
        mean = (cosine * both).sum(1) / both.sum(1).clamp(min=1)
        return to_numpy(torch.where(both.any(1), 1 - mean, 0.0).clamp(min=0))
