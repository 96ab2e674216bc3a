"""Which cells to label next: few labels that teach much, instead of many that repeat what is known.

Candidates are drawn from the section (all of it would take seconds at a million cells): some at random, some of those
least like any label, some of each class that is called. The best of them are then chosen one by one, see
:mod:`stplm.tasks.acquisition`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import ModelError
from stplm.io.cell_table import counts_matrix
from stplm.io.groups import as_table
from stplm.tasks.acquisition import AWAY, BETWEEN, FEW, UNLIKE, Candidates, choose, spread_sample, wants, worth
from stplm.tasks.labels import labelled_cells

if TYPE_CHECKING:
    import numpy.typing as npt
    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.tasks.acquisition import Choice
    from stplm.tasks.classifier import Classifier
    from stplm.tasks.prototypes import Floats, Places, Singles

APART_UM = 30.0
_LOOKED_AT = 200_000
_AT_RANDOM, _STRANGEST, _OF_EACH_CLASS = 6_000, 1_500, 200
_SHORTLIST, _REFERENCE, _LABELLED = 2_500, 1_000, 2_000
_STRANGE = 0.95
COLUMNS = ("row", "class", "confidence", "second", "second_confidence", "kind", "reason", "score")


def suggest(
    table: AnnData | SpatialData,
    classifier: Classifier | None = None,
    labels: pd.Series | Mapping[str, object] | str | Sequence[object] | None = None,
    *,
    n: int = 20,
    skip: npt.ArrayLike = (),
    within: npt.ArrayLike | None = None,
    apart_um: float = APART_UM,
    seed: int = 0,
) -> pd.DataFrame:
    """Cells whose label would teach the model most, best first.

    Parameters
    ----------
    table
        An embedded section or cell table.
    classifier
        What calls the cells now; by default the prediction that the table holds (:func:`stplm.predict`). Without
        either, and with labels of fewer than two classes, the cells suggested cover the embedding: one of each kind.
    labels
        The labels given so far, as :func:`stplm.fit_classifier` takes them. Labelled cells are not suggested.
    n
        How many cells.
    skip
        Rows (or a bool mask) of cells that were asked about and left open: they and cells like them are not suggested.
    within
        Rows (or a bool mask) of the cells that may be suggested; by default all. Cells under ``keys.MIN_COUNTS`` counts
        never are.
    apart_um
        No two of the suggested cells lie closer together, µm.
    seed
        Of the candidates that are looked at. The same input and seed give the same cells.

    Returns
    -------
    DataFrame, indexed by cell id: ``row`` in the table; ``class`` that is called and ``second`` best, each with its
    probability (``confidence``, ``second_confidence``; None and NaN without a model); ``kind``, one of the reasons of
    :mod:`stplm.tasks.acquisition`, and ``reason``, the same in words; ``score``, comparable within one call only. Fewer
    than ``n`` rows where there are not that many cells.

    Raises
    ------
    LabelError
        Labels of cells that are not in the section.
    ModelError
        When the table is not embedded.
    """
    table = as_table(table)
    if keys.X_STPLM not in table.obsm:
        raise ModelError("These cells are not embedded yet.", mend="Run stplm.embed (the Embed dock) first.")
    known, names = _labelled(table, labels)
    left_out = _rows(skip, table.n_obs)
    depth = _depth(table)
    may = depth >= keys.MIN_COUNTS
    if within is not None:
        mask = np.zeros(table.n_obs, dtype=bool)
        mask[_rows(within, table.n_obs)] = True
        may &= mask
    may[known] = may[left_out] = False
    random = np.random.default_rng(seed)
    eligible = np.flatnonzero(may)
    if not len(eligible) or n < 1:
        return _frame(table, np.zeros(0, np.int64), None, [], None, [])
    model = _Model.of(table, classifier, names)
    rows = _draw(table, eligible, model, random)
    seen = spread_sample(random, np.union1d(known, left_out), _LABELLED)
    reference = spread_sample(random, eligible, _REFERENCE)
    points = _Points(table, reference)
    positions = _positions(table)
    proba, unknown = (None, None) if model is None else model.of_rows(table, rows)
    counts = None if model is None else model.labels
    cells = Candidates(np.zeros((len(rows), 0), np.float32), positions[rows], depth[rows], proba, unknown, counts)
    if len(rows) > _SHORTLIST:
        cells, rows = _shortlist(cells, rows, random)
    cells = Candidates(points.of(rows), cells.xy, cells.depth, cells.proba, cells.unknown, cells.labels)
    choice = choose(
        cells,
        points.of(reference),
        points.of(seen),
        n,
        apart_um=apart_um,
    )
    chosen = rows[choice.places]
    return _frame(
        table,
        chosen,
        choice,
        _reasons(table, rows, choice, cells, model),
        cells,
        [] if model is None else model.classes,
    )


class _Model:
    """What calls the cells: a classifier, or what it has written into the table already."""

    def __init__(self, classes: list[str], names: npt.NDArray[np.object_], classifier: Classifier | None) -> None:
        self.classes, self._classifier = classes, classifier
        given = pd.Series(names, dtype=object).value_counts()
        self.labels = np.array([int(given.get(name, 0)) for name in classes], dtype=np.int64)

    @classmethod
    def of(cls, table: AnnData, classifier: Classifier | None, names: npt.NDArray[np.object_]) -> _Model | None:
        if classifier is not None:
            return cls(list(classifier.classes), names, classifier)
        note = table.uns.get(keys.UNS, {}).get(keys.UNS_PREDICTION, {})
        classes = [str(name) for name in note.get("classes", ())]
        if keys.PROBA not in table.obsm or len(classes) < 2 or len(classes) != table.obsm[keys.PROBA].shape[1]:
            return None
        return cls(classes, names, None)

    def of_rows(self, table: AnnData, rows: Places) -> tuple[Floats, Floats | None]:
        """Class probabilities and unknown score of some cells."""
        if self._classifier is None:
            unknown = table.obs[keys.UNKNOWN].to_numpy()[rows] if keys.UNKNOWN in table.obs else None
            strange = None if unknown is None else np.asarray(unknown, np.float64)
            return np.asarray(table.obsm[keys.PROBA][rows], dtype=np.float64), strange
        from stplm.tasks.features import cell_features

        features = cell_features(table[rows])
        score = self._classifier.unknown
        strange = None if score is None else np.asarray(score.score(features.dense(), features.depth), np.float64)
        return np.asarray(self._classifier.proba(features), np.float64), strange


class _Points:
    """Cells in the embedding: the model's own-cell vectors, every column scaled to the spread of a reference."""

    def __init__(self, table: AnnData, reference: Places) -> None:
        note = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {})
        self._vectors = table.obsm[keys.X_STPLM]
        self._width = int(note.get("own_dim", self._vectors.shape[1]))
        some = np.asarray(self._vectors[reference, : self._width], dtype=np.float64)
        self._middle, self._scale = some.mean(0), some.std(0) + 1e-6

    def of(self, rows: Places) -> Singles:
        some = np.asarray(self._vectors[rows, : self._width], dtype=np.float64)
        return np.ascontiguousarray((some - self._middle) / self._scale, dtype=np.float32)


def _draw(table: AnnData, eligible: Places, model: _Model | None, random: np.random.Generator) -> Places:
    """Candidates: at random; and, where the table says which, of the strangest cells and of each class."""
    drawn = [spread_sample(random, eligible, _AT_RANDOM)]
    if model is not None and len(eligible) > _AT_RANDOM:
        some = eligible[:: -(-len(eligible) // _LOOKED_AT)]
        if keys.UNKNOWN in table.obs:
            with np.errstate(invalid="ignore"):
                strange = some[table.obs[keys.UNKNOWN].to_numpy()[some] > _STRANGE]
            drawn.append(spread_sample(random, strange, _STRANGEST))
        if keys.CLASS in table.obs:
            codes = table.obs[keys.CLASS].cat.codes.to_numpy()[some]
            drawn += [spread_sample(random, some[codes == code], _OF_EACH_CLASS) for code in range(len(model.classes))]
    return np.unique(np.concatenate(drawn))


def _shortlist(cells: Candidates, rows: Places, random: np.random.Generator) -> tuple[Candidates, Places]:
    """Half of the shortlist by what the model wants to know, half at random, so that the embedding stays covered."""
    wanted = wants(cells)
    best = np.argsort(-worth(wanted, cells.depth), kind="stable")[: _SHORTLIST // 2] if wanted else np.zeros(0, int)
    rest = np.setdiff1d(np.arange(len(cells)), best)
    some = np.sort(np.concatenate([best, spread_sample(random, rest, _SHORTLIST - len(best))]))
    return cells.take(some), rows[some]


def _typical(table: AnnData, row: int) -> str:
    if keys.CLUSTER in table.obs and isinstance(cluster := table.obs[keys.CLUSTER].iloc[row], str):
        return f"typical of cluster {cluster}"
    return "typical, with no label like it"


def _reasons(table: AnnData, rows: Places, choice: Choice, cells: Candidates, model: _Model | None) -> list[str]:
    """Why each of the chosen is asked about, in a few words."""
    words = []
    for place, kind in zip(choice.places, choice.reasons, strict=True):
        if model is None or cells.proba is None:
            words.append(_typical(table, rows[place]))
            continue
        first, second = np.argsort(-cells.proba[place], kind="stable")[:2]
        p = cells.proba[place]
        # Which class has few labels: the one called, or the second where that has fewer.
        rare = min((first, second), key=lambda c: model.labels[c]) if p[second] > 0.25 else first
        said = {
            BETWEEN: f"between {model.classes[first]} and {model.classes[second]} ({p[first]:.2f} / {p[second]:.2f})",
            UNLIKE: "unlike anything labelled",
            FEW: f"few labels of {model.classes[rare]} ({model.labels[rare]})",
            AWAY: "no label among cells like this",
        }
        words.append(said[kind])
    return words


def _frame(
    table: AnnData,
    rows: Places,
    choice: Choice | None,
    reasons: list[str],
    cells: Candidates | None,
    classes: list[str],
) -> pd.DataFrame:
    frame = pd.DataFrame(index=pd.Index(table.obs_names[rows], name=keys.CELL_ID), columns=list(COLUMNS), dtype=object)
    frame["row"] = rows
    for name in ("confidence", "second_confidence", "score"):
        frame[name] = np.nan
    if choice is None or cells is None or not len(rows):
        return frame.astype({"confidence": float, "second_confidence": float, "score": float})
    frame["kind"], frame["reason"], frame["score"] = choice.reasons, reasons, choice.scores
    if cells.proba is not None:
        p = cells.proba[choice.places]
        order = np.argsort(-p, axis=1, kind="stable")[:, :2]
        names = np.array(classes, dtype=object)[order]
        best = np.take_along_axis(p, order, axis=1)
        frame["class"], frame["second"] = names[:, 0], names[:, 1]
        frame["confidence"], frame["second_confidence"] = best[:, 0], best[:, 1]
    return frame


def _labelled(
    table: AnnData, labels: pd.Series | Mapping[str, object] | str | Sequence[object] | None
) -> tuple[Places, npt.NDArray[np.object_]]:
    """Rows of the labelled cells, and their classes."""
    if labels is None:
        return np.zeros(0, np.int64), np.zeros(0, object)
    rows, names = labelled_cells(table, labels)
    return rows, names.astype(object)


def _rows(given: npt.ArrayLike, n_cells: int) -> Places:
    """Row numbers, from row numbers or a mask."""
    array = np.asarray(given)
    if array.dtype == bool:
        if array.shape != (n_cells,):
            raise ValueError(f"a mask must have one value a cell: {array.shape} for {n_cells} cells")
        return np.flatnonzero(array)
    return np.unique(array.astype(np.int64))


def _depth(table: AnnData) -> Floats:
    if keys.N_COUNTS in table.obs:
        return np.asarray(table.obs[keys.N_COUNTS], dtype=np.float64)
    return np.asarray(counts_matrix(table).sum(1), dtype=np.float64).ravel()


def _positions(table: AnnData) -> Floats:
    """(n_cells, 2) µm, NaN for a section without positions."""
    if keys.SPATIAL not in table.obsm:
        return np.full((table.n_obs, 2), np.nan)
    return np.asarray(table.obsm[keys.SPATIAL], dtype=np.float64)[:, :2]
