"""The stages of a perturbation: screen, every variant, genes of like expression, noise, neighbours; then one table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.errors import LabelError
from stplm.palette import is_tumour_name
from stplm.tasks.perturb_edits import Edits, edits_of
from stplm.tasks.perturb_lab import own_vectors, whole_vectors
from stplm.tasks.perturb_measures import Floats, state_classes
from stplm.tasks.perturb_noise import RATES, Noise, measure_noise
from stplm.tasks.perturb_result import Kept, Perturbation
from stplm.tasks.perturb_run import Known, Lab, Steps, count_variants, run_sets
from stplm.tasks.perturb_sets import GeneSets
from stplm.tasks.perturb_spatial import Around, Opinion, Response, tissue_head
from stplm.tasks.perturb_statistics import Expression, averages, compare, matched_sets, samples
from stplm.tasks.perturb_store import FolderStore, MemoryStore, Store

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.progress import Progress

_NOISE_CELLS = 300
_NULL_VARIANTS = 20_000
_FEWEST_CELLS = 30
_SCREENED = "screened.json"
"""What a screen found, in the folder: a run that goes on does not screen again."""


@dataclass
class Study:
    """One run. ``full``: every gene of the model is among the sets, so that they are each other's null."""

    lab: Lab
    table: AnnData
    chosen: NDArray[np.int64]
    sets: GeneSets
    states: str | pd.Series | None
    spatial: bool
    nulls: int
    top: int | None
    seed: int
    keep: int = 0
    """Cells of each set whose vectors are kept."""

    def run(self, out: str | Path | None, about: dict[str, Any], progress: Progress) -> Perturbation:
        """All stages; ``about`` tells the run from others."""
        lab, effect = self.lab, self.effect
        expression = Expression.of(lab.cells.counts, self.chosen)
        steps = Steps(progress, self._total(expression))
        info: dict[str, Any] = {"run": about, "effect": effect}
        store: Store = MemoryStore() if out is None else FolderStore(Path(out), about)
        known: Known | None = None
        if self.top is not None:
            about_all, known = self._screen(effect, expression, store, steps)
            info |= about_all
            steps.total = steps.done + self._total(expression)
        run_sets(lab, self.chosen, self.sets, store, steps, known=known)
        table = averages(store, self.sets.names)
        detections = table["detections"].to_numpy()
        if self.nulls:
            values = samples(store, effect, detections)
            table = table.join(compare(values, self._null_values(values, expression, steps)))
        noise = self._noise(steps)
        table["noise"] = noise.floor(effect, table["dose"].fillna(0).to_numpy(), detections)
        table["within_noise"] = table[effect].abs().fillna(0) <= table["noise"]
        info["noise"] = noise.to_dict()
        rings: pd.DataFrame | None = None
        response: dict[str, Response] = {}
        vectors: dict[str, Kept] = {}
        if self.spatial or self.keep:
            rings, response, vectors = self._moved(steps)
        progress(steps.total, steps.total)
        return Perturbation(table, store, len(lab.cells), rings, response, info, vectors)

    @property
    def effect(self) -> str:
        """The measure that sets are tested and ranked by."""
        columns = self.lab.columns()
        return next((name for name in ("to_goal", "from_start") if name in columns), "shift")

    def _total(self, expression: Expression) -> int:
        n = count_variants(self.lab.variants.rule.mode, self.sets, expression.number, len(self.chosen))
        if self.nulls and not self._is_full:
            n += min(_NULL_VARIANTS // self._dearness, self.nulls * len(self.sets) * len(self.chosen))
        n += (len(RATES) + 1) * self._few_cells
        return n + (len(self.sets) * len(self.chosen) if self.spatial or self.keep else 0)

    @property
    def _dearness(self) -> int:
        return 10 if self.lab.variants.cost > 1 else 1

    @property
    def _few_cells(self) -> int:
        return min(_NOISE_CELLS // (5 if self.lab.variants.cost > 1 else 1), len(self.chosen))

    @property
    def _is_full(self) -> bool:
        m = self.lab.cells.counts.shape[1]
        return len(self.sets) == m and bool((self.sets.sizes == 1).all())

    def _screen(
        self, effect: str, expression: Expression, store: Store, steps: Steps
    ) -> tuple[dict[str, dict[str, float]], Known | None]:
        """Keep the sets that a screen finds to do the most; of all, what it found and of how many cells that were run,
        the largest effect first; and the vectors that were made."""
        from stplm.tasks.perturb_screen import Screened, screen

        assert self.top is not None
        note = store.folder / _SCREENED if isinstance(store, FolderStore) else None
        if note is not None and note.is_file():
            found = Screened.of(note.read_text(encoding="utf-8"))
        else:
            found = screen(
                self.lab, self.chosen, self.sets, effect, self.top, expression=expression, seed=self.seed, step=steps
            )
            if isinstance(store, FolderStore):
                store.write(_SCREENED, found.to_json())
        names, sizes = self.sets.names, np.nan_to_num(np.abs(found.effects))
        order = [int(i) for i in np.argsort(-sizes, kind="stable") if np.isfinite(found.effects[i])]
        self.sets = self.sets.take(found.kept)
        about_all: dict[str, dict[str, float]] = {
            "screened": {names[i]: float(found.effects[i]) for i in order},
            "screened_cells": {names[i]: int(found.cells[i]) for i in order},
        }
        return about_all, found.known

    def _null_values(
        self, values: list[NDArray[np.float64]], expression: Expression, steps: Steps
    ) -> list[NDArray[np.float64]]:
        """Values of the sets that each set is compared with."""
        matched = matched_sets(self.sets, expression, self.nulls, self.seed)
        if self._is_full:
            row = {int(self.sets.members(i)[0]): i for i in range(len(self.sets))}
            return [_joined([values[row[group[0]]] for group in mine]) for mine in matched]
        groups = {tuple(group): None for mine in matched for group in mine}
        if not groups:
            return [np.zeros(0) for _ in values]
        place = {group: i for i, group in enumerate(groups)}
        many = max(_NULL_VARIANTS // self._dearness // len(groups), _FEWEST_CELLS)
        store = MemoryStore()
        run_sets(self.lab, self._some_cells(many), GeneSets.of({str(g): g for g in groups}), store, steps)
        found = samples(store, self.effect, np.full(len(groups), many))
        return [_joined([found[place[tuple(group)]] for group in mine]) for mine in matched]

    def _some_cells(self, most: int) -> NDArray[np.int64]:
        if len(self.chosen) <= most:
            return self.chosen
        return np.sort(np.random.default_rng(self.seed).choice(self.chosen, most, replace=False))

    def _noise(self, steps: Steps) -> Noise:
        lab, few = self.lab, self._some_cells(self._few_cells)
        counts = lab.cells.dense(few)

        def measured(before: Floats, after: Floats, thinned: NDArray[np.float32]) -> dict[str, Floats]:
            row, column = np.nonzero(counts != thinned)
            edits = replace(
                Edits.none(len(few)),
                offsets=np.searchsorted(row, np.arange(len(few) + 1)),
                columns=column,
                old=counts[row, column],
                new=thinned[row, column],
                place=np.full(len(row), -1, dtype=np.int64),
            )
            edited = None if lab.judge is None else edits.apply(lab.counts[few], lab.known)
            return lab.measure(before, after, few, edited)[0]

        return measure_noise(lab.variants, counts, measured, seed=self.seed, step=steps)

    def _moved(self, steps: Steps) -> tuple[pd.DataFrame | None, dict[str, Response], dict[str, Kept]]:
        """How the cells around answer to each set, and the vectors that are kept of it, where they are asked for."""
        lab = self.lab
        around = opinion = None
        if self.spatial:
            around = Around(
                lab.variants.encoder, lab.cells, self.chosen, lambda which: own_vectors(lab.variants, lab.cells, which)
            )
            opinion = self._opinion(around)
        responses: dict[str, Response] = {}
        kept: dict[str, Kept] = {}
        for i, name in enumerate(self.sets.names):
            changed, own = self._perturbed(self.sets.take([i]))
            if around is not None:
                responses[name] = around.respond(changed, own, opinion, lambda n: None)
            if self.keep:
                some = np.arange(len(changed))
                if len(some) > self.keep:
                    some = np.sort(np.random.default_rng(self.seed).choice(some, self.keep, replace=False))
                kept[name] = changed[some], own[some]
            steps(len(self.chosen))
        rings = [response.rings(name) for name, response in responses.items()]
        return pd.concat(rings, ignore_index=True) if rings else None, responses, self._whole(kept)

    def _whole(self, kept: dict[str, Kept]) -> dict[str, Kept]:
        """The same cells with whole vectors; the tissue is read once for all sets."""
        if not kept:
            return {}
        cells = np.concatenate([cells for cells, _ in kept.values()])
        vectors = whole_vectors(self.lab, np.concatenate([own for _, own in kept.values()]), cells)
        ends = np.cumsum([len(cells) for cells, _ in kept.values()])[:-1]
        return {name: (kept[name][0], part) for name, part in zip(kept, np.split(vectors, ends), strict=True)}

    def _perturbed(self, one: GeneSets) -> tuple[NDArray[np.int64], Floats]:
        """Cells that one set changes, and their own vectors after."""
        lab, cells, vectors = self.lab, [], []
        for start in range(0, len(self.chosen), lab.variants.block):
            block = self.chosen[start : start + lab.variants.block]
            counts = lab.cells.dense(block)
            edits = edits_of(counts, one, lab.variants.rule)
            own = np.empty((len(edits), lab.variants.encoder.config.own_width), dtype=np.float32)
            for which, part, _ in lab.variants.parts(counts, edits):
                own[which] = part
            cells.append(block[edits.cells])
            vectors.append(own)
        return np.concatenate(cells), np.concatenate(vectors)

    def _opinion(self, around: Around) -> Opinion | None:
        """Who is asked about a neighbour's class: a head that sees neighbours, else a linear head on the whole vectors,
        fitted here to the classes that there are."""
        lab, judge = self.lab, self.lab.judge
        if judge is not None and lab.seen is not None:
            return lambda vectors, which: judge(vectors, lab.counts[which])
        try:
            classes = state_classes(self.table, self.states)
            cells, vectors = around.before()
            tumour = set(judge.tumour_classes) if judge is not None else None
            named = is_tumour_name if tumour is None else tumour.__contains__
            return tissue_head(vectors, classes[cells], named, self.seed)
        except LabelError:
            return None


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)
