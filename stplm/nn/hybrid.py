"""The hybrid: the gene-token encoder's vectors are the tokens of the cell-token encoder's second stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stplm.nn.rank import RankEncoder, RankStage, RankStageConfig
from stplm.nn.tissue import TissueStage, TissueStageConfig


@dataclass(frozen=True)
class HybridConfig(TissueStageConfig, RankStageConfig):
    """Sizes of both stages, flat. ``own_dim`` is ``hidden``; ``heads`` are those of both stages' attention."""

    own_dim: int = RankStageConfig.hidden


class HybridEncoder(RankStage, TissueStage):
    """A BERT encoder over a cell's ranked genes, then flow attention between the cells of a tile."""

    preset: ClassVar[str] = "hybrid"
    config: HybridConfig

    def __init__(self, genes: list[str], config: HybridConfig) -> None:
        if config.own_dim != config.hidden:
            raise ValueError(f"own_dim ({config.own_dim}) must be hidden ({config.hidden})")
        super().__init__(genes, config)

    @classmethod
    def from_rank(cls, rank: RankEncoder, **stage: Any) -> HybridEncoder:
        """A hybrid with a copy of a gene-token encoder's own stage, its gate left out; the second stage is new.

        ``stage``: sizes of the second stage, and whatever else differs from the encoder's config. Draws from torch's
        random state.
        """
        sizes = {name: value for name, value in rank.config.to_dict().items() if name not in ("gate", "gate_share")}
        encoder = cls(rank.genes, HybridConfig(**{**sizes, "own_dim": rank.config.hidden, **stage}))
        mine = encoder.state_dict()
        with torch.no_grad():
            for name, value in rank.state_dict().items():
                if name in mine and name != "gene_decode_tissue":
                    mine[name].copy_(value)
        return encoder
