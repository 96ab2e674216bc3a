"""The labels of a section's cells as arrays: a hundred thousand change in milliseconds. No Qt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Label(NamedTuple):
    """A cell's class, and who gave it when (UTC, ISO 8601)."""

    name: str
    by: str
    at: str


class CellsAt(list[str]):
    """Ids with the rows they were taken from, so that nobody has to look them up again."""

    def __init__(self, index: pd.Index, rows: NDArray[np.integer]) -> None:
        super().__init__(index.take(rows).tolist())
        self.of, self.rows = index, rows


class Labels(Mapping[str, Label]):
    """``{cell id: Label}`` of the labelled cells, in the order of the section.

    Each cell holds a small number: which of the distinct labels (class, annotator, time) it has. One action gives one
    such label to many cells.

    Parameters
    ----------
    cells
        The ids that may be labelled; of a million, a pandas index, for it is hashed already. None takes any id, in the
        order they come.
    """

    def __init__(self, cells: Iterable[str] | None = None) -> None:
        if cells is not None and not isinstance(cells, pd.Index):
            cells = pd.Index(list(cells), dtype=object)
        self._index: pd.Index | None = cells
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._codes = np.zeros(0 if self._index is None else len(self._index), np.int32)
        self._rows: NDArray[np.int64] | None = None
        self._kinds: list[Label | None] = [None]
        self._code_of: dict[Label, int] = {}
        self._per_kind = np.zeros(1, np.int64)

    # --- as a mapping ---

    def __getitem__(self, cell: str) -> Label:
        row = self._row(str(cell))
        label = self._kinds[self._codes[row]] if row >= 0 else None
        if label is None:
            raise KeyError(cell)
        return label

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids_at(self.rows).tolist())

    def __len__(self) -> int:
        return int(self._per_kind[1:].sum())

    def __repr__(self) -> str:
        return f"Labels({dict(self.counts())})"

    def items(self) -> Any:
        """Pairs of id and label."""
        rows = self.rows
        kinds = self._kinds
        return zip(self.ids_at(rows).tolist(), [kinds[c] for c in self._codes[rows].tolist()], strict=True)

    def values(self) -> Any:
        """The labels, one a labelled cell."""
        return [self._kinds[c] for c in self._codes[self.rows].tolist()]

    # --- as arrays ---

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the labelled cells, ascending; not to be written to."""
        if self._rows is None:
            self._rows = np.flatnonzero(self._codes)
        return self._rows

    def names(self) -> NDArray[np.object_]:
        """The class of each labelled cell, in the order of :attr:`rows`."""
        return self._names()[self._codes[self.rows]]

    def times(self) -> NDArray[np.str_]:
        """When each labelled cell was given its label (UTC, ISO 8601), in the order of :attr:`rows`."""
        return np.array(["" if kind is None else kind.at for kind in self._kinds])[self._codes[self.rows]]

    def codes(self, classes: Iterable[str]) -> NDArray[np.int64]:
        """Of each labelled cell, in the order of :attr:`rows`: the place of its class in ``classes``, -1 for others."""
        place = {name: i for i, name in enumerate(classes)}
        lut = np.array([-1 if kind is None else place.get(kind.name, -1) for kind in self._kinds], np.int64)
        return lut[self._codes[self.rows]]

    def ids_at(self, rows: NDArray[np.integer]) -> NDArray[np.object_]:
        """Ids of rows."""
        if self._index is not None:
            return np.asarray(self._index.take(rows), object)
        return np.array(self._ids, object)[rows]

    def cells_at(self, rows: NDArray[np.integer]) -> list[str]:
        """Ids of rows, to be labelled: they are not looked up again."""
        return self.ids_at(rows).tolist() if self._index is None else CellsAt(self._index, rows)

    def counts(self) -> Counter[str]:
        """Labels per class name."""
        found: Counter[str] = Counter()
        for code in np.flatnonzero(self._per_kind):
            kind = self._kinds[code]
            if kind is not None:
                found[kind.name] += int(self._per_kind[code])
        return found

    def rows_of(self, cells: Iterable[str]) -> NDArray[np.int64]:
        """Rows of ids, -1 for those that are not in the section."""
        if isinstance(cells, CellsAt) and cells.of is self._index:
            return np.asarray(cells.rows, np.int64)
        if self._index is not None:
            ids = [str(c) for c in cells]
            return np.asarray(self._index.get_indexer(pd.Index(ids, dtype=object)), np.int64)
        ids = [str(c) for c in cells]
        for cell in ids:
            if self._row_of.setdefault(cell, len(self._ids)) == len(self._ids):
                self._ids.append(cell)
        if len(self._ids) > len(self._codes):
            more = max(len(self._ids), 2 * len(self._codes)) - len(self._codes)
            self._codes = np.concatenate([self._codes, np.zeros(more, np.int32)])
        return np.array([self._row_of[cell] for cell in ids], np.int64)

    # --- changes: made here, applied by whoever keeps the history ---

    def given(self, rows: NDArray[np.integer], label: Label) -> LabelChange:
        """What giving a label to rows changes; cells that have the class already keep theirs, with its time."""
        before = self._codes[rows]
        other = np.array([kind is None or kind.name != label.name for kind in self._kinds])[before]
        changed: NDArray[np.int64] = pd.unique(rows[other]).astype(np.int64)
        return LabelChange(self, changed, self._codes[changed], np.full(len(changed), self._code(label), np.int32))

    def cleared(self, rows: NDArray[np.integer]) -> LabelChange:
        """What clearing rows changes."""
        changed: NDArray[np.int64] = pd.unique(rows[self._codes[rows] != 0]).astype(np.int64)
        return LabelChange(self, changed, self._codes[changed], np.zeros(len(changed), np.int32))

    def taken_in(self, given: Iterable[tuple[NDArray[np.integer], Label]], *, replace: bool) -> LabelChange:
        """What giving several labels changes, the last one where a cell is given two; all others go with ``replace``.

        A cell that has the class already keeps its label, with its time; not so with ``replace``.
        """
        after = np.zeros_like(self._codes) if replace else self._codes.copy()
        for rows, label in given:
            code = self._code(label)
            if not replace:
                same = np.array([kind is not None and kind.name == label.name for kind in self._kinds])
                rows = rows[~same[self._codes[rows]]]
            after[rows] = code
        rows = np.flatnonzero(after != self._codes)
        return LabelChange(self, rows, self._codes[rows], after[rows])

    def by_kind(self) -> list[tuple[Label, NDArray[np.int64]]]:
        """Each distinct label (class, annotator, time) that cells have, and their rows."""
        codes = np.unique(self._codes).tolist()
        kinds = ((self._kinds[code], code) for code in codes)
        return [(kind, np.flatnonzero(self._codes == code)) for kind, code in kinds if kind is not None]

    def moved(self, name: str, to: str | None) -> LabelChange:
        """What giving all labels of one class to another changes; to None, it clears them."""
        lut = np.arange(len(self._kinds), dtype=np.int32)
        for code, kind in enumerate(self._kinds[:]):
            if kind is not None and kind.name == name:
                lut[code] = 0 if to is None else self._code(kind._replace(name=to))
        after = lut[self._codes]
        rows = np.flatnonzero(after != self._codes)
        return LabelChange(self, rows, self._codes[rows], after[rows])

    def apply(self, change: LabelChange) -> None:
        """Make a change."""
        n = len(self._kinds)
        self._codes[change.rows] = change.after
        self._rows = None
        self._per_kind = np.concatenate([self._per_kind, np.zeros(n - len(self._per_kind), np.int64)])
        self._per_kind += np.bincount(change.after, minlength=n) - np.bincount(change.before, minlength=n)

    def kind(self, code: int) -> Label | None:
        """The label that a number stands for."""
        return self._kinds[code]

    # --- inside ---

    def _row(self, cell: str) -> int:
        if self._index is None:
            return self._row_of.get(cell, -1)
        return int(self._index.get_indexer(pd.Index([cell], dtype=object))[0])

    def _code(self, label: Label) -> int:
        if label not in self._code_of:
            self._code_of[label] = len(self._kinds)
            self._kinds.append(label)
        return self._code_of[label]

    def _names(self) -> NDArray[np.object_]:
        return np.array([None if kind is None else kind.name for kind in self._kinds], object)


class LabelChange(Mapping[str, "tuple[Label | None, Label | None]"]):
    """What happens to the labels of some cells: ``{cell: (before, after)}``, kept as arrays.

    ``rows`` are the cells, each once; ``before`` and ``after`` (int32, one a row) are numbers of ``labels``.
    """

    def __init__(
        self, labels: Labels, rows: NDArray[np.int64], before: NDArray[np.int32], after: NDArray[np.int32]
    ) -> None:
        self.rows, self.before, self.after = rows, before, after
        self._labels = labels

    def reversed(self) -> LabelChange:
        """The change that takes this one back."""
        return LabelChange(self._labels, self.rows, self.after, self.before)

    def class_names(self) -> set[str]:
        """Classes that any of the cells had or has."""
        kinds = (self._labels.kind(int(code)) for side in (self.before, self.after) for code in np.unique(side))
        return {kind.name for kind in kinds if kind is not None}

    def __getitem__(self, cell: str) -> tuple[Label | None, Label | None]:
        found = np.flatnonzero(self._labels.ids_at(self.rows) == cell)
        if not len(found):
            raise KeyError(cell)
        return self._pair(int(found[0]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels.ids_at(self.rows).tolist())

    def __len__(self) -> int:
        return len(self.rows)

    def values(self) -> Any:
        """Pairs of before and after, one a cell."""
        return [self._pair(i) for i in range(len(self.rows))]

    def _pair(self, i: int) -> tuple[Label | None, Label | None]:
        return self._labels.kind(int(self.before[i])), self._labels.kind(int(self.after[i]))
