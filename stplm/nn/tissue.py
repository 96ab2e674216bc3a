"""The cell-token encoder: cells are tokens, a tissue is the sentence (after CellPLM, Wen et al., 2023).

Two stages, so that each cell is encoded once and every neighbourhood reuses it:

1. *own*: the counts of a cell, over the panel's own genes, to its vector. Each gene has an embedding; a cell starts as
   the sum of its genes' embeddings weighted by normalised expression (a bag of genes), and passes a residual network.
2. *tissue*: the vectors of the cells of a tile with its halo, each with the distance-weighted mean of its nearest
   neighbours and its place in the tile, pass blocks of flow attention.

Genes are rows keyed by Ensembl id: any panel picks its rows, and genes unseen in pretraining are added as new rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stplm.nn.attention import FlowAttention


@dataclass(frozen=True)
class TissueConfig:
    """Sizes and scales of a cell-token encoder. Lengths are in µm."""

    hidden: int = 256
    own_dim: int = 64
    own_blocks: int = 2
    tissue_dim: int = 32
    tissue_hidden: int = 96
    tissue_blocks: int = 2
    heads: int = 4
    neighbours: int = 12
    neighbour_radius: float = 60.0
    neighbour_scale: float = 20.0
    tile_size: float = 400.0
    halo: float = 100.0
    target_sum: float = 100.0

    @property
    def dim(self) -> int:
        """Width of the cell vector: its own part, then the tissue's."""
        return self.own_dim + self.tissue_dim

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``config.json``."""
        return asdict(self)


class _Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.down(nn.functional.gelu(self.up(self.norm(x))))
        return x + change


class _TissueBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(dim), FlowAttention(dim, heads), _Residual(dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mlp(x + self.attention(self.norm(x)))
        return mixed


class TissueEncoder(nn.Module):
    """Cell-token encoder with a decoder for self-supervised training.

    Parameters
    ----------
    genes
        Ensembl ids; row i of every gene parameter belongs to ``genes[i]``.
    config
        Sizes and scales.
    """

    gene_spread: Tensor
    _gene_parameters = ("gene_input", "gene_decode_own", "gene_decode_tissue", "gene_bias", "gene_log_dispersion")

    def __init__(self, genes: list[str], config: TissueConfig) -> None:
        super().__init__()
        c, n = config, len(genes)
        self.genes, self.config = list(genes), config
        self.gene_input = nn.Parameter(torch.randn(n, c.hidden) / math.sqrt(max(n, 1)))
        self.gene_decode_own = nn.Parameter(torch.randn(n, c.own_dim) / math.sqrt(c.own_dim))
        self.gene_decode_tissue = nn.Parameter(torch.zeros(n, c.tissue_dim))
        self.gene_bias = nn.Parameter(torch.zeros(n))
        self.gene_log_dispersion = nn.Parameter(torch.zeros(n))
        self.register_buffer("gene_spread", torch.ones(n))
        self.input_bias = nn.Parameter(torch.zeros(c.hidden))
        self.own_blocks = nn.Sequential(*(_Residual(c.hidden) for _ in range(c.own_blocks)))
        self.own_out = nn.Sequential(nn.LayerNorm(c.hidden), nn.Linear(c.hidden, c.own_dim))
        self.projection = nn.Sequential(nn.Linear(c.own_dim, c.own_dim), nn.GELU(), nn.Linear(c.own_dim, c.own_dim))
        self.own_norm = nn.LayerNorm(c.own_dim)
        self.tissue_in = nn.Linear(2 * c.own_dim + _PLACE_DIM, c.tissue_hidden)
        self.tissue_blocks = nn.Sequential(*(_TissueBlock(c.tissue_hidden, c.heads) for _ in range(c.tissue_blocks)))
        self.tissue_out = nn.Sequential(nn.LayerNorm(c.tissue_hidden), nn.Linear(c.tissue_hidden, c.tissue_dim))

    def encode_own(self, counts: Tensor, rows: Tensor) -> Tensor:
        """Own vectors (n, own_dim) of cells with ``counts`` (n, m); its columns are the model's gene ``rows`` (m,)."""
        depth = counts.sum(1, keepdim=True).clamp(min=1.0)
        level = torch.log1p(counts * (self.config.target_sum / depth)) / self.gene_spread[rows]
        hidden = level @ self.gene_input[rows] + self.input_bias
        vectors: Tensor = self.own_out(self.own_blocks(hidden))
        return vectors

    def encode_tissue(self, own: Tensor, neighbour_mean: Tensor, place: Tensor) -> Tensor:
        """Tissue vectors (n, tissue_dim) of the cells of one tile and its halo.

        ``own`` and ``neighbour_mean`` are (n, own_dim); ``place`` (n, 2) is in µm from the tile's centre.
        """
        tokens = torch.cat([self.own_norm(own), neighbour_mean, _encode_place(place)], dim=1)
        vectors: Tensor = self.tissue_out(self.tissue_blocks(self.tissue_in(tokens)))
        return vectors

    @staticmethod
    def mean_of_neighbours(normed: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of the neighbours' vectors: ``neighbours`` (n, k) rows of ``normed``, the own vectors after
        ``own_norm``; ``weights`` (n, k), zero where there is no neighbour. A cell with none gets zeros."""
        # Indexing would add up the gradients of shared neighbours in the order that threads come by; this does not.
        near = nn.functional.embedding(neighbours, normed)
        return torch.einsum("nk,nkd->nd", weights, near)

    def decode(self, own: Tensor, rows: Tensor, tissue: Tensor | None = None) -> Tensor:
        """Log of the expected share of each of the gene ``rows`` in a cell's counts, (n, m)."""
        logits = own @ self.gene_decode_own[rows].T + self.gene_bias[rows]
        if tissue is not None:
            logits = logits + tissue @ self.gene_decode_tissue[rows].T
        return torch.log_softmax(logits, dim=1)

    @torch.no_grad()
    def add_genes(self, genes: list[str]) -> None:
        """Append rows for genes that the model does not have. Until trained, they leave every cell vector as it was."""
        known = set(self.genes)
        new = [g for g in dict.fromkeys(genes) if g not in known]
        if not new:
            return
        for name in self._gene_parameters:
            old = getattr(self, name)
            fill = torch.full((len(new), *old.shape[1:]), float(old.min()) if name == "gene_bias" else 0.0)
            setattr(self, name, nn.Parameter(torch.cat([old, fill.to(old)])))
        self.gene_spread = torch.cat([self.gene_spread, torch.ones(len(new)).to(self.gene_spread)])
        self.genes += new


_WAVELENGTHS = (800.0, 400.0, 200.0, 100.0, 50.0, 25.0)
_PLACE_DIM = 4 * len(_WAVELENGTHS)


def _encode_place(place: Tensor) -> Tensor:
    """(n, 2) µm to (n, 24): sine and cosine of x and y at wavelengths from a tile down to a cell."""
    phase = torch.cat([place * (2 * math.pi / w) for w in _WAVELENGTHS], dim=1)
    return torch.cat([phase.sin(), phase.cos()], dim=1)
