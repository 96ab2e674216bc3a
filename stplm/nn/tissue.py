"""The cell-token encoder: cells are tokens, a tissue is the sentence (after CellPLM, Wen et al., 2023).

1. *own*: the counts of a cell, over the panel's own genes, to its vector. Each gene has an embedding; a cell starts as
   the sum of its genes' embeddings weighted by normalised expression (a bag of genes), and passes a residual network.
2. *tissue*: the vectors of the cells of a tile with its halo, each with the distance-weighted mean of its nearest
   neighbours and its place in the tile, pass blocks of flow attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from stplm.nn.attention import FlowAttention
from stplm.nn.encoder import EncoderConfig, GeneDecoder, Surroundings


@dataclass(frozen=True)
class TissueStageConfig(EncoderConfig):
    """Sizes of the second stage."""

    own_dim: int = 64
    tissue_dim: int = 32
    tissue_hidden: int = 96
    tissue_blocks: int = 2
    heads: int = 4

    @property
    def dim(self) -> int:
        """Width of the cell vector: its own part, then the tissue's."""
        return self.own_dim + self.tissue_dim

    @property
    def own_width(self) -> int:
        return self.own_dim


@dataclass(frozen=True)
class TissueConfig(TissueStageConfig):
    """Sizes and scales of a cell-token encoder. Lengths are in µm."""

    hidden: int = 256
    own_blocks: int = 2


class Residual(nn.Module):
    """Pre-norm residual MLP of ``dim`` over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.down(nn.functional.gelu(self.up(self.norm(x))))
        return x + change


class _TissueBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(dim), FlowAttention(dim, heads), Residual(dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mlp(x + self.attention(self.norm(x)))
        return mixed


class TissueStage(GeneDecoder):
    """The second stage: flow attention between the cells of a tile. The own stage is the subclass's."""

    keeps_own: ClassVar[bool] = True
    config: TissueStageConfig

    def __init__(self, genes: list[str], config: TissueStageConfig) -> None:
        super().__init__(genes, config)
        c = config
        self.own_norm = nn.LayerNorm(c.own_dim)
        self.tissue_in = nn.Linear(2 * c.own_dim + _PLACE_DIM, c.tissue_hidden)
        self.tissue_blocks = nn.Sequential(*(_TissueBlock(c.tissue_hidden, c.heads) for _ in range(c.tissue_blocks)))
        self.tissue_out = nn.Sequential(nn.LayerNorm(c.tissue_hidden), nn.Linear(c.tissue_hidden, c.tissue_dim))

    def shared(self, own: Tensor) -> Tensor:
        normed: Tensor = self.own_norm(own)
        return normed

    def in_tissue(self, own: Tensor, shared: Tensor, around: Surroundings) -> Tensor:
        tissue = self.tissue_out(self.tissue_blocks(self.tissue_in(self.tokens(shared, around))))
        return torch.cat([own[around.cells], tissue], dim=1)

    def tokens(self, shared: Tensor, around: Surroundings) -> Tensor:
        """What the second stage starts from, a row a cell of ``around``."""
        mean = self.mean_of_neighbours(shared, around.neighbours, around.weights)
        return self.joined(shared[around.cells], mean, around.place)

    @staticmethod
    def joined(shared: Tensor, mean: Tensor, place: Tensor) -> Tensor:
        """The same from its parts: a cell, the mean of its neighbours, and its place (t, 2) in µm."""
        return torch.cat([shared, mean, _encode_place(place)], dim=1)


class TissueEncoder(TissueStage):
    """Cell-token encoder with a decoder for self-supervised training."""

    preset: ClassVar[str] = "tissue"
    gene_parameters: ClassVar[tuple[str, ...]] = ("gene_input", "gene_spread", *GeneDecoder.gene_parameters)
    config: TissueConfig
    gene_spread: Tensor

    def __init__(self, genes: list[str], config: TissueConfig) -> None:
        super().__init__(genes, config)
        c, n = config, len(genes)
        self.gene_input = nn.Parameter(torch.randn(n, c.hidden) / math.sqrt(max(n, 1)))
        self.register_buffer("gene_spread", torch.ones(n))
        self.input_bias = nn.Parameter(torch.zeros(c.hidden))
        self.own_blocks = nn.Sequential(*(Residual(c.hidden) for _ in range(c.own_blocks)))
        self.own_out = nn.Sequential(nn.LayerNorm(c.hidden), nn.Linear(c.hidden, c.own_dim))
        self.projection = nn.Sequential(nn.Linear(c.own_dim, c.own_dim), nn.GELU(), nn.Linear(c.own_dim, c.own_dim))

    def encode_own(self, counts: Tensor, rows: Tensor) -> Tensor:
        depth = counts.sum(1, keepdim=True).clamp(min=1.0)
        level = torch.log1p(counts * (self.config.target_sum / depth)) / self.gene_spread[rows]
        hidden = level @ self.gene_input[rows] + self.input_bias
        vectors: Tensor = self.own_out(self.own_blocks(hidden))
        return vectors

    def layers(self) -> list[nn.Module]:
        return [*self.own_blocks, self.own_out]


_WAVELENGTHS = (800.0, 400.0, 200.0, 100.0, 50.0, 25.0)
_PLACE_DIM = 4 * len(_WAVELENGTHS)


def _encode_place(place: Tensor) -> Tensor:
    """(n, 2) µm to (n, 24): sine and cosine of x and y at wavelengths from a tile down to a cell."""
    phase = torch.cat([place * (2 * math.pi / w) for w in _WAVELENGTHS], dim=1)
    return torch.cat([phase.sin(), phase.cos()], dim=1)
