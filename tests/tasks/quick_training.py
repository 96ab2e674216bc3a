"""Architectures and a training that take a second."""

from __future__ import annotations

from stplm.nn.tissue import TissueConfig
from stplm.tasks.training import TrainingConfig

SMALL = TissueConfig(
    hidden=32, own_dim=16, own_blocks=1, tissue_dim=8, tissue_hidden=24, tissue_blocks=1, heads=2, tile_size=200.0
)
SMALL_RANK = {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16}
QUICK = TrainingConfig(steps=6, batch=64, patch=40, warm_up=2)
