"""Classify a cell table that stays on the disk: the head of :func:`stplm.fit_classifier`, then what it says, in blocks.

Results are those of the tasks in memory, bit by bit; memory holds a block of counts, the cells that the head is fitted
on, and a few numbers a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from stplm import keys
from stplm.errors import LabelError
from stplm.io.export import with_ending
from stplm.io.staged import check_target
from stplm.io.table_file import ROWS, TableFile, edited_copy
from stplm.progress import Progress, no_progress
from stplm.scheme import Scheme
from stplm.tasks.cells import table_genes
from stplm.tasks.classifier import Classifier
from stplm.tasks.classify import fit_features, tumour_among
from stplm.tasks.features_file import FileFeatures
from stplm.tasks.prediction import calls
from stplm.tasks.profiles import load_profiles
from stplm.tasks.seed import SeedSearch

_PASSES = 4
"""Over the counts: seeds, two for the features, the prediction."""


def classify_file(
    path: str | Path,
    out: str | Path,
    labels: pd.Series | Mapping[str, object] | str | None = None,
    *,
    tumour_classes: Sequence[str] | None = None,
    scheme: Scheme = "joint",
    seed: int = 0,
    head_out: str | Path | None = None,
    overwrite: bool = True,
    progress: Progress = no_progress,
) -> Path:
    """Learn classes from a few labels and call every cell of an ``.h5ad`` without loading it; gives the output's path.

    Parameters
    ----------
    path
        An embedded table (:func:`stplm.tasks.embed_file.embed_file`).
    out
        What to write: the same table with what :func:`stplm.predict` adds. It may be ``path`` itself.
    labels
        Class names by cell id, or the name of an obs column. By default seeds from the reference profiles
        (:func:`stplm.seed_labels`).
    tumour_classes, scheme, seed
        As for :func:`stplm.fit_classifier`.
    head_out
        Folder to keep the head in, too (:meth:`stplm.Classifier.save`).
    progress
        Counts cells, four times each.

    Raises
    ------
    LabelError, GeneError, ModelError, SectionError, ExportError
        As the tasks in memory.
    Cancelled
        When ``progress`` raises it; then nothing is written.
    """
    target = with_ending(out, "h5ad")
    check_target(target, overwrite=overwrite)

    with TableFile(path) as table:
        n = table.n_obs

        def since(passes: int) -> Progress:
            return lambda done, _: progress(passes * n + done, _PASSES * n)

        rows, names = _seeds(table, seed, since(0)) if labels is None else labelled_rows(table, labels)
        tumour = tumour_among(names, tumour_classes)
        features = FileFeatures(table, rows, seed, since(1))
        stand_in: Any = features
        embedding = table.notes.get(keys.UNS_EMBEDDING, {})
        head = fit_features(
            stand_in,
            rows,
            names,
            tumour,
            seeded=labels is None,
            scheme=scheme,
            seed=seed,
            embedding=str(embedding.get("sha256", "")),
        )
        found = _Calls(n, unknown=head.unknown is not None)
        with edited_copy(path, target) as edit:
            edit.rows(keys.PROBA, len(head.classes), found.of(head, features, since(3)))
            edit.column(keys.CLASS, pd.Categorical.from_codes(found.codes, pd.Index(head.classes)))
            edit.column(keys.CONFIDENCE, found.confidence)
            edit.column(keys.TUMOUR, found.tumour)
            edit.drop_column(keys.UNKNOWN)
            if found.unknown is not None:
                edit.column(keys.UNKNOWN, found.unknown)
            edit.note(keys.UNS_PREDICTION, {"model": embedding.get("model", "unknown"), **head.to_dict()})
        if head_out is not None:
            head.save(head_out, overwrite=overwrite)
    progress(_PASSES * n, _PASSES * n)
    return target


def labelled_rows(
    table: TableFile, labels: pd.Series | Mapping[str, object] | str
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Rows of the labelled cells, ascending, and their classes. Raises LabelError as
    :func:`stplm.tasks.labels.labelled_cells`."""
    if isinstance(labels, str):
        if labels not in table.columns():
            raise LabelError(
                f"There is no column {labels!r} in the cell table.",
                expected=f"one of {', '.join(table.columns()[:20])}",
            )
        column = pd.Series(table.column(labels))
        rows = np.flatnonzero(column.notna())
        names = column.iloc[rows].astype(str).to_numpy(dtype=str)
    else:
        given = pd.Series(dict(labels), dtype=object) if isinstance(labels, Mapping) else labels
        given = given[given.notna()]
        rows = _rows_of(table, pd.Index(given.index.astype(str)))
        order = np.argsort(rows)
        rows, names = rows[order], given.astype(str).to_numpy(dtype=str)[order]
    named = np.char.strip(names) != "" if len(names) else np.zeros(0, dtype=bool)
    return rows[named], names[named]


def _rows_of(table: TableFile, wanted: pd.Index) -> NDArray[np.int64]:
    rows = np.full(len(wanted), -1, dtype=np.int64)
    if wanted.has_duplicates:
        raise LabelError("A cell has two labels.", found=str(wanted[wanted.duplicated()][0]))
    for start, ids in table.cell_ids():
        place = wanted.get_indexer(pd.Index(ids))
        there = np.flatnonzero(place >= 0)
        rows[place[there]] = start + there
    if len(strange := wanted[rows < 0]):
        raise LabelError(
            "Some labels are of cells that are not in this section.",
            found=f"{len(strange)} of {len(wanted)}, such as {min(strange)}",
            mend="Check that the labels belong to this section.",
        )
    return rows


def _seeds(table: TableFile, seed: int, progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    genes: Any = table
    search = SeedSearch(load_profiles(), table_genes(genes))
    best, margin = np.zeros(table.n_obs, dtype=np.int16), np.zeros(table.n_obs)
    for start in range(0, table.n_obs, ROWS):
        progress(start, table.n_obs)
        part = slice(start, min(start + ROWS, table.n_obs))
        best[part], margin[part] = search.look(sparse.csr_matrix(table.counts[part], dtype=np.float32))
    labels = search.draw(best, margin, seed=seed)
    rows = np.flatnonzero(pd.notna(labels))
    return rows, labels[rows].astype(str)


class _Calls:
    """What a head says of ``n`` cells, probabilities left out; ``unknown``: whether it has such a score."""

    def __init__(self, n: int, *, unknown: bool) -> None:
        self.codes = np.full(n, -1, dtype=np.int16)
        self.confidence, self.tumour = np.zeros((2, n), dtype=np.float32)
        self.unknown = np.zeros(n, dtype=np.float32) if unknown else None

    def of(self, head: Classifier, cells: FileFeatures, progress: Progress) -> Iterator[NDArray[np.float32]]:
        """Class probabilities of a stretch of cells after the other; the rest is kept."""
        for part, features in cells.blocks(progress):
            proba, tumour = head.outputs(features)
            found = calls(proba, tumour, features.depth == 0)
            self.codes[part], self.confidence[part], self.tumour[part] = found
            if self.unknown is not None:
                self.unknown[part] = head.unknown_scores(features)
            yield proba
