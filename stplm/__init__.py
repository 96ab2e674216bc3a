"""STPLM: a spatial transcriptome language model for 10x Xenium sections. The engine; no Qt, no napari.

Names are loaded when they are first used, so that ``import stplm`` is cheap and opening a widget imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "read_section": "stplm.io.read",
    "cell_table": "stplm.io.cell_table",
    "rank_encode": "stplm.tokens.rank",
    "load_model": "stplm.models",
    "embed": "stplm.tasks.embed",
    "embed_sections": "stplm.tasks.embed_sections",
    "umap": "stplm.tasks.umap",
    "adapt": "stplm.tasks.adapt",
    "pretrain": "stplm.tasks.pretrain",
    "finetune": "stplm.tasks.finetune",
    "tune": "stplm.tasks.tune",
    "seed_labels": "stplm.tasks.seed",
    "fit_classifier": "stplm.tasks.classify",
    "predict": "stplm.tasks.classify",
    "apply_to_sections": "stplm.tasks.batch",
    "impute": "stplm.tasks.impute",
    "perturb": "stplm.tasks.perturb",
    "map_arrows": "stplm.tasks.perturb_arrows",
    "attribute": "stplm.tasks.attribution",
    "rank_genes": "stplm.tasks.markers",
    "neighbourhoods": "stplm.tasks.neighbourhoods",
    "niches": "stplm.tasks.niches",
    "suggest": "stplm.tasks.suggest",
    "held_out": "stplm.evaluation.learning_curve",
    "learning_curve": "stplm.evaluation.learning_curve",
    "evaluate": "stplm.evaluation.metrics",
    "export": "stplm.io.export",
}
__all__ = [*_WHERE, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'stplm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
