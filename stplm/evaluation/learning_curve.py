"""How well the few-shot head calls labels that it was not shown, from the user's own labels alone.

Labelled cells are held out in turn; the head learns from the others and calls them as :func:`stplm.predict` would. Held
out by squares of tissue where the labels allow it, so that a cell is not called by its neighbour; else at random. The
cells are those that the user chose to label: suggested ones are hard, clicked ones are clear, so the score says whether
more labels help, and is no accuracy on the tissue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stplm import keys
from stplm.errors import LabelError
from stplm.io.groups import as_table
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

BLOCK_UM, BUFFER_UM = 200.0, 30.0
_FOLDS, _FEW_LABELS, _FOLDS_OF_FEW = 3, 150, 5
_MOST = 1_000
"""Labels that are looked at: more change the score by less than its error, and take time."""
_SECTION = 4_000
"""Cells by which features are scaled and the classes' shares are estimated, and from which some join the labels."""


@dataclass(frozen=True)
class HeldOut:
    """Scores on labelled cells that were held out in turn.

    ``classes`` (k,) names; ``labels`` (k,) labels of each; ``confusion`` int64 (k, k), a row a true class, of the cells
    that could be held out; ``n_labels`` in all, ``n_scored`` of them held out; ``spatial``: by squares of tissue.
    """

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    confusion: npt.NDArray[np.int64]
    spatial: bool

    @property
    def n_labels(self) -> int:
        """Labels given."""
        return int(self.labels.sum())

    @property
    def n_scored(self) -> int:
        """Labels that were held out."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of the held-out cells that are called right."""
        return float(np.trace(self.confusion) / self.n_scored)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """(k,) share of each class that is called right; NaN for a class whose cells cannot be held out."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diag(self.confusion) / self.confusion.sum(1))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes."""
        return float(np.nanmean(self.recall))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that were held out or called."""
        hits, either = np.diag(self.confusion), self.confusion.sum(0) + self.confusion.sum(1)
        return float((2 * hits[either > 0] / either[either > 0]).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "classes": list(self.classes),
            "labels": self.labels.tolist(),
            "confusion": self.confusion.tolist(),
            "spatial": self.spatial,
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> HeldOut:
        """From :meth:`to_dict`."""
        labels, confusion = (np.array(values[name], dtype=np.int64) for name in ("labels", "confusion"))
        return cls(tuple(values["classes"]), labels, confusion, bool(values["spatial"]))


def held_out(
    table: AnnData | SpatialData,
    labels: pd.Series,
    *,
    block: float = BLOCK_UM,
    buffer: float = BUFFER_UM,
    seed: int = 0,
) -> HeldOut:
    """Hold labelled cells out in turn, and score how they are called by what the others teach.

    Parameters
    ----------
    table
        An embedded section or cell table.
    labels
        Class names by cell id. Of more than 1,000, as many are looked at.
    block, buffer
        Side of the squares that are held out together, and how far from them a cell must be to be learnt from, µm.
    seed
        Of the folds. The same input and seed give the same scores.

    Raises
    ------
    LabelError
        Fewer than two classes with two labels or more; a label of a cell that is not in the section.
    ModelError
        When the table is not embedded.
    """
    table = as_table(table)
    return _Labelled.of(table, labels, seed).score(None, block, buffer, seed)


def learning_curve(
    table: AnnData | SpatialData,
    labels: pd.Series,
    sizes: Sequence[int],
    *,
    block: float = BLOCK_UM,
    buffer: float = BUFFER_UM,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[HeldOut]:
    """:func:`held_out` from the first labels alone, for each of ``sizes`` (ascending) where that can be scored.

    ``labels`` are in the order in which they were given. Parameters and errors otherwise as there; a size at which
    there are not yet two classes with two labels is left out.
    """
    table = as_table(table)
    labels = labels[labels.notna()]
    # The first labels are looked at, or a larger start of the curve would not contain a smaller one.
    known = _Labelled.of(table, labels.iloc[:_MOST], seed)
    found = []
    for i, size in enumerate(sizes):
        progress(i, len(sizes))
        try:
            found.append(known.score(min(size, _MOST), block, buffer, seed))
        except LabelError:
            continue
    progress(len(sizes), len(sizes))
    return found


def curve_sizes(n_labels: int, points: int = 8, first: int = 4) -> list[int]:
    """Up to ``points`` numbers of labels from ``first`` to ``n_labels``, evenly spaced by ratio."""
    if n_labels < first:
        return []
    return sorted({round(size) for size in np.geomspace(first, n_labels, points).tolist()})


@dataclass(frozen=True)
class _Labelled:
    """Labelled cells as the head sees them: ``design`` (l, d), counts ``depth`` and positions ``xy`` (NaN where there
    is none); classes (l,) as numbers; and ``section``, cells by which shares of classes are estimated, of which those
    that are ``free`` of a label may join the labels."""

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    """(k,) labels of each class, those that are not looked at among them."""
    design: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float64]
    xy: npt.NDArray[np.float64]
    section: npt.NDArray[np.float32]
    section_depth: npt.NDArray[np.float64]
    free: npt.NDArray[np.bool_]
    heads: list[npt.NDArray[np.int64]]

    @classmethod
    def of(cls, table: AnnData, labels: pd.Series, seed: int) -> _Labelled:
        from stplm.tasks.features import cell_features
        from stplm.tasks.labels import labelled_cells

        labels = labels[labels.notna()]
        labelled_cells(table, labels)  # refuses labels that are none of this section's
        rows = every = table.obs_names.get_indexer(labels.index.astype(str))
        names, codes = np.unique(labels.to_numpy().astype(str), return_inverse=True)
        if len(names) < 2:
            raise _too_few()
        given = np.bincount(codes, minlength=len(names))
        if len(rows) > _MOST:
            some = np.sort(np.random.default_rng(seed).choice(len(rows), _MOST, replace=False))
            rows, codes = rows[some], codes[some]
        section = np.arange(table.n_obs)[:: -(-table.n_obs // _SECTION)]
        features = cell_features(table[np.concatenate([rows, section])])
        first, rest = np.arange(len(rows)), np.arange(len(rows), len(features))
        around = features.take(rest)
        plan = around.design(seed)
        xy = np.full((len(rows), 2), np.nan)
        if keys.SPATIAL in table.obsm:
            xy = np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[rows, :2]
        counted = np.flatnonzero(around.depth > 0)
        with_counts = around.take(counted)
        return cls(
            tuple(names.tolist()),
            codes,
            given,
            plan.rows(features.take(first)),
            features.depth[first],
            xy,
            plan.rows(with_counts),
            with_counts.depth,
            ~np.isin(section[counted], every),
            plan.heads(),
        )

    def score(self, size: int | None, block: float, buffer: float, seed: int) -> HeldOut:
        """Scores from the first ``size`` labels; None for all."""
        n = len(self.codes) if size is None else min(size, len(self.codes))
        names, codes = np.unique(self.codes[:n], return_inverse=True)
        counts = np.bincount(codes, minlength=len(names))
        if (counts >= 2).sum() < 2:
            raise _too_few()
        folds, spatial = _folds(self.xy[:n], codes, counts, block, buffer, seed)
        k = len(names)
        confusion = np.zeros((k, k), dtype=np.int64)
        for learn, held in folds:
            if (learnt := np.unique(codes[learn])).size < 2 or not held.any():
                continue
            called = self._call(np.flatnonzero(learn), np.searchsorted(learnt, codes[learn]), np.flatnonzero(held))
            np.add.at(confusion, (codes[held], learnt[called]), 1)
        if not confusion.any():
            raise _too_few()
        given = self.given if size is None else counts
        return HeldOut(tuple(self.names[c] for c in names), given, confusion, spatial)

    def _call(
        self, learn: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], held: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Classes of the held-out cells, as the whole head calls them: with what unlabelled cells teach, shares of
        classes, fading, sharpness."""
        from stplm.evidence import evidence
        from stplm.tasks.head import held_out_penalty, sharpness, typical_labels
        from stplm.tasks.outcome import softmax
        from stplm.tasks.self_training import Linear, fit_joining
        from stplm.tasks.shares import log_prior
        from stplm.tasks.unlabelled import rounds

        n_classes = int(codes.max()) + 1
        sharp, design = sharpness(typical_labels(np.bincount(codes))), self.design[learn]

        def logits(
            linear: Linear, rows: npt.NDArray[np.float32], depth: npt.NDArray[np.float64]
        ) -> npt.NDArray[np.float64]:
            return np.asarray((rows @ linear[0].T + linear[1]) * evidence(depth)[:, None])

        def section(linear: Linear) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
            """Logits of the section's cells, and the log of the classes' shares that follow from them."""
            called = logits(linear, self.section, self.section_depth)
            return called, log_prior(softmax(called))

        linear, _ = fit_joining(
            design,
            codes,
            n_classes,
            call=lambda linear: softmax(np.add(*section(linear))),
            rows=lambda cells: self.section[cells],
            candidates=self.free,
            rounds=rounds(len(codes), n_classes),
            heads=self.heads,
            sharp=sharp,
            penalty=held_out_penalty(design, codes, n_classes, evidence(self.depth[learn])),
        )
        return np.asarray((logits(linear, self.design[held], self.depth[held]) + section(linear)[1]).argmax(1))


def _folds(
    xy: npt.NDArray[np.float64],
    codes: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    block: float,
    buffer: float,
    seed: int,
) -> tuple[list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]], bool]:
    """Pairs of masks (learnt from, held out), and whether they are apart in space.

    A class's only label is never held out: nothing could have taught it.
    """
    from stplm.spatial.splits import fold_blocks

    n_folds = _FOLDS if len(codes) > _FEW_LABELS else _FOLDS_OF_FEW
    lone = counts[codes] < 2
    if np.isfinite(xy).all():
        splits = fold_blocks(xy, folds=n_folds, block=block, buffer=buffer, seed=seed, labels=codes, strict=False)
        # A cell whose class has no other label outside its square and the margin cannot be called right.
        taught = [np.isin(codes, codes[split.train]) & split.test for split in splits]
        if sum(int(held.sum()) for held in taught) >= 0.9 * int((~lone).sum()):
            return [(split.train, held) for split, held in zip(splits, taught, strict=True)], True
    return list(_at_random(codes, lone, n_folds, seed)), False


def _at_random(
    codes: npt.NDArray[np.int64], lone: npt.NDArray[np.bool_], n_folds: int, seed: int
) -> Iterable[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    random = np.random.default_rng(seed)
    fold = np.zeros(len(codes), dtype=np.int64)
    for code in np.unique(codes):
        mine = random.permutation(np.flatnonzero(codes == code))
        fold[mine] = np.arange(len(mine)) % n_folds
    for number in range(n_folds):
        yield (fold != number) | lone, (fold == number) & ~lone


def _too_few() -> LabelError:
    return LabelError(
        "There are too few labels to hold some out.",
        expected="two classes with two labels or more",
        mend="Label a few more cells of each class.",
    )
