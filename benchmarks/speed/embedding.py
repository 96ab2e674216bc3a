"""The default embedding with its neighbourhood; against STPLM's two-BERT forward and CellPLM's package."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stplm
from benchmarks.peers import environment
from benchmarks.reference.two_bert import TwoBert
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import Sections
from stplm.models import build_encoder
from stplm.nn.rank import SIZES
from stplm.spatial.tiles import iter_tiles
from stplm.tasks.cells import prepare_cells

BAR, BAR_CELLPLM, BAR_TWO_BERT = 10_000, 10, 300
LARGEST = 1_000_000
FEW, PEER_CELLS = 24, 2_000
_WORKER = Path(environment.HERE) / "cellplm_speed.py"


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Two rows a size, one for each reference; and where the time must go (the floor), in a note."""
    small = sections.table(min(sizes))
    two_bert, peer = two_bert_rate(small), cellplm_rate(small)
    rows = []
    for cells in sizes:
        table = sections.table(cells)
        stplm.embed(table[:200].copy())  # what is compiled and loaded once
        with memory() as used:
            took, _ = seconds(lambda table=table: stplm.embed(table, adapt=False))
        rate = cells / took
        note = f"With clusters. {floor(table, rate)}"
        row = Row(
            "default embedding with neighbourhood, against two BERTs",
            cells,
            rate,
            two_bert,
            "cells/s",
            peak_mb=used.peak_mb,
            reference_cells=FEW,
            note=f"{note} Reference: two BERTs of 12 layers, 512 wide, each neighbour encoded again, padded to the "
            "longest of 8 cells; other models, so vectors are not compared.",
        )
        other = Row(
            "default embedding with neighbourhood, against CellPLM (85 M)",
            cells,
            rate,
            None if isinstance(peer, str) else peer,
            "cells/s",
            peak_mb=used.peak_mb,
            reference_cells=None if isinstance(peer, str) else PEER_CELLS,
            note=f"Reference not measured: {peer}"
            if isinstance(peer, str)
            else f"Its package, random weights, {PEER_CELLS:,} cells as one sentence, this panel's genes.",
        )
        if cells == LARGEST:
            row.bar, other.bar = f"≥ {BAR:,} cells/s, ≥ {BAR_TWO_BERT} ×", f"≥ {BAR_CELLPLM} ×"
            row.met = bool(rate >= BAR and (row.ratio or 0) >= BAR_TWO_BERT)
            other.met = bool(other.ratio >= BAR_CELLPLM) if other.ratio else None
        rows += [row, other]
    return rows


def two_bert_rate(table: Any, cells: int = FEW, sizes: dict[str, int] | None = None) -> float:
    """Cells a second of the two-BERT forward at the published size, random weights."""
    genes = stplm.load_model().encoder.genes
    encoders = [build_encoder("rank", genes, dict(sizes or SIZES["large"])).eval() for _ in range(2)]
    found = prepare_cells(table, genes, encoders[0].config)
    near = np.where(found.weights > 0, found.neighbours, -1)
    # A patch of the tissue: its cells and their neighbours, dense.
    chosen = np.arange(min(cells, len(found)))
    needed = np.unique(np.concatenate([chosen, near[chosen].ravel()[near[chosen].ravel() >= 0]]))
    place = np.full(len(found) + 1, -1)
    place[needed] = np.arange(len(needed))
    forward = TwoBert(*encoders)
    took, _ = seconds(lambda: forward(found.dense(needed), found.rows, place[near[needed]], place[chosen]))
    return len(chosen) / took


def cellplm_rate(table: Any, cells: int = PEER_CELLS) -> float | str:
    """Cells a second of CellPLM's package; or why it was not measured."""
    python = environment.FOLDER / "bin" / "python"
    if not python.exists():
        return f"there is no {environment.FOLDER.name} (python -m benchmarks.annotation makes it)."
    part = table[:cells]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.npz"
        counts, genes = part.X.tocsr(), part.var_names.to_numpy(dtype=str)
        np.savez(path, data=counts.data, indices=counts.indices, indptr=counts.indptr, genes=genes)
        done = subprocess.run([str(python), str(_WORKER), str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"its worker failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return float(found["cells"] / found["seconds"])


def floor(table: Any, rate: float) -> str:
    """Arithmetic a cell, and which share of the machine's matrix products the measured rate is."""
    config: Any = stplm.load_model().encoder.config
    tiles = iter_tiles(np.asarray(table.obsm["spatial"])[: 1 << 17], config.tile_size, config.halo)
    inside = np.array([(tile.n_own, len(tile.cells)) for tile in tiles]).sum(0)
    seen = inside[1] / inside[0]
    hidden, own, wide = config.hidden, config.own_dim, config.tissue_hidden
    own_stage = table.n_vars * hidden + config.own_blocks * 4 * hidden**2 + hidden * own
    head = wide // config.heads
    block = 4 * wide**2 + 2 * wide * head + 4 * wide + 4 * wide**2
    tissue = (2 * own + 24) * wide + config.tissue_blocks * block + wide * config.tissue_dim
    flops = 2 * (own_stage + seen * tissue)
    ceiling = matmul_rate()
    return (
        f"Floor: {flops / 1e6:.2f} MFLOP a cell ({2 * own_stage / 1e6:.2f} for its own vector; {seen:.2f} cells are "
        f"placed for each, with the halo); {rate * flops / ceiling:.0%} of the {ceiling / 1e9:.0f} GFLOP/s that a "
        "large product reaches here."
    )


def matmul_rate(size: int = 2048) -> float:
    """FLOP/s of a float32 product of two square matrices, on all of torch's threads."""
    a = torch.randn(size, size)
    took, _ = seconds(lambda: a @ a, repeats=5)
    return 2 * size**3 / took
