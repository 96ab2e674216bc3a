"""What users give as labels: a class name or None for every cell, and which classes mean tumour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm.errors import LabelError
from stplm.palette import is_tumour_name

if TYPE_CHECKING:
    from anndata import AnnData


def label_names(table: AnnData, labels: pd.Series | Mapping[str, object] | str | Sequence[object]) -> list[str | None]:
    """One name or None a cell, in the table's order, from labels as :func:`stplm.fit_classifier` takes them.

    Raises LabelError: no such column, cells of another section, a cell with two labels, another number of labels.
    """
    if isinstance(labels, Mapping):
        labels = pd.Series(dict(labels), dtype=object)
    if isinstance(labels, str):
        if labels not in table.obs:
            raise LabelError(
                f"There is no column {labels!r} in the cell table.",
                expected=f"one of {', '.join(map(str, table.obs.columns[:20]))}",
            )
        values = table.obs[labels].astype(object).to_numpy()
    elif isinstance(labels, pd.Series):
        given = labels[labels.notna()]
        ids = given.index.astype(str)
        if len(strange := ids.difference(table.obs_names)):
            raise LabelError(
                "Some labels are of cells that are not in this section.",
                found=f"{len(strange)} of {len(ids)}, such as {strange[0]}",
                mend="Check that the labels belong to this section.",
            )
        if ids.has_duplicates:
            raise LabelError("A cell has two labels.", found=str(ids[ids.duplicated()][0]))
        values = np.full(table.n_obs, None, dtype=object)
        values[table.obs_names.get_indexer(ids)] = given.to_numpy()
    else:
        values = np.asarray(labels, dtype=object)
        if len(values) != table.n_obs:
            raise LabelError("There must be one label a cell.", found=str(len(values)), expected=str(table.n_obs))
    missing = pd.isna(values)
    return [None if m or str(v).strip() == "" else str(v) for v, m in zip(values, missing, strict=True)]


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
