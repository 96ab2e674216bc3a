"""The loop of a perturbation: block by block of cells, every variant encoded, measured and put in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.progress import Progress
from stplm.tasks.perturb_edits import Edits, edits_of
from stplm.tasks.perturb_heads import HeadJudge, InTissue
from stplm.tasks.perturb_measures import Judge, Seen, States, shift_of
from stplm.tasks.perturb_sets import GeneSets
from stplm.tasks.perturb_statistics import MEASURED, Expression

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from stplm.tasks.cells import Cells
    from stplm.tasks.perturb_store import Store
    from stplm.tasks.perturb_vectors import VariantEncoder

Floats = NDArray[np.float32]


@dataclass
class Steps:
    """Counts variants for a progress callback, which may raise Cancelled."""

    progress: Progress
    total: int
    done: int = 0

    def __call__(self, n: int) -> None:
        self.done += n
        # Estimates of later stages may be low; the end is the caller's to tell.
        self.progress(min(self.done, max(self.total - 1, 0)), self.total)


@dataclass(frozen=True)
class Lab:
    """What every variant of a run is measured with.

    ``counts`` CSR (n_cells, n_genes) of the whole table; ``known`` (m,): where the model's columns are among its genes.
    ``judge`` says of which class cells are, None without a classifier or heads. ``seen`` makes what it looks at where
    that is more than own vectors.
    """

    variants: VariantEncoder
    cells: Cells
    counts: csr_matrix
    known: NDArray[np.int64]
    states: States
    judge: Judge | HeadJudge | None = None
    seen: Seen | InTissue | None = None

    def measure(
        self, before: Floats, after: Floats, which: NDArray[np.int64], edited: csr_matrix | None
    ) -> tuple[dict[str, Floats], Floats | None]:
        """What is measured of variants of the cells ``which``, from vectors (v, own_width) before and after and their
        ``edited`` counts (v, n_genes); and how the class probabilities changed (v, k)."""
        found = {"shift": shift_of(before, after), **self.states.shifts(before, after)}
        if self.judge is None or edited is None:
            return found, None
        cells, of = np.unique(which, return_inverse=True)
        first = np.unique(of, return_index=True)[1]
        old_vectors, new_vectors = before[first], after
        if self.seen is not None:
            old_vectors, new_vectors = self.seen(old_vectors, cells), self.seen(after, which)
        proba, tumour = self.judge(old_vectors, self.counts[cells])
        new_proba, new_tumour = self.judge(new_vectors, edited)
        own = proba.argmax(1)[of]
        change = new_proba - proba[of]
        found["tumour"] = (new_tumour - tumour[of]).astype(np.float32)
        found["own_class"] = change[np.arange(len(of)), own].astype(np.float32)
        return found, change

    def columns(self) -> list[str]:
        """Names of what is measured, in order."""
        there = {"shift"}
        there |= {"to_goal"} if self.states.goal is not None else set()
        there |= {"from_start"} if self.states.start is not None else set()
        there |= {"tumour", "own_class"} if self.judge is not None else set()
        return [name for name in MEASURED if name in there]


@dataclass(frozen=True)
class Known:
    """Own vectors that were made before, so that they are not made again.

    ``cells`` int64 (n,), ascending rows of the table, and their vectors ``base`` (n, own_width) as they are;
    ``keys`` int64 (k,), ascending, cell × ``n_columns`` + column of the one gene that is edited, and the variants'
    ``vectors`` (k, own_width).
    """

    cells: NDArray[np.int64]
    base: Floats
    keys: NDArray[np.int64]
    vectors: Floats
    n_columns: int

    def base_of(self, block: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
        """Which of the cells are known, and their vectors."""
        found, at = _found(self.cells, block)
        return found, self.base[at]

    def variants_of(self, block: NDArray[np.int64], edits: Edits) -> tuple[NDArray[np.int64], Floats]:
        """Which variants of single genes are known, and their vectors."""
        found, at = _found(self.keys, block[edits.cells] * self.n_columns + edits.columns)
        return found, self.vectors[at]


def _found(sorted_: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions among the ``wanted`` of those that are there, and where."""
    at = np.searchsorted(sorted_, wanted)
    there = np.flatnonzero(sorted_[np.minimum(at, len(sorted_) - 1)] == wanted) if len(sorted_) else at[:0]
    return there, at[there]


def run_sets(
    lab: Lab,
    chosen: NDArray[np.int64],
    sets: GeneSets,
    store: Store,
    step: Callable[[int], None],
    *,
    known: Known | None = None,
) -> None:
    """Perturb the ``chosen`` cells by every set, into the store; parts that are there are left as they are.

    ``step`` is told how many variants were made; what is ``known`` of single genes is not made again.
    """
    for part, start in enumerate(range(0, len(chosen), lab.variants.block)):
        block = chosen[start : start + lab.variants.block]
        if store.has(part):
            number = Expression.of(lab.cells.counts, block).number
            step(count_variants(lab.variants.rule.mode, sets, number, len(block)))
            continue
        counts = lab.cells.dense(block)
        edits = edits_of(counts, sets, lab.variants.rule)
        store.put(part, *_measured(lab, block, counts, edits, step, known))


def count_variants(mode: str, sets: GeneSets, number: NDArray[np.int64], n_cells: int) -> int:
    """How many variants ``n_cells`` cells have, of which ``number`` (m,) express each gene: about, for sets that share
    genes of a cell count once for each."""
    if mode == "overexpress":
        return n_cells * len(sets)
    if (sets.sizes == 1).all():
        return int(number[sets.columns].sum())
    return int(sum(min(number[sets.members(i)].sum(), n_cells) for i in range(len(sets))))


def _measured(
    lab: Lab,
    block: NDArray[np.int64],
    counts: NDArray[np.float32],
    edits: Edits,
    step: Callable[[int], None],
    known: Known | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    base = _base(lab, block, counts, known)
    depth = np.maximum(counts.sum(1, dtype=np.float64), 1)
    columns: dict[str, NDArray[Any]] = {
        "cell": block[edits.cells].astype(np.int32),
        "set": edits.sets.astype(np.int32),
        "dose": (edits.change() / depth[edits.cells]).astype(np.float32),
        **{name: np.zeros(len(edits), dtype=np.float32) for name in lab.columns()},
    }
    classes = [] if lab.judge is None else lab.judge.classes
    n_sets = int(edits.sets.max(initial=-1)) + 1
    sums = np.zeros((n_sets, len(classes)))
    whole = lab.counts[block] if lab.judge is not None else None
    for which, own, shift in _vectors(lab, block, counts, edits, known):
        part = edits.some(which)
        edited = None if whole is None else part.apply(whole, lab.known)
        found, change = lab.measure(base[part.cells], own, block[part.cells], edited)
        if shift is not None:
            found["shift"] = shift
        for name, values in found.items():
            columns[name][which] = values
        if change is not None:
            np.add.at(sums, part.sets, change)
        step(len(which))
    there = np.unique(edits.sets)
    frame = pd.DataFrame(sums[there], columns=[f"class: {name}" for name in classes])
    frame.insert(0, "set", there.astype(np.int32))
    return pd.DataFrame(columns), frame


def _base(lab: Lab, block: NDArray[np.int64], counts: Floats, known: Known | None) -> Floats:
    """Own vectors of the cells as they are."""
    if known is None:
        return lab.variants.base(counts)
    base = np.empty((len(block), lab.variants.encoder.config.own_width), dtype=np.float32)
    there, vectors = known.base_of(block)
    base[there] = vectors
    rest = np.setdiff1d(np.arange(len(block)), there)
    if len(rest):
        base[rest] = lab.variants.base(counts[rest])
    return base


def _vectors(
    lab: Lab, block: NDArray[np.int64], counts: Floats, edits: Edits, known: Known | None
) -> Iterator[tuple[NDArray[np.int64], Floats, Floats | None]]:
    """As :meth:`VariantEncoder.parts`; what is known comes first."""
    if known is None:
        yield from lab.variants.parts(counts, edits)
        return
    there, vectors = known.variants_of(block, edits)
    if len(there):
        yield there, vectors, None
    rest = np.setdiff1d(np.arange(len(edits)), there)
    for which, own, shift in lab.variants.parts(counts, edits.some(rest)):
        yield rest[which], own, shift
