"""A fine-tuned model against the few-shot head, on the same held-out cells, before anyone takes either.

Both learnt from the same cells, and both saw the held-out ones without their labels. The difference is judged by a
paired bootstrap: held-out squares of tissue are drawn with replacement (cells, where there are few squares), since
cells side by side are right or wrong together (Efron and Tibshirani, 1993, on resampling what is independent), and by
McNemar's exact test on the cells that only one of the two calls right (McNemar, 1947).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.evaluation.calibration import expected_calibration_error

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.models import Model
    from stplm.tasks.finetune_data import LabelledSection

TUNED, FEW_SHOT = "fine-tuned model", "few-shot head"
_DRAWS = 2000
_SQUARES = 10
"""With fewer held-out squares, cells are drawn."""
_CALL = 0.5


@dataclass(frozen=True)
class HeldOut:
    """Held-out cells of a run of fine-tuning, all sections one after the other, and what its model says of them.

    Attributes
    ----------
    classes, tumour_classes
        Names, in the order of the probabilities.
    train, test
        bool (n_cells,) a section: learnt from, held out.
    names
        A section each, (n_cells,) object: class names, None without a label.
    codes
        int64 (m,): true class of the held-out cells.
    proba, tumour
        (m, n_classes) and (m,) probabilities, the temperature of either half of the squares fitted on the other.
    squares
        int64 (m,): which held-out square a cell lies in.
    """

    classes: list[str]
    tumour_classes: list[str]
    train: list[NDArray[np.bool_]]
    test: list[NDArray[np.bool_]]
    names: list[NDArray[Any]]
    codes: NDArray[np.int64]
    proba: NDArray[np.float64]
    tumour: NDArray[np.float64]
    squares: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Of one of the two: macro-F1, balanced accuracy, F1 of the tumour call (None without a tumour class), expected
    calibration error, and counts by true (rows) and called class."""

    macro_f1: float
    balanced_accuracy: float
    tumour_f1: float | None
    calibration_error: float
    confusion: list[list[int]]


@dataclass(frozen=True)
class Comparison:
    """The two side by side.

    Attributes
    ----------
    classes
        Names, in the order of the confusion matrices.
    cells, squares
        Held-out cells, and the squares that they lie in.
    learnt_from
        Labelled cells that both learnt from.
    difference, low, high
        Macro-F1 of the fine-tuned model less that of the few-shot head, and the middle 95 % of the bootstrap.
    resampled
        "squares" or "cells".
    p_value
        McNemar's.
    """

    classes: list[str]
    cells: int
    squares: int
    learnt_from: int
    tuned: Scores
    few_shot: Scores
    difference: float
    low: float
    high: float
    resampled: str
    p_value: float

    @property
    def within_noise(self) -> bool:
        """Whether the difference in macro-F1 may be chance."""
        return self.low <= 0.0 <= self.high

    @property
    def better(self) -> str:
        """Which is better beyond noise; "" for neither."""
        return "" if self.within_noise else TUNED if self.difference > 0 else FEW_SHOT

    def in_words(self) -> str:
        """The verdict in a sentence or two."""
        numbers = (
            f"macro-F1 {self.tuned.macro_f1:.3f} against {self.few_shot.macro_f1:.3f}, difference "
            f"{self.difference:+.3f} (95 % of draws of {self.resampled}: {self.low:+.3f} to {self.high:+.3f})"
        )
        if self.within_noise:
            return f"Within noise: {numbers}. The few-shot head is the simpler choice."
        return f"The {self.better} is better beyond noise: {numbers}."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Comparison:
        """What :meth:`to_json` gave."""
        parts = {name: Scores(**found[name]) for name in ("tuned", "few_shot")}
        return cls(**{**found, **parts})


def held_out_squares(sections: Sequence[LabelledSection], side: float) -> NDArray[np.int64]:
    """The square of ``side`` µm in which each held-out cell (m,) of the sections lies; a cell without a position is one
    of its own."""
    places: list[NDArray[np.int64]] = []
    for number, section in enumerate(sections):
        cells = np.flatnonzero(section.test)
        xy = section.cells.xy
        at = np.stack([cells, cells], axis=1) if xy is None else np.floor(xy[cells] / side).astype(np.int64)
        places.append(np.column_stack([np.full(len(cells), number), at]))
    return np.asarray(np.unique(np.concatenate(places), axis=0, return_inverse=True)[1]).ravel()


def held_out_cells(
    sections: Sequence[LabelledSection],
    classes: list[str],
    tumour_classes: list[str],
    codes: NDArray[np.int64],
    proba: NDArray[np.float64],
    tumour: NDArray[np.float64],
    squares: NDArray[np.int64],
) -> HeldOut:
    """The held-out cells of some sections, and what a model says of them."""
    # The last name is that of cells without a label, which have code -1.
    name_of = np.array([*classes, None], dtype=object)
    return HeldOut(
        classes,
        tumour_classes,
        [s.train for s in sections],
        [s.test for s in sections],
        [name_of[s.codes] for s in sections],
        codes,
        proba,
        tumour,
        squares,
    )


def compare(
    held_out: HeldOut,
    tables: Sequence[AnnData],
    model: str | Path | Model,
    *,
    device: str = "auto",
    seed: int = 0,
) -> Comparison:
    """Fit the few-shot head to what the fine-tuned model learnt from, and compare the two on the held-out cells.

    Parameters
    ----------
    held_out
        As :func:`stplm.finetune` hands it to ``on_held_out``.
    tables
        The sections that were learnt from. Where all are embedded the head sees those vectors, else those of ``model``;
        they stay as they are.
    seed
        Of the head and of the bootstrap.
    """
    from stplm.tasks.tune_scores import HeadBaseline

    names = np.concatenate(held_out.names)
    train = np.concatenate(held_out.train)
    known = np.full(len(names), None, dtype=object)
    known[train] = names[train]
    called = HeadBaseline(model, list(tables), device, keep=True).predicted(known, seed, held_out.tumour_classes)
    test = np.concatenate(held_out.test)
    tumour = np.nan_to_num(called.obs[keys.TUMOUR].to_numpy(dtype=np.float64)[test])
    proba = np.asarray(called.obsm[keys.PROBA], dtype=np.float64)[test]
    return comparison(held_out, proba, tumour, learnt_from=int(train.sum()), seed=seed)


def comparison(
    held_out: HeldOut,
    proba: NDArray[np.float64],
    tumour: NDArray[np.float64],
    *,
    learnt_from: int = 0,
    seed: int = 0,
) -> Comparison:
    """:func:`compare`, from what the few-shot head says of the held-out cells: ``proba`` (m, k), ``tumour`` (m,)."""
    from scipy.stats import binomtest

    codes, k = held_out.codes, len(held_out.classes)
    is_tumour = np.isin(held_out.classes, held_out.tumour_classes)
    ours, theirs = held_out.proba.argmax(1), proba.argmax(1)
    n_squares = len(np.unique(held_out.squares))
    by = held_out.squares if n_squares >= _SQUARES else np.arange(len(codes))
    differences = _bootstrap(codes, ours, theirs, by, k, seed)
    only_ours = int(((ours == codes) & (theirs != codes)).sum())
    only_theirs = int(((theirs == codes) & (ours != codes)).sum())
    tuned = _scores(codes, held_out.proba, held_out.tumour, is_tumour)
    few_shot = _scores(codes, proba, tumour, is_tumour)
    low, high = np.quantile(differences, [0.025, 0.975])
    discordant = only_ours + only_theirs
    return Comparison(
        classes=list(held_out.classes),
        cells=len(codes),
        squares=n_squares,
        learnt_from=learnt_from,
        tuned=tuned,
        few_shot=few_shot,
        difference=tuned.macro_f1 - few_shot.macro_f1,
        low=float(low),
        high=float(high),
        resampled="squares" if n_squares >= _SQUARES else "cells",
        p_value=float(binomtest(only_ours, discordant).pvalue) if discordant else 1.0,
    )


def _scores(
    codes: NDArray[np.int64], proba: NDArray[np.float64], tumour: NDArray[np.float64], is_tumour: NDArray[np.bool_]
) -> Scores:
    from stplm.tasks.finetune_scores import class_scores

    called, k = proba.argmax(1), len(is_tumour)
    found = class_scores(codes, called, tumour, is_tumour)
    confusion = np.bincount(codes * k + called, minlength=k * k).reshape(k, k)
    return Scores(
        macro_f1=found["macro_f1"],
        balanced_accuracy=found["balanced_accuracy"],
        tumour_f1=found.get("tumour_f1"),
        calibration_error=expected_calibration_error(np.clip(proba.max(1), 0, 1), called == codes),
        confusion=confusion.tolist(),
    )


def _bootstrap(
    codes: NDArray[np.int64],
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
    by: NDArray[np.int64],
    k: int,
    seed: int,
) -> NDArray[np.float64]:
    """Differences (draws,) of macro-F1, whole groups ``by`` drawn with replacement.

    Macro-F1 needs only hits, true and called counts of each class, so groups of the same counts are drawn as one.
    """
    groups = np.unique(by, return_inverse=True)[1]
    counts = np.zeros((groups.max() + 1, 5, k))
    everyone = np.ones(len(codes), dtype=bool)
    parts = [(codes, everyone), (ours, everyone), (theirs, everyone), (codes, ours == codes), (codes, theirs == codes)]
    for place, (of, which) in enumerate(parts):
        counts[:, place] = np.bincount((groups * k + of)[which], minlength=len(counts) * k).reshape(-1, k)
    kinds, number = np.unique(counts.reshape(len(counts), -1), axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(counts), number / len(counts), size=_DRAWS) @ kinds
    true, by_us, by_them, our_hits, their_hits = np.moveaxis(drawn.reshape(_DRAWS, 5, k), 1, 0)
    # A class that a draw does not hold does not count in it.
    there = true > 0

    def macro_f1(called: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
        f1 = np.where(there, 2 * hits / np.maximum(true + called, 1), 0.0)
        return np.asarray(f1.sum(1) / there.sum(1))

    return macro_f1(by_us, our_hits) - macro_f1(by_them, their_hits)
