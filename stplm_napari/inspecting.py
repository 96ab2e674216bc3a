"""What is known of one cell, in numbers: for the Inspect dock. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stplm_napari.picking import CellPicker
    from stplm_napari.session import Session

TOP_GENES = 6
RADIUS_UM = 50.0
_AT_ONCE = 4_000_000
_AROUND = 1.0
"""Counts added to a gene before it is compared with the section's mean, so that a single count is no enrichment."""


@dataclass(frozen=True)
class Gene:
    """A gene of a cell: its counts, and how many times the section's share of it that is."""

    symbol: str
    counts: int
    times: float


@dataclass(frozen=True)
class Bar:
    """A class with its colour and a share in [0, 1]."""

    name: str
    colour: str
    share: float


@dataclass(frozen=True)
class Neighbours:
    """Cells around one: how many within the radius, of which classes, and how far the nearest and the middle one is."""

    radius_um: float
    n: int
    classes: tuple[Bar, ...] = ()
    nearest_um: float = float("nan")
    median_um: float = float("nan")


@dataclass(frozen=True)
class CellFacts:
    """What is known of one cell. Scores are NaN and names "" where nothing is known."""

    row: int
    cell_id: str
    xy_um: tuple[float, float] | None
    n_counts: int
    n_genes: int
    area_um2: float = float("nan")
    class_name: str = ""
    confidence: float = float("nan")
    tumour: float = float("nan")
    unknown: float = float("nan")
    cluster: str = ""
    label: str = ""
    label_by: str = ""
    label_at: str = ""
    classes: tuple[Bar, ...] = ()
    top: tuple[Gene, ...] = ()
    enriched: tuple[Gene, ...] = ()
    neighbours: Neighbours = field(default_factory=lambda: Neighbours(RADIUS_UM, 0))


class Inspector:
    """Looks cells of a session up. The section's mean expression is made once, in whichever thread asks first."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mean: tuple[int, NDArray[np.float64]] = (-1, np.zeros(0))

    def prepare(self) -> None:
        """Make what all cells share; a quarter of a second a million cells."""
        if self._session.is_open:
            self._mean_shares()

    def facts(self, row: int, picker: CellPicker | None = None, radius_um: float = RADIUS_UM) -> CellFacts:
        """All that is known of the cell in a row of the table; with a picker, its neighbours too."""
        session, table = self._session, self._session.table
        obs = table.obs

        def number(column: str) -> float:
            return float(obs[column].iat[row]) if column in obs else float("nan")

        def name(column: str) -> str:
            value = obs[column].iat[row] if column in obs else None
            return value if isinstance(value, str) else "" if value is None or value != value else str(value)

        cell = str(obs[keys.CELL_ID].iat[row]) if keys.CELL_ID in obs else str(table.obs_names[row])
        genes, counts = _counts_of(table, row)
        label = session.annotations.labels.get(str(table.obs_names[row]))
        xy = table.obsm[keys.SPATIAL][row] if session.has_positions else None
        top, enriched = self._genes(genes, counts)
        return CellFacts(
            row,
            cell,
            None if xy is None else (float(xy[0]), float(xy[1])),
            int(counts.sum()),
            len(genes),
            number("cell_area"),
            name(keys.CLASS),
            number(keys.CONFIDENCE),
            number(keys.TUMOUR),
            number(keys.UNKNOWN),
            name(keys.CLUSTER),
            *(("", "", "") if label is None else (label.name, label.by, label.at)),
            classes=self._probabilities(row),
            top=top,
            enriched=enriched,
            neighbours=Neighbours(radius_um, 0) if picker is None else self._around(row, picker, radius_um),
        )

    def row_of(self, cell: str) -> int:
        """The row of a cell id as the user types it; -1 when there is none."""
        table = self._session.table
        found = table.obs_names.get_indexer([cell.strip()])
        return int(found[0])

    # --- inside ---

    def _genes(self, genes: NDArray[np.integer], counts: NDArray[np.integer]) -> tuple[tuple[Gene, ...], ...]:
        if not len(genes):
            return (), ()
        names = self._session.table.var_names
        expected = self._mean_shares()[genes] * counts.sum()
        times = (counts + _AROUND) / (expected + _AROUND)

        def first(order: NDArray[np.integer]) -> tuple[Gene, ...]:
            return tuple(Gene(str(names[genes[i]]), int(counts[i]), float(times[i])) for i in order[:TOP_GENES])

        by_times = np.argsort(-times, kind="stable")
        return first(np.argsort(-counts, kind="stable")), first(by_times[times[by_times] > 1])

    def _mean_shares(self) -> NDArray[np.float64]:
        """(n_genes,) share of each gene in all counts of the section."""
        opened = self._session.revision.section
        if self._mean[0] != opened:
            total = _totals(self._session.table)
            self._mean = opened, total / max(total.sum(), 1.0)
        return self._mean[1]

    def _probabilities(self, row: int) -> tuple[Bar, ...]:
        table = self._session.table
        about = table.uns.get(keys.UNS, {}).get(keys.UNS_PREDICTION, {})
        if keys.PROBA not in table.obsm or "classes" not in about:
            return ()
        colours = {c.name: c.colour for c in self._session.classes}
        names = [str(n) for n in np.asarray(about["classes"]).tolist()]
        shares = np.asarray(table.obsm[keys.PROBA][row], float)
        return tuple(Bar(names[i], colours.get(names[i], ""), float(shares[i])) for i in np.argsort(-shares))

    def _around(self, row: int, picker: CellPicker, radius_um: float) -> Neighbours:
        from stplm_napari.selection import in_brush

        table, grid = self._session.table, picker.grid
        xy = np.asarray(table.obsm[keys.SPATIAL], float) if self._session.has_positions else None
        if xy is None or grid is None or not np.isfinite(xy[row]).all():
            return Neighbours(radius_um, 0)
        rows = in_brush(grid, xy[[row]], radius_um)
        rows = rows[rows != row]
        if not len(rows):
            return Neighbours(radius_um, 0)
        distances = np.hypot(*(xy[rows] - xy[row]).T)
        return Neighbours(radius_um, len(rows), self._kinds(rows), float(distances.min()), float(np.median(distances)))

    def _kinds(self, rows: NDArray[np.int64]) -> tuple[Bar, ...]:
        """Predicted classes among some cells, the most frequent first."""
        if not self._session.is_predicted:
            return ()
        found = self._session.table.obs[keys.CLASS].iloc[rows].value_counts()
        colours = {c.name: c.colour for c in self._session.classes}
        return tuple(Bar(str(k), colours.get(str(k), ""), n / len(rows)) for k, n in found.items() if n)


def _totals(table: AnnData) -> NDArray[np.float64]:
    """(n_genes,) counts of each gene in all cells. scipy's own sum of columns takes ten times as long."""
    from scipy import sparse

    if sparse.issparse(table.X) and table.X.format == "csr":
        total = np.zeros(table.n_vars)
        for start in range(0, table.X.nnz, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            total += np.bincount(table.X.indices[part], table.X.data[part], table.n_vars)
        return total
    return np.asarray(table.X.sum(axis=0), np.float64).ravel()


def _counts_of(table: AnnData, row: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Columns of the genes that a cell has, and their counts."""
    from scipy import sparse

    if sparse.issparse(table.X) and table.X.format == "csr":
        place = slice(table.X.indptr[row], table.X.indptr[row + 1])
        genes, counts = table.X.indices[place], table.X.data[place]
        return genes[counts > 0], counts[counts > 0]
    line = table.X[row]
    line = np.asarray(line.toarray() if sparse.issparse(line) else line).ravel()
    genes = np.flatnonzero(line > 0)
    return genes, line[genes]
