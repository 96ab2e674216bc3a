"""What users give as labels: a class name or None for every cell, and which classes mean tumour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm.errors import LabelError
from stplm.palette import is_tumour_name

if TYPE_CHECKING:
    from anndata import AnnData


MOST_LABELS = 10_000
"""Labels that a few-shot head learns from, see :func:`enough_labels`."""

_ENOUGH = 10


def few_labels(n_labels: int, n_classes: int) -> bool:
    """Whether labels are so few (under ten a class) that how many of them a class has is chance: classes then weigh the
    same in a head, and its penalty is weaker."""
    return n_labels < _ENOUGH * n_classes


def label_names(table: AnnData, labels: pd.Series | Mapping[str, object] | str | Sequence[object]) -> list[str | None]:
    """One name or None a cell, in the table's order, from labels as :func:`stplm.fit_classifier` takes them.

    Raises LabelError as :func:`labelled_cells` does.
    """
    rows, names = labelled_cells(table, labels)
    values = np.full(table.n_obs, None, dtype=object)
    values[rows] = names
    found: list[str | None] = values.tolist()
    return found


def labelled_cells(
    table: AnnData, labels: pd.Series | Mapping[str, object] | str | Sequence[object]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Rows of the labelled cells, ascending, and the class name of each; of a few labels among a million cells at once.

    Raises LabelError: no such column, cells of another section, a cell with two labels, another number of labels.
    """
    if isinstance(labels, Mapping):
        labels = pd.Series(dict(labels), dtype=object)
    if isinstance(labels, pd.Series):
        given = labels[labels.notna()]
        ids = given.index.astype(str)
        rows = table.obs_names.get_indexer(ids)
        if len(strange := ids[rows < 0].unique()):
            raise LabelError(
                "Some labels are of cells that are not in this section.",
                found=f"{len(strange)} of {len(ids)}, such as {min(strange)}",
                mend="Check that the labels belong to this section.",
            )
        if ids.has_duplicates:
            raise LabelError("A cell has two labels.", found=str(ids[ids.duplicated()][0]))
        order = np.argsort(rows)
        return _named(rows[order], given.to_numpy()[order])
    if isinstance(labels, str):
        if labels not in table.obs:
            raise LabelError(
                f"There is no column {labels!r} in the cell table.",
                expected=f"one of {', '.join(map(str, table.obs.columns[:20]))}",
            )
        values = table.obs[labels].astype(object).to_numpy()
    else:
        values = np.asarray(labels, dtype=object)
        if len(values) != table.n_obs:
            raise LabelError("There must be one label a cell.", found=str(len(values)), expected=str(table.n_obs))
    return _named(np.arange(len(values)), values)


def _named(rows: NDArray[np.int64], values: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Rows and names, without those that have no name."""
    there = np.flatnonzero(~pd.isna(values))
    names = np.array([str(value) for value in values[there]], dtype=str)
    named = np.char.strip(names) != "" if len(names) else np.zeros(0, dtype=bool)
    return rows[there][named], names[named]


def enough_labels(codes: NDArray[np.int64], seed: int = 0, most: int = MOST_LABELS) -> NDArray[np.int64]:
    """Places (m,), ascending, of labels that are enough to learn from, for classes (n,) as integers from 0.

    All of up to ``most``. Of more (a lasso may label a hundred thousand cells), each class keeps what it has, but the
    commonest are thinned to equal numbers: a linear head gains nothing from the rest, and fitting would take a minute.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    counts = np.sort(np.bincount(codes))
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    # The most that a class may keep: rarer ones have less, and all others share what is left.
    share = (most - before) // np.arange(len(counts), 0, -1)
    limit = int(share[np.argmax(counts > share)])
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    sizes = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < limit])


def check_two_classes(classes: Sequence[str], n_labels: int) -> None:
    """Raise LabelError for fewer than two classes; there are ``n_labels`` labels."""
    if len(classes) < 2:
        raise LabelError(
            "Labels of two classes or more are needed.",
            found="no label" if len(classes) == 0 else f"{n_labels} labels, all {classes[0]!r}",
            mend="Label a few cells of another class.",
        )


def choose_tumour_classes(classes: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """The tumour classes that were ``given``, else those whose name says so.

    Raises LabelError where one of them is not among ``classes``.
    """
    tumour = [c for c in classes if is_tumour_name(c)] if given is None else list(given)
    if unknown := sorted(set(tumour) - set(classes)):
        raise LabelError(
            "A tumour class has no labelled cell.", found=", ".join(unknown), expected=f"some of {', '.join(classes)}"
        )
    return tumour
