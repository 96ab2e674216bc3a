"""The gene-token encoder: a cell is the sentence of its ranked genes (Geneformer, Theodoris et al. 2023; STPLM).

1. *own*: the ranked genes of a cell, each an embedding of the gene, of its place and of its count's bin, pass a BERT
   encoder (``transformers``); the cell's vector is the mean over its genes, or that of ``<cls>``.
2. *tissue*: the vector is mixed with its neighbours' through a gate (``nn/gate.py``); each cell is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from stplm.nn.encoder import EncoderConfig, GeneDecoder, Surroundings
from stplm.nn.gate import NeighbourGate
from stplm.nn.ranking import FIRST_GENE, Tokens, length_batches, tokenise
from stplm.tokens.encoded import N_BINS

SIZES: Mapping[str, Mapping[str, int]] = {
    "small": {"layers": 6, "hidden": 256, "heads": 4, "feed_forward": 512},
    "large": {"layers": 12, "hidden": 512, "heads": 8, "feed_forward": 1024},
}
POOLS = ("mean", "cls")
_BUDGET = {"cpu": 4096}
_BUDGET_GPU = 131_072


@dataclass(frozen=True)
class RankStageConfig(EncoderConfig):
    """Sizes of the encoder over gene tokens. ``max_length``: places of a sentence. ``count_bins``: 0 for none."""

    layers: int = 6
    hidden: int = 256
    heads: int = 4
    feed_forward: int = 512
    max_length: int = 2048
    count_bins: int = N_BINS
    cls: bool = True
    eos: bool = False
    pool: str = "mean"
    pool_norm: bool = True
    activation: str = "gelu"
    dropout: float = 0.0
    token_types: int = 1
    norm_eps: float = 1e-12


@dataclass(frozen=True)
class RankConfig(RankStageConfig):
    """Sizes of a gene-token encoder; ``gate``, ``gate_share``: how neighbours come in (:class:`NeighbourGate`)."""

    gate: str = "learned"
    gate_share: float = 0.15

    @property
    def dim(self) -> int:
        return self.hidden

    @property
    def own_width(self) -> int:
        return self.hidden


class RankStage(GeneDecoder):
    """The own stage over gene tokens. The tissue stage is the subclass's."""

    gene_parameters: ClassVar[tuple[str, ...]] = (
        "gene_embedding",
        "gene_median",
        "gene_mlm_bias",
        *GeneDecoder.gene_parameters,
    )
    own_time: ClassVar[float] = 0.97
    config: RankStageConfig
    gene_median: Tensor
    special_mlm_bias: Tensor

    def __init__(self, genes: list[str], config: RankStageConfig) -> None:
        super().__init__(genes, config)
        c, n = config, len(genes)
        if c.pool not in POOLS or (c.pool == "cls" and not c.cls):
            raise ValueError(f"pool must be 'mean', or 'cls' with cls=True, not {c.pool!r} with cls={c.cls}")
        if not 0 <= c.count_bins <= N_BINS:
            raise ValueError(f"count_bins must be 0 to {N_BINS}, not {c.count_bins}")
        bert = _bert_config(c)
        self.gene_embedding = nn.Parameter(0.02 * torch.randn(n, c.hidden))
        # Doubles: float32 would tell quotients apart that are equal.
        self.register_buffer("gene_median", torch.ones(n, dtype=torch.float64))
        self.gene_mlm_bias = nn.Parameter(torch.zeros(n))
        self.special_embedding = nn.Parameter(0.02 * torch.randn(FIRST_GENE, c.hidden))
        self.register_buffer("special_mlm_bias", torch.zeros(FIRST_GENE))
        self.bin_embedding = nn.Parameter(0.02 * torch.randn(c.count_bins, c.hidden))
        self.body = BertModel(bert, add_pooling_layer=False)
        # Words come as vectors, from this encoder's own tables.
        self.body.embeddings.register_module("word_embeddings", nn.Identity())
        self.pool_norm = nn.LayerNorm(c.hidden) if c.pool_norm else nn.Identity()
        self.mlm_transform = nn.Sequential(
            nn.Linear(c.hidden, c.hidden), ACT2FN[c.activation], nn.LayerNorm(c.hidden, eps=c.norm_eps)
        )
        self.projection = nn.Sequential(nn.Linear(c.hidden, c.hidden), nn.GELU(), nn.Linear(c.hidden, c.hidden))

    def tokenise(self, counts: Tensor, rows: Tensor) -> Tokens:
        """Sentences of cells with float ``counts`` (n, m); columns are gene ``rows`` int64 (m,)."""
        c = self.config
        return tokenise(counts, rows, self.gene_median[rows], max_length=c.max_length, cls=c.cls, eos=c.eos)

    def encode_own(self, counts: Tensor, rows: Tensor) -> Tensor:
        tokens = self.tokenise(counts, rows)
        return self.pool(self.encode_tokens(tokens), tokens)

    def encode_tokens(self, tokens: Tokens) -> Tensor:
        """Hidden states (n, L, hidden) of the last layer; at padding they mean nothing.

        Sentences of about the same length run together, so padding costs next to nothing whatever their order.
        """
        lengths = tokens.mask.sum(1).cpu().numpy().astype(np.int64)
        if not len(lengths):
            return self.special_embedding.new_zeros((0, tokens.ids.shape[1], self.config.hidden))
        parts, order = [], []
        for batch in length_batches(lengths, self._budget()):
            width = max(int(lengths[batch].max()), 1)
            which = torch.as_tensor(batch, device=tokens.ids.device)
            even = int(lengths[batch].min()) == width
            hidden = self._run(tokens.take(which, width), even)
            parts.append(nn.functional.pad(hidden, (0, 0, 0, tokens.ids.shape[1] - width)))
            order.append(which)
        if len(parts) == 1 and bool((np.diff(batch) == 1).all()):
            return parts[0]
        return torch.cat(parts)[torch.cat(order).argsort()]

    def words(self, tokens: Tokens) -> Tensor:
        """What goes into the body for each token, (n, L, hidden), its place left out."""
        table = torch.cat([self.special_embedding, self.gene_embedding])
        words = nn.functional.embedding(tokens.ids, table)
        if self.config.count_bins:
            words = words + nn.functional.embedding(
                tokens.bins.clamp(max=self.config.count_bins - 1), self.bin_embedding
            )
        return words

    def _run(self, tokens: Tokens, even: bool) -> Tensor:
        words = self.words(tokens)
        mask = tokens.mask
        if not even:
            # An empty sentence attends to its padding, or softmax has nothing to add up.
            mask = mask | ~mask.any(1, keepdim=True)
        hidden: Tensor = self.body(
            inputs_embeds=words, attention_mask=None if even else mask.long(), return_dict=True
        ).last_hidden_state
        return hidden

    def pool(self, hidden: Tensor, tokens: Tokens) -> Tensor:
        """Own vectors (n, hidden) from ``hidden`` (n, L, hidden); of a cell without counts, that of an empty mean."""
        if self.config.pool == "cls":
            pooled = hidden[:, 0].float()
        else:
            genes = tokens.genes
            share = genes / genes.sum(1, keepdim=True).clamp(min=1)
            pooled = torch.einsum("nl,nld->nd", share, hidden.float())
        vectors: Tensor = self.pool_norm(pooled)
        return vectors

    def gene_logits(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Masked-gene head: logits (p, m) over the gene ``rows`` (m,), from ``hidden`` (p, hidden) at p tokens."""
        words: Tensor = self.mlm_transform(hidden)
        return words @ self.gene_embedding[rows].T + self.gene_mlm_bias[rows]

    def project(self, own: Tensor) -> Tensor:
        """What the contrast between cells is taken of, (n, hidden)."""
        projected: Tensor = self.projection(own)
        return projected

    def layers(self) -> list[nn.Module]:
        return list(self.body.encoder.layer)

    def batches(self, lengths: NDArray[np.int64], budget: int | None = None) -> Iterator[NDArray[np.int64]]:
        """Cells of about the same length; ``budget``: tokens at once, padding included (default: by device)."""
        c = self.config
        tokens = np.minimum(lengths + c.cls + c.eos, c.max_length)
        return length_batches(tokens, budget or self._budget())

    def _budget(self) -> int:
        return _BUDGET.get(self.special_embedding.device.type, _BUDGET_GPU)

    def untrained(self, name: str) -> float:
        return float(self.gene_mlm_bias.min()) if name == "gene_mlm_bias" else super().untrained(name)


class RankEncoder(RankStage):
    """Gene-token encoder; neighbours come in through a gate."""

    preset: ClassVar[str] = "rank"
    config: RankConfig

    def __init__(self, genes: list[str], config: RankConfig) -> None:
        super().__init__(genes, config)
        c = config
        self.gate = NeighbourGate(c.hidden, c.heads, c.gate, c.gate_share, c.neighbour_scale)

    def shared(self, own: Tensor) -> Tensor:
        return own

    def in_tissue(self, own: Tensor, shared: Tensor, around: Surroundings) -> Tensor:
        mixed: Tensor = self.gate(shared, around)
        return mixed


def _bert_config(c: RankStageConfig) -> BertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": FIRST_GENE,
        "hidden_size": c.hidden,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.feed_forward,
        "hidden_act": c.activation,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.dropout,
        "max_position_embeddings": c.max_length,
        "type_vocab_size": c.token_types,
        "layer_norm_eps": c.norm_eps,
        "pad_token_id": 0,
        "attn_implementation": "sdpa",
    }
    return BertConfig(**sizes)
