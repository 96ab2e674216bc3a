"""A simulated section as a cell table alone, written stretch by stretch: tens of millions of cells in little memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stplm.progress import Progress, no_progress
from stplm.simulation import read_profiles, simulated_panel
from stplm.simulation_counts import draw_blocks
from stplm.simulation_tissue import place_cells

CLASS, REGION = "true_class", "true_region"
"""obs: what a cell is and where it lies, the truth."""
_CONTROLS = 20


def simulate_table(
    path: str | Path,
    *,
    cells: int = 1_000_000,
    genes: int | None = None,
    panel: str | None = None,
    profiles: str = "breast",
    median_counts: float = 150.0,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write the cell table of a synthetic section as ``.h5ad``; give its path.

    The cells, their places and their counts are those of :func:`stplm.simulation.simulate_section` with the same
    parameters and its own number of controls; shapes and images are left out. ``obs["true_class"]`` and
    ``obs["true_region"]`` hold the truth. A tenth of a gigabyte of memory a million cells.

    Raises
    ------
    ExportError
        The file cannot be written, ``cells`` or ``genes`` is not positive, or ``genes`` and ``panel`` are both given.
    StplmError
        No profile table or panel of that name is shipped.
    """
    from stplm.io.cell_ids import encode_cell_ids
    from stplm.io.export import with_ending
    from stplm.io.staged import check_target
    from stplm.io.table_builder import built_table
    from stplm.simulation_tissue import REGIONS

    target = with_ending(path, "h5ad")
    check_target(target, overwrite=overwrite)
    table = read_profiles(profiles, cells, genes, panel)
    rng = np.random.default_rng(seed)
    places = place_cells(cells, list(table.index), rng)
    measured = simulated_panel(table, genes, panel, _CONTROLS, rng)
    size = median_counts * rng.lognormal(0.0, 0.5, cells)
    names = measured.features.iloc[: measured.rates.shape[1]]
    symbols, ids = names["name"].to_numpy(dtype=str), names["id"].to_numpy(dtype=str)
    with built_table(target, cells, symbols, ids, overwrite=overwrite) as builder:
        done = 0
        for counts in draw_blocks(measured.rates, places.kind, size, _CONTROLS, rng):
            stop = done + counts.shape[0]
            builder.add(counts[:, : len(names)], encode_cell_ids(np.arange(done + 1, stop + 1)), places.xy[done:stop])
            done = stop
            progress(done, cells)
        builder.categories(CLASS, places.kind, list(map(str, table.index)))
        builder.categories(REGION, places.region, list(REGIONS))
        builder.finish({"path": str(target), "kind": "simulated", "seed": seed})
    return target
