"""All-gene deletion screens: ours beside one data-set row a variant, and a screen that runs the best genes only."""

from __future__ import annotations

import torch
from anndata import AnnData

from benchmarks import perturbation_speed as screens
from benchmarks.rows import Row
from benchmarks.sections import Sections

BAR = 20.0
KEPT = 18
MODELS = {"tissue-breast": "cell tokens", "rank-breast": "gene tokens"}


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
    sizes = screens.SCREENED[model]
    sizes = sizes.in_cells(min(sizes.cells, table.n_obs))
    words, few = MODELS[model], sizes.reference_cells
    found = screens.screening(table, model, sizes)
    reference, *exact = found.rates
    run = sizes.exact_cells
    rows = [_row(f"deletion screen, {words}: {_name(rate)}", rate, reference, run, few) for rate in exact]
    for screen in found.screens:
        row = _row(f"deletion screen, {words}: {_name(screen.rate)}", screen.rate, reference, sizes.cells, few)
        row.bar = f"≥ {BAR:g}× and ≥ {KEPT} of the top {screens.TOP} kept"
        row.agrees = screen.kept >= KEPT
        row.met = bool(row.met and row.agrees)
        share = f"{100 * screen.share:.1f} % of the variants run"
        row.note = f"Of the exact top {screens.TOP}, {screen.kept} kept; {share}. {row.note}"
        if sizes.every > 1 and ", then " in screen.rate.name:
            row.note += f" The run of the picked genes is timed in one cell of {sizes.every}."
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
