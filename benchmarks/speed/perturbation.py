"""All-gene deletion screens: ours beside one data-set row a variant, and a screen that runs the best genes only."""

from __future__ import annotations

import torch
from anndata import AnnData

from benchmarks import perturbation_speed as screens
from benchmarks.rows import Row
from benchmarks.sections import Sections

BAR = 20.0
KEPT = 18
MODELS = {
    "tissue-breast": ("cell tokens", 1000, 40, 1000, ("float32", "bfloat16"), 1, None),
    "rank-breast": ("gene tokens", 17_136, 6, 12, ("bfloat16",), 10, 2000),
}
"""Of each model: its words, cells of the screen, of the reference, and of the run of every variant; precisions; of how
many cells one is run by the picked genes, to be timed; and of how many cells at random a screen is made besides."""


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Of each model: every variant run; screened, then the top run in all cells. One section, whatever the ``sizes``.
    Processor seconds of one thread; the reference's rate is that of fewer cells."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = sections.table(min(sizes))
        return [row for model in MODELS for row in _rows(table, model)]
    finally:
        torch.set_num_threads(before)


def _rows(table: AnnData, model: str) -> list[Row]:
    words, cells, few, run, dtypes, every, sample = MODELS[model]
    cells = min(cells, table.n_obs)
    found = screens.screening(table, model, cells, few, min(run, cells), dtypes, every, sample)
    reference, *exact = found.rates
    rows = [_row(f"deletion screen, {words}: {_name(rate)}", rate, reference, run, few) for rate in exact]
    for screen in found.screens:
        row = _row(f"deletion screen, {words}: {_name(screen.rate)}", screen.rate, reference, cells, few)
        row.bar = f"≥ {BAR:g}× and ≥ {KEPT} of the top {screens.TOP} kept"
        row.agrees = screen.kept >= KEPT
        row.met = bool(row.met and row.agrees)
        share = f"{100 * screen.share:.1f} % of the variants run"
        row.note = f"Of the exact top {screens.TOP}, {screen.kept} kept; {share}. {row.note}"
        if every > 1 and ", then " in screen.rate.name:
            row.note += f" The run of the picked genes is timed in one cell of {every}."
        rows.append(row)
    return rows


def _name(rate: screens.Rate) -> str:
    return rate.name.removeprefix("STPLM, ")


def _row(name: str, ours: screens.Rate, reference: screens.Rate, cells: int, few: int) -> Row:
    ratio = ours.per_second / reference.per_second
    note = f"Variants a processor second, one thread; {reference.name}, batches padded to their longest."
    row = Row(name, cells, ours.per_second, reference.per_second, "variants/s", ratio=ratio, note=note)
    row.bar, row.met, row.reference_cells = f"≥ {BAR:g}×", ratio >= BAR, few
    return row
