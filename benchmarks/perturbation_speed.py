"""How fast a deletion screen is beside the reference way, and how well a screen picks the genes that matter.

Times are processor seconds of one thread, all in one run: a machine that is busy with other things does not change
their ratios much. A reference is run on fewer cells; rates are per variant, one gene of one cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import stplm
from benchmarks.reference import perturbation as reference
from stplm.tasks.cells import prepare_cells
from stplm.tasks.perturb_edits import edits_of
from stplm.tasks.perturb_lab import build_lab
from stplm.tasks.perturb_measures import shift_of
from stplm.tasks.perturb_race import Race
from stplm.tasks.perturb_run import Known, Lab, run_sets
from stplm.tasks.perturb_screen import screen
from stplm.tasks.perturb_sets import GeneSets, gene_sets
from stplm.tasks.perturb_statistics import averages
from stplm.tasks.perturb_store import MemoryStore
from stplm.tasks.perturb_vectors import variant_encoder

DTYPES = ("float32", "bfloat16")
TOP = 20
FEWEST = 10
"""A gene that fewer cells express is not ranked: its mean would be chance."""


@dataclass(frozen=True)
class Rate:
    """One way to do it. ``apart``: largest difference of a shift from the reference's, where both have it."""

    name: str
    variants: int
    seconds: float
    apart: float | None = None

    @property
    def per_second(self) -> float:
        return self.variants / max(self.seconds, 1e-9)


def rates(table: AnnData, model: str, cells: int, reference_cells: int, padded_cells: int, seed: int = 0) -> list[Rate]:
    """The reference ways first, then ours."""
    encoder = stplm.load_model(model).encoder.eval()
    all_cells = prepare_cells(table, encoder.genes, encoder.config)
    chosen = np.sort(np.random.default_rng(seed).choice(table.n_obs, cells, replace=False))
    counts = all_cells.dense(chosen)
    sets = gene_sets(table, np.arange(table.n_vars), "all")
    found: list[Rate] = []

    def refer(name: str, n: int, **options: Any) -> list[reference.Shift]:
        start = time.process_time()
        shifts = reference.screen(encoder, counts[:n], all_cells.rows, **options)
        found.append(Rate(name, len(shifts), time.process_time() - start))
        return shifts

    truth = refer(f"reference, rows in {reference.LIBRARY}", reference_cells)
    refer("reference, rows in an Arrow table", reference_cells, library=False)
    longest = getattr(encoder.config, "max_length", len(encoder.genes))
    if padded_cells:
        refer(f"reference, padded to the model's {longest} places", padded_cells, pad_to=longest)
    expected = np.array([shift.shift for shift in truth])
    for dtype in DTYPES:
        variants = variant_encoder(encoder, all_cells.rows, "delete", all_cells.counts, dtype=dtype)
        start = time.process_time()
        edits = edits_of(counts, sets, variants.rule)
        base, shifts = variants.base(counts), np.empty(len(edits), dtype=np.float32)
        for which, own, _ in variants.parts(counts, edits):
            shifts[which] = shift_of(base[edits.cells[which]], own)
        seconds = time.process_time() - start
        apart = float(np.abs(shifts[: len(expected)] - expected).max())
        found.append(Rate(f"STPLM, {dtype}", len(edits), seconds, apart))
    return found


@dataclass(frozen=True)
class Sizes:
    """Of a screen that is measured.

    Parameters
    ----------
    cells, reference_cells
        Of the screen, and of the reference.
    exact_cells
        In how many of the ``cells`` every variant is run and timed. Where these are fewer than all, the exact top is
        found by running, of each gene, all cells or so many that it lies 3 standard errors under the others.
    every
        The run of what the screen picked is timed in each so many-th cell only, and its time multiplied.
    sample
        Also screen so many of the cells, and run what is picked in those (``max_cells=`` of a perturbation).
    """

    cells: int
    reference_cells: int
    exact_cells: int
    dtypes: tuple[str, ...] = DTYPES
    every: int = 1
    sample: int | None = None

    def in_cells(self, cells: int) -> Sizes:
        """The same in so many cells."""
        return replace(self, cells=cells, exact_cells=min(self.exact_cells, cells))


SCREENED = {
    "tissue-breast": Sizes(1000, 40, 1000),
    "rank-breast": Sizes(17_136, 6, 12, ("bfloat16",), every=10, sample=2000),
}


@dataclass(frozen=True)
class Screen:
    """One screen. Its rate counts all variants of all genes, run or not; ``kept``: how many of the exact top are among
    the genes that it picked; ``share``: of all variants, those that were run."""

    rate: Rate
    kept: int
    share: float


@dataclass(frozen=True)
class Screening:
    """What a screen keeps of the exact top genes, and what each way costs.

    ``rates``: the reference; of each precision, every variant run. ``screens``: of each precision the screen alone;
    with the run, in all cells, of what it picked; and, where asked for, both in some of the cells only.
    """

    cells: int
    genes: int
    rates: list[Rate]
    screens: list[Screen]


def screening(table: AnnData, model: str, sizes: Sizes, seed: int = 0) -> Screening:
    """Deletions ranked by mean shift: all of them run, beside what ``stplm.perturb(..., top=20)`` does."""
    cells = sizes.cells
    loaded = stplm.load_model(model)
    loaded.encoder.eval()
    all_cells = prepare_cells(table, loaded.encoder.genes, loaded.encoder.config)
    chosen = np.sort(np.random.default_rng(seed).choice(table.n_obs, cells, replace=False))
    sets = gene_sets(table, np.arange(table.n_vars), "all")

    def lab_of(dtype: str) -> Lab:
        options: dict[str, Any] = {"mode": "delete", "measure": "cell", "dtype": dtype, "seed": seed}
        nothing = dict.fromkeys(("goal", "start", "states", "classifier"))
        return build_lab(table, loaded, all_cells, chosen, **options, **nothing)

    counts = all_cells.dense(chosen[: sizes.reference_cells])
    seconds, shifts = _timed(lambda: reference.screen(loaded.encoder, counts, all_cells.rows))
    rates = [Rate(f"reference, rows in {reference.LIBRARY}", len(shifts), seconds)]
    detections = np.bincount(all_cells.counts[chosen].indices, minlength=len(sets))
    often, variants = detections >= FEWEST, int(detections.sum())
    best: set[str] = set()
    for dtype in sizes.dtypes:
        lab = lab_of(dtype)
        seconds, exact = _timed(lambda lab=lab: _exact(lab, chosen[: sizes.exact_cells], sets))
        rates.append(Rate(f"STPLM, every variant run, {dtype}", int(exact["detections"].sum()), seconds))
        if sizes.exact_cells >= cells and not best:
            best = set(exact[often].sort_values("shift", ascending=False)["genes"][:TOP])
    if not best:
        race = Race(lab, np.random.default_rng(seed + 1).permutation(chosen), sets, "shift")
        best = {sets.names[i] for i in race.winners(np.flatnonzero(often), TOP, z=3.0, most=cells)}
    found = []

    def add(words: str, seconds: float, picked: GeneSets, ran: int) -> None:
        rate = Rate(f"STPLM, {words}", variants, seconds)
        found.append(Screen(rate, len(best & set(picked.names)), ran / variants))

    for dtype in sizes.dtypes:
        lab = lab_of(dtype)
        one = _screened(lab, chosen, sets, seed, sizes.every)
        add(f"screened, {len(one.picked)} genes picked, {dtype}", one.seconds, one.picked, one.ran)
        add(f"screened, then {len(one.picked)} genes run, {dtype}", one.seconds + one.after, one.picked, one.ran_after)
        if sizes.sample and sizes.sample < cells:
            some = np.sort(np.random.default_rng(seed + 2).choice(chosen, sizes.sample, replace=False))
            one = _screened(lab, some, sets, seed)
            words = f"screened and {len(one.picked)} genes run in {len(some):,} cells, {dtype}"
            add(words, one.seconds + one.after, one.picked, one.ran_after)
    return Screening(cells, int(often.sum()), rates, found)


@dataclass(frozen=True)
class _Screened:
    """``seconds`` of the screen and ``after`` of the run of what it picked; variants ``ran`` by then."""

    picked: GeneSets
    seconds: float
    after: float
    ran: int
    ran_after: int


def _screened(lab: Lab, chosen: np.ndarray, sets: GeneSets, seed: int, every: int = 1) -> _Screened:
    seconds, found = _timed(lambda: screen(lab, chosen, sets, "shift", TOP, seed=seed))
    picked = sets.take(found.kept)
    after, _ = _timed(lambda: _exact(lab, chosen[::every], picked, found.known))
    detections = np.bincount(lab.cells.counts[chosen].indices, minlength=len(sets))
    ran = int(found.cells.sum())
    ran_after = ran + int((detections - found.cells)[found.kept].sum())
    return _Screened(picked, seconds, after * len(chosen) / len(chosen[::every]), ran, ran_after)


def rates_table(rows: list[Rate]) -> str:
    """As Markdown; how many times the first row's rate."""
    lines = ["| way | variants | variants a second | times the reference | largest difference of a shift |"]
    lines += ["|---|---|---|---|---|"]
    for row in rows:
        apart = "–" if row.apart is None else f"{row.apart:.1e}"
        times = row.per_second / rows[0].per_second
        lines.append(f"| {row.name} | {row.variants:,} | {row.per_second:,.0f} | {times:.1f} | {apart} |")
    return "\n".join(lines)


def screening_words(found: Screening) -> str:
    """A paragraph and a table."""
    kept = "; ".join(
        f"{screen.rate.name.removeprefix('STPLM, ')}: {screen.kept} kept, {100 * screen.share:.1f} % of variants run"
        for screen in found.screens
    )
    table = rates_table([*found.rates, *(screen.rate for screen in found.screens)])
    return (
        f"{found.cells:,} cells, {found.genes} genes that {FEWEST} or more of them express. Of the exact top {TOP}, "
        f"{kept}.\n\n{table}"
    )


def _exact(lab: Lab, chosen: np.ndarray, sets: GeneSets, known: Known | None = None) -> pd.DataFrame:
    store = MemoryStore()
    run_sets(lab, chosen, sets, store, lambda n: None, known=known)
    return averages(store, sets.names)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found
