"""Embedding in pieces: what cutting up costs against one go, and what two workers gain on a cohort of four sections."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

import stplm
from benchmarks.rows import Row, memory, seconds
from benchmarks.sections import SMALL, Sections
from stplm import keys
from stplm.tasks.embed_sections import embed_sections
from stplm.tasks.scheduler import local_workers

WORKERS, COHORT = 2, 4
LARGEST = 100_000
"""Cells of the largest section that is measured: times are linear in cells (docs/scaling.md)."""


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Two rows a size up to 100,000 cells. All with one torch thread a process; reading and writing count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for cells in sizes if cells <= LARGEST for row in _of_size(sections.bundle(cells, SMALL), cells)]
    finally:
        torch.set_num_threads(before)


def _of_size(bundle: Path, cells: int) -> list[Row]:
    from distributed import Client

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        _in_one_go(bundle, out / "warm.h5ad")
        whole, _ = seconds(partial(_in_one_go, bundle, out / "whole.h5ad"))
        with memory() as used:
            pieces, _ = seconds(partial(_in_pieces, [bundle], out / "pieces"))
        cohort = [out / f"section-{i}" for i in range(COHORT)]
        for path in cohort:
            path.symlink_to(bundle.resolve(), target_is_directory=True)
        in_line, _ = seconds(partial(_in_pieces, cohort, out / "line"))
        with local_workers(WORKERS) as address, Client(address) as client:
            client.run(_warm, bundle)
            spread, _ = seconds(partial(_in_pieces, cohort, out / "workers", scheduler=address))
        expected = _vectors(out / "whole.h5ad")
        made = {name: [_vectors(path) for path in (out / name).glob("*/cells.h5ad")] for name in ("pieces", "workers")}
        same = {
            name: len(made[name]) == number and all(found.tobytes() == expected.tobytes() for found in made[name])
            for name, number in (("pieces", 1), ("workers", COHORT))
        }
    threads = "One torch thread a process; reading the bundle and writing .h5ad included. Compared: the same bytes."
    return [
        Row(
            "embed in pieces, in line, against one go",
            cells,
            pieces,
            whole,
            "s",
            peak_mb=used.peak_mb,
            agrees=same["pieces"],
            note=f"{threads} The ratio is what cutting up costs: pieces are laid out, kept on disk and put together.",
        ),
        Row(
            f"embed {COHORT} sections by {WORKERS} workers of a Dask scheduler, against in line",
            COHORT * cells,
            spread,
            in_line,
            "s",
            agrees=same["workers"],
            note=f"{threads} Workers were running and had the code loaded.",
        ),
    ]


def _in_one_go(bundle: Path, out: Path) -> None:
    section = stplm.read_section(bundle)
    stplm.embed(stplm.cell_table(section), device="cpu")
    stplm.export(section, out)


def _in_pieces(sections: list[Path], out: Path, scheduler: str | None = None) -> None:
    for run in embed_sections(sections, out, device="cpu", scheduler=scheduler):
        if run.error is not None:
            raise run.error


def _warm(bundle: Path) -> None:
    """Load all code that a worker needs."""
    with tempfile.TemporaryDirectory() as folder:
        _in_pieces([bundle], Path(folder))


def _vectors(path: Path) -> np.ndarray:
    import anndata

    return np.asarray(anndata.read_h5ad(path).obsm[keys.X_STPLM])
