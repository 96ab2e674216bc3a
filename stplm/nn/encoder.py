"""What every encoder is to the tasks: counts in, one vector a cell out.

Two stages, so that each cell is encoded once and every neighbourhood reuses it: a cell's *own* vector from its counts,
then the vector *in the tissue* from its own and its neighbours' vectors. Presets differ in how they do either.

Genes are rows keyed by Ensembl id: any panel picks its rows, and genes unseen in pretraining are added as new rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_CHUNK = 2048
"""Cells of a batch: as many as keep the hidden states of a wide layer in a processor's cache."""


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """What every encoder needs to know of space. Lengths are in µm."""

    neighbours: int = 12
    neighbour_radius: float = 60.0
    neighbour_scale: float = 20.0
    tile_size: float = 400.0
    halo: float = 100.0
    target_sum: float = 100.0

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the cell vector."""

    @property
    @abstractmethod
    def own_width(self) -> int:
        """Width of the own vector; the first columns of the cell vector."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``config.json``."""
        return asdict(self)


@dataclass(frozen=True)
class Surroundings:
    """The cells of a tile and who is near them. Rows count in the table of own vectors that goes with it.

    ``cells`` int64 (t,); ``neighbours`` int64 (t, k); ``weights`` float32 (t, k), adding up to 1, 0 where there is no
    neighbour; ``distances`` float32 (t, k) in µm; ``place`` float32 (t, 2) in µm from the tile's centre.
    """

    cells: Tensor
    neighbours: Tensor
    weights: Tensor
    distances: Tensor
    place: Tensor


class Encoder(nn.Module, ABC):
    """Base of the presets. A subclass makes ``gene_parameters`` (first axis: ``genes``) and the three stages.

    Parameters
    ----------
    genes
        Ensembl ids; row i of every gene parameter belongs to ``genes[i]``.
    """

    preset: ClassVar[str]
    gene_parameters: ClassVar[tuple[str, ...]]
    """Names of the parameters and buffers whose first axis is ``genes``."""
    own_time: ClassVar[float] = 0.5
    """About how much of the time of embedding goes to own vectors; for progress."""
    keeps_own: ClassVar[bool] = False
    """Whether a cell vector starts with the cell's own vector, unchanged."""
    config: EncoderConfig

    def __init__(self, genes: list[str], config: EncoderConfig) -> None:
        super().__init__()
        self.genes, self.config = list(genes), config

    @abstractmethod
    def encode_own(self, counts: Tensor, rows: Tensor) -> Tensor:
        """Own vectors (n, own_width) of cells with float ``counts`` (n, m); columns are gene ``rows`` int64 (m,)."""

    @abstractmethod
    def shared(self, own: Tensor) -> Tensor:
        """What a cell's neighbours see of it, from its own vector (n, own_width): made once a cell."""

    @abstractmethod
    def in_tissue(self, own: Tensor, shared: Tensor, around: Surroundings) -> Tensor:
        """Cell vectors (t, dim) of the cells of ``around``; ``own`` and ``shared`` are of all cells it points to."""

    def alone(self, own: Tensor) -> Tensor:
        """Cell vectors (n, dim) where neighbours are left out or not known: own vectors, and zeros after them."""
        return nn.functional.pad(own, (0, self.config.dim - self.config.own_width))

    @abstractmethod
    def decode(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Log of the expected share of each of the gene ``rows`` in a cell's counts, (n, m).

        ``vectors`` are own vectors (n, own_width) or cell vectors (n, dim).
        """

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The own stage's layers, input first: what fine-tuning can freeze."""

    def batches(self, lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Which cells to encode together, given each cell's number of detected genes ``lengths`` (n,)."""
        for start in range(0, len(lengths), _CHUNK):
            yield np.arange(start, min(start + _CHUNK, len(lengths)))

    @staticmethod
    def mean_of_neighbours(shared: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of the neighbours' rows of ``shared``, (t, ·). A cell without neighbours gets zeros."""
        # Indexing would add up the gradients of shared neighbours in the order that threads come by; this does not.
        near = nn.functional.embedding(neighbours, shared)
        return torch.einsum("nk,nkd->nd", weights, near)

    @torch.no_grad()
    def add_genes(self, genes: list[str]) -> None:
        """Append rows for genes that the model does not have. Cells without counts of them keep their vectors."""
        known = set(self.genes)
        new = [g for g in dict.fromkeys(genes) if g not in known]
        if not new:
            return
        for name in self.gene_parameters:
            old = getattr(self, name)
            rows = torch.full((len(new), *old.shape[1:]), self.untrained(name)).to(old)
            grown = torch.cat([old, rows])
            setattr(self, name, nn.Parameter(grown) if isinstance(old, nn.Parameter) else grown)
        self.genes += new

    def untrained(self, name: str) -> float:
        """What a new gene's row of a gene parameter starts as."""
        if name in ("gene_spread", "gene_median"):
            return 1.0
        return float(getattr(self, name).min()) if name == "gene_bias" else 0.0


class GeneDecoder(Encoder):
    """An encoder that predicts counts from its vectors, linear in each part; self-supervised training asks for it.

    A subclass makes ``projection``, from own vectors to what the contrast between cells is taken of.
    """

    projection: nn.Module

    gene_parameters: ClassVar[tuple[str, ...]] = (
        "gene_decode_own",
        "gene_decode_tissue",
        "gene_bias",
        "gene_log_dispersion",
    )

    def __init__(self, genes: list[str], config: EncoderConfig) -> None:
        super().__init__(genes, config)
        n, own, rest = len(genes), config.own_width, config.dim - config.own_width
        self.gene_decode_own = nn.Parameter(torch.randn(n, own) / math.sqrt(own))
        self.gene_decode_tissue = nn.Parameter(torch.zeros(n, rest))
        self.gene_bias = nn.Parameter(torch.zeros(n))
        self.gene_log_dispersion = nn.Parameter(torch.zeros(n))

    def decode(self, vectors: Tensor, rows: Tensor) -> Tensor:
        width = self.config.own_width
        logits = vectors[:, :width] @ self.gene_decode_own[rows].T + self.gene_bias[rows]
        if vectors.shape[1] > width:
            logits = logits + vectors[:, width:] @ self.gene_decode_tissue[rows].T
        return torch.log_softmax(logits, dim=1)
