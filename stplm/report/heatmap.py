"""A clustered heatmap: the mean expression, or the mean cell vector, of each group of cells, like ones side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ExportError, GeneError
from stplm.io.groups import as_table, cell_groups
from stplm.report.figures import CHAR_IN, FONT, MARGIN_IN, RC, WIDTH_IN, check_picture, save_figure, shorten
from stplm.report.tissue import section_name

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

GENES, VECTORS = "genes", "vectors"
_MARKERS = 5
"""Genes a group, where none are asked for."""
_BLOCK = 100_000
_LIMIT = 2.0
_MAP = "RdBu_r"
_ROW_IN = 0.2
_TREE_IN, _STRIP_IN, _HEAD_IN, _BAR_IN = 0.45, 0.12, 0.32, 0.45
_LONGEST_NAME = 26
_CAPITAL_IN = 0.082
"""Width of a letter of a gene's name."""


@dataclass(frozen=True)
class GroupMeans:
    """Means of each group: (n_groups, n_features) ``means``, standardised by column to ``z``; names of both."""

    groups: tuple[str, ...]
    features: tuple[str, ...]
    means: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def z(self) -> NDArray[np.float64]:
        """Each column less its mean over the groups, in units of its spread."""
        spread = self.means.std(axis=0)
        return np.asarray((self.means - self.means.mean(axis=0)) / np.where(spread > 0, spread, 1.0))

    def of(self, features: Sequence[int] | NDArray[np.integer]) -> GroupMeans:
        """Only these columns."""
        names = tuple(self.features[i] for i in features)
        return GroupMeans(self.groups, names, self.means[:, features], self.counts)


def group_means(table: AnnData, by: str, of: str = GENES) -> tuple[GroupMeans, dict[str, str]]:
    """Mean of each group of a column, and the groups' colours.

    ``of``: ``"genes"``, log-normalised counts (a cell's counts scaled to the median total, log(1 + x)); or
    ``"vectors"``, the embedding. Cells without a group are left out. Raises ExportError.
    """
    from scipy import sparse

    if of not in (GENES, VECTORS):
        raise ExportError("A heatmap is of genes or of vectors.", found=of, expected=f"{GENES} or {VECTORS}")
    names, colours = cell_groups(table, by)
    groups = [name for name in colours if name != keys.UNASSIGNED and (names == name).any()]
    if len(groups) < 2:
        raise ExportError(
            "A heatmap compares groups of cells.", where=by, found=f"{len(groups)} group", expected="at least two"
        )
    code = names.map({name: i for i, name in enumerate(groups)}).fillna(-1).to_numpy().astype(np.int64)
    if of == VECTORS and keys.X_STPLM not in table.obsm:
        raise ExportError("The cells are not embedded.", where=f"obsm[{keys.X_STPLM!r}]", mend="Run stplm.embed first.")
    whole: Any = table.obsm[keys.X_STPLM] if of == VECTORS else table.X
    features = [f"{i + 1}" for i in range(whole.shape[1])] if of == VECTORS else list(map(str, table.var_names))
    totals = np.asarray(table.X.sum(axis=1), np.float64).ravel()
    target = float(np.median(totals[totals > 0])) if (totals > 0).any() else 1.0
    sums = np.zeros((len(groups), whole.shape[1]))
    for start in range(0, table.n_obs, _BLOCK):
        rows = np.flatnonzero(code[start : start + _BLOCK] >= 0) + start
        block = whole[rows]
        if of == GENES:
            scale = sparse.diags(target / np.maximum(totals[rows], 1.0))
            block = (scale @ sparse.csr_matrix(block).astype(np.float64)).log1p()
        member = sparse.csr_matrix((np.ones(len(rows)), (code[rows], np.arange(len(rows)))), (len(groups), len(rows)))
        part = member @ block
        sums += np.asarray(part.todense() if sparse.issparse(part) else part)
    counts = np.bincount(code[code >= 0], minlength=len(groups))
    means = GroupMeans(tuple(groups), tuple(features), sums / counts[:, None], counts)
    return means, {name: colours[name] for name in groups}


def marker_genes(means: GroupMeans, each: int = _MARKERS) -> list[int]:
    """Columns of the genes that set each group apart: the largest lead of its mean over the next highest group's."""
    chosen: list[int] = []
    for group in range(len(means.groups)):
        lead = means.means[group] - np.delete(means.means, group, axis=0).max(axis=0)
        best = [int(i) for i in np.argsort(-lead, kind="stable") if i not in chosen]
        chosen += best[:each]
    return chosen


def plot_heatmap(
    section_or_table: SpatialData | AnnData,
    by: str = keys.CLASS,
    path: str | Path | None = None,
    *,
    of: str = GENES,
    genes: Sequence[str] | None = None,
    title: str | None = None,
    width_in: float = WIDTH_IN,
    dpi: int = 300,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the means of each group of cells, groups and columns in the order of a hierarchical clustering.

    Parameters
    ----------
    section_or_table
        The section, or its cell table.
    by
        Column of ``obs`` with the groups: classes, clusters, any label.
    path
        Also save as ``.png``, ``.svg`` or ``.pdf``; the last two keep text as text.
    of
        ``"genes"``: log-normalised expression; ``"vectors"``: the embedding.
    genes
        Symbols; by default the five genes that set each group most apart.
    title
        By default the section's name; "" for none.
    width_in
        Width of the figure in inches; it grows where the columns need it.
    dpi
        Pixels an inch.
    colours
        ``{class: "#RRGGBB"}``, e.g. the user's class registry.

    Returns
    -------
    A matplotlib Figure of its own. Colours are standardised by column (z-scores over the groups, ends at ±2); trees are
    of average linkage on Euclidean distances of what is shown.

    Raises
    ------
    ExportError
        Fewer than two groups, no such column, no embedding, or a file that cannot be written.
    GeneError
        A gene that is not in the panel.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    table = as_table(section_or_table)
    means, palette = group_means(table, by, of)
    palette |= {name: colour for name, colour in (colours or {}).items() if name in palette}
    if of == GENES:
        means = means.of(marker_genes(means) if genes is None else _columns(means, genes))
    z = means.z
    rows, columns = _order(z), _order(z.T)
    title = section_name(table) if title is None else title

    with rc_context(RC):
        names = [f"{shorten(means.groups[i], _LONGEST_NAME)}  {means.counts[i]:,}" for i in rows.leaves]
        right = max(map(len, names)) * CHAR_IN + 0.1
        foot = 0.12 if of == VECTORS else max(len(means.features[i]) for i in columns.leaves) * _CAPITAL_IN + 0.1
        left = MARGIN_IN + _TREE_IN + _STRIP_IN + 0.04
        font = FONT if len(columns.leaves) <= 60 or of == VECTORS else FONT - 1.5
        least = 0.0 if of == VECTORS else len(columns.leaves) * font / 72 * 1.15
        wide = max(width_in - left - right - MARGIN_IN, least)
        tall = _ROW_IN * len(rows.leaves)
        total_w, total_h = left + wide + right + MARGIN_IN, _HEAD_IN + _TREE_IN + tall + foot + _BAR_IN
        figure = Figure(figsize=(total_w, total_h), dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)

        def place(x: float, y: float, width: float, height: float) -> Axes:
            """Inches, from the upper left."""
            return figure.add_axes((x / total_w, 1 - (y + height) / total_h, width / total_w, height / total_h))

        top = _HEAD_IN + _TREE_IN
        axes = place(left, top, wide, tall)
        shown = z[np.ix_(rows.leaves, columns.leaves)]
        drawn = axes.imshow(shown, cmap=_MAP, vmin=-_LIMIT, vmax=_LIMIT, aspect="auto", interpolation="none")
        axes.tick_params(length=0, pad=2, labelsize=FONT)
        axes.yaxis.tick_right()
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks([])
        if of == GENES:
            axes.set_xticks(range(len(columns.leaves)), [means.features[i] for i in columns.leaves], rotation=90)
            axes.tick_params(axis="x", labelsize=font)
        axes.spines[:].set_linewidth(0.4)
        strip = place(left - _STRIP_IN - 0.04, top, _STRIP_IN, tall)
        for i, row in enumerate(rows.leaves):
            strip.axhspan(i - 0.5, i + 0.5, color=palette[means.groups[row]], linewidth=0)
        strip.set(xlim=(0, 1), ylim=(len(rows.leaves) - 0.5, -0.5))
        strip.set_axis_off()
        _draw_tree(place(MARGIN_IN, top, _TREE_IN - 0.04, tall), rows, sideways=True)
        _draw_tree(place(left, _HEAD_IN, wide, _TREE_IN - 0.04), columns, sideways=False)
        bar = place(left, top + tall + foot + 0.1, min(1.6, wide), 0.1)
        figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[-2, 0, 2]).outline.set_linewidth(0.4)
        bar.tick_params(labelsize=FONT - 1, width=0.5, length=2)
        what = "log-normalised expression" if of == GENES else f"of {len(means.features)} columns of the embedding"
        bar.text(1.06, 0.5, f"Mean {what}, z-score by column", fontsize=FONT, va="center", transform=bar.transAxes)
        words = shorten(title, int(total_w / 0.085))
        figure.text(MARGIN_IN / total_w, 1 - 0.16 / total_h, words, fontsize=10, fontweight="bold", va="center")
        if path is not None:
            save_figure(figure, Path(path), dpi)
    return figure


@dataclass(frozen=True)
class _Tree:
    leaves: list[int]
    across: list[list[float]]
    """Four points a fork, along the leaves (a leaf is 10 wide) and in height."""
    up: list[list[float]]


def _order(rows: NDArray[np.float64]) -> _Tree:
    from scipy.cluster.hierarchy import dendrogram, linkage

    if len(rows) < 2:
        return _Tree(list(range(len(rows))), [], [])
    found = dendrogram(linkage(rows, "average", optimal_ordering=len(rows) <= 500), no_plot=True)
    return _Tree([int(i) for i in found["leaves"]], found["icoord"], found["dcoord"])


def _draw_tree(axes: Axes, tree: _Tree, *, sideways: bool) -> None:
    axes.set_axis_off()
    for across, up in zip(tree.across, tree.up, strict=True):
        axes.plot(*((up, across) if sideways else (across, up)), color="#555555", linewidth=0.6)
    most = max((max(up) for up in tree.up), default=1.0) * 1.03
    if sideways:
        axes.set(xlim=(most, 0), ylim=(10 * len(tree.leaves), 0))
    else:
        axes.set(ylim=(0, most), xlim=(0, 10 * len(tree.leaves)))


def _columns(means: GroupMeans, genes: Sequence[str]) -> list[int]:
    places = {name: i for i, name in enumerate(means.features)}
    missing = [gene for gene in genes if gene not in places]
    if missing or not genes:
        raise GeneError(
            "Not all genes are in the panel." if missing else "No gene is given.",
            found=", ".join(missing) or None,
            expected="gene symbols of the section",
        )
    return [places[gene] for gene in dict.fromkeys(genes)]
