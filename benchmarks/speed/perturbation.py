"""All-gene deletion screens: ours beside one data-set row a variant, and gradients that estimate every gene."""

from __future__ import annotations

import torch
from anndata import AnnData

from benchmarks import perturbation_speed as screens
from benchmarks.rows import Row
from benchmarks.sections import Sections

BAR = 20.0
KEPT = 18
MODELS = {"tissue-breast": ("cell tokens", 1000, 40), "rank-breast": ("gene tokens", 600, 8)}
"""Of each model: its words, cells of our screen, cells of the reference's."""


def measure(sections: Sections, sizes: tuple[int, ...]) -> list[Row]:
    """Of each model: every variant run; every gene estimated; estimated, then twice the top run. One section, whatever
    the ``sizes``: a screen's rate does not depend on them. Processor seconds of one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = sections.table(min(sizes))
        return [row for model in MODELS for row in _rows(table, model)]
    finally:
        torch.set_num_threads(before)


def _rows(table: AnnData, model: str) -> list[Row]:
    words, cells, few = MODELS[model]
    found = screens.screening(table, model, min(cells, table.n_obs), few)
    reference, exact, *estimated = found.rates
    rows = [_row(f"deletion screen, {words}: every variant run", exact, reference, cells, few)]
    for (kept, among), (one, two) in zip(found.kept, zip(estimated[::2], estimated[1::2], strict=True), strict=True):
        note = f"Of the exact top {screens.TOP} genes, {kept} in the first {screens.TOP} estimates and {among} in the "
        note += f"first {2 * screens.TOP}."
        for rate in (one, two):
            name = f"deletion screen, {words}: {rate.name.removeprefix('STPLM, ')}"
            row = _row(name, rate, reference, cells, few)
            row.bar, row.agrees, row.met = f"≥ {KEPT} of the top {screens.TOP} kept", among >= KEPT, among >= KEPT
            row.note = f"{note} {row.note}"
            rows.append(row)
    return rows


def _row(name: str, ours: screens.Rate, reference: screens.Rate, cells: int, few: int) -> Row:
    ratio = ours.per_second / reference.per_second
    note = f"Variants a processor second, one thread; {reference.name}, batches padded to their longest."
    row = Row(name, cells, ours.per_second, reference.per_second, "variants/s", ratio=ratio, note=note)
    row.bar, row.met, row.reference_cells = f"≥ {BAR:g}×", ratio >= BAR, few
    return row
