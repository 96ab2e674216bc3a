"""Sources of colours that every section has: classes, scores, clusters, labels, quality, columns, genes. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.palette import UNASSIGNED_COLOUR, class_colours
from stplm.tokens.counts import gene_counts
from stplm_napari import colourings as by
from stplm_napari.colourings import Categories, Kind, Numbers, Shown, Source, add_kind, numbers
from stplm_napari.overlay import MAX_CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stplm_napari.session import Session

MODEL, CELLS, QUALITY, COLUMNS, GENES = "Model", "Cells", "Quality", "Columns", "Genes"
"""Headings of the list."""
UNKNOWN_MAP = "cividis"
"""Another map than confidence has, so that neither is taken for the other; bright is unlike every label."""
GENE_MAP = "magma"
_QUALITY = {
    keys.N_COUNTS: ("Counts per cell", "counts"),
    keys.N_GENES: ("Genes per cell", "genes"),
    keys.CONTROL_COUNTS: ("Control counts", "counts"),
    "cell_area": ("Cell area", "µm²"),
    "nucleus_area": ("Nucleus area", "µm²"),
    keys.LOW_COUNTS: ("Low counts", ""),
}
"""Columns that speak of quality: name on the screen, unit."""
_NO_COLUMNS = {keys.CELL_ID, keys.LABEL_VALUE, keys.REGION, "native_cell_id", "total_counts"}
_OTHER = "other"
_LOOKED_AT = 5_000
"""Cells that a column of text is judged by; a million strings are not counted before anyone asks for them."""


def own_labels(session: Session) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the cells that the user labelled, and the index of each one's class in ``session.classes``."""
    labels = session.annotations.labels
    rows, given = labels.rows, labels.codes(c.name for c in session.classes)
    return rows[given >= 0], given[given >= 0]


# --- what the model says ---


def _classes(session: Session, _: str) -> Categories:
    """Predicted classes; a cell that the user labelled is of that class, and never unsure."""
    table, classes = session.table, session.classes
    index = {c.name: i for i, c in enumerate(classes)}
    predicted = table.obs[keys.CLASS].cat
    # One entry more: cells without a class have code -1, the last one.
    place = np.array([*(index[str(n)] for n in predicted.categories), -1])
    codes = place[predicted.codes.to_numpy()]
    unsure = table.obs[keys.CONFIDENCE].to_numpy() < session.colouring.unsure_below
    rows, given = own_labels(session)
    codes[rows], unsure[rows] = given, False
    return Categories(codes, [c.name for c in classes], [c.colour for c in classes], unsure=unsure)


def _score(column: str, cmap: str, low: str, high: str, session: Session, _: str) -> Numbers:
    values = session.table.obs[column].to_numpy(np.float32)
    return Numbers(values, 0.0, 1.0, (0.0, 1.0), cmap, low, high)


def _clusters(session: Session, _: str) -> Categories:
    found = session.table.obs[keys.CLUSTER].cat
    names = [str(n) for n in found.categories]
    return Categories(found.codes.to_numpy(), names, list(class_colours(names).values()), under_labels=True)


def _labels(session: Session, _: str) -> Categories:
    classes = session.classes
    rows, given = own_labels(session)
    codes = np.full(session.table.n_obs, len(classes))
    codes[rows] = given
    names, colours = [*(c.name for c in classes), by.NO_LABEL], [*(c.colour for c in classes), UNASSIGNED_COLOUR]
    return Categories(codes, names, colours, opacities=[*np.ones(len(classes)), 0.35])


def _nothing(session: Session, _: str) -> Categories:
    return Categories(np.full(session.table.n_obs, -1, np.int16), [], [], under_labels=True)


# --- columns of the cell table ---


def columns(session: Session) -> list[Source]:
    """Quality first, in a fixed order; then what else the section brought and that tells cells apart."""
    obs = session.table.obs
    found = [Source(f"{by.OBS}:{c}", words, QUALITY) for c, (words, _) in _QUALITY.items() if c in obs]
    for name in map(str, obs):
        ours = name in _QUALITY or name in _NO_COLUMNS or name.startswith("stplm_")
        if not ours and _tells_apart(obs[name]):
            found.append(Source(f"{by.OBS}:{name}", name, COLUMNS))
    return found


def _tells_apart(column: pd.Series) -> bool:
    if column.dtype == "category":
        return len(column.cat.categories) >= 2
    if column.dtype.kind in "bifu":
        return bool(column.min() < column.max())
    return column.dtype.kind not in "cmM" and 2 <= column.iloc[:_LOOKED_AT].nunique() <= MAX_CLASSES


def _column(session: Session, name: str) -> Shown:
    column = session.table.obs[name]
    unit = _QUALITY.get(name, ("", ""))[1]
    if column.dtype != "category" and column.dtype.kind in "ifu":
        count = column.dtype.kind in "iu"
        return numbers(column.to_numpy(np.float32), unit=unit, is_count=count and bool(column.min() >= 0))
    if column.dtype.kind == "b":
        codes, names = column.to_numpy().astype(np.int8), ["no", "yes"]
        return Categories(codes, names, [UNASSIGNED_COLOUR, class_colours(["yes"])["yes"]])
    found = column if column.dtype == "category" else column.astype("category")
    return _few(found.cat.codes.to_numpy(), [str(n) for n in found.cat.categories])


def _few(codes: NDArray[np.integer], names: list[str]) -> Categories:
    """No more categories than can be told apart: the rarest become one."""
    if len(names) > MAX_CLASSES:
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        kept = np.sort(np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1])
        place = np.full(len(names) + 1, len(kept))
        place[kept], place[-1] = np.arange(len(kept)), -1
        codes, names = place[codes], [*(names[i] for i in kept), _OTHER]
    return Categories(codes, names, list(class_colours(names).values()))


# --- genes ---


def genes(session: Session) -> Sequence[str]:
    """Symbols of the panel's genes, in its order."""
    return list(map(str, session.table.var_names)) if session.is_open else []


def _find_gene(session: Session, name: str) -> Source | None:
    return Source(f"{by.GENE}:{name}", name, GENES) if name in session.table.var_names else None


def _gene(session: Session, name: str) -> Numbers:
    table = session.table
    values = gene_counts(table.X, int(table.var_names.get_loc(name)))
    return numbers(values, cmap=GENE_MAP, unit="counts", is_count=True)


def _one(key: str, words: str, group: str, column: str = "") -> partial[list[Source]]:
    return partial(_offer_one, Source(key, words, group), column)


def _offer_one(source: Source, column: str, session: Session) -> list[Source]:
    predicted = source.key not in (by.CLASS, by.TUMOUR, by.CONFIDENCE, by.UNKNOWN) or session.is_predicted
    return [source] if predicted and (not column or column in session.table.obs) else []


_SCORES = (
    (by.TUMOUR, "Tumour probability", keys.TUMOUR, "tumour", "not tumour", "tumour"),
    (by.CONFIDENCE, "Confidence", keys.CONFIDENCE, "viridis", "unsure", "sure"),
    (by.UNKNOWN, "Unknown (unlike your labels)", keys.UNKNOWN, UNKNOWN_MAP, "like a label", "unlike all"),
)
add_kind(Kind(by.CLASS, _one(by.CLASS, "Class", MODEL, keys.CLASS), _classes, lasts="look"))
for _key, _words, _obs, _cmap, _low, _high in _SCORES:
    add_kind(Kind(_key, _one(_key, _words, MODEL, _obs), partial(_score, _obs, _cmap, _low, _high)))
add_kind(Kind(by.CLUSTER, _one(by.CLUSTER, "Embedding cluster", MODEL, keys.CLUSTER), _clusters))
add_kind(Kind(by.LABEL, _one(by.LABEL, "Your labels only", CELLS), _labels, lasts="look"))
add_kind(Kind(by.CELLS, _one(by.CELLS, "Outlines only", CELLS), _nothing))
add_kind(Kind(by.OBS, columns, _column, slow=True))
add_kind(Kind(by.GENE, lambda session: (), _gene, _find_gene, lasts="section", slow=True))
