"""Unit costs of large jobs: processor seconds and bytes a cell, for the plan of benchmarks/scaling.py."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.machine import machine
from benchmarks.sections import MULTI, Sections

_T = TypeVar("_T")
_RANK_CELLS = 2_000
_WARM_UP = 1_000
_PATCHES = 40


def measure(sections: Sections, cells: int) -> dict[str, Any]:
    """Unit costs: processor seconds a cell of each stage, bytes a cell of each file. One thread."""
    import torch

    import stplm
    from stplm.tasks import encode
    from stplm.tasks.embed_plan import Embedding

    torch.set_num_threads(1)
    model = stplm.load_model()
    how = Embedding("default", model.fingerprint(), encode.BLOCK, encode.BAND_CELLS, device="cpu", clusters=0)
    _stages(sections.bundle(_WARM_UP, MULTI), how)  # what is loaded and compiled once
    bundle = sections.bundle(cells, MULTI)
    took, sizes = _stages(bundle, how)
    stplm.rank_encode(sections.table(_WARM_UP, MULTI))
    table = sections.table(cells, MULTI)
    tokenising, tokens = processor(lambda: stplm.rank_encode(table))
    some = table[np.arange(_RANK_CELLS)].copy()
    ranked, _ = processor(lambda: stplm.embed(some, "rank-breast", device="cpu", clusters=0))
    return {
        "machine": machine(),
        "cells": cells,
        "genes": table.n_vars,
        "tokens a cell": round(len(tokens.ids) / cells, 1),
        "seconds a cell": {
            **{name: seconds / cells for name, seconds in took.items()},
            "tokenise": tokenising / cells,
            "gene tokens on a CPU": ranked / _RANK_CELLS,
            "draw for pretraining": _drawing(table) / (_PATCHES * 128),
        },
        "bytes a cell": {
            "counts as delivered": (bundle / "cell_feature_matrix.h5").stat().st_size / cells,
            **{name: size / cells for name, size in sizes.items()},
        },
    }


def _stages(bundle: Path, how: Any) -> tuple[dict[str, float], dict[str, int]]:
    """Processor seconds of each stage of embedding a section in pieces, and bytes of each kind of file."""
    from stplm.tasks.embed_parts import merge, own_part, prepare, tissue_part
    from stplm.tasks.embed_plan import Plan

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "section"
        reading, plan = processor(lambda: prepare(bundle, out, how, True))
        assert isinstance(plan, Plan)
        laid_out = _size(plan.parts)
        own, _ = processor(lambda: [own_part(plan, i, how) for i in range(plan.blocks)])
        tissue, _ = processor(lambda: [tissue_part(plan, i, how) for i in range(plan.bands)])
        pieces = _size(plan.parts) - laid_out
        merging, _ = processor(lambda: merge(bundle, out, plan, how))
        took = (reading, own, tissue, merging)
        names = ("read and lay out", "own vectors", "in the tissue", "put together and write")
        return dict(zip(names, took, strict=True)), {"laid out": laid_out, "pieces": pieces, "result": _size(out)}


def _drawing(table: Any) -> float:
    """Processor seconds to draw :data:`_PATCHES` patches of 128 cells for masked genes."""
    from stplm.models import build_encoder
    from stplm.tasks.cells import prepare_cells, table_genes
    from stplm.tasks.objectives import Share
    from stplm.tasks.objectives_rank import RankObjective
    from stplm.tasks.training import training_defaults

    genes = sorted(gene for gene in table_genes(table) if gene)
    encoder: Any = build_encoder("rank", genes, {"layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16})
    cells = prepare_cells(table, genes, encoder.config)
    objective = RankObjective(encoder, training_defaults("rank", patches=_PATCHES))
    took, _ = processor(lambda: objective.draw(cells, 0, np.random.default_rng(0), Share()))
    return took


def processor(work: Callable[[], _T]) -> tuple[float, _T]:
    """Processor seconds of this process, and the result: on a machine that is shared, what wall time would be alone."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
