"""The bundled gene-token embedding with its neighbourhood, on the CPU; against two BERTs of the same size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import stplm
from benchmarks.reference.two_bert import TwoBert
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import Sections
from stplm import keys
from stplm.models import Model, build_encoder
from stplm.tasks.cells import prepare_cells

MODEL, BAR = "rank-breast", 30
FEW, MOST = 48, 10_000


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """A row for each precision that the CPU has, at the smallest size; larger sections take as long a cell."""
    cells = min(min(sizes), MOST)
    table, model = sections.table(cells), stplm.load_model(MODEL)
    theirs, agrees = compared(table, model, FEW)
    rows = []
    for dtype in ("float32", "bfloat16"):
        name = f"gene-token embedding with neighbourhood, CPU, {dtype}"
        if dtype == "bfloat16" and not has_bfloat16():
            rows.append(Row(name, cells, None, None, "cells/s", note="This CPU has no bfloat16."))
            continue
        stplm.embed(table[:100].copy(), model, clusters=0, dtype=dtype)
        with memory() as used:
            took, _ = seconds(lambda dtype=dtype: stplm.embed(table, model, clusters=0, dtype=dtype))
        length = float(np.diff(table.X.indptr).mean()) + 1
        row = Row(
            name,
            cells,
            cells / took,
            theirs,
            "cells/s",
            peak_mb=used.peak_mb,
            agrees=agrees,
            bar=f"≥ {BAR} ×",
            reference_cells=FEW,
            note=f"{length:.0f} tokens a cell. Reference: the same weights in both BERTs, each neighbour encoded "
            "again, padded to the longest of 8 cells. Compared with the gate fixed to its 0.85 and 0.15, in float32: "
            "cosine ≥ 0.9999.",
        )
        row.met = bool((row.ratio or 0) >= BAR and agrees)
        rows.append(row)
    return rows


def compared(table: Any, model: Model, cells: int) -> tuple[float, bool]:
    """Cells a second of the reference, and whether its vectors are ours where our gate is its rule."""
    encoder: Any = model.encoder
    fixed: Any = build_encoder("rank", encoder.genes, {**encoder.config.to_dict(), "gate": "fixed", "gate_share": 0.15})
    kept = {name: value for name, value in encoder.state_dict().items() if not name.startswith("gate.")}
    fixed.load_state_dict(kept)
    fixed.eval()
    found = prepare_cells(table, encoder.genes, encoder.config)
    near = np.where(found.weights > 0, found.neighbours, -1)
    chosen = np.arange(min(cells, len(found)))
    needed = np.unique(np.concatenate([chosen, near[chosen].ravel()[near[chosen].ravel() >= 0]]))
    place = np.full(len(found) + 1, -1)
    place[needed] = np.arange(len(needed))
    forward = TwoBert(fixed, fixed)
    took, theirs = seconds(lambda: forward(found.dense(needed), found.rows, place[near[needed]], place[chosen]))
    # Ours on a patch that holds the chosen cells' neighbours: those of the others do not matter.
    part = table[needed].copy()
    ours = stplm.embed(part, replace(model, encoder=fixed), clusters=0).obsm[keys.X_STPLM][place[chosen]]
    cosine = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    return len(chosen) / took, bool(cosine.min() >= 0.9999)


def has_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are the CPU's own, not emulated."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
